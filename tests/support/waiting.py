"""Waiting for what a test looks at next, instead of for some time."""

import time
from collections.abc import Callable
from typing import Any


def wait_until(what: str, holds: Callable[[], Any], seconds: float = 120, pause: float = 0.5) -> Any:
    """Return what a condition gives once it gives something.

    Raises:
        AssertionError: If it did not within this time.
    """
    deadline = time.monotonic() + seconds
    while not (found := holds()):
        assert time.monotonic() < deadline, f"after {seconds} s: not {what}"
        time.sleep(pause)
    return found


def wait_for(condition: Callable[[], Any]) -> Any:
    """Return what a condition of a server on this machine gives once it gives something; fails after a minute."""
    return wait_until("what was waited for", condition, seconds=60, pause=0.02)
