"""What is written from the chart, or about it, agrees with it; make docs and make manifests would change nothing."""

import json
import re
from dataclasses import fields
from pathlib import Path

import pytest

from service.settings import Settings
from tests.support.kubernetes import problems
from tests.support.pods import pods, restrictions_missed
from tests.support.values import value_problems
from tools.chart import with_descriptions, with_table
from tools.helm import CHART, objects
from tools.manifests import manifests

K8S = CHART.parents[1] / "k8s"
README = (CHART / "README.md").read_text()
VALUES = (CHART / "values.yaml").read_text()
SCHEMA = json.loads((CHART / "values.schema.json").read_text())
# What kubectl applies; the rest of k8s/ is for kustomize and for make manifests.
MANIFESTS = [K8S / name for name in ("namespace.yaml", "bakehouse.yaml", "training/job.yaml")]
# The settings by the names of their values, but for those that the chart computes.
COMPUTED = {
    "artifact", "host", "http_port", "health_port", "tls_certificate", "tls_key", "redirect_to_https",
    "tracing",
}  # fmt: skip
SETTINGS = {
    re.sub(r"_(.)", lambda letter: letter[1].upper(), item.name): item
    for item in fields(Settings)
    if item.name not in COMPUTED
}
BOUNDED = [name for name, item in SETTINGS.items() if item.metadata["at_least"] is not None]
OF_WORDS = [name for name, item in SETTINGS.items() if item.metadata["one_of"]]


def test_the_readme_tells_of_every_value():
    """Its table is that of values.yaml."""
    assert with_table(README, VALUES) == README


def test_every_value_is_described_where_editors_look():
    """The schema lists all of them with their comments, and refuses any other."""
    assert value_problems(VALUES, SCHEMA) == []
    assert (CHART / "values.schema.json").read_text() == json.dumps(with_descriptions(SCHEMA, VALUES), indent=2) + "\n"


@pytest.mark.parametrize("setup", sorted((CHART / "ci").glob("*.yaml")), ids=lambda file: file.stem)
def test_the_readme_links_every_setup(setup: Path):
    """So that what is tested is found."""
    assert f"](ci/{setup.name})" in README


def test_links_of_the_readme_arrive():
    """At files of the repository; none of them is elsewhere."""
    links = re.findall(r"\]\(([^)#]+)", README)
    assert links
    assert [link for link in links if not (CHART / link).exists()] == []


def test_manifests_are_as_rendered():
    """What kubectl applies is what Helm would."""
    assert (K8S / "bakehouse.yaml").read_text() == manifests((K8S / "values.yaml").read_text())


def test_no_manifest_is_missed():
    """A new file of k8s/ is tried below too."""
    others = {K8S / "values.yaml", *K8S.rglob("kustomization.yaml")}
    assert set(K8S.rglob("*.yaml")) - others == set(MANIFESTS)


@pytest.mark.parametrize("file", MANIFESTS, ids=lambda file: file.name)
def test_manifests_are_valid_and_restricted(file: Path):
    """The namespace that they are for enforces the restricted Pod Security Standard."""
    found = objects(file.read_text(), file.name)
    assert problems(found) == []
    assert [(name, rule) for name, pod in pods(found).items() for rule in restrictions_missed(pod["spec"])] == []


def test_every_setting_of_the_service_is_a_value():
    """But for those that the chart computes."""
    assert set(SCHEMA["properties"]["settings"]["properties"]) == set(SETTINGS)


@pytest.mark.parametrize("name", BOUNDED)
def test_a_setting_has_one_pair_of_bounds(name: str):
    """What Helm takes the service takes, and the other way round."""
    value, item = SCHEMA["properties"]["settings"]["properties"][name], SETTINGS[name]
    assert (value["minimum"], value["maximum"]) == (item.metadata["at_least"], item.metadata["at_most"])
    assert ("number" in value["type"]) == (item.type is float)


@pytest.mark.parametrize("name", OF_WORDS)
def test_a_setting_has_one_choice_of_words(name: str):
    """The chart offers those that the service takes, and to leave it to the service."""
    words = SCHEMA["properties"]["settings"]["properties"][name]["enum"]
    assert words == [*SETTINGS[name].metadata["one_of"], None]
