"""Files that are generated from the chart are up to date: make docs and make manifests would change nothing."""

import json
import re
from dataclasses import fields
from pathlib import Path

import pytest

from service.settings import Settings
from tests.support.kubernetes import problems
from tests.support.objects import pods, restrictions_missed
from tests.support.values import value_problems
from tools.chart import with_descriptions, with_tables
from tools.helm import CHART, objects
from tools.manifests import manifests

K8S = CHART.parents[1] / "k8s"
README = (CHART / "README.md").read_text()
VALUES = (CHART / "values.yaml").read_text()
SCHEMA = json.loads((CHART / "values.schema.json").read_text())
# The files for kubectl. The rest of k8s/ is for kustomize and for make manifests.
MANIFESTS = [K8S / name for name in ("namespace.yaml", "bakehouse.yaml", "training/job.yaml")]
# The settings by the names of their values, without those that the chart computes.
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


def test_the_readme_lists_every_value():
    """Its tables are those of values.yaml."""
    assert with_tables(README, VALUES) == README


def test_every_value_is_described_where_editors_look():
    """The schema lists every value with its comment, and refuses others."""
    assert value_problems(VALUES, SCHEMA) == []
    assert (CHART / "values.schema.json").read_text() == json.dumps(with_descriptions(SCHEMA, VALUES), indent=2) + "\n"


@pytest.mark.parametrize("setup", sorted((CHART / "ci").glob("*.yaml")), ids=lambda file: file.stem)
def test_the_readme_links_every_setup(setup: Path):
    """Readers find every setup that is tested."""
    assert f"](ci/{setup.name})" in README


def test_links_of_the_readme_lead_to_files():
    """Every link without a # leads to a file of the repository."""
    links = re.findall(r"\]\(([^)#]+)", README)
    assert links
    assert [link for link in links if not (CHART / link).exists()] == []


def test_anchors_of_the_readme_exist():
    """The table of contents leads to its headings."""
    headings = {
        re.sub(r"[^\w -]", "", text).lower().replace(" ", "-") for text in re.findall(r"^#+ (.+)$", README, re.M)
    }
    anchors = set(re.findall(r"\]\(#([^)]+)", README))
    assert anchors
    assert anchors - headings == set()


def test_manifests_are_as_rendered():
    """They are what Helm would install."""
    assert (K8S / "bakehouse.yaml").read_text() == manifests((K8S / "values.yaml").read_text())


def test_no_manifest_is_missed():
    """The test below covers every new file of k8s/."""
    others = {K8S / "values.yaml", *K8S.rglob("kustomization.yaml")}
    assert set(K8S.rglob("*.yaml")) - others == set(MANIFESTS)


@pytest.mark.parametrize("file", MANIFESTS, ids=lambda file: file.name)
def test_manifests_are_valid_and_restricted(file: Path):
    """Their namespace enforces the restricted Pod Security Standard."""
    found = objects(file.read_text(), file.name)
    assert problems(found) == []
    assert [(name, rule) for name, pod in pods(found).items() for rule in restrictions_missed(pod["spec"])] == []


def test_every_setting_of_the_service_is_a_value():
    """The chart computes the others."""
    assert set(SCHEMA["properties"]["settings"]["properties"]) == set(SETTINGS)


@pytest.mark.parametrize("name", BOUNDED)
def test_a_setting_has_one_pair_of_bounds(name: str):
    """Helm and the service accept the same numbers."""
    value, item = SCHEMA["properties"]["settings"]["properties"][name], SETTINGS[name]
    assert (value["minimum"], value["maximum"]) == (item.metadata["at_least"], item.metadata["at_most"])
    assert ("number" in value["type"]) == (item.type is float)


@pytest.mark.parametrize("name", OF_WORDS)
def test_a_setting_has_one_choice_of_words(name: str):
    """The chart accepts the words of the service, and null for its default."""
    words = SCHEMA["properties"]["settings"]["properties"][name]["enum"]
    assert words == [*SETTINGS[name].metadata["one_of"], None]
