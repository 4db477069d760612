"""Findings of checkov in rendered objects, and the waivers of those that stand."""

import json
import os
import subprocess
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import yaml

from tools import ROOT

# Its own environment, which make test builds.
CHECKOV = ROOT / ".venv-checkov/bin/checkov"
WAIVERS = ROOT / "tests/chart/waivers.yaml"
# Compact reports lack the text of each object, which is most of their size.
OPTIONS = ["--skip-download", "--soft-fail", "--compact"]

Report = dict[str, Any]


class Finding(NamedTuple):
    """A check that failed: its id, the setup and the object (Kind/name) that failed it, and its requirement."""

    check: str
    setup: str
    object: str
    sentence: str


def scan(setups: Mapping[str, Iterable[dict[str, Any]]]) -> Report:
    """Return checkov's report on the objects of each setup. One run takes seconds, whatever the number of setups.

    Raises:
        AssertionError: If checkov fails.
    """
    assert CHECKOV.exists(), f"{CHECKOV} is missing, make test builds it"
    with TemporaryDirectory() as directory:
        for setup, objects in setups.items():
            (Path(directory) / f"{setup}.yaml").write_text(yaml.dump_all(objects, Dumper=yaml.CSafeDumper))
        done = subprocess.run(
            [CHECKOV, "--directory=.", "--framework=kubernetes", "--output=json", *OPTIONS],
            cwd=directory,
            # A home without the user's configuration of checkov.
            env={"PATH": os.environ["PATH"], "HOME": directory},
            capture_output=True,
            text=True,
            timeout=300,
        )
    assert done.returncode == 0, done.stderr
    report: Report = json.loads(done.stdout)
    return report


def findings(report: Report, setups: Iterable[str]) -> list[Finding]:
    """Return the checks that failed in these setups of a report.

    Raises:
        AssertionError: If checkov did not look at every one of them.
    """
    wanted = set(setups)
    results = report.get("results", {"passed_checks": [], "failed_checks": []})
    seen = {Path(each["file_path"]).stem for each in results["passed_checks"] + results["failed_checks"]} & wanted
    assert seen == wanted, f"checkov looked at {sorted(seen)} of {sorted(wanted)}"
    failed = {
        Finding(each["check_id"], Path(each["file_path"]).stem, _object(each["resource"]), each["check_name"])
        for each in results["failed_checks"]
    }
    return sorted(finding for finding in failed if finding.setup in wanted)


def _object(resource: str) -> str:
    kind, _namespace, name = resource.split(".", 2)
    return f"{kind}/{name}"


def read_waivers(file: Path = WAIVERS) -> dict[str, dict[str, Any]]:
    """Return the waivers by their check: {"CKV_K8S_1": {"objects": ["Deployment/*"], "reason": "..."}}.

    Raises:
        AssertionError: If a waiver lacks objects or a reason.
    """
    waivers = yaml.safe_load(file.read_text()) or {}
    for check, waiver in waivers.items():
        assert set(waiver) == {"objects", "reason"}, f"{check} needs objects and a reason"
        assert waiver["objects"], f"{check} has no objects"
        assert waiver["reason"], f"{check} has no reason"
    return waivers


def unsettled(found: Iterable[Finding], waivers: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the findings that no waiver covers, and the waivers that cover no finding."""
    patterns = {(check, pattern) for check, waiver in waivers.items() for pattern in waiver["objects"]}
    used = set()
    messages = []
    for each in found:
        covering = {(check, kind) for check, kind in patterns if check == each.check and fnmatchcase(each.object, kind)}
        used |= covering
        if not covering:
            messages.append(f"{each.check} {each.setup} {each.object}: {each.sentence}")
    return messages + [f"the waiver of {check} for {kind} is not needed" for check, kind in sorted(patterns - used)]
