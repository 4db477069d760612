"""The promtool command, which checks rules, queries and metrics as Prometheus reads them."""

import os
import shutil

import pytest


def promtool() -> str:
    """Return the path of promtool; without it a test is skipped on a laptop, and fails in CI."""
    path = shutil.which("promtool")
    if path is None and os.environ.get("CI") != "true":
        pytest.skip("needs promtool")
    assert path is not None, "needs promtool"
    return path
