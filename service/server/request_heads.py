"""Heads of requests, each parsed once: clients send the same head again and again, byte for byte.

Gunicorn's parser is strict, and written in Python: it takes as long as a prediction does. What it made of a head is
kept with the address that it came from; both together decide it, so the same bytes from there mean the same again.
"""

from typing import Any

from gunicorn.http.body import Body, LengthReader
from gunicorn.http.message import Request
from gunicorn.http.unreader import IterUnreader

MAX_KEPT = 500  # at a few KiB each; the clients of a service say few different heads
MAX_KEPT_BYTES = 2048  # longer heads hold what is new each time


class RequestHeadCache:
    """The heads that were parsed so far; for one thread.

    Args:
        cfg: Gunicorn's configuration.
    """

    def __init__(self, cfg: Any) -> None:
        self._cfg = cfg
        self._kept: dict[tuple[bytes, str], tuple[Request, int]] = {}
        self._trusted: dict[str, bool] = {}

    def parse(self, head: bytes, client: Any, number: int) -> Request:
        """Return the request with this head; its body, unless it is chunked, is not there.

        Args:
            head: The bytes of the head, to its end.
            client: The address that they came from.
            number: Which request of its connection it is.

        Raises:
            ParseException: If Gunicorn refuses it.
            NoMoreData: If its end is not there.
        """
        address = client[0] if isinstance(client, tuple) else str(client)
        if kept := self._kept.get((head, address)):
            return _another(*kept, client, number)
        if len(self._kept) >= MAX_KEPT or len(self._trusted) >= MAX_KEPT:
            self._kept.clear()
            self._trusted.clear()
        request = _Request(self._cfg, IterUnreader((head,)), client, number, address, self._trusted)
        reader = request.body.reader
        if len(head) <= MAX_KEPT_BYTES and isinstance(reader, LengthReader):
            self._kept[head, address] = kept = request, reader.length
            return _another(*kept, client, number)  # the kept one is nobody's
        return request


class _Request(Request):
    """Gunicorn's request; whether its client is a proxy that is trusted is found out once for each address."""

    def __init__(
        self, cfg: Any, unreader: IterUnreader, client: Any, number: int, address: str, trusted: dict[str, bool]
    ) -> None:
        self._address, self._trusted = address, trusted
        super().__init__(cfg, unreader, client, number)

    def _peer_is_trusted_proxy(self) -> bool:
        if self._address not in self._trusted:
            self._trusted[self._address] = bool(super()._peer_is_trusted_proxy())
        return self._trusted[self._address]


def _another(request: Request, length: int, client: Any, number: int) -> Request:
    """Return a request like this one, with a body of its own."""
    other = Request.__new__(_Request)
    other.__dict__.update(request.__dict__)
    other.unreader = IterUnreader(())
    other.body = Body(LengthReader(other.unreader, length))
    other.headers, other.trailers = list(request.headers), []
    other.peer_addr = other.remote_addr = client
    other.req_number = number
    return other
