"""promtool, which comes with Prometheus: it checks metrics and tests rules."""

import os
import shutil

import pytest

ADVICE = "promtool is not on the PATH: take it from a release of Prometheus 3 (prometheus.io/download)"


def promtool() -> str:
    """Return the path of promtool; without it the test is skipped, or fails where CI is set."""
    if found := shutil.which("promtool"):
        return found
    if os.environ.get("CI"):
        pytest.fail(ADVICE)
    pytest.skip(ADVICE)
