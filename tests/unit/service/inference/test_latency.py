"""The server's own decisions; what it does is tested with real ones in tests/integration."""

import pytest

from service.server.application import Server


@pytest.fixture
def server() -> Server:
    """Return a server that was not started, whose model is quick for ten bytes."""
    made = object.__new__(Server)
    made.quick_body_bytes = 10
    return made


@pytest.mark.parametrize(
    ("method", "path", "n_body_bytes", "at_once"),
    [
        ("POST", "/predict", 10, True),
        ("POST", "/predict", 11, False),
        ("GET", "/predict", 0, False),
        ("POST", "/metrics", 0, False),
    ],
)
def test_only_small_predictions_are_answered_at_once(
    server: Server, method: str, path: str, n_body_bytes: int, at_once: bool
) -> None:
    """Everything else may take long, and all connections would wait for it."""
    assert server.answers_at_once(method, path, n_body_bytes) == at_once


def test_nothing_is_answered_at_once_before_the_model_was_timed() -> None:
    """Until then nobody knows how long it takes."""
    assert not Server.answers_at_once(object.__new__(Server), "POST", "/predict", 1)
