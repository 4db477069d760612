"""No client keeps others waiting, however slowly it sends or reads, and none has more of the memory than its share."""

import http.client
import itertools
import json
import re
import socket
import ssl
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from tests.support.certificates import Authority
from tests.support.load import Load
from tests.support.server import RunningServer
from tests.support.slow import BODY, SlowClients, wait_until_closed
from tests.support.streaming import PIECES
from tests.support.waiting import wait_for
from tools.local_http import Answer, connect, exchange, predict, receive_answer, send

Serve = Callable[..., RunningServer]
EXAMPLE = {"X": [[1500, 3]]}
JSON = {"Content-Type": "application/json"}
N_THREADS = 4
N_SLOW = 50 * N_THREADS


def quick_up_to(n_bytes: int) -> tuple[str, ...]:
    """Return the command of a server that answers predictions of so many bytes in the thread that polls."""
    code = f"service.server.application.quick_body_bytes = lambda _model: {n_bytes}; from service.__main__ import main"
    return sys.executable, "-c", f"import sys, service.server.application; sys.argv[1:] = []; {code}; sys.exit(main())"


POST = b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
WHOLE = POST + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY
CHUNKED = (
    POST + b'Transfer-Encoding: chunked\r\n\r\n7;a=b;c="d"\r\n' + BODY[:7] + b"\r\n00b\r\n" + BODY[7:] + b"\r\n0\r\n"
)


@pytest.fixture(scope="module", params=["pool", "at once"])
def server(request: pytest.FixtureRequest, house_prices: Path) -> Iterator[RunningServer]:
    """Return a server of the default model, which answers in its pool, or in the thread that polls."""
    command = quick_up_to(65536 if request.param == "at once" else 0)
    variables = {"BAKEHOUSE_THREADS": str(N_THREADS), "BAKEHOUSE_KEEP_ALIVE_SECONDS": "2"}
    running = RunningServer(house_prices, variables, command=command)
    yield running.wait_until_ready()
    running.kill()


def answers_of(server: RunningServer, pieces: list[bytes], n_answers: int = 1) -> list[Answer]:
    """Return the answers to what is sent in these pieces."""
    with closing(connect(server.port)) as connection:
        for piece in pieces:
            connection.sendall(piece)
        return [receive_answer(connection) for _ in range(n_answers)]


def memory_kibibytes(server: RunningServer) -> int:
    """Return the proportional memory of the serving processes."""
    text = "".join(Path(f"/proc/{pid}/smaps_rollup").read_text() for pid in server.workers())
    return sum(map(int, re.findall(r"^Pss:\s+(\d+) kB", text, re.MULTILINE)))


def n_refused(server: RunningServer) -> float:
    """Return how many requests were refused before they reached a route, by the metrics."""
    text = send(server.health_port, "GET", "/metrics").body.decode()
    sample = 'bakehouse_http_requests_total{method="other",route="unmatched",status="4xx",'
    return next((float(line.split()[-1]) for line in text.splitlines() if line.startswith(sample)), 0)


# Slow clients ---------------------------------------------------------------------------------------------------------


def test_slow_clients_hold_no_thread(server: RunningServer) -> None:
    """With fifty slow connections for each thread, ordinary clients are all answered, whichever way requests take."""
    expected = predict(server.port, EXAMPLE).json["y_pred"]
    large = json.dumps({"X": [[1500, 3]] * 5000})
    with SlowClients(server.port, N_SLOW) as slow, ThreadPoolExecutor(8) as fresh:
        with Load(lambda: server.port, expected, n_clients=8, pause_seconds=0) as kept:
            answers = list(fresh.map(lambda _: predict(server.port, EXAMPLE), range(100)))
            pooled = list(fresh.map(lambda _: send(server.port, "GET", "/openapi.json"), range(50)))
            bodies = list(fresh.map(lambda _: send(server.port, "POST", "/predict", large, JSON), range(20)))
        assert slow.n_open >= N_SLOW / 3  # those in a body have thirty seconds
    assert kept.failures == []
    assert kept.answered["good"] > 0
    assert {answer.status for answer in (*answers, *pooled, *bodies)} == {200}
    assert {answer.json["y_pred"][0] for answer in answers} == set(expected)
    assert bodies[0].json["y_pred"] == expected * 5000


