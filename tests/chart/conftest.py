"""The setups that the chart's folder ci/ describes."""

from functools import cache
from typing import Any

import pytest
import yaml

from tools.helm import CHART, render

SETUPS = {file.stem: yaml.safe_load(file.read_text()) for file in sorted((CHART / "ci").glob("*.yaml"))}


@cache
def rendered(setup: str, is_upgrade: bool) -> list[dict[str, Any]]:
    """Return a setup's objects; not to be changed, they are rendered once."""
    return render(SETUPS[setup], is_upgrade=is_upgrade, namespace="models")


@pytest.fixture(
    params=[(name, upgrade) for name in SETUPS for upgrade in (False, True)],
    ids=lambda each: f"{each[0]}-{'upgrade' if each[1] else 'install'}",
)
def found(request: pytest.FixtureRequest) -> list[dict[str, Any]]:
    """Return the objects of each setup, of its installation and of its upgrade."""
    return rendered(*request.param)
