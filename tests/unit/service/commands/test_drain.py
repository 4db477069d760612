"""The drain command: whom it tells, how long it waits, and how little it loads."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from service.commands.drain import DrainError, drain
from tests.conftest import ROOT

LONG = 120
# Says that it is ready; at the first SIGTERM goes on, at the second it ends.
STUBBORN = (
    "import signal, sys, time\n"
    "signal.signal(signal.SIGTERM, lambda *_: signal.signal(signal.SIGTERM, lambda *_: sys.exit()))\n"
    "print('ready', flush=True)\n"
    "while True: time.sleep(1)\n"
)


def started(code: str) -> subprocess.Popen[bytes]:
    """Return a process that runs this code, once it printed something."""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert process.stdout
    process.stdout.readline()
    return process


def test_it_returns_after_the_drain_of_a_process_that_goes_on() -> None:
    """The process is told once, and is left running for the SIGTERM that follows."""
    with started(STUBBORN) as process:
        before = time.monotonic()
        drain(process.pid, 0.3)
        assert time.monotonic() - before >= 0.3
        assert process.poll() is None
        drain(process.pid, 0)
        assert process.wait(timeout=30) == 0


def test_it_returns_as_soon_as_the_process_is_gone() -> None:
    """Nobody waits long for what has ended; the parent of the process reaps it, as the kernel does for process 1."""
    # The child says itself that it is there: Python forgets signals that come while a process is being forked.
    code = "import os, time; os.fork() and (os.wait(), os._exit(0)); print(os.getpid(), flush=True); time.sleep(3600)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as parent:
        assert parent.stdout
        drain(int(parent.stdout.readline()), LONG)
        assert parent.wait(timeout=30) == 0


def test_a_process_that_does_not_exist_is_an_error() -> None:
    """The sentence says what to name."""
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    with pytest.raises(DrainError, match=rf"^Process {ended.pid} cannot be drained \(No such process\): .*--pid\.$"):
        drain(ended.pid, LONG)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_a_process_of_somebody_else_is_an_error() -> None:
    """A container's user may not tell another's process."""
    code = f"import os; from service.commands.drain import drain; os.setuid(65532); drain({os.getpid()}, 1)"
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    signal.signal(signal.SIGTERM, before)
    assert "cannot be drained (Operation not permitted)" in done.stderr


@pytest.mark.parametrize("command", ["drain", "healthcheck"])
def test_a_light_command_loads_no_more_than_the_standard_library(command: str, tmp_path: Path) -> None:
    """It starts while the pod's CPU is busy: NumPy alone would take longer than all that it does."""
    code = (
        "import sys\nfrom service.__main__ import main\n"
        f"main({[command] + ['--pid', '2147483647'] * (command == 'drain')!r})\n"
        "print(*{name.partition('.')[0] for name in sys.modules})"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True,
        env={**os.environ, "BAKEHOUSE_HEALTH_PORT": "1"},
    )  # fmt: skip
    assert "cannot be" in done.stderr  # it did what it is for, which loads what is loaded late
    loaded = set(done.stdout.split())
    assert "service" in loaded
    assert not loaded & {"numpy", "flask", "gunicorn", "orjson", "prometheus_client", "joblib", "werkzeug"}
