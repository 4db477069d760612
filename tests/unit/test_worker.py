"""The worker: how a serving process quits; what it answers to broken HTTP is tested against a real Gunicorn."""

import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from gunicorn.config import Config

from service.worker import Worker


class InterruptedPool(ThreadPoolExecutor):
    """A pool whose shutdown is interrupted by the signal that began it, as Ctrl-C in a terminal does now and then."""

    n_shutdowns = 0

    def shutdown(self, *arguments: Any, **options: Any) -> None:
        """Send the signal again, then shut down."""
        self.n_shutdowns += 1
        if self.n_shutdowns == 1:
            signal.raise_signal(signal.SIGQUIT)
        super().shutdown(*arguments, **options)


@pytest.fixture
def worker() -> Iterator[Worker]:
    """Return a worker that is not running, with its signal handler in place."""
    made = Worker(1, os.getpid(), [], None, 1, Config(), None)
    before = signal.signal(signal.SIGQUIT, made.handle_quit)
    yield made
    signal.signal(signal.SIGQUIT, before)
    made.tmp.close()


def test_a_second_signal_while_quitting_is_let_pass(worker: Worker) -> None:
    """The pool's lock is held during the first; to take it again would block the process until it is killed."""
    worker.tpool = InterruptedPool(1)
    with pytest.raises(SystemExit):
        signal.raise_signal(signal.SIGQUIT)
    assert worker.tpool.n_shutdowns == 1
    assert not worker.alive
