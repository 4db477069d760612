"""More than the server can do: every request is answered, or told at once to come back, and no connection is lost."""

import json
import re
import select
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack, closing
from itertools import islice
from pathlib import Path

from tests.support.holding import REQUEST, VARIABLE, held_requests
from tests.support.load import Load
from tests.support.problem import check_problem
from tests.support.server import RunningServer
from tests.support.waiting import wait_for
from tools.local_http import Answer, connect, predict, receive_answer, send

Serve = Callable[..., RunningServer]
JSON = {"Content-Type": "application/json"}
N_QUEUED = 4
N_CONNECTIONS = 20


def is_busy(answer: Answer) -> bool:
    """Return whether an answer says that the server is busy, as it should say it."""
    if answer.status != 503:
        return False
    check_problem(answer.status, answer.headers["content-type"], answer.body)
    return answer.headers["retry-after"] == "1"


def shed(server: RunningServer) -> list[str]:
    """Return why requests were answered 503, by the log."""
    lines = [json.loads(line) for line in server.output.splitlines()]
    return [line["code"] for line in lines if line["status"] == 503]


def test_requests_beyond_the_queue_are_told_to_come_back(serve: Serve, held: Path, tmp_path: Path) -> None:
    """One is worked on, four wait, twenty are refused at once; their connections go on, and nothing is lost."""
    variables = {"BAKEHOUSE_THREADS": "1", "BAKEHOUSE_MAX_QUEUED": str(N_QUEUED), VARIABLE: str(tmp_path / "hold")}
    server = serve(held, **variables)
    with ExitStack() as stack:
        with held_requests(server.port, tmp_path / "hold", 1) as first:
            while "in_flight 1.0" not in send(server.health_port, "GET", "/metrics").body.decode():
                pass
            others = [stack.enter_context(closing(connect(server.port))) for _ in range(5 * (1 + N_QUEUED) - 1)]
            clients = stack.enter_context(ThreadPoolExecutor(len(others)))
            for connection in others:
                connection.sendall(REQUEST)
            answers = {clients.submit(receive_answer, connection): connection for connection in others}
            refused = list(islice(as_completed(answers, timeout=30), len(others) - N_QUEUED))
            assert all(is_busy(answer.result()) for answer in refused)
            assert send(server.health_port, "GET", "/healthz").status == 200
            (tmp_path / "hold").unlink()
            assert receive_answer(first[0]).status == 200
            assert {answer.result().status for answer in answers if answer not in refused} == {200}
        for answer in refused:
            answers[answer].sendall(REQUEST)
            assert receive_answer(answers[answer]).status == 200
    wait_for(lambda: shed(server) == ["queue_full"] * len(refused))
    metrics = send(server.health_port, "GET", "/metrics").body.decode()
    assert re.search(rf'method="other",route="unmatched",status="5xx",version="\w+"}} {len(refused)}\.0', metrics)
    assert f'requests_refused_total{{reason="queue_full"}} {len(refused)}.0' in metrics


def test_five_times_the_capacity_is_answered_or_refused(serve: Serve, house_prices: Path) -> None:
    """Every client gets an answer or a 503, none hangs, and none is cut off."""
    server = serve(house_prices, BAKEHOUSE_THREADS="1", BAKEHOUSE_MAX_QUEUED="2")
    body = json.dumps({"X": [[1500, 3]] * 5000})
    with ThreadPoolExecutor(15) as clients:
        answers = list(clients.map(lambda _: send(server.port, "POST", "/predict", body, JSON), range(150)))
    counts = Counter(answer.status for answer in answers)
    print(f"five times the capacity: {dict(counts)}")
    assert counts[200] + sum(map(is_busy, answers)) == len(answers)
    assert counts[200] > 0
    assert counts[503] > 0


def test_a_new_connection_takes_the_place_of_the_longest_idle(serve: Serve, house_prices: Path) -> None:
    """Clients that keep connections do not lock others out."""
    server = serve(house_prices, BAKEHOUSE_MAX_CONNECTIONS=str(N_CONNECTIONS))
    request = b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"
    with ExitStack() as stack:
        idle = [stack.enter_context(closing(connect(server.port))) for _ in range(N_CONNECTIONS)]
        for connection in (*idle, idle[0]):
            connection.sendall(request)
            assert receive_answer(connection).status == 200
        assert predict(server.port, {"X": [[1500, 3]]}).status == 200
        (gone,), _, _ = select.select(idle, [], [], 30)
        assert gone in idle[1:3]  # neighbours may have been answered by two threads, which end in either order
        assert gone.recv(1) == b""
        idle.remove(gone)
        for connection in idle:
            connection.sendall(request)
            assert receive_answer(connection).status == 200


def test_connections_beyond_the_limit_are_told_to_come_back(serve: Serve, house_prices: Path) -> None:
    """Where all are in use, a new one is answered at once instead of waiting unseen; after that others are served."""
    server = serve(house_prices, BAKEHOUSE_MAX_CONNECTIONS=str(N_CONNECTIONS))
    with ExitStack() as stack:
        for _ in range(N_CONNECTIONS):
            connection = stack.enter_context(closing(connect(server.port)))
            connection.sendall(
                b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\nExpect: 100-continue\r\n\r\n"
            )
            assert connection.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        for _ in range(3 * N_CONNECTIONS):
            answer = predict(server.port, {"X": [[1500, 3]]})
            assert is_busy(answer)
            assert answer.headers["connection"] == "close"
    while predict(server.port, {"X": [[1500, 3]]}).status != 200:
        pass
    metrics = send(server.health_port, "GET", "/metrics").body.decode()
    refused = 'requests_refused_total{reason="too_many_connections"}'
    wait_for(lambda: f"{refused} {len(shed(server))}.0" in metrics)
    assert set(shed(server)) == {"too_many_connections"}


def test_no_more_requests_than_threads_are_never_too_many(serve: Serve, house_prices: Path) -> None:
    """What an idle thread is about to take does not wait, although it is in the queue for a moment."""
    server = serve(house_prices, BAKEHOUSE_THREADS="2", BAKEHOUSE_MAX_QUEUED="1")
    document = {"X": [[1500, 3]] * 5000}  # too long to be answered without a thread
    expected = predict(server.port, document).json["y_pred"]
    with Load(lambda: server.port, expected, n_clients=2, pause_seconds=0, document=document) as clients:
        while clients.answered["good"] < 300 and not clients.failures:
            time.sleep(0.01)
    assert clients.failures == []
