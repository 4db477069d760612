"""Batching without a timer: requests that wait while the engine is busy are answered together when it is free.

A request that finds the engine idle is answered at once, by its own thread; those that come meanwhile queue up, and the
first of them answers for all. So nothing waits for company, and batches grow only as far as the load makes them. The
queue is as long as there are serving threads; the server bounds what waits for those.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from service.columns import Columns, concatenate, n_rows
from service.engines.engine_function import EngineFunction

MAX_BATCH_ROWS = 1000  # beyond, an engine gains nothing from more rows at once, and the first would wait for the last

# Takes the requests of a batch, its rows, and how many seconds each of the requests waited.
CountBatch = Callable[[int, int, Sequence[float]], None]


@dataclass
class PendingRequest:
    """A request that waits for the engine, and its answer once there is one."""

    columns: Columns
    outputs: tuple[str, ...]
    n_samples: int
    turn: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    answer: dict[str, NDArray[Any]] | Exception | None = None
    since: float = field(default_factory=time.perf_counter)


class Batcher:
    """An engine that gives the same answers, joining requests which wait for it; for use by several threads.

    Args:
        engine: What answers.
    """

    def __init__(self, engine: EngineFunction) -> None:
        self._engine = engine
        self.count: CountBatch = _count_nothing
        self._lock = threading.Lock()
        self.queue: deque[PendingRequest] = deque()  # its first is at work, or about to be

    def __call__(self, columns: Columns, outputs: Sequence[str]) -> dict[str, NDArray[Any]]:
        """Return the outputs by name, as the engine does; may raise what the engine raises."""
        own = PendingRequest(columns, tuple(outputs), n_rows(columns))
        with self._lock:
            self.queue.append(own)
            is_first = len(self.queue) == 1
        if not is_first:
            own.turn.acquire()
        if own.answer is None:
            self._answer_first()
        if isinstance(own.answer, Exception):
            raise own.answer
        return own.answer or {}

    def _answer_first(self) -> None:
        """Answer the first of the queue and those that go with it, and hand the engine on."""
        with self._lock:
            batch = _batch_of(self.queue)
        now = time.perf_counter()
        try:
            self.count(len(batch), sum(one.n_samples for one in batch), [now - one.since for one in batch])
            _answer_all(self._engine, batch)
        finally:  # also where the engine ends the thread, as by SystemExit: nobody may wait for ever
            with self._lock:
                for _ in batch:
                    self.queue.popleft()
                following = self.queue[0] if self.queue else None
            for waiting in batch:
                if waiting.answer is None:
                    waiting.answer = RuntimeError("The engine gave a batch no answer.")
            for waiting in [*batch[1:], *([following] if following else [])]:
                waiting.turn.release()


def _count_nothing(_n_requests: int, _n_rows: int, _waited_seconds: Sequence[float]) -> None:
    """Count nothing, until count_batches sets a counter."""


def _batch_of(queue: deque[PendingRequest]) -> list[PendingRequest]:
    """Return the first that wait, as far as they ask for the same outputs and are not too many rows together."""
    batch = [queue[0]]
    n_samples = queue[0].n_samples
    for waiting in list(queue)[1:]:
        n_samples += waiting.n_samples
        if waiting.outputs != batch[0].outputs or n_samples > MAX_BATCH_ROWS:
            break
        batch.append(waiting)
    return batch


def _answer_all(engine: EngineFunction, batch: list[PendingRequest]) -> None:
    """Give each its answer; where the engine refuses the batch, each is asked for alone, so that only one may fail."""
    try:
        together = engine(concatenate([waiting.columns for waiting in batch]), batch[0].outputs)
    except Exception as error:  # noqa: BLE001 - an engine refuses with whatever its own code raises
        if len(batch) == 1:
            batch[0].answer = error
        else:
            for waiting in batch:
                _answer_all(engine, [waiting])
        return
    start = 0
    for waiting in batch:
        end = start + waiting.n_samples
        waiting.answer = {name: values[start:end] for name, values in together.items()}
        start = end
