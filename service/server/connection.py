"""One client's connection: what it sends becomes whole requests, and answers go out as fast as it reads them.

Its socket never blocks, and it belongs to one thread at a time: to the one that polls, or to the one that works on its
request. Gunicorn parses heads and decodes chunks; here is only decided how many bytes make a whole request.
"""

import io
import re
import select
import socket
import ssl
import time
from collections.abc import Iterator, MutableMapping
from contextlib import suppress
from typing import Any

from gunicorn import sock as gunicorn_sock
from gunicorn.http.body import ChunkedReader
from gunicorn.http.errors import LimitRequestHeaders, NoMoreData

from service.server.request_heads import RequestHeadCache

MOST_HEAD_BYTES = 64 * 1024  # Gunicorn's own limit, 100 headers of 8 KiB, is what a thousand connections cannot hold
MOST_CHUNK_OVERHEAD = 2  # sizes and line ends of chunks may take as much room again as the data
READ_BYTES = 16 * 1024  # holds a usual request, and little of what is sent behind it
BODY_READ_BYTES = 256 * 1024
DECODED_BYTES = 16 * 1024  # Gunicorn's decoder copies the rest of a piece for each chunk in it
STREAMED_BYTES = 64 * 1024  # of a streamed answer, wait for the client when so much was not taken
LINGER_BYTES = 128 * 1024**2  # more than a client sends of a body that is refused, before it looks at the answer
BLOCKED = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
NO_BODY = io.BytesIO()
CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})([ \t]*;.*)?")


