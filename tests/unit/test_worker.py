"""The worker: how a serving process quits; what it answers to broken HTTP is tested against a real Gunicorn."""

import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from gunicorn.config import Config

from service.worker import Worker


class CountingPool(ThreadPoolExecutor):
    """A pool that counts how often it is shut down."""

    n_shutdowns = 0

    def shutdown(self, *arguments: Any, **options: Any) -> None:
        """Count, then shut down."""
        self.n_shutdowns += 1
        super().shutdown(*arguments, **options)


@pytest.fixture
def worker() -> Iterator[Worker]:
    """Return a worker that is not running, with its signal handler in place."""
    made = Worker(1, os.getpid(), [], None, 1, Config(), None)
    before = signal.signal(signal.SIGQUIT, made.handle_quit)
    yield made
    signal.signal(signal.SIGQUIT, before)
    made.tmp.close()


def test_quitting_waits_for_no_lock_and_for_no_second_signal(worker: Worker) -> None:
    """A signal may come while the process holds the pool's lock, and Ctrl-C in a terminal sends two of them."""
    with CountingPool(1) as worker.tpool:
        with pytest.raises(SystemExit):
            signal.raise_signal(signal.SIGQUIT)
        signal.raise_signal(signal.SIGQUIT)
        assert worker.tpool.n_shutdowns == 0
    assert not worker.alive
