"""A connection: when a request is whole, what is refused before it is, and how answers leave."""

import socket
import threading
from collections.abc import Iterator

import pytest
from gunicorn.config import Config
from gunicorn.http.errors import LimitRequestHeaders, LimitRequestLine, NoMoreData, ParseException

from service.server.connection import MAX_HEAD_BYTES, STREAMED_BYTES, Chunks, Connection
from service.server.request_heads import RequestHeadCache

LIMIT = 1000
HEAD = b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n"
CHUNKED_HEAD = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
CHUNKED_BODIES = {
    "empty": b"0\r\n\r\n",
    "one": b"5\r\nhello\r\n0\r\n\r\n",
    "looks like an end": b"4\r\n\r\n\r\n\r\n5\r\n0\r\n\r\n\r\n0\r\n\r\n",
    "extensions": b'3;a=b \t; c = "d;\\"e"\r\nabc\r\n0A ;f\r\n0123456789\r\n000;g\r\n\r\n',
    "trailers": b"1\r\na\r\n0\r\nX: 1\r\nY: 2\r\n\r\n",
}


@pytest.fixture
def pair() -> Iterator[tuple[Connection, socket.socket]]:
    """Return a connection and its client's end."""
    server, client = socket.socketpair()
    connection = Connection(
        server, ("127.0.0.1", 1), ("127.0.0.1", 2), Config(), RequestHeadCache(Config()), LIMIT, 0.2
    )
    yield connection, client
    connection.sock.close()
    client.close()


def receive_all(connection: Connection) -> None:
    """Read what was sent so far."""
    connection.readable = True
    while connection.readable:
        connection.receive()


@pytest.mark.parametrize("body", CHUNKED_BODIES.values(), ids=CHUNKED_BODIES)
def test_the_end_of_chunks_is_found_when_it_is_there(body: bytes) -> None:
    """Neither earlier nor later, however the body arrives, and never behind its end."""
    whole, bytewise = Chunks(LIMIT), Chunks(LIMIT)
    assert whole.find_end(bytearray(body + b"GET /")) == len(body)
    ends = [bytewise.find_end(bytearray(body[:length])) for length in range(len(body) + 1)]
    assert ends == [0] * len(body) + [len(body)]


@pytest.mark.parametrize(
    "body",
    [
        b"x\r\n",
        b"\r\n",
        b"-1\r\n",
        b"0x1\r\n",
        b"1\r\nab\r\n",
        b"1\nab\r\n",
        b"1 2\r\n",
        b"1 \r\n",
        b"1" * 16 + b"\r\n",
    ],
)
def test_broken_chunks_are_not_waited_for(body: bytes) -> None:
    """Gunicorn, which decodes them, refuses them as well."""
    with pytest.raises(ValueError, match="chunk"):
        Chunks(LIMIT).find_end(bytearray(body))


def test_chunks_are_taken_up_to_the_limit_of_their_data() -> None:
    """What counts is what was received, not what was announced, so that the application sees that it is too much."""
    chunks = Chunks(LIMIT)
    announced = b"fffffff\r\n"
    assert chunks.find_end(bytearray(announced)) == 0
    assert chunks.find_end(bytearray(announced + b"x" * LIMIT)) == 0
    with pytest.raises(ValueError, match="more data"):
        chunks.find_end(bytearray(announced + b"x" * (LIMIT + 1)))


@pytest.mark.parametrize(
    "body", [b"1;" + b"x" * MAX_HEAD_BYTES * 2, b"0\r\n" + b"x" * MAX_HEAD_BYTES * 2, b"1;xxx\r\na\r\n" * 10_000]
)
def test_framing_that_never_ends_is_not_waited_for(body: bytes) -> None:
    """Sizes, extensions and trailers have no room of their own."""
    with pytest.raises(ValueError, match=r"too long|more framing"):
        Chunks(10_000).find_end(bytearray(body))


@pytest.mark.parametrize("framing", ["length", "chunks"])
def test_a_request_is_whole_with_its_last_byte(pair: tuple[Connection, socket.socket], framing: str) -> None:
    """Its body is then read without waiting, and what came behind it is the next request."""
    connection, client = pair
    sent = HEAD % 5 + b"hello" if framing == "length" else CHUNKED_HEAD + b"2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"
    for end in range(1, len(sent)):
        client.sendall(sent[end - 1 : end])
        receive_all(connection)
        assert connection.next_request() is None
    client.sendall(sent[-1:] + sent)
    receive_all(connection)
    for _ in range(2):
        assert connection.next_request().body.read() == b"hello"
    assert connection.next_request() is None
    assert connection.n_received == 0