class Connection:
    """A connection as the poller sees it.

    Args:
        sock: The accepted socket.
        client: The client's address.
        server: The address that it connected to.
        cfg: Gunicorn's configuration.
        heads: Parses heads.
        max_body_bytes: The longest body that is wanted.
        answer_seconds: How long the client may take to read an answer.
    """

    def __init__(
        self,
        sock: socket.socket,
        client: Any,
        server: Any,
        cfg: Any,
        heads: RequestHeadCache,
        max_body_bytes: int,
        answer_seconds: float,
    ) -> None:
        sock.setblocking(False)
        self.tls = self.handshaking = bool(cfg.is_ssl)
        self.sock: Any = gunicorn_sock.ssl_wrap_socket(sock, cfg) if self.tls else sock
        self.client, self.server, self._heads = client, server, heads
        self._max_body_bytes, self._answer_seconds = max_body_bytes, answer_seconds
        self.fd: int = self.sock.fileno()
        self.readable = True  # whether there may be something to read
        self.hung_up = False  # whether the client sends no more, although not all of it was read
        self.ended = False  # whether all of it was read
        self.busy = False  # whether a thread works on its request
        self.closing = False  # whether it is closed after what is to be sent
        self.broken = False  # whether nothing can be sent any more
        self.held = 0  # bytes that are accounted for
        self.waiting: MutableMapping[Connection, float] | None = None  # for what the poller waits, with a deadline
        self.unsent: bytes | memoryview = b""
        self._n_writes = 0
        self._n_requests = 0
        self._n_discarded = 0
        self._buffer: bytes | bytearray = b""
        self._searched = 0
        self._request: Any = None
        self._body = NO_BODY
        self._missing = 0
        self._chunks: Chunks | None = None
        self.n_body_bytes = 0  # of the last request, as far as it was read

    # What comes in ------------------------------------------------------------------------------------------

    def shake_hands(self) -> bool:
        """Go on with the TLS handshake and return whether it is over.

        Raises:
            OSError: If there will be no TLS.
        """
        try:
            self.sock.do_handshake()
        except BLOCKED:
            return False
        self.handshaking = False
        return True

    def receive(self) -> int:
        """Read what there is, once, and return how much it was.

        Raises:
            OSError: If the connection is lost.
        """
        wanted = min(self._missing, BODY_READ_BYTES) or (BODY_READ_BYTES if self._chunks else READ_BYTES)
        try:
            data = self.sock.recv(wanted)
        except BLOCKED:
            self.readable = False
            return 0
        if not data:
            self.ended, self.readable = True, False
        elif len(data) < wanted and not self.hung_up and not self.tls:
            self.readable = False  # a short read means that nothing is left, see epoll(7)
        if self._missing:
            self._body.write(data)
            self._missing -= len(data)
            if not self._missing:
                self._body.getvalue()  # from now on its bytes are shared by who reads all of them, not copied
                self._body.seek(0)
        elif self._buffer:
            self._buffer = bytearray(self._buffer) if isinstance(self._buffer, bytes) else self._buffer
            self._buffer += data
        else:
            self._buffer = data
        return len(data)

    def next_request(self) -> Any:
        """Return the next request once all of it is here, else None.

        Raises:
            ParseException: If it is none; the connection cannot go on.
        """
        if self._request is None and not self._take_head():
            return None
        if self._chunks is not None and not self._take_chunks(self._chunks):
            return None
        if self._missing:
            return None
        return self._take_request()

    def truncated_request(self) -> Any:
        """Return the request whose body will never be complete, if there is one; its body ends with an error."""
        if self._request is None:
            return None
        if self._chunks is not None:
            self._decode(len(self._buffer))
        else:
            self._request.body = _TruncatedBody(self._body.getvalue())
        self._request.force_close()
        return self._take_request()

    @property
    def n_received(self) -> int:
        """How many bytes are here of requests that are not complete."""
        return len(self._buffer) + (self._body.tell() if self._request is not None else 0)

    @property
    def has_more(self) -> bool:
        """Whether there is something to do behind an answer, without waiting."""
        return self.readable or self.ended or bool(self._buffer)

    @property
    def head_is_here(self) -> bool:
        """Whether the body of a request is awaited."""
        return self._request is not None

    def _take_request(self) -> Any:
        request, self._request = self._request, None
        self._missing, self._chunks, self._body = 0, None, NO_BODY
        return request

    def _take_head(self) -> bool:
        end = self._end_of_head()
        if not end:
            return False
        head, self._buffer = bytes(self._buffer[:end]), self._buffer[end:]
        self._searched = 0
        self._n_requests += 1
        try:
            self._request = self._heads.parse(head, self.client, self._n_requests)
        except NoMoreData:
            raise LimitRequestHeaders("the head is too long") from None
        self._plan_body(self._request)
        return True

    def _end_of_head(self) -> int:
        """Return how many bytes the head has, 0 while it goes on; also of one that Gunicorn refuses before its end."""
        buffer, searched = self._buffer, self._searched
        end = buffer.find(b"\r\n\r\n", max(0, searched - 3))
        if end >= 0:
            return end + 4
        if searched and buffer[searched - 1] == ord("\r"):
            searched -= 1
        bare_line_feed = buffer.count(b"\n", searched) != buffer.count(b"\r\n", searched)
        self._searched = len(buffer)
        return len(buffer) if bare_line_feed or len(buffer) > MOST_HEAD_BYTES else 0

    def _plan_body(self, request: Any) -> None:
        """Decide how much of the body is awaited; of one that is too long nothing, so that it is refused at once."""
        reader = request.body.reader
        expected, request._expected_100_continue = request._expected_100_continue, False
        if isinstance(reader, ChunkedReader):
            self._chunks = Chunks(self._max_body_bytes)
        else:
            self.n_body_bytes = reader.length
            if reader.length > self._max_body_bytes:
                self.n_body_bytes = 0
                self._buffer = b""
                request.force_close()
                return
            data = bytes(self._buffer[: reader.length])
            self._buffer = self._buffer[reader.length :]
            self._missing = reader.length - len(data)
            self._body = request.body = io.BytesIO(data)
            if self._missing:
                self._body.seek(len(data))
        if expected and not self._buffer and (self._missing or self._chunks):
            self._send_now(CONTINUE)

    def _take_chunks(self, chunks: "Chunks") -> bool:
        """Return whether the body can be decoded: it is complete, or will never be any good."""
        try:
            end = chunks.find_end(self._buffer)
        except ValueError:
            end = len(self._buffer)
            self._request.force_close()
        if end:
            self._decode(end)
        return end > 0

    def _decode(self, end: int) -> None:
        raw, self._buffer = self._buffer, self._buffer[end:]
        self.n_body_bytes = end
        self._request.unreader.iter = _pieces(raw, end)

    # What goes out ------------------------------------------------------------------------------------------

    def begin_answer(self) -> None:
        """Get ready for another answer."""
        self._n_writes = 0

    @property
    def answer_begun(self) -> bool:
        """Whether something of the answer was written."""
        return self._n_writes > 0

    def sendall(self, data: bytes) -> None:
        """Send bytes of an answer as far as the client takes them; what Gunicorn calls as if this were a socket.

        The first bytes, which are the head, are sent together with those that follow. A streamed answer waits for its
        client, others are kept for the poller to send.

        Raises:
            OSError: If the connection is lost, or the client reads too slowly.
        """
        self._n_writes += 1
        if self._n_writes > 2 and self.busy and len(self.unsent) > STREAMED_BYTES:
            self._wait_for_client()
        self.unsent = b"".join((self.unsent, data)) if self.unsent else data
        if self._n_writes > 1:
            self.flush()

    def flush(self) -> bool:
        """Send what is unsent as far as the client takes it, and return whether that was all.

        Raises:
            OSError: If the connection is lost.
        """
        try:
            while self.unsent:
                n_sent = self.sock.send(self.unsent)
                self.unsent = memoryview(self.unsent)[n_sent:] if n_sent < len(self.unsent) else b""
        except BLOCKED:
            return False
        except OSError:
            self.broken = True
            raise
        return True

    def _wait_for_client(self) -> None:
        deadline = time.monotonic() + self._answer_seconds
        poll = select.poll()
        poll.register(self.fd, select.POLLOUT)
        while not self.flush():
            left = deadline - time.monotonic()
            if left <= 0 or not poll.poll(left * 1000):
                self.broken = True
                raise TimeoutError("the client does not read its answer")

    def _send_now(self, data: bytes) -> None:
        """Send a few bytes that always fit: nothing else is unsent."""
        try:
            sent = self.sock.send(data) == len(data)
        except BLOCKED:
            sent = False
        if not sent:
            raise TimeoutError("the client did not read its last answer")

    def begin_close(self) -> None:
        """Send the end; what the client still sends has to be read, or it loses the answer (RFC 9112 9.6)."""
        self._take_request()
        self._buffer = b""
        with suppress(OSError):
            self.sock.shutdown(socket.SHUT_WR)

    def discard(self, scratch: bytearray) -> bool:
        """Read away what still comes, once, and return whether that was the end."""
        try:
            n_bytes = self.sock.recv_into(scratch)
        except BlockingIOError:
            self.readable = False
            return False
        except OSError:
            return True
        self._n_discarded += n_bytes
        return not n_bytes or self._n_discarded > LINGER_BYTES


