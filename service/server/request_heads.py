"""Caches parsed request heads, because clients send the same head again and again, byte for byte.

Gunicorn's parser is strict and written in Python: it takes as long as a prediction. The result depends only on the
bytes of the head and on the client's address. So the cache uses both as its key.
"""

from typing import Any

from gunicorn.http.body import Body, LengthReader
from gunicorn.http.message import Request
from gunicorn.http.unreader import IterUnreader

MAX_ENTRIES = 500  # a few KiB each; the clients of a service send few different heads
MAX_CACHED_BYTES = 2048  # longer heads usually contain something new each time


class RequestHeadCache:
    """The heads parsed so far. Only one thread may use it.

    Args:
        cfg: Gunicorn's configuration.
    """

    def __init__(self, cfg: Any) -> None:
        self._cfg = cfg
        self._entries: dict[tuple[bytes, str], tuple[Request, int]] = {}
        self._trusted: dict[str, bool] = {}

    def parse(self, head: bytes, client: Any, number: int) -> Request:
        """Return the request with this head. It has no body unless the body is chunked.

        Args:
            head: The bytes of the head, to its end.
            client: The address of the client.
            number: The number of the request on its connection.

        Raises:
            ParseException: If Gunicorn refuses the head.
            NoMoreData: If the head has no end.
        """
        address = client[0] if isinstance(client, tuple) else str(client)
        if entry := self._entries.get((head, address)):
            return _copy(*entry, client, number)
        if len(self._entries) >= MAX_ENTRIES or len(self._trusted) >= MAX_ENTRIES:
            self._entries.clear()
            self._trusted.clear()
        request = _Request(self._cfg, IterUnreader((head,)), client, number, address, self._trusted)
        reader = request.body.reader
        if len(head) <= MAX_CACHED_BYTES and isinstance(reader, LengthReader):
            self._entries[head, address] = entry = request, reader.length
            return _copy(*entry, client, number)  # never hand out the cached request itself
        return request


class _Request(Request):
    """Gunicorn's request. It checks only once for each address whether the client is a trusted proxy."""

    def __init__(
        self, cfg: Any, unreader: IterUnreader, client: Any, number: int, address: str, trusted: dict[str, bool]
    ) -> None:
        self._address, self._trusted = address, trusted
        super().__init__(cfg, unreader, client, number)

    def _peer_is_trusted_proxy(self) -> bool:
        if self._address not in self._trusted:
            self._trusted[self._address] = bool(super()._peer_is_trusted_proxy())
        return self._trusted[self._address]


def _copy(request: Request, length: int, client: Any, number: int) -> Request:
    """Return a copy of the request with its own body of this length."""
    other = Request.__new__(_Request)
    other.__dict__.update(request.__dict__)
    other.unreader = IterUnreader(())
    other.body = Body(LengthReader(other.unreader, length))
    other.headers, other.trailers = list(request.headers), []
    other.peer_addr = other.remote_addr = client
    other.req_number = number
    return other