def test_a_body_that_is_too_long_is_not_waited_for(pair: tuple[Connection, socket.socket]) -> None:
    """The application refuses it by its length; after that the connection ends."""
    connection, client = pair
    client.sendall(HEAD % (LIMIT + 1) + b"[")
    receive_all(connection)
    request = connection.next_request()
    assert request.should_close()
    assert connection.n_received == 0


@pytest.mark.parametrize("head", [HEAD % 10 + b"hello", CHUNKED_HEAD + b"5\r\nhel"])
def test_a_body_that_is_cut_off_ends_with_an_error(pair: tuple[Connection, socket.socket], head: bytes) -> None:
    """Whoever reads it cannot take its part for the whole."""
    connection, client = pair
    client.sendall(head)
    client.shutdown(socket.SHUT_WR)
    connection.hung_up = True  # as the poller learns
    receive_all(connection)
    assert connection.ended
    assert connection.next_request() is None
    request = connection.truncated_request()
    assert request.should_close()
    with pytest.raises(NoMoreData):
        request.body.read()


@pytest.mark.parametrize(
    ("head", "error"),
    [
        (b"GET / HTTP/1.1\nHost: a", ParseException),
        (b"GET / HTTP/1.1\r\nHost: a\n", ParseException),
        (b"GET /" + b"a" * MAX_HEAD_BYTES, LimitRequestLine),
        (b"GET / HTTP/1.1\r\nHost: " + b"a" * MAX_HEAD_BYTES, LimitRequestHeaders),
    ],
)
def test_a_head_that_will_be_refused_is_not_waited_for(
    pair: tuple[Connection, socket.socket], head: bytes, error: type[Exception]
) -> None:
    """Neither one that is broken nor one without an end."""
    connection, client = pair
    client.sendall(head)
    receive_all(connection)
    with pytest.raises(error):
        connection.next_request()


def test_a_line_end_that_is_split_is_no_broken_one(pair: tuple[Connection, socket.socket]) -> None:
    """Its second half may come later."""
    connection, client = pair
    for piece in (b"GET / HTTP/1.1\r", b"\nHost: a\r", b"\n\r", b"\n"):
        assert connection.next_request() is None
        client.sendall(piece)
        receive_all(connection)
    assert connection.next_request().path == "/"


def test_what_the_client_does_not_take_is_kept(pair: tuple[Connection, socket.socket]) -> None:
    """An answer of any size is written without waiting, and complete once the client has read it."""
    connection, client = pair
    body = bytes(range(256)) * 40_000
    connection.begin_answer()
    connection.sendall(b"head\r\n\r\n")
    connection.sendall(body)
    assert 0 < len(connection.unsent) < len(body)
    received = b""
    while len(received) < 8 + len(body):
        received += client.recv(1_000_000)
        connection.flush()
    assert received == b"head\r\n\r\n" + body
    assert not connection.unsent


def test_head_and_body_leave_together(pair: tuple[Connection, socket.socket]) -> None:
    """In one packet, and one system call."""
    connection, client = pair
    connection.begin_answer()
    connection.sendall(b"head ")
    client.setblocking(False)
    with pytest.raises(BlockingIOError):
        client.recv(100)
    connection.sendall(b"body")
    assert client.recv(100) == b"head body"


def test_a_streamed_answer_waits_for_its_client(pair: tuple[Connection, socket.socket]) -> None:
    """In a thread of the pool, so that it is never in memory as a whole; a client that does not read ends it."""
    connection, client = pair
    connection.busy = True
    connection.begin_answer()
    received: list[bytes] = []
    reader = threading.Thread(target=lambda: received.extend(iter(lambda: client.recv(1_000_000), b"")))
    reader.start()
    most = 0
    for _ in range(200):
        connection.sendall(b"x" * STREAMED_BYTES)
        most = max(most, len(connection.unsent))
    while not connection.flush():
        pass
    connection.begin_close()
    reader.join()
    assert sum(map(len, received)) == 200 * STREAMED_BYTES
    assert most <= 2 * STREAMED_BYTES


def test_a_streamed_answer_that_nobody_reads_ends(pair: tuple[Connection, socket.socket]) -> None:
    """The thread is free again after the time that a client has."""
    connection, _client = pair
    connection.busy = True
    connection.begin_answer()
    connection.sendall(b"head\r\n\r\n")
    connection.sendall(bytes(100 * STREAMED_BYTES))
    with pytest.raises(TimeoutError):
        connection.sendall(b"more")
    assert connection.broken
