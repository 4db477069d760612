"""Remembers the cells of recent requests, within a bound of bytes and seconds."""

import threading
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

from numpy.typing import NDArray
from prometheus_client import Gauge

from service.columns import Columns, PackedColumns, n_packed_rows, pack

ENTRY_BYTES = 320  # what remembering a request takes beside its id and its cells
TOLD_BYTES = 200  # the same for a request of which some rows have their truth
LOOK_SECONDS = 1.0  # how often is looked for what is too old, and the gauge is told: each takes time


# ---------------------------------------------------------------------------------------------- what is remembered


# The cells of a request, when they came (seconds of a monotonic clock), and how many bytes they take.
Remembered = tuple[PackedColumns, float, int]


class Memory:
    """The cells of the latest requests by their ids; for use by several threads.

    Args:
        max_bytes: How much they may take, with all that goes with them.
        max_seconds: For how long each is remembered.
        gauge: Is told how much they take.
    """

    def __init__(self, max_bytes: int, max_seconds: float, gauge: Gauge) -> None:
        self._max_bytes = max_bytes
        self._max_seconds = max_seconds
        self._gauge = gauge
        self._lock = threading.Lock()  # is never held for long, because every prediction needs it
        self._requests: OrderedDict[str, Remembered] = OrderedDict()  # the oldest first
        self._look_again_at = 0.0
        self._told: dict[str, bytearray] = {}  # of some of them, for each row whether it has its truth
        self.n_bytes = 0

    def remember(self, request_id: str, columns: Columns, _answers: Mapping[str, NDArray[Any]]) -> None:
        """Keep the cells of a request; of several with one id, the latest."""
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
            if now > self._look_again_at:
                self._forget_old(now)

    def find(self, request_id: str) -> Remembered | None:
        """Return a request, unless it never was here, was forgotten, or is too old."""
        self.look()
        with self._lock:
            return self._requests.get(request_id)

    def look(self) -> None:
        """Forget what is too old, and tell how much memory is used."""
        with self._lock:
            self._forget_old(time.monotonic())

    def claim(self, request_id: str, request: Remembered, rows: Sequence[int]) -> list[int] | None:
        """Return the places in rows of those that had no truth so far, as they now have; None if it is forgotten."""
        with self._lock:
            if self._requests.get(request_id) is not request:
                return None
            told = self._told.get(request_id)
            if told is None:
                told = self._told[request_id] = bytearray(n_packed_rows(request[0]))
                self.n_bytes += TOLD_BYTES + len(told)
            places = [place for place, row in enumerate(rows) if not told[row]]
            for place in places:
                told[rows[place]] = True
            self._make_room()
            return places

    def release(self, request_id: str, request: Remembered, rows: Sequence[int]) -> None:
        """Take back that rows have their truth."""
        with self._lock:
            if self._requests.get(request_id) is request:
                for row in rows:
                    self._told[request_id][row] = False

    def _make_room(self) -> None:
        while self.n_bytes > self._max_bytes:
            self._forget(*self._requests.popitem(last=False))

    def _forget_old(self, now: float) -> None:
        """Forget what is too old."""
        self._look_again_at = now + LOOK_SECONDS
        while self._requests and next(iter(self._requests.values()))[1] < now - self._max_seconds:
            self._forget(*self._requests.popitem(last=False))
        self._gauge.set(self.n_bytes)

    def _forget(self, request_id: str, request: Remembered) -> None:
        self.n_bytes -= request[2]
        if self._told and (told := self._told.pop(request_id, None)):
            self.n_bytes -= TOLD_BYTES + len(told)
