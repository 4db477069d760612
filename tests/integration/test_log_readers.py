"""Readers of a real server's log: one that stops holds nothing up, and one that reads gets every line, to the last."""

import http.client
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest

from tests.integration.test_workers import samples
from tests.support.holding import bake_around
from tests.support.log import check_lines
from tests.support.server import RunningServer
from tests.support.speaking import speak
from tests.support.waiting import wait_for
from tools.local_http import predict, send

BODY = json.dumps({"X": [[1500, 3]]})
HEADERS = {"Content-Type": "application/json"}
LONGEST_ID = 128
DROPPED = 'bakehouse_log_lines_dropped_total{stream="%s"}'
STREAMS = {"stdout": ">", "stderr": "2>"}


class Reader:
    """The reader of a pipe that a server writes to; it reads once it is told to.

    Args:
        directory: Where the pipe is, and what was read.
    """

    def __init__(self, directory: Path) -> None:
        self.pipe, self._file = directory / "pipe", directory / "read"
        os.mkfifo(self.pipe)
        self.descriptor = os.open(self.pipe, os.O_RDONLY | os.O_NONBLOCK)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def text(self) -> str:
        """What was read so far."""
        return self._file.read_text()

    def fill(self) -> None:
        """Leave no room in the pipe."""
        with closing(os.fdopen(os.open(self.pipe, os.O_WRONLY | os.O_NONBLOCK), "wb", 0)) as writer:
            while writer.write(b"{}\n" * 1000):
                pass

    def begin(self) -> None:
        """Read from now on."""
        os.set_blocking(self.descriptor, True)
        with self._file.open("wb") as file:
            self._process = subprocess.Popen(["cat"], stdin=self.descriptor, stdout=file)
        os.close(self.descriptor)

    def wait(self) -> None:
        """Return once all of it was read, because all who write have ended."""
        assert self._process is not None
        assert self._process.wait(timeout=60) == 0

    def close(self) -> None:
        """Stop."""
        if self._process is None:
            os.close(self.descriptor)
        else:
            self._process.kill()
            self._process.wait()


@pytest.fixture(scope="module")
def speaking(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the artifact of a model that gives occasion for several lines on standard error at each request."""
    return bake_around(tmp_path_factory.mktemp("speaking"), speak)


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    """Return the reader of a pipe, which does not read yet."""
    made = Reader(tmp_path)
    yield made
    made.close()


@contextmanager
def served(artifact: Path, reader: Reader, stream: str, **variables: str) -> Iterator[RunningServer]:
    """Serve with one of the standard streams in the reader's pipe."""
    command = ("sh", "-c", f"exec {sys.executable} -m service {STREAMS[stream]} {reader.pipe}")
    server = RunningServer(artifact, variables, command)
    try:
        yield server.wait_until_ready()
    finally:
        with suppress(ProcessLookupError):
            server.kill()


def stop(server: RunningServer) -> None:
    """Stop a server as a container engine does, and wait until it ended as it should."""
    server.terminate()
    assert server.process.wait(timeout=60) == 0


def test_no_request_waits_for_a_reader_of_standard_output(house_prices: Path, reader: Reader) -> None:
    """Lines that have no room are dropped and counted; when the reader comes back, it gets whole lines again."""
    n_requests = 4000  # of about 400 bytes, much more than what fits into queue and pipe
    ids = [str(index).zfill(LONGEST_ID) for index in range(n_requests)]
    with served(house_prices, reader, "stdout") as server:
        with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)) as connection:
            for identifier in ids:
                connection.request("POST", "/predict", BODY, {**HEADERS, "X-Request-ID": identifier})
                with connection.getresponse() as response:
                    response.read()
                    assert response.status == 200
        for path in ("/healthz", "/readyz", "/metrics"):
            assert send(server.health_port, "GET", path).status == 200
        n_dropped = int(samples(server)[DROPPED % "stdout"])
        assert 500 < n_dropped < n_requests
        assert samples(server)[DROPPED % "stderr"] == 0

        reader.begin()
        wait_for(lambda: f"{n_dropped} lines were dropped" in server.errors)
        assert predict(server.port, {"X": [[1500, 3]]}, X_Request_ID="after").status == 200
        wait_for(lambda: '"request_id":"after"' in reader.text)
        assert samples(server)[DROPPED % "stdout"] == n_dropped
        stop(server)
        reader.wait()
        assert server.errors.count("lines were dropped") == 1
    logged = [line["request_id"] for line in check_lines(reader.text)]
    assert logged == [*ids[: n_requests - n_dropped], "after"]


def test_no_request_waits_for_a_reader_of_standard_error(speaking: Path, reader: Reader) -> None:
    """Neither where a model gives occasion for many lines, whichever thread it predicts in."""
    with served(speaking, reader, "stderr") as server:

        def ask(_number: int) -> int:
            return predict(server.port, {"X": [[1500, 3, 2]]}).status

        with ThreadPoolExecutor(4) as clients:
            assert set(clients.map(ask, range(1500))) == {200}  # of several lines each
        for path in ("/healthz", "/readyz", "/metrics"):
            assert send(server.health_port, "GET", path).status == 200
        n_dropped = int(samples(server)[DROPPED % "stderr"])
        assert n_dropped > 0
        assert samples(server)[DROPPED % "stdout"] == 0

        reader.begin()
        wait_for(lambda: f"stderr was too slow or away: {n_dropped} lines were dropped" in reader.text)
        assert predict(server.port, {"X": [[1500, 3, -2]]}, X_Request_ID="after").status == 422
        wait_for(lambda: "The estimator refused an instance." in reader.text)
        stop(server)
        reader.wait()
    messages = [line["message"] for line in check_lines(reader.text)]
    assert messages[-1].startswith("Shutting down")
    assert sum("lines were dropped" in message for message in messages) == 1


@pytest.mark.parametrize("stream", STREAMS)
def test_a_server_starts_heals_and_stops_while_nobody_reads(house_prices: Path, reader: Reader, stream: str) -> None:
    """The master replaces a killed process and obeys SIGTERM, although its own lines have no reader either."""
    reader.fill()
    with served(house_prices, reader, stream, WEB_CONCURRENCY="2") as server:
        for number_started in (3, 4):
            os.kill(server.workers()[0], signal.SIGKILL)
            wait_for(lambda n=number_started: samples(server)["bakehouse_processes_started_total"] == n)
        server.wait_until_ready()
        assert predict(server.port, {"X": [[1500, 3]]}).status == 200
        stop(server)


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("stream", STREAMS)
def test_a_stop_loses_no_line_that_is_read(speaking: Path, reader: Reader, stream: str, workers: str) -> None:
    """All that was queued is written before a process ends, and the lines of several processes are whole."""
    with served(speaking, reader, stream, WEB_CONCURRENCY=workers) as server:
        reader.begin()

        def ask(number: int) -> int:
            return predict(server.port, {"X": [[1500, 3, 2]]}, X_Request_ID=f"r{number}").status

        with ThreadPoolExecutor(8) as clients:
            assert set(clients.map(ask, range(400))) == {200}
        stop(server)
        reader.wait()
        texts = {"stdout": server.output, "stderr": server.errors, stream: reader.text}
    logged = [line["request_id"] for line in check_lines(texts["stdout"])]
    assert sorted(logged) == sorted(f"r{number}" for number in range(400))
    messages = [line["message"] for line in check_lines(texts["stderr"])]
    assert sum("A library logged something" in message for message in messages) >= 400
    assert sum(message.startswith("Worker exiting") for message in messages) == int(workers)
    assert messages[-1].startswith("Shutting down")