def test_busy_clients_take_turns(house_prices: Path) -> None:
    """Between two answers to one client, each of the others has one or two, however long their bodies."""
    n_busy, n_asked = 8, 30
    rows_of_busy = [[1e16, 3]] * 2000  # longer than one read; large numbers take longer, so that all clients wait
    running = RunningServer(house_prices, {}, command=quick_up_to(65536)).wait_until_ready()
    expected = predict(running.port, {"X": rows_of_busy}).json["y_pred"]
    busy = Load(lambda: running.port, expected, n_clients=n_busy, pause_seconds=0, document={"X": rows_of_busy})
    try:
        with busy, closing(http.client.HTTPConnection("127.0.0.1", running.port, timeout=30)) as connection:
            for _ in range(n_asked):
                connection.request("POST", "/predict", json.dumps(EXAMPLE), JSON)
                assert connection.getresponse().read()
        rows = [json.loads(line)["rows"] for line in running.output.splitlines()]
    finally:
        running.kill()
    assert busy.failures == []
    turns = [index for index, n_samples in enumerate(rows) if n_samples == 1]
    assert len(turns) == n_asked
    assert max(later - earlier - 1 for earlier, later in itertools.pairwise(turns)) <= 3 * n_busy


def test_slow_clients_are_answered_408_and_silent_ones_closed(serve: Serve, house_prices: Path) -> None:
    """After their deadlines nothing is left of them, and the metrics say how many there were."""
    deadlines = {"BAKEHOUSE_HEADER_TIMEOUT_SECONDS": "1", "BAKEHOUSE_BODY_TIMEOUT_SECONDS": "1"}
    server = serve(house_prices, **deadlines)
    with SlowClients(server.port, 60) as slow:
        wait_until_closed(slow)
        assert slow.answered == {"head 408": 20, "body 408": 20, "silent closed": 20}
    assert n_refused(server) == 40
    metrics = send(server.health_port, "GET", "/metrics").body.decode()
    for reason in ("slow_head", "slow_body"):
        assert f'requests_refused_total{{reason="{reason}"}} 20.0' in metrics
    wait_for(lambda: server.output.count("\n") == 40)
    problems = [json.loads(line) for line in server.output.splitlines()]
    assert {line["code"] for line in problems if line["status"] == 408} == {"slow_head", "slow_body"}


def test_an_idle_connection_is_closed_after_the_keep_alive_time(server: RunningServer) -> None:
    """It is closed without an answer to nothing."""
    with closing(connect(server.port)) as connection:
        connection.sendall(WHOLE)
        assert receive_answer(connection).status == 200
        assert connection.recv(1) == b""


def test_many_half_sent_bodies_are_bounded_in_memory(serve: Serve, house_prices: Path) -> None:
    """Those that are slow give way: to others, and to the memory that the server has."""
    server = serve(house_prices)
    assert predict(server.port, EXAMPLE).status == 200
    before = memory_kibibytes(server)
    head = POST + b"Content-Length: %d\r\n\r\n" % (8 * 1024**2)
    half = b"[" * (4 * 1024**2)
    with ExitStack() as stack:
        slow = [stack.enter_context(closing(connect(server.port))) for _ in range(40)]
        for connection in slow:
            connection.sendall(head + half)
            assert predict(server.port, EXAMPLE).status == 200
        assert memory_kibibytes(server) - before < 100 * 1024  # of the 160 MiB that were sent
        first = receive_answer(slow[0])
        assert first.status == 503
        assert first.headers["retry-after"] == "1"
        slow[-1].sendall(half)
        assert receive_answer(slow[-1]).status == 400


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunks"])
def test_a_body_of_100_mb_is_refused_unread(server: RunningServer, chunked: bool) -> None:
    """It is answered 413, and costs no more memory than the longest body that is taken."""
    assert predict(server.port, EXAMPLE).status == 200
    before = memory_kibibytes(server)
    piece = b"[" * 1_000_000
    answer = send(server.port, "POST", "/predict", iter([piece] * 100) if chunked else piece * 100, JSON)
    assert answer.status == 413
    assert memory_kibibytes(server) - before < 64 * 1024
    assert predict(server.port, EXAMPLE).status == 200


def test_json_nested_10_000_deep_is_refused(server: RunningServer) -> None:
    """It is answered, and the server goes on."""
    for body in (b'{"X": ' + b"[" * 10_000 + b"]" * 10_000 + b"}", b"[" * 100_000, b'{"X":' * 10_000):
        assert send(server.port, "POST", "/predict", body, JSON).status in (400, 422)
    assert predict(server.port, EXAMPLE).status == 200


