"""The setups of the chart's folder ci/, and their objects."""

from functools import cache

import pytest
import yaml

from tests.support.objects import Objects
from tools.helm import CHART, render

SETUPS = {file.stem: yaml.safe_load(file.read_text()) for file in sorted((CHART / "ci").glob("*.yaml"))}


@cache
def rendered_setup(setup: str, is_upgrade: bool = False) -> Objects:
    """Return the objects of a setup. Tests share them and must not change them."""
    return render(SETUPS[setup], is_upgrade=is_upgrade, namespace="models")


# Of the scope module, so that pytest runs the tests of one setup together, in one process.
@pytest.fixture(
    scope="module",
    params=[(name, upgrade) for name in SETUPS for upgrade in (False, True)],
    ids=lambda each: f"{each[0]}-{'upgrade' if each[1] else 'install'}",
)
def found(request: pytest.FixtureRequest) -> Objects:
    """Return the objects of each setup, of its installation and of its upgrade."""
    return rendered_setup(*request.param)