class Chunks:
    """Finds the end of a chunked body (RFC 9112 7.1); Gunicorn, which decodes it, says what is wrong with one.

    Args:
        max_body_bytes: After so many bytes of data nothing more is wanted.
    """

    def __init__(self, max_body_bytes: int) -> None:
        self._max_bytes = max_body_bytes
        self._at = 0  # where the next chunk begins: its data may not be here yet
        self._searched = 0
        self._n_bytes = 0
        self._last = False

    def find_end(self, buffer: bytes | bytearray) -> int:
        """Return how many bytes the body has, 0 while there is more to come.

        Raises:
            ValueError: If the framing is broken, or the body too long: there is no use in waiting.
        """
        end = self._find_end(buffer)
        n_bytes_here = self._n_bytes - max(0, self._at - 2 - len(buffer))
        if not end and n_bytes_here > self._max_bytes:
            raise ValueError("more data than is wanted")
        if not end and len(buffer) > MOST_CHUNK_OVERHEAD * self._max_bytes + MOST_HEAD_BYTES:
            raise ValueError("more framing than data")
        return end

    def _find_end(self, buffer: bytes | bytearray) -> int:
        while not self._last and self._at <= len(buffer):
            if self._at and buffer[self._at - 2 : self._at] != b"\r\n":
                raise ValueError("a chunk does not end where it says")
            line_end = buffer.find(b"\r\n", max(self._at, self._searched - 1))
            self._searched = len(buffer)
            if line_end < 0:
                if len(buffer) - self._at > MOST_HEAD_BYTES:
                    raise ValueError("the size of a chunk is too long")
                return 0
            self._next_chunk(buffer, line_end)
        return self._end_of_trailers(buffer) if self._last else 0

    def _next_chunk(self, buffer: bytes | bytearray, line_end: int) -> None:
        size = CHUNK_SIZE.fullmatch(buffer, self._at, line_end)
        if size is None:
            raise ValueError("a chunk has no size")
        n_bytes = int(size[1], 16)
        self._last = n_bytes == 0
        self._n_bytes += n_bytes
        self._at = line_end + 2 + (n_bytes + 2 if n_bytes else 0)
        self._searched = self._at

    def _end_of_trailers(self, buffer: bytes | bytearray) -> int:
        if buffer.startswith(b"\r\n", self._at):
            return self._at + 2
        end = buffer.find(b"\r\n\r\n", max(self._at, self._searched - 3))
        self._searched = len(buffer)
        if end < 0 and len(buffer) - self._at > MOST_HEAD_BYTES:
            raise ValueError("the trailers are too long")
        return end + 4 if end >= 0 else 0


class _TruncatedBody(io.BytesIO):
    def read(self, _size: int | None = None) -> bytes:
        raise NoMoreData


def _pieces(raw: bytes | bytearray, end: int) -> Iterator[bytes]:
    for at in range(0, end, DECODED_BYTES):
        yield bytes(raw[at : min(at + DECODED_BYTES, end)])
