"""Names, labels and the image: what identifies a release and its model version."""

import re
from pathlib import Path
from shutil import copytree

import pytest

from tests.chart.conftest import SETUPS
from tests.support.kubernetes import problems
from tests.support.objects import (
    CERT_MANAGER,
    CHECK_JOB,
    GATEWAY,
    INGRESS,
    NAME,
    SELF_SIGNED,
    container,
    pods,
    rendered,
    spec,
)
from tools.helm import CHART, one, render


@pytest.mark.parametrize("text", ["12e3", "007", "1.10", "0x1f"])
def test_names_that_look_like_numbers_stay_text(text: str):
    """This holds for the release, the model version and Secrets, in every label, selector and reference."""
    values = {
        **SETUPS["everything"],
        "fullnameOverride": "house",
        "image": {"repository": "house", "tag": text},
        "tls": {"mode": "existingSecret", "secretName": text},
        "backendTLS": {"enabled": True, "secretName": text, "caConfigMapName": text},
        "serviceAccount": {"name": text},
        "tests": {"edge": {"caSecretName": text}},
        "priorityClassName": text,
        "gateway": {**GATEWAY, "create": {"kind": "Gateway", "className": text}},
        "commonLabels": {"team": text},
    }
    found = render(values, name=text)
    assert problems(found) == []
    assert spec(found, "Deployment")["selector"]["matchLabels"]["app.kubernetes.io/instance"] == text
    assert pods(found)["Deployment/house"]["metadata"]["labels"]["app.kubernetes.io/version"] == text
    assert f"--version={text}" in container(found, "Job/house-gate")["args"]
    assert problems(rendered({"ingress": INGRESS, "tls": {**SELF_SIGNED, "secretName": text}})) == []
    assert problems(rendered({"ingress": INGRESS, "tls": {**CERT_MANAGER, "secretName": text}})) == []


@pytest.mark.parametrize(
    ("image", "reference"),
    [
        ({"tag": "v1"}, "bakehouse:v1"),
        ({"repository": "registry.example:5000/a/b", "tag": "v1"}, "registry.example:5000/a/b:v1"),
        ({"digest": f"sha256:{'0' * 64}", "tag": ""}, f"bakehouse@sha256:{'0' * 64}"),
        ({"digest": f"sha256:{'0' * 64}", "tag": "v1"}, f"bakehouse:v1@sha256:{'0' * 64}"),
    ],
    ids=["tag", "repository", "digest", "both"],
)
def test_every_pod_runs_the_image(image: dict[str, str], reference: str):
    """The image has a tag, a digest or both. The version label and the checks need a tag."""
    found = rendered({"image": image})
    for each in pods(found).values():
        assert each["spec"]["containers"][0]["image"] == reference
        assert each["metadata"]["labels"].get("app.kubernetes.io/version", "") == image["tag"]
    for name in (CHECK_JOB, f"Pod/{NAME}-test-service"):
        versions = [argument for argument in container(found, name)["args"] if argument.startswith("--version")]
        assert versions == ([f"--version={image['tag']}"] if image["tag"] else [])


def test_a_new_chart_alone_replaces_no_pod(tmp_path: Path):
    """The chart's versions are in the labels of objects, but not in the template of a pod."""
    chart = copytree(CHART, tmp_path / "bakehouse")
    description = re.sub(r"ersion: \d.*", "ersion: 9.9.9", (CHART / "Chart.yaml").read_text())
    (chart / "Chart.yaml").write_text(description)
    # Existing certificates, because generating them takes a second.
    given = {
        "tls": {"mode": "existingSecret", "secretName": "edge"},
        "backendTLS": {"enabled": True, "secretName": "pods", "caConfigMapName": "authority"},
    }
    values = {**{key: value for key, value in SETUPS["everything"].items() if key != "extraObjects"}, **given}
    old, new = render(values), render(values, chart=chart)
    assert one(new, "Service")["metadata"]["labels"]["helm.sh/chart"] == "bakehouse-9.9.9"
    assert spec(old, "Deployment") == spec(new, "Deployment")
