"""Findings of checkov in the chart are fixed, or waived with a reason. One run scans everything."""

import re
from pathlib import Path

import pytest

from tests.chart.conftest import SETUPS, rendered_setup
from tests.support.checkov import Finding, Report, findings, read_waivers, scan, unsettled

pytestmark = pytest.mark.slow

POD = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "toy"}}
CONTAINER = {"name": "toy", "image": "toy"}
SECURED = {"hostNetwork": False, "containers": [{**CONTAINER, "securityContext": {"privileged": False}}]}
PRIVILEGED = {"containers": [{**CONTAINER, "securityContext": {"privileged": True}}]}
FINDING = Finding("CKV_K8S_16", "privileged", "Pod/toy", "Container should not be privileged")


@pytest.fixture(scope="module")
def report() -> Report:
    """Return checkov's report on every setup, and on three that show what it finds."""
    toys = {"secured": [{**POD, "spec": SECURED}], "privileged": [{**POD, "spec": PRIVILEGED}], "empty": []}
    return scan({**{setup: rendered_setup(setup) for setup in SETUPS}, **toys})


def test_every_finding_is_settled(report: Report):
    """This holds for every setup. A waiver that no finding needs must go."""
    assert unsettled(findings(report, SETUPS), read_waivers()) == []


def test_checkov_finds_problems_in_their_setup(report: Report):
    """The same check passes in the other setup."""
    found = findings(report, ["secured", "privileged"])
    assert [each for each in found if each.check == "CKV_K8S_16"] == [FINDING]


def test_a_setup_without_checks_is_an_error(report: Report):
    """A setup that checkov cannot read, or has no checks for, is not a success."""
    with pytest.raises(AssertionError, match=re.escape("checkov looked at ['secured'] of ['empty', 'secured']")):
        findings(report, ["secured", "empty"])


def test_waivers_settle_findings():
    """A waiver that settles nothing is reported too."""
    waiver = {"objects": ["Pod/*"], "reason": "It is a test."}
    assert unsettled([FINDING], {"CKV_K8S_16": waiver}) == []
    assert unsettled([FINDING], {}) == ["CKV_K8S_16 privileged Pod/toy: Container should not be privileged"]
    assert unsettled([FINDING], {"CKV_K8S_16": {**waiver, "objects": ["*", "Job/*"]}}) == [
        "the waiver of CKV_K8S_16 for Job/* is not needed"
    ]


@pytest.mark.parametrize(
    "text",
    ["CKV_K8S_1: {objects: ['*']}", "CKV_K8S_1: {objects: ['*'], reason: ''}", "CKV_K8S_1: {objects: [], reason: a}"],
)
def test_waivers_need_objects_and_a_reason(tmp_path: Path, text: str):
    """The error names the check."""
    (tmp_path / "waivers.yaml").write_text(text)
    with pytest.raises(AssertionError, match="CKV_K8S_1"):
        read_waivers(tmp_path / "waivers.yaml")
