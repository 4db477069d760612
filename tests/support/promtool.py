"""Where Prometheus' own promtool is."""

import os
import shutil

import pytest


def promtool() -> str:
    """Return the path of promtool; skip the test where there is none, which in CI is a failure."""
    found = shutil.which("promtool")
    if found is None:
        reason = "promtool is not on the PATH; it comes with Prometheus"
        pytest.fail(reason) if os.environ.get("CI") == "true" else pytest.skip(reason)
    return found
