"""Clients that compare every answer: wrk for load, one connection for exact counts, an open loop for overload."""

import asyncio
import http.client
import io
import json
import math
import shutil
import subprocess
import tempfile
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tools.bench.models import NPY, BenchError, Request
from tools.local_http import send

SCRIPT = Path(__file__).with_name("check.lua")
TOLERANCE = 1e-6  # relative; engines that are not exact may differ in the last digits
REQUEST_TIMEOUT_SECONDS = 30
HANGS_AFTER_SECONDS = 30


class WrongAnswerError(BenchError):
    """An answer was not what the estimator gives, or none came."""


class NotServedError(Exception):
    """The server does not take this content type (415)."""


def require_wrk(path: str | None = None) -> None:
    """Make sure that the load generator is there.

    Args:
        path: Where to look for it; default PATH.

    Raises:
        BenchError: If it is not.
    """
    if shutil.which("wrk", path=path) is None:
        raise BenchError(
            "make bench needs wrk, which is not on the PATH: install it with `apt-get install wrk` on Debian or "
            "Ubuntu, or `brew install wrk` on macOS."
        )


def ask(port: int, request: Request) -> bytes:
    """Send one request and return the answer's bytes, which every later answer to it must equal.

    Raises:
        NotServedError: If the server refuses the content type.
        WrongAnswerError: If the answer is not the estimator's.
    """
    answer = send(port, "POST", "/predict", request.body, {"Content-Type": request.content_type})
    if answer.status == http.HTTPStatus.UNSUPPORTED_MEDIA_TYPE:
        raise NotServedError
    if answer.status != http.HTTPStatus.OK:
        raise WrongAnswerError(f"A request was answered {answer.status}: {answer.body[:300]!r}")
    if not same_predictions(predictions(answer.headers.get("content-type", ""), answer.body), request.answer):
        raise WrongAnswerError(f"An answer is not the estimator's: {answer.body[:300]!r}")
    return answer.body


def predictions(content_type: str, body: bytes) -> list[Any]:
    """Return the predictions of an answer, JSON or what np.save writes."""
    if content_type == NPY:
        return np.load(io.BytesIO(body)).tolist()  # type: ignore[no-any-return]
    return json.loads(body)["y_pred"]  # type: ignore[no-any-return]


def same_predictions(answered: list[Any], expected: list[Any]) -> bool:
    """Return whether predictions are those of the estimator: labels equal, numbers within TOLERANCE."""
    return len(answered) == len(expected) and all(
        math.isclose(one, other, rel_tol=TOLERANCE) if isinstance(other, float) else one == other
        for one, other in zip(answered, expected, strict=True)
    )


@dataclass(frozen=True)
class Load:
    """What wrk saw.

    Args:
        answered: Answers that were the expected bytes.
        refused: Answers 503 with Retry-After.
        seconds: How long it took.
        p50_ms: The median latency in milliseconds.
        p99_ms: The latency within which 99 of 100 requests were answered.
    """

    answered: int
    refused: int
    seconds: float
    p50_ms: float
    p99_ms: float


