"""Remembers the cells of recent requests, up to a limit of bytes and of seconds."""

import threading
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

from numpy.typing import NDArray
from prometheus_client import Gauge

from service.columns import Columns, PackedColumns, n_packed_rows, pack

ENTRY_BYTES = 320  # memory for a request in addition to its id and its cells
FLAGS_BYTES = 200  # memory for the flags of a request's rows in addition to the flags
EXPIRE_SECONDS = 1.0  # how often old requests are forgotten and the gauge is set, because both take time

# The cells of a request, the time of its arrival (seconds of a monotonic clock), and its size in bytes.
RememberedRequest = tuple[PackedColumns, float, int]


class Memory:
    """Holds the cells of the latest requests by their ids. Several threads can use it.

    Args:
        max_bytes: The most memory that it may use.
        max_seconds: How long it remembers a request.
        gauge: Shows the memory in use, in bytes.
    """

    def __init__(self, max_bytes: int, max_seconds: float, gauge: Gauge) -> None:
        self._max_bytes = max_bytes
        self._max_seconds = max_seconds
        self._gauge = gauge
        self._lock = threading.Lock()  # held only briefly, because every prediction needs it
        self._requests: OrderedDict[str, RememberedRequest] = OrderedDict()  # the oldest first
        self._next_expiry = 0.0
        self._truth_flags: dict[str, bytearray] = {}  # for requests with feedback: whether each row has a true value
        self.n_bytes = 0

    def remember(self, request_id: str, columns: Columns, _answers: Mapping[str, NDArray[Any]]) -> None:
        """Remember the cells of a request. A new request replaces an older one with the same id."""
        cells, n_bytes = pack(columns)
        n_bytes += ENTRY_BYTES + len(request_id)
        now = time.monotonic()
        with self._lock:
            if request_id in self._requests:
                self._forget(request_id, self._requests.pop(request_id))
            if n_bytes <= self._max_bytes:
                self._requests[request_id] = cells, now, n_bytes
                self.n_bytes += n_bytes
            if self.n_bytes > self._max_bytes:
                self._make_room()
            if now > self._next_expiry:
                self._forget_old(now)

    def find(self, request_id: str) -> RememberedRequest | None:
        """Return a request, or None if it is unknown, forgotten or too old."""
        self.expire()
        with self._lock:
            return self._requests.get(request_id)

    def expire(self) -> None:
        """Forget requests that are too old, and set the gauge."""
        with self._lock:
            self._forget_old(time.monotonic())

    def claim(self, request_id: str, request: RememberedRequest, rows: Sequence[int]) -> list[int] | None:
        """Mark rows of a request as rows with a true value.

        Returns:
            The places, in rows, of those that had no true value before. None if the request is forgotten.
        """
        with self._lock:
            if self._requests.get(request_id) is not request:
                return None
            flags = self._truth_flags.get(request_id)
            if flags is None:
                flags = self._truth_flags[request_id] = bytearray(n_packed_rows(request[0]))
                self.n_bytes += FLAGS_BYTES + len(flags)
            places = [place for place, row in enumerate(rows) if not flags[row]]
            for place in places:
                flags[rows[place]] = True
            self._make_room()
            return places

    def release(self, request_id: str, request: RememberedRequest, rows: Sequence[int]) -> None:
        """Undo a claim: mark rows as rows without a true value."""
        with self._lock:
            if self._requests.get(request_id) is request:
                for row in rows:
                    self._truth_flags[request_id][row] = False

    def _make_room(self) -> None:
        while self.n_bytes > self._max_bytes:
            self._forget(*self._requests.popitem(last=False))

    def _forget_old(self, now: float) -> None:
        """Forget requests that are too old, and set the gauge. The caller holds the lock."""
        self._next_expiry = now + EXPIRE_SECONDS
        while self._requests and next(iter(self._requests.values()))[1] < now - self._max_seconds:
            self._forget(*self._requests.popitem(last=False))
        self._gauge.set(self.n_bytes)

    def _forget(self, request_id: str, request: RememberedRequest) -> None:
        self.n_bytes -= request[2]
        if self._truth_flags and (flags := self._truth_flags.pop(request_id, None)):
            self.n_bytes -= FLAGS_BYTES + len(flags)
