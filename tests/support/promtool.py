"""promtool, which is part of Prometheus: it checks metrics and tests rules."""

import os
import shutil

import pytest


def program(name: str) -> str:
    """Return the path of a program of Prometheus. Without it the test is skipped, or fails if CI is set."""
    if found := shutil.which(name):
        return found
    advice = f"{name} is not on the PATH: take it from a release of Prometheus 3 (prometheus.io/download)"
    if os.environ.get("CI"):
        pytest.fail(advice)
    pytest.skip(advice)


def promtool() -> str:
    """Return the path of promtool, as program does."""
    return program("promtool")