def wrk(
    port: int,
    request: Request,
    expected: bytes,
    connections: int,
    seconds: int,
    address: str = "127.0.0.1",
    host: str = "",
) -> Load:
    """Send a request again and again over keep-alive connections.

    Args:
        port: Where the server listens.
        request: What is sent.
        expected: The right answer's bytes.
        connections: How many connections do so.
        seconds: For how long.
        address: The machine that the server is on.
        host: The Host of the requests, where it is another than the address.

    Raises:
        WrongAnswerError: If an answer was another one, or a connection failed.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "body").write_bytes(request.body)
        (folder / "expected").write_bytes(expected)
        options = ["--threads=1", f"--connections={connections}", f"--duration={seconds}s"]
        options += [f"--header=Host: {host}"] if host else []
        done = subprocess.run(
            ["wrk", *options, f"--timeout={REQUEST_TIMEOUT_SECONDS}s", f"--script={SCRIPT}",
             f"http://{address}:{port}/predict", "--", folder / "body", folder / "expected", request.content_type],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
    told = json.loads(done.stdout.splitlines()[-1])
    wrong, first_wrong, socket_errors = told.pop("wrong"), told.pop("first_wrong"), told.pop("socket_errors")
    if wrong or socket_errors or not told["answered"]:
        raise WrongAnswerError(
            f"{told['answered']} answers were right, {wrong} wrong, and {socket_errors} connections failed "
            f"({connections} connections, body of {len(request.body)} bytes): {first_wrong}"
        )
    return Load(**told)


def one_by_one(port: int, request: Request, expected: bytes, seconds: float) -> int:
    """Send a request again and again over one connection and return how often: exact, nothing is left in flight.

    Raises:
        WrongAnswerError: If an answer was not the expected bytes.
    """
    n_answered, ends = 0, time.monotonic() + seconds
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=REQUEST_TIMEOUT_SECONDS)) as connection:
        while n_answered == 0 or time.monotonic() < ends:
            connection.request("POST", "/predict", request.body, {"Content-Type": request.content_type})
            answer = connection.getresponse()
            if (body := answer.read()) != expected:
                raise WrongAnswerError(f"A request was answered {answer.status}: {body[:300]!r}")
            n_answered += 1
    return n_answered


@dataclass
class Tally:
    """What became of requests.

    Args:
        offered: How many were sent.
        withheld: How many were not, because too many others had no answer yet.
        good: Answered with the expected bytes.
        good_in_time: Those of them that came while requests were still being sent.
        refused: Answered 503 with Retry-After.
        wrong: Answered in any other way.
        broken: Not answered, the connection was closed or reset.
        hanging: Not answered within HANGS_AFTER_SECONDS.
    """

    offered: int = 0
    withheld: int = 0
    good: int = 0
    good_in_time: int = 0
    refused: int = 0
    wrong: int = 0
    broken: int = 0
    hanging: int = 0


Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Crowd:
    """Clients that share keep-alive connections and count what becomes of their requests.

    Args:
        port: Where the server listens.
        request: What all of them send.
        expected: The right answer's bytes.
    """

    def __init__(self, port: int, request: Request, expected: bytes) -> None:
        self.tally = Tally()
        self._port = port
        self._expected = expected
        self._idle: list[Connection] = []
        head = f"POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {request.content_type}\r\n"
        self._bytes = f"{head}Content-Length: {len(request.body)}\r\n\r\n".encode() + request.body

    async def closed_loop(self, n_clients: int, seconds: float) -> Tally:
        """Send as fast as the answers come, each client one request at a time."""
        self._ends = time.monotonic() + seconds

        async def client() -> None:
            while time.monotonic() < self._ends:
                await self._send_one()

        await asyncio.gather(*(client() for _ in range(n_clients)))
        self._close()
        return self.tally

    async def open_loop(self, per_second: float, seconds: float, most_in_flight: int) -> Tally:
        """Send at a rate, whether or not answers come."""
        started = time.monotonic()
        self._ends = started + seconds
        tasks: set[asyncio.Task[None]] = set()
        for index in range(round(per_second * seconds)):
            await asyncio.sleep(max(0.0, started + index / per_second - time.monotonic()))
            if time.monotonic() >= self._ends:
                break  # this client is too slow for the rate; it has counted what it sent
            if len(tasks) < most_in_flight:
                task = asyncio.create_task(self._send_one())
                tasks.add(task)
                task.add_done_callback(tasks.discard)
            else:
                self.tally.withheld += 1
        await asyncio.gather(*tasks)
        self._close()
        return self.tally

    async def _send_one(self) -> None:
        self.tally.offered += 1
        try:
            async with asyncio.timeout(HANGS_AFTER_SECONDS):
                status, headers, body = await self._exchange()
        except TimeoutError:
            self.tally.hanging += 1
        except (OSError, asyncio.IncompleteReadError, ValueError):
            self.tally.broken += 1
        else:
            self._count(status, headers, body)

    def _count(self, status: int, headers: dict[str, str], body: bytes) -> None:
        if status == http.HTTPStatus.OK and body == self._expected:
            self.tally.good += 1
            self.tally.good_in_time += time.monotonic() < self._ends
        elif status == http.HTTPStatus.SERVICE_UNAVAILABLE and "retry-after" in headers:
            self.tally.refused += 1
        else:
            self.tally.wrong += 1

    async def _exchange(self) -> tuple[int, dict[str, str], bytes]:
        """Send the request over an idle connection, or a new one, and return status, headers and body."""
        reader, writer = self._idle.pop() if self._idle else await asyncio.open_connection("127.0.0.1", self._port)
        try:
            writer.write(self._bytes)
            first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")[:-2]
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
            body = await reader.readexactly(int(headers["content-length"]))
        except BaseException:
            writer.close()
            raise
        if headers.get("connection", "").lower() == "close":
            writer.close()
        else:
            self._idle.append((reader, writer))
        return int(first.split()[1]), headers, body

    def _close(self) -> None:
        for _, writer in self._idle:
            writer.close()
        self._idle.clear()
