"""A real server as a process of its own: python -m service on free ports."""

import os
import pty
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import BinaryIO

from tools import ROOT
from tools.local_http import free_port

START_TIMEOUT_SECONDS = 60


class RunningServer:
    """A server that was started; its output is kept in files.

    Args:
        artifact: What to serve.
        variables: Settings by the names of their variables.
        command: What starts the server.
        directory: Where it is started.
        terminal: Whether its standard error is a terminal.
    """

    def __init__(
        self,
        artifact: Path,
        variables: Mapping[str, str],
        command: Sequence[str] = (sys.executable, "-m", "service"),
        directory: Path = ROOT,
        terminal: bool = False,
    ) -> None:
        self.port = free_port()
        self.health_port = free_port()
        own = {
            "BAKEHOUSE_ARTIFACT": str(artifact),
            "BAKEHOUSE_HOST": "127.0.0.1",
            "BAKEHOUSE_HTTP_PORT": str(self.port),
            "BAKEHOUSE_HEALTH_PORT": str(self.health_port),
            "BAKEHOUSE_DRAIN_SECONDS": "0",
        }
        output = Path(tempfile.mkdtemp(prefix="bakehouse-test-"))
        self._stdout, self._stderr = output / "stdout", output / "stderr"
        with ExitStack() as files:
            stdout, stderr = (files.enter_context(path.open("wb")) for path in (self._stdout, self._stderr))
            if terminal:
                stderr = files.enter_context(_terminal_that_writes_to(self._stderr))
            self.process = subprocess.Popen(
                command,
                cwd=directory,
                env={**os.environ, **own, **variables},
                stdout=stdout,
                stderr=stderr,
                start_new_session=True,
            )

    @property
    def url(self) -> str:
        """The address of the API."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def health_url(self) -> str:
        """The address of the health port."""
        return f"http://127.0.0.1:{self.health_port}"

    @property
    def output(self) -> str:
        """What the server wrote to standard output so far."""
        return self._stdout.read_text()

    @property
    def errors(self) -> str:
        """What the server wrote to standard error so far."""
        return self._stderr.read_text()

    def wait_until_ready(self) -> "RunningServer":
        """Return once /readyz on the health port says so.

        Raises:
            RuntimeError: If the server ends, or takes too long.
        """
        deadline = time.monotonic() + START_TIMEOUT_SECONDS
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise RuntimeError(f"the server ended with {self.process.returncode}: {self.errors}")
            try:
                with urllib.request.urlopen(f"{self.health_url}/readyz", timeout=5):
                    return self
            except (urllib.error.URLError, OSError):
                time.sleep(0.05)
        raise RuntimeError(f"the server is not ready: {self.errors}")

    def workers(self) -> list[int]:
        """Return the process ids of the serving processes."""
        pid = self.process.pid
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    def terminate(self) -> None:
        """Send SIGTERM, as a container engine does."""
        self.process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End the server and its serving processes at once, if they still run."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGINT)  # as Ctrl-C in a terminal: Gunicorn's quick stop
            self.process.wait(timeout=30)


def _terminal_that_writes_to(path: Path) -> BinaryIO:
    """Return a terminal's end for a process; what it shows is in the file."""
    shown, given = pty.openpty()

    def copy() -> None:
        with os.fdopen(shown, "rb", 0) as source, path.open("ab", 0) as target, suppress(OSError):
            while data := source.read(65536):  # fails once all who have the terminal are gone
                target.write(data)

    threading.Thread(target=copy, daemon=True).start()
    return os.fdopen(given, "wb", 0)
