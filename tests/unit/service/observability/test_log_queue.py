"""The queues of log lines: they never wait for a reader, are bounded, keep lines whole and in order."""

import os
import select
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from service.observability.log_queue import QUEUE_BYTES, LogQueue, chunks
from tests.support.waiting import wait_for

LINE_BYTES = 100
N_LINES = 3 * QUEUE_BYTES // LINE_BYTES  # what fits neither into the queue nor into a pipe


class Piped:
    """A queue whose lines go into a pipe, which is read when a test says so."""

    def __init__(self) -> None:
        self.reader, self.writer = os.pipe()
        self.reports: list[int] = []
        self.queue = LogQueue(self.writer, 0.001, self.reports.append)
        self.n_dropped = 0

    def fill(self) -> None:
        """Queue many more lines than there is room for, and count those that are dropped."""
        for index in range(N_LINES):
            self.queue.put(line(index))
        self.n_dropped += self.queue.take_dropped()

    def read(self, n_lines: int) -> list[bytes]:
        """Return so many lines, read from the pipe."""
        text = b""
        while text.count(b"\n") < n_lines:
            text += os.read(self.reader, 65536)
        return text.splitlines(keepends=True)


def line(index: int) -> bytes:
    """Return a line of a fixed length."""
    return b"%0*d\n" % (LINE_BYTES - 1, index)


@pytest.fixture
def piped() -> Iterator[Piped]:
    """Return a queue into a pipe; after the test all of it is read, so that its thread waits for nothing."""
    made = Piped()
    yield made

    def is_written() -> bool:
        while select.select([made.reader], [], [], 0)[0]:
            os.read(made.reader, 65536)
        return not made.queue._n_bytes

    wait_for(is_written)


def test_what_the_queue_has_no_room_for_is_dropped_and_counted(piped: Piped) -> None:
    """Nobody reads, and put returns all the same; what was queued first is kept, and in order."""
    piped.fill()
    n_kept = N_LINES - piped.n_dropped
    assert QUEUE_BYTES // LINE_BYTES <= n_kept < N_LINES // 2
    assert piped.queue.take_dropped() == 0  # each is counted once
    assert piped.reports == []
    found = piped.read(n_kept)
    n_first = QUEUE_BYTES // LINE_BYTES
    assert found[:n_first] == [line(index) for index in range(n_first)]
    assert found == sorted(set(found))
    wait_for(lambda: piped.reports)
    assert piped.reports == [piped.n_dropped]


def test_after_a_pause_of_the_reader_lines_are_written_again(piped: Piped) -> None:
    """Each pause is reported once, by its own number of lines."""
    for n_reports in (1, 2):
        piped.fill()
        piped.read(N_LINES - piped.n_dropped + sum(piped.reports))
        wait_for(lambda n_reports=n_reports: len(piped.reports) == n_reports)
        piped.queue.put(b"after\n")
        assert piped.read(1) == [b"after\n"]
    assert sum(piped.reports) == piped.n_dropped


def test_a_reader_that_is_gone_costs_lines_and_nothing_else(piped: Piped) -> None:
    """They are counted, and reported once the descriptor can be written again."""
    os.close(piped.reader)
    piped.queue.put(b"lost\n")
    wait_for(lambda: not piped.queue._n_bytes)
    assert piped.queue.take_dropped() == 1
    assert piped.reports == []
    piped.reader, writer = os.pipe()
    os.dup2(writer, piped.writer)
    piped.queue.put(b"kept\n")
    assert piped.read(1) == [b"kept\n"]
    wait_for(lambda: piped.reports)
    assert piped.reports == [1]


def test_a_pipe_that_does_not_block_loses_no_line(piped: Piped) -> None:
    """The descriptor is inherited, and so is its mode; a full pipe is an error then."""
    os.set_blocking(piped.writer, False)
    for index in range(2000):
        piped.queue.put(line(index))
    assert piped.read(2000) == [line(index) for index in range(2000)]
    assert piped.queue.take_dropped() == 0


def test_lines_of_several_threads_are_whole_and_each_in_order(piped: Piped) -> None:
    """Whichever thread starts the writer, there is one."""

    def put(letter: bytes) -> None:
        for index in range(1000):
            piped.queue.put(b"%s %d\n" % (letter, index))

    threads = [threading.Thread(target=put, args=[letter]) for letter in (b"a", b"b", b"c", b"d")]
    for thread in threads:
        thread.start()
    found = piped.read(4000)
    for letter in (b"a", b"b", b"c", b"d"):
        assert [each for each in found if each.startswith(letter)] == [b"%s %d\n" % (letter, i) for i in range(1000)]


def test_a_thread_can_log_while_it_queues_a_line(piped: Piped) -> None:
    """The handler of a signal or a destructor may run at any call, and log; here one does at each."""

    def interrupt(_frame: Any, event: str, _called: Any) -> None:
        if event == "c_call":
            sys.setprofile(None)
            piped.queue.put(b"inner\n")
            sys.setprofile(interrupt)

    def put() -> None:
        sys.setprofile(interrupt)
        piped.queue.put(b"outer\n")
        sys.setprofile(None)

    thread = threading.Thread(target=put, daemon=True)
    thread.start()
    thread.join(60)
    assert not thread.is_alive()
    found = piped.read(4)
    assert found.count(b"outer\n") == 1
    assert found.count(b"inner\n") >= 3


def test_a_flush_waits_for_the_reader_until_its_deadline(piped: Piped) -> None:
    """It returns once all is written, or when the time is over."""
    piped.fill()
    piped.queue.flush(time.monotonic() + 0.05)
    assert piped.queue._n_bytes
    thread = threading.Thread(target=piped.read, args=[N_LINES - piped.n_dropped])
    thread.start()
    piped.queue.flush(time.monotonic() + 60)
    assert not piped.queue._n_bytes
    thread.join()


def test_lines_are_joined_up_to_what_a_pipe_takes_whole() -> None:
    """So that the lines of several processes never mix; a longer one stands alone."""
    lines = [b"a" * (index * 37 % 1500) + b"\n" for index in range(500)]
    lines[250] = b"b" * 5000 + b"\n"
    found = list(chunks(lines))
    assert b"".join(found) == b"".join(lines)
    assert [len(chunk) for chunk in found if len(chunk) > select.PIPE_BUF] == [5001]
    assert len(found) < 150
    assert all(chunk.endswith(b"\n") for chunk in found)
    assert list(chunks([])) == []
