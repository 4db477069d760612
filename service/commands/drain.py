"""Begin the drain of a running server and wait until it is over: what Kubernetes runs before it stops a container."""

import argparse
import os
import signal
import time

from service.settings import Settings

PAUSE_SECONDS = 0.1


class DrainError(Exception):
    """The server cannot be told; the message is one sentence."""


def run(settings: Settings, options: argparse.Namespace) -> int:
    """Drain the server that the command line names, and return the exit code.

    Raises:
        DrainError: As drain does.
    """
    drain(options.pid, settings.drain_seconds)
    return 0


def drain(pid: int, seconds: float) -> None:
    """Send the first SIGTERM, which begins the drain, and return after so many seconds, or when the process is gone.

    The SIGTERM that follows from elsewhere is the second one, which ends the wait.

    Args:
        pid: The process id of the server's master.
        seconds: How long the drain takes.

    Raises:
        DrainError: If there is no such process, or it belongs to another user.
    """
    try:
        os.kill(pid, signal.SIGTERM)
    except OSError as error:
        raise DrainError(
            f"Process {pid} cannot be drained ({error.strerror}): name the server's with --pid."
        ) from error
    end = time.monotonic() + seconds
    while _runs(pid) and (left := end - time.monotonic()) > 0:
        time.sleep(min(PAUSE_SECONDS, left))


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
