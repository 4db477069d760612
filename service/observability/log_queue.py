"""Queues of log lines: each standard stream has one, with a thread that writes, so that nobody else waits.

A pipe holds 64 KiB. When its reader stops, the next write blocks, and so does the thread that writes. Therefore the
threads of the server only queue their lines, and a full queue drops new ones and counts them.
"""

import os
import select
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from queue import SimpleQueue

QUEUE_BYTES = 1024**2  # about 4,000 requests: bridges the restart of a collector, and is little in a pod's memory
FLUSH_TICK_SECONDS = 0.001


class LogQueue:
    """The lines of one stream on their way out, for use by several threads.

    The thread that writes starts with the first line, because threads do not survive a fork.

    Args:
        descriptor: Of the stream.
        batch_seconds: How long the writer lets lines gather. A process that is killed loses the lines of this time.
        report_dropped: Is called by the writer with the number of lines dropped, once the stream takes lines again.
    """

    def __init__(self, descriptor: int, batch_seconds: float, report_dropped: Callable[[int], None]) -> None:
        self._descriptor = descriptor
        self._batch_seconds = batch_seconds
        self._report_dropped = report_dropped
        # Both can be entered again by the thread that is in them: a destructor or the handler of a signal may log.
        self._lines: SimpleQueue[bytes] = SimpleQueue()
        self._lock = threading.RLock()
        self._n_bytes = 0  # of all lines that are not written yet, those in the writer's hands included
        self._n_uncounted = 0  # lines dropped since take_dropped
        self._n_unreported = 0  # lines dropped since report_dropped
        self._has_writer = False

    def put(self, line: bytes) -> None:
        """Queue a line, or drop it; never waits for the reader.

        Args:
            line: Ends with its only line break.
        """
        n_bytes = len(line)
        with self._lock:
            if not self._has_writer:
                self._start_writer()
            if self._n_bytes + n_bytes > QUEUE_BYTES:
                self._drop(1)
                return
            self._n_bytes += n_bytes
            self._lines.put(line)

    def take_dropped(self) -> int:
        """Return how many lines were dropped since the last call."""
        with self._lock:
            n_lines, self._n_uncounted = self._n_uncounted, 0
        return n_lines

    def flush(self, deadline: float) -> None:
        """Wait until all lines are written, or until this time of the monotonic clock."""
        while self._n_bytes and time.monotonic() < deadline:
            time.sleep(FLUSH_TICK_SECONDS)

    def _drop(self, n_lines: int) -> None:
        with self._lock:
            self._n_uncounted += n_lines
            self._n_unreported += n_lines

    def _start_writer(self) -> None:
        self._has_writer = True
        try:
            threading.Thread(target=self._run, name=f"log-{self._descriptor}", daemon=True).start()
        except RuntimeError:  # the container has no room for another thread
            self._has_writer = False  # the next line tries again

    # In the writer --------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            lines = [self._lines.get()]
            time.sleep(self._batch_seconds)
            lines += [self._lines.get() for _ in range(self._lines.qsize())]
            for chunk in chunks(lines):
                self._write(chunk)

    def _write(self, chunk: bytes) -> None:
        try:
            write_all(self._descriptor, chunk)
        except OSError:  # the reader is gone, or the disk is full
            self._drop(chunk.count(b"\n"))
        else:
            if self._n_unreported and self._n_bytes == len(chunk):  # the queue is empty: the reader has caught up
                with self._lock:
                    n_lines, self._n_unreported = self._n_unreported, 0
                self._report_dropped(n_lines)
        with self._lock:
            self._n_bytes -= len(chunk)


def chunks(lines: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the lines, joined up to PIPE_BUF bytes: a pipe never mixes those with writes of other processes (POSIX)."""
    chunk = b""
    for line in lines:
        if chunk and len(chunk) + len(line) > select.PIPE_BUF:
            yield chunk
            chunk = b""
        chunk += line
    if chunk:
        yield chunk


def write_all(descriptor: int, text: bytes) -> None:
    """Write all of this, however long the reader takes.

    Raises:
        OSError: If the reader is gone, or the disk is full.
    """
    left = memoryview(text)
    while left:
        try:
            left = left[os.write(descriptor, left) :]
        except BlockingIOError:  # the parent process made the stream non-blocking
            select.select([], [descriptor], [])
