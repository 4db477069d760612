"""One client's connection: collects received bytes into whole requests, and sends responses as the client reads them.

The socket never blocks. The connection belongs to one thread at a time: the event loop, or the pool thread that works
on its request. Gunicorn parses heads and decodes chunks. This module only decides how many bytes make a whole request.
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

MAX_HEAD_BYTES = 64 * 1024  # Gunicorn's limit, 100 headers of 8 KiB, is too much for a thousand connections
MAX_CHUNK_OVERHEAD = 2  # a chunked body with sizes and line ends may be twice as long as its data
READ_BYTES = 16 * 1024  # holds a usual request, and little of the next one
BODY_READ_BYTES = 256 * 1024
DECODED_BYTES = 16 * 1024  # small pieces, because Gunicorn's decoder copies the rest of a piece for each chunk in it
STREAMED_BYTES = 64 * 1024  # a streamed response waits for the client above this many unsent bytes
LINGER_BYTES = 128 * 1024**2  # more than a client sends of a refused body before it reads the response
BLOCKED = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
NO_BODY = io.BytesIO()
CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})([ \t]*;.*)?")


class Connection:
    """A connection in the event loop.

    Args:
        sock: The accepted socket.
        client: The client's address.
        server: The address that it connected to.
        cfg: Gunicorn's configuration.
        heads: Parses heads.
        max_body_bytes: The size limit of a body.
        answer_seconds: The time limit for the client to read a response.
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
        self.readable = True  # whether there may be bytes to read
        self.hung_up = False  # whether the client sends nothing more; there may still be bytes to read
        self.ended = False  # whether the client sends nothing more and all bytes are read
        self.busy = False  # whether a pool thread works on its request
        self.closing = False  # whether the worker closes it after the unsent bytes
        self.broken = False  # whether it can send nothing more
        self.n_held_bytes = 0  # bytes in memory for the client, as accounted by the worker
        self.deadline_queue: MutableMapping[Connection, float] | None = None  # the DeadlineQueue that it is in
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
        self.n_body_bytes = 0  # size of the last request's body, as far as it was read

    # Receiving ----------------------------------------------------------------------------------------------

    def shake_hands(self) -> bool:
        """Continue the TLS handshake and return whether it is complete.

        Raises:
            OSError: If the handshake fails.
        """
        try:
            self.sock.do_handshake()
        except BLOCKED:
            return False
        self.handshaking = False
        return True

    def receive(self) -> int:
        """Read once from the socket and return the number of bytes.

        Raises:
            OSError: If the connection is lost.
        """
        n_wanted = min(self._missing, BODY_READ_BYTES) or (BODY_READ_BYTES if self._chunks else READ_BYTES)
        try:
            data = self.sock.recv(n_wanted)
        except BLOCKED:
            self.readable = False
            return 0
        if not data:
            self.ended, self.readable = True, False
        elif len(data) < n_wanted and not self.hung_up and not self.tls:
            self.readable = False  # after a short read nothing is left, see epoll(7)
        if self._missing:
            self._body.write(data)
            self._missing -= len(data)
            if not self._missing:
                self._body.getvalue()  # from now on a read of the whole body shares its bytes and does not copy them
                self._body.seek(0)
        elif self._buffer:
            self._buffer = bytearray(self._buffer) if isinstance(self._buffer, bytes) else self._buffer
            self._buffer += data
        else:
            self._buffer = data
        return len(data)

    def next_request(self) -> Any:
        """Return the next request if all of it has arrived, otherwise None.

        Raises:
            ParseException: If it is not a valid request. The worker must close the connection.
        """
        if self._request is None and not self._take_head():
            return None
        if self._chunks is not None and not self._take_chunks(self._chunks):
            return None
        if self._missing:
            return None
        return self._take_request()

    def truncated_request(self) -> Any:
        """Return the request whose body the client did not complete, or None. Reading its body raises an error."""
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
        """How many bytes of incomplete requests have arrived."""
        return len(self._buffer) + (self._body.tell() if self._request is not None else 0)

    @property
    def has_more(self) -> bool:
        """Whether there may be another request after a response, without waiting."""
        return self.readable or self.ended or bool(self._buffer)

    @property
    def head_is_here(self) -> bool:
        """Whether the head of a request has arrived and its body has not."""
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
        """Return the length of the head, or 0 while it is incomplete.

        A head that Gunicorn refuses before its end counts as complete: one with a bare line feed, or a too long one.
        """
        buffer, searched = self._buffer, self._searched
        end = buffer.find(b"\r\n\r\n", max(0, searched - 3))
        if end >= 0:
            return end + 4
        if searched and buffer[searched - 1] == ord("\r"):
            searched -= 1
        bare_line_feed = buffer.count(b"\n", searched) != buffer.count(b"\r\n", searched)
        self._searched = len(buffer)
        return len(buffer) if bare_line_feed or len(buffer) > MAX_HEAD_BYTES else 0

    def _plan_body(self, request: Any) -> None:
        """Set how many bytes of the body to wait for. Do not wait for a body above the limit: refuse it at once."""
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
        """Return whether to decode the body now, because it is complete or invalid."""
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

    # Sending ------------------------------------------------------------------------------------------------

    def begin_answer(self) -> None:
        """Prepare for another response."""
        self._n_writes = 0

    @property
    def answer_begun(self) -> bool:
        """Whether the application has written a part of the response."""
        return self._n_writes > 0

    def sendall(self, data: bytes) -> None:
        """Send bytes of a response as far as the client reads them. Gunicorn calls this method like that of a socket.

        The first call has the head, which is sent together with the next bytes. A streamed response waits for the
        client. Otherwise the event loop sends the rest.

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
        """Send unsent bytes as far as the client reads them, and return whether all are sent.

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
                raise TimeoutError("the client does not read its response")

    def _send_now(self, data: bytes) -> None:
        """Send a few bytes. They always fit into the socket's buffer, because nothing else is unsent."""
        try:
            sent = self.sock.send(data) == len(data)
        except BLOCKED:
            sent = False
        if not sent:
            raise TimeoutError("the client did not read its last response")

    def begin_close(self) -> None:
        """Close the sending side. Continue to read, otherwise the client can lose the response (RFC 9112 9.6)."""
        self._take_request()
        self._buffer = b""
        with suppress(OSError):
            self.sock.shutdown(socket.SHUT_WR)

    def discard(self, scratch: bytearray) -> bool:
        """Read once and discard the bytes. Return whether the client has closed or sent too much."""
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
    """Finds the end of a chunked body (RFC 9112 7.1). Gunicorn decodes the body and reports what is wrong with it.

    Args:
        max_body_bytes: The size limit of the data.
    """

    def __init__(self, max_body_bytes: int) -> None:
        self._max_bytes = max_body_bytes
        self._at = 0  # where the next chunk begins, even if its data has not arrived
        self._searched = 0
        self._n_bytes = 0
        self._last = False

    def find_end(self, buffer: bytes | bytearray) -> int:
        """Return the length of the body, or 0 while it is incomplete.

        Raises:
            ValueError: If the framing is broken, or the body is too long. Do not wait for the rest.
        """
        end = self._find_end(buffer)
        n_data_bytes = self._n_bytes - max(0, self._at - 2 - len(buffer))
        if not end and n_data_bytes > self._max_bytes:
            raise ValueError("more data than the limit")
        if not end and len(buffer) > MAX_CHUNK_OVERHEAD * self._max_bytes + MAX_HEAD_BYTES:
            raise ValueError("more framing than data")
        return end

    def _find_end(self, buffer: bytes | bytearray) -> int:
        while not self._last and self._at <= len(buffer):
            if self._at and buffer[self._at - 2 : self._at] != b"\r\n":
                raise ValueError("a chunk does not end where its size says")
            line_end = buffer.find(b"\r\n", max(self._at, self._searched - 1))
            self._searched = len(buffer)
            if line_end < 0:
                if len(buffer) - self._at > MAX_HEAD_BYTES:
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
        if end < 0 and len(buffer) - self._at > MAX_HEAD_BYTES:
            raise ValueError("the trailers are too long")
        return end + 4 if end >= 0 else 0


class _TruncatedBody(io.BytesIO):
    def read(self, _size: int | None = None) -> bytes:
        raise NoMoreData


def _pieces(raw: bytes | bytearray, end: int) -> Iterator[bytes]:
    for at in range(0, end, DECODED_BYTES):
        yield bytes(raw[at : min(at + DECODED_BYTES, end)])
