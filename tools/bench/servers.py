"""Servers to measure, each a process group of its own, and what they use of processor and memory."""

import http.client
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from service.host.cpu import request_threads
from tools import ROOT
from tools.bench.models import BenchError, Model
from tools.local_http import free_port, send

START_TIMEOUT_SECONDS = 60
POLL_SECONDS = 0.005
STOP_TIMEOUT_SECONDS = 20
LOOK_SECONDS = 0.03
IDLE_SECONDS = 0.001  # of CPU time between two looks: heartbeats and such
CPUCLOCK_SCHED = 2


class Server:
    """A server that was started and is ready; used as a context manager, which stops it.

    Its standard output, which is the service's log, goes to a file, as a container engine would keep it.

    Args:
        command: What starts it.
        port: Where it answers predictions.
        health_port: Where it says whether it is ready, if that is another one.
        variables: Environment variables besides those of this process.

    Raises:
        BenchError: If it ends, or takes too long to be ready.
    """

    def __init__(self, command: Sequence[str], port: int, health_port: int, variables: Mapping[str, str]) -> None:
        self.port, self.health_port = port, health_port
        self._folder = Path(tempfile.mkdtemp(prefix="bakehouse-bench-"))
        self._errors = self._folder / "stderr"
        with (self._folder / "stdout").open("wb") as stdout, self._errors.open("wb") as stderr:
            started = time.perf_counter()
            self.process = subprocess.Popen(
                command, cwd=ROOT, env={**os.environ, **variables}, stdout=stdout, stderr=stderr, start_new_session=True
            )
        self._wait_until_ready()
        self.start_seconds = time.perf_counter() - started
        self.wait_until_idle()  # of several serving processes, one is enough to be ready

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT_SECONDS
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                status = send(self.health_port, "GET", "/readyz").status
            except (OSError, http.client.HTTPException):
                status = 0
            # The others have no such path; any answer of theirs comes from a process that has loaded its model.
            if status == http.HTTPStatus.OK or (status and self.health_port == self.port):
                return
            time.sleep(POLL_SECONDS)
        errors = self._errors.read_text()
        self.stop()
        raise BenchError(f"A server does not start: {errors}")

    def __enter__(self) -> "Server":
        """Return it."""
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _t: TracebackType | None
    ) -> None:
        """Stop it."""
        self.stop()

    def stop(self) -> None:
        """End all its processes and forget what they wrote."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)  # Gunicorn's quick stop
            try:
                self.process.wait(STOP_TIMEOUT_SECONDS)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()
        shutil.rmtree(self._folder)

    def processes(self) -> list[int]:
        """Return the ids of its processes, the master first."""
        return descendants(self.process.pid)

    def cpu_seconds(self) -> dict[int, float]:
        """Return the CPU time that each of its processes has used."""
        return {pid: cpu_seconds(pid) for pid in self.processes()}

    def wait_until_idle(self) -> None:
        """Return once none of its processes works any more."""
        used, deadline = -1.0, time.monotonic() + START_TIMEOUT_SECONDS
        while (now := sum(self.cpu_seconds().values())) - used > IDLE_SECONDS and time.monotonic() < deadline:
            used = now
            time.sleep(LOOK_SECONDS)

    def proportional_bytes(self) -> int:
        """Return the memory of all its processes, pages that they share counted once (PSS)."""
        return sum(proportional_bytes(pid) for pid in self.processes())


def descendants(pid: int) -> list[int]:
    """Return a process and all those that came of it."""
    children = [int(word) for file in Path(f"/proc/{pid}/task").glob("*/children") for word in file.read_text().split()]
    return [pid, *(found for child in children for found in descendants(child))]


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process, its ended threads included; finer than the ticks of /proc/PID/stat."""
    return time.clock_gettime(~pid << 3 | CPUCLOCK_SCHED)  # what clock_getcpuclockid(3) returns on Linux


def proportional_bytes(pid: int) -> int:
    """Return the proportional set size of a process."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    (kilobytes,) = [line.split()[1] for line in lines if line.startswith("Pss:")]
    return int(kilobytes) * 1024


@dataclass(frozen=True)
class Windows:
    """Windows of requests, with counting for drift in every other one.

    Args:
        n_requests: How many requests a window has.
        file: Where the server writes what each window took.
    """

    n_requests: int
    file: Path

    def pairs(self) -> list[tuple[float, float]]:
        """Return the CPU time of a request in windows with and without, in microseconds; not those of the start."""
        times = [float(line) for line in self.file.read_text().splitlines()]
        return list(zip(times[2::2], times[3::2], strict=False))


def ours(model: Model, workers: int = 1, windows: Windows | None = None) -> Server:
    """Start the service on an artifact, with the defaults of its settings; with windows, as an app of the bench."""
    port, health_port = free_port(), free_port()
    variables = {
        "BAKEHOUSE_ARTIFACT": str(model.artifact),
        "BAKEHOUSE_HOST": "127.0.0.1",
        "BAKEHOUSE_HTTP_PORT": str(port),
        "BAKEHOUSE_HEALTH_PORT": str(health_port),
        "WEB_CONCURRENCY": str(workers),
    }
    module = "service"
    if windows:
        module = "tools.bench.apps.alternating"
        variables |= {"WINDOWS": str(windows.file), "REQUESTS_A_WINDOW": str(windows.n_requests)}
    return Server([sys.executable, "-m", module], port, health_port, variables)


def unit(model: Model) -> Server:
    """Start the constant answer, of the size of this model's, without a framework."""
    return _gunicorn("constant", {"ANSWER": model.constant_answer().decode()})


def constant_flask(model: Model) -> Server:
    """Start the constant answer as a Flask view."""
    return _gunicorn("constant_flask", {"ANSWER": model.constant_answer().decode()})


def textbook(model: Model) -> Server:
    """Start the textbook's service of a model."""
    return _gunicorn("textbook", {"MODEL": str(model.model_file), "FRAME": "yes" if model.takes_frame else "no"})


def _gunicorn(app: str, variables: Mapping[str, str]) -> Server:
    """Start an application of tools/bench/apps on plain Gunicorn, with as many threads as the service has."""
    port = free_port()
    options = {"worker-class": "gthread", "threads": str(request_threads(1)), "bind": f"127.0.0.1:{port}"}
    command = [sys.executable, "-m", "gunicorn", f"tools.bench.apps.{app}:app", "--no-control-socket"]
    return Server([*command, *(f"--{name}={value}" for name, value in options.items())], port, port, variables)