def test_a_client_that_never_reads_is_dropped(serve: Serve, house_prices: Path) -> None:
    """What it does not read is bounded, nobody waits for it, and after the deadline it is gone."""
    server = serve(house_prices, BAKEHOUSE_ANSWER_TIMEOUT_SECONDS="2", BAKEHOUSE_THREADS="1")
    assert predict(server.port, EXAMPLE).status == 200
    before = memory_kibibytes(server)
    large = json.dumps({"X": [[1500, 3]] * 10_000}).encode()
    request = POST + b"Content-Length: %d\r\n\r\n" % len(large) + large
    with ExitStack() as stack:
        deaf = [stack.enter_context(closing(connect_with_little_room(server))) for _ in range(10)]
        n_sent = dict.fromkeys(deaf, 0)
        end = time.monotonic() + 60
        while n_sent:
            assert time.monotonic() < end
            n_sent = {
                connection: n + sent
                for connection, n in n_sent.items()
                if (sent := send_some(connection, request[n % len(request) :])) is not None
            }
            assert predict(server.port, EXAMPLE).status == 200
        assert memory_kibibytes(server) - before < 64 * 1024
    assert send(server.port, "GET", "/openapi.json").status == 200
    assert n_refused(server) == 0  # its requests were good, and none was late


def connect_with_little_room(server: RunningServer) -> socket.socket:
    """Return a connection on which few bytes can be under way to the client."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.connect(("127.0.0.1", server.port))
    connection.setblocking(False)
    return connection


def send_some(connection: socket.socket, data: bytes) -> int | None:
    """Send what the server takes, and return how much that was, or None if it has ended the connection."""
    try:
        return connection.send(data)
    except BlockingIOError:
        return 0
    except ConnectionError:
        return None


def test_a_streamed_answer_is_whole_however_slowly_it_is_read(house_prices: Path) -> None:
    """A view may be a generator; its thread waits for the client, and others are answered meanwhile."""
    server = RunningServer(house_prices, {"BAKEHOUSE_THREADS": "2"}, (sys.executable, "-m", "tests.support.streaming"))
    try:
        server.wait_until_ready()
        whole = b"".join(PIECES)
        with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)) as slow:
            slow.request("GET", "/stream")
            response = slow.getresponse()
            begin = response.read(1000)
            assert send(server.port, "GET", "/stream").body == whole
            assert begin + response.read() == whole
            slow.request("GET", "/version")  # the connection goes on
            assert slow.getresponse().status == 200
        answer = exchange(server.port, b"GET /stream HTTP/1.0\r\n\r\n")
        assert answer.partition(b"\r\n\r\n")[2] == whole
        with pytest.raises(http.client.IncompleteRead):
            send(server.port, "GET", "/fail")
    finally:
        server.kill()


# Requests in pieces ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("request_bytes", [WHOLE, CHUNKED + b"\r\n", CHUNKED + b"X-Sum: 1\r\nY: 2\r\n\r\n"])
def test_a_request_split_at_any_place_is_the_same_request(server: RunningServer, request_bytes: bytes) -> None:
    """Where one packet ends and the next begins means nothing."""
    expected = predict(server.port, EXAMPLE).json
    with closing(connect(server.port)) as connection:
        for at in range(1, len(request_bytes)):
            connection.sendall(request_bytes[:at])
            time.sleep(0.001)  # so that most of them arrive in two pieces; the answer is the same if not
            connection.sendall(request_bytes[at:])
            answer = receive_answer(connection)
            assert (answer.status, answer.json) == (200, expected), at


@pytest.mark.parametrize("request_bytes", [WHOLE, CHUNKED + b"X-Sum: 1\r\n\r\n"], ids=["length", "chunks"])
def test_a_request_may_come_byte_by_byte(server: RunningServer, request_bytes: bytes) -> None:
    """As slow as that, and still in time."""
    pieces = [request_bytes[at : at + 1] for at in range(len(request_bytes))]
    (answer,) = answers_of(server, pieces)
    assert answer.json == predict(server.port, EXAMPLE).json


def test_pipelined_requests_are_answered_in_order(server: RunningServer) -> None:
    """Whatever comes behind a request waits for its answer, also where other ways lead to it."""
    rows = [[1000 + n, n] for n in range(200)]
    expected = predict(server.port, {"X": rows}).json["y_pred"]
    sent = b""
    for row in rows:
        body = json.dumps({"X": [row]}).encode()
        sent += b"GET /version HTTP/1.1\r\nHost: a\r\n\r\n" + POST + b"Content-Length: %d\r\n\r\n" % len(body) + body
    answers = answers_of(server, [sent], 2 * len(rows))
    assert [answer.json["y_pred"][0] for answer in answers[1::2]] == pytest.approx(expected)
    assert all("service_version" in answer.json for answer in answers[::2])


def test_a_client_that_expects_100_continue_gets_it_once(server: RunningServer) -> None:
    """Before its body if that is wanted; else the refusal comes instead."""
    with closing(connect(server.port)) as connection:
        for _ in range(2):
            connection.sendall(POST + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(BODY))
            assert connection.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
            connection.sendall(BODY)
            assert receive_answer(connection).status == 200
        connection.sendall(POST + b"Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n")
        assert connection.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY))
        assert receive_answer(connection).status == 200
        connection.sendall(POST + b"Expect: 100-continue\r\nContent-Length: 100000000\r\n\r\n")
        assert receive_answer(connection).status == 413
        assert connection.recv(1) == b""


def test_http_1_0_and_head_are_answered_as_before(server: RunningServer) -> None:
    """HTTP/1.0 closes unless it asks not to; an answer to HEAD has no body."""
    old = WHOLE.replace(b"HTTP/1.1", b"HTTP/1.0")
    assert exchange(server.port, old + WHOLE).count(b"HTTP/1.") == 1
    kept = old.replace(b"Host: a", b"Host: a\r\nConnection: keep-alive")
    assert len(answers_of(server, [kept + WHOLE], 2)) == 2
    head = exchange(server.port, b"HEAD /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200")
    assert head.endswith(b"\r\n\r\n")


def test_a_body_that_is_cut_off_is_refused_even_if_it_looks_whole(server: RunningServer) -> None:
    """What its sender did not finish is no request, although its first part is good JSON."""
    answer = exchange(server.port, POST + b"Content-Length: %d\r\n\r\n" % (len(BODY) + 5) + BODY)
    assert answer.startswith(b"HTTP/1.1 400")
    answer = exchange(server.port, CHUNKED)
    assert answer.startswith(b"HTTP/1.1 400")


@pytest.mark.parametrize("path", [b"/predict", b"/healthz"])
@pytest.mark.parametrize(
    "end", [b"0\r\nContent-Length: 1\r\n\r\n", b"0\r\nX: 1\n\nGET / HTTP/1.1\r\n\r\n", b"0 \r\n\r\n"]
)
def test_behind_a_broken_body_nothing_is_answered(server: RunningServer, path: bytes, end: bytes) -> None:
    """Whether or not somebody read it: what looks like the next request may be a part of it."""
    head = b"POST %s HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" % path
    answer = exchange(server.port, head + b"%x\r\n%s\r\n" % (len(BODY), BODY) + end + WHOLE)
    assert answer.count(b"HTTP/1.1 ") == 1
    assert answer.startswith((b"HTTP/1.1 400", b"HTTP/1.1 405"))


@pytest.mark.parametrize(
    "head",
    [b"GET / HTTP/1.1\nHost: a\n", b"GET / HTTP/1.1\r\nHost: a\nX: 1", b"GET /" + b"a" * 80_000, b"x: 1\r\n" * 20_000],
)
def test_a_head_that_is_broken_is_refused_before_it_ends(server: RunningServer, head: bytes) -> None:
    """There is no use in waiting for the rest of it."""
    (answer,) = answers_of(server, [head])
    assert answer.status in (400, 414, 431)
    assert answer.headers["connection"] == "close"


# TLS ------------------------------------------------------------------------------------------------------------------


def test_slow_clients_hold_no_thread_over_tls(serve: Serve, house_prices: Path, tmp_path: Path) -> None:
    """Handshakes that never begin or end are closed; whoever speaks TLS byte by byte is answered, and so are others."""
    authority = Authority(tmp_path)
    certificate, key = authority.issue("one.test")
    files = {"BAKEHOUSE_TLS_CERTIFICATE": str(certificate), "BAKEHOUSE_TLS_KEY": str(key)}
    server = serve(house_prices, BAKEHOUSE_THREADS="1", BAKEHOUSE_HEADER_TIMEOUT_SECONDS="3", **files)
    context = ssl.create_default_context(cafile=str(authority.file))
    with ExitStack() as stack:
        silent = [stack.enter_context(closing(connect(server.port))) for _ in range(25)]
        begun = [stack.enter_context(closing(connect(server.port))) for _ in range(25)]
        for connection in begun:
            connection.sendall(b"\x16\x03\x01\x02\x00\x01")  # the first bytes of a handshake
        for pieces in ([WHOLE], [WHOLE[at : at + 1] for at in range(len(WHOLE))], [WHOLE * 20]):
            with context.wrap_socket(connect(server.port), server_hostname="one.test") as secure:
                for piece in pieces:
                    secure.sendall(piece)
                assert {receive_answer(secure).status for _ in range(len(b"".join(pieces)) // len(WHOLE))} == {200}
        large = json.dumps({"X": [[1500, 3]] * 10_000}).encode()
        with context.wrap_socket(connect(server.port), server_hostname="one.test") as secure:
            secure.sendall(POST + b"Content-Length: %d\r\n\r\n" % len(large) + large)
            assert len(receive_answer(secure).json["y_pred"]) == 10_000
        for connection in silent + begun:
            assert connection.recv(1) == b""
