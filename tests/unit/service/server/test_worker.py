"""The worker: how a serving process quits; what it answers to broken HTTP is tested against a real Gunicorn."""

import os
import signal
from collections.abc import Iterator

import pytest
from gunicorn.config import Config

from service.server.worker import CachedConfig, DeadlineQueue, Worker


@pytest.fixture
def worker() -> Iterator[Worker]:
    """Return a worker that is not running, with its signal handler in place."""
    made = Worker(1, os.getpid(), [], None, 1, Config(), None)
    before = signal.signal(signal.SIGQUIT, made.handle_quit)
    yield made
    signal.signal(signal.SIGQUIT, before)
    made.tmp.close()


def test_two_signals_quit_once(worker: Worker) -> None:
    """Ctrl-C in a terminal sends two of them, and the second must not interrupt what the first one began."""
    with pytest.raises(SystemExit):
        signal.raise_signal(signal.SIGQUIT)
    signal.raise_signal(signal.SIGQUIT)
    assert not worker.alive


def test_the_longest_waiting_expire_first() -> None:
    """Only those whose deadline is over are looked at."""
    waiting = DeadlineQueue(10)
    connections = [object() for _ in range(4)]
    for second, connection in enumerate(connections):
        waiting[connection] = second + waiting.seconds
    assert waiting.expired(9.9) == []
    assert waiting.expired(11.5) == connections[:2]


def test_an_option_is_looked_up_once() -> None:
    """The parser asks for two dozen of them for each request."""
    options = CachedConfig(cfg := Config())
    assert options.limit_request_fields == 100
    cfg.set("limit_request_fields", 7)
    assert options.limit_request_fields == 100
    with pytest.raises(AttributeError):
        _ = options.no_such_option
