"""SIGTERM loses no request: the server drains while clients keep predicting."""

import http.client
import itertools
import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.load import BODY, HEADERS, Load
from tests.support.server import RunningServer

N_RESTARTS = 20
N_CLIENTS = 16
PROPAGATION_SECONDS = 0.3  # how long new connections still go to a server that was told to stop

Serve = Callable[..., RunningServer]


def predict(server: RunningServer) -> list[float]:
    """Return the answer to the documented request."""
    request = urllib.request.Request(f"{server.url}/predict", BODY.encode(), HEADERS)
    with urllib.request.urlopen(request, timeout=30) as response:
        return json.load(response)["y_pred"]


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1", "4"])
def test_restarts_under_load_lose_no_request(serve: Serve, house_prices: Path, workers: str) -> None:
    """Sixteen busy keep-alive clients see no failed request while the server is replaced again and again."""
    n_restarts = N_RESTARTS if workers == "1" else 1  # four processes take four times as long to start
    variables = {"BAKEHOUSE_DRAIN_SECONDS": "0.6", "WEB_CONCURRENCY": workers}
    server = serve(house_prices, **variables)
    current = [server]
    with Load(lambda: current[0].port, predict(server), N_CLIENTS) as load:
        for _ in range(n_restarts):
            successor = serve(house_prices, **variables)
            server.terminate()
            time.sleep(PROPAGATION_SECONDS)
            current[0] = successor
            assert server.process.wait(timeout=60) == 0
            server = successor
    good, failed = load.answered["good"], load.answered["failed"]
    print(f"{n_restarts} restarts, {workers} workers: {good} good, {failed} failed, {load.connections} connections")
    assert load.failures == []
    assert load.answered["good"] > n_restarts * N_CLIENTS
    assert load.connections >= (n_restarts + 1) * N_CLIENTS


def test_a_draining_server_is_live_not_ready_and_closes_connections(serve: Serve, house_prices: Path) -> None:
    """While it drains, the server closes connections with their answers, and is live but not ready."""
    server = serve(house_prices, BAKEHOUSE_DRAIN_SECONDS="30")
    with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)) as connection:
        connection.request("POST", "/predict", BODY, HEADERS)
        before = connection.getresponse()
        before.read()
        assert not before.will_close
        server.terminate()
        wait_for_status(f"{server.health_url}/readyz", 503)
        connection.request("POST", "/predict", BODY, HEADERS)
        after = connection.getresponse()
        after.read()
    assert after.status == 200
    assert after.getheader("Connection") == "close"
    assert status_of(f"{server.health_url}/healthz") == 200
    assert predict(server)  # a new connection is still taken
    server.terminate()  # a second SIGTERM ends the drain
    assert server.process.wait(timeout=30) == 0


def test_a_request_in_flight_is_answered_after_sigterm(serve: Serve, house_prices: Path) -> None:
    """A body that is still being sent when SIGTERM comes is awaited and answered."""
    server = serve(house_prices)
    with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)) as connection:
        connection.putrequest("POST", "/predict")
        connection.putheader("Content-Type", "application/json")
        connection.putheader("Content-Length", str(len(BODY)))
        connection.putheader("Expect", "100-continue")
        connection.endheaders()
        assert connection.sock.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"  # the head has arrived
        connection.send(BODY[:5].encode())
        server.terminate()
        time.sleep(0.5)
        connection.send(BODY[5:].encode())
        response = connection.getresponse()
        assert response.status == 200
        assert json.loads(response.read())["y_pred"]
    assert server.process.wait(timeout=30) == 0


def status_of(url: str) -> int:
    """Return the status of a GET."""
    try:
        with urllib.request.urlopen(url, timeout=10) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def wait_for_status(url: str, status: int) -> None:
    """Return once a GET is answered with this status; fails after a minute."""
    for attempt in itertools.count():
        if status_of(url) == status:
            return
        assert attempt < 600, f"{url} never answered {status}"
        time.sleep(0.1)
