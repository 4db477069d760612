"""The notes name each Prometheus that selects the release's monitor and rules, or the label that it requires."""

import json
from collections.abc import Mapping
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest

from tests.support.rules import VALUES
from tools.helm import CHART, notes

API = ["monitoring.coreos.com/v1/Prometheus"]
LOOKUP = '(lookup "monitoring.coreos.com/v1" "Prometheus" "" "").items'
Json = dict[str, Any]


@pytest.fixture
def hints(tmp_path: Path) -> Any:
    """Return a function that gives the notes on monitoring, for Prometheus objects with these specifications."""
    chart = copytree(CHART, tmp_path / "bakehouse")
    template = chart / "templates/_selector.tpl"
    assert template.read_text().count(LOOKUP) == 1
    template.write_text(template.read_text().replace(LOOKUP, ".Values.global.prometheuses"))

    def monitoring_notes(*specs: Json, **values: Any) -> str:
        prometheuses = [{"metadata": {"name": "main", "namespace": "monitoring"}, "spec": spec} for spec in specs]
        given = {**VALUES, **values, "global": {"prometheuses": prometheuses}}
        text = notes(given, chart=chart, namespace="models", api_versions=API)
        return text.partition("\n\nMonitoring:\n")[2]

    return monitoring_notes


EVERYWHERE: Json = {"podMonitorNamespaceSelector": {}, "ruleNamespaceSelector": {}}
EVERYTHING: Json = {**EVERYWHERE, "podMonitorSelector": {}, "ruleSelector": {}}
SELECTED = """\
Prometheus monitoring/main selects the PodMonitor.
Prometheus monitoring/main selects the PrometheusRule.
"""


def expression(operator: str, key: str, *values: str) -> Json:
    """Return a label selector with one expression."""
    return {"matchExpressions": [{"key": key, "operator": operator, **({"values": [*values]} if values else {})}]}


@pytest.mark.parametrize(
    "spec",
    [
        EVERYTHING,
        {**EVERYTHING, "podMonitorSelector": {"matchLabels": {"app.kubernetes.io/name": "bakehouse"}}},
        {**EVERYTHING, "ruleSelector": expression("In", "app.kubernetes.io/instance", "room", "house")},
        {**EVERYTHING, "ruleSelector": expression("NotIn", "app.kubernetes.io/instance", "room")},
        {**EVERYTHING, "ruleSelector": expression("NotIn", "team", "pricing")},
        {**EVERYTHING, "ruleSelector": expression("Exists", "helm.sh/chart")},
        {**EVERYTHING, "ruleSelector": expression("DoesNotExist", "team")},
        {**EVERYTHING, "ruleNamespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "models"}}},
    ],
    ids=lambda spec: json.dumps({name: value for name, value in spec.items() if value}),
)
def test_the_notes_name_a_prometheus_that_selects_the_objects(hints: Any, spec: Json):
    """It selects by labels, by expressions or by namespace."""
    assert hints(spec) == SELECTED


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        ({"podMonitorSelector": {"matchLabels": {"release": "kps"}}}, "'metrics.monitor.labels.release=kps'"),
        ({"ruleSelector": {"matchLabels": {"release": "kps"}}}, "--set-string 'metrics.rules.labels.release=kps'"),
        ({"ruleSelector": {"matchLabels": {"a.b/c": "d"}}}, r"--set-string 'metrics.rules.labels.a\.b/c=d'"),
        ({"ruleSelector": expression("In", "role", "alerts", "all")}, "'metrics.rules.labels.role=alerts'"),
        ({"ruleSelector": expression("Exists", "watched")}, "'metrics.rules.labels.watched=true'"),
        ({"ruleSelector": expression("NotIn", "app.kubernetes.io/instance", "house")}, "change its ruleSelector"),
        ({"ruleSelector": expression("DoesNotExist", "helm.sh/chart")}, "change its ruleSelector"),
        ({"ruleSelector": None}, "It has no ruleSelector, so it selects no PrometheusRule: set one, {} for all."),
        (
            {"podMonitorNamespaceSelector": None},
            "It selects from its own namespace only: set its podMonitorNamespaceSelector",
        ),
        (
            {"podMonitorNamespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "other"}}},
            "It does not select from the namespace models: change its podMonitorNamespaceSelector",
        ),
        ({"ruleNamespaceSelector": {"matchLabels": {"team": "a"}}}, "kubectl label namespace models team=a"),
    ],
)
def test_the_notes_name_what_a_prometheus_requires(hints: Any, spec: Json, sentence: str):
    """They have the command line that adds a label. The Prometheus selects the other object."""
    given = {name: value for name, value in {**EVERYTHING, **spec}.items() if value is not None}
    text = hints(given)
    assert sentence in text
    assert text.count("does not select the") == 1
    assert text.count("selects the") == 1


def test_labels_of_the_values_are_enough(hints: Any):
    """The Prometheus selects the objects once the values have the labels of the notes."""
    labels = {"labels": {"release": "kps"}}
    selector = {"matchLabels": {"release": "kps"}}
    metrics = {"monitor": {"kind": "PodMonitor", **labels}, "rules": {"enabled": True, **labels}}
    assert hints({**EVERYWHERE, "podMonitorSelector": selector, "ruleSelector": selector}, metrics=metrics) == SELECTED


def test_the_notes_list_every_prometheus(hints: Any):
    """One may select what another does not."""
    text = hints(EVERYTHING, EVERYWHERE)
    assert text.startswith(SELECTED.strip())
    assert text.count("does not select the") == 2


@pytest.mark.parametrize(
    "metrics",
    [{"monitor": {"kind": "none"}, "rules": {"enabled": False}}, {**VALUES["metrics"], "monitor": {"lookup": False}}],
)
def test_the_lookup_can_be_off(hints: Any, metrics: Mapping[str, Any]):
    """Users without permission to list the objects of a cluster can install too."""
    merged = {**metrics, "monitor": {"kind": "PodMonitor", **metrics["monitor"]}}
    assert hints(EVERYTHING, metrics=merged) == ""


def test_a_service_monitor_has_its_own_selectors(hints: Any):
    """They are other fields of the Prometheus than a PodMonitor's."""
    metrics = {"monitor": {"kind": "ServiceMonitor"}}
    text = hints({"serviceMonitorNamespaceSelector": {}, "serviceMonitorSelector": {}}, metrics=metrics)
    assert text == "Prometheus monitoring/main selects the ServiceMonitor.\n"


def test_without_the_operator_the_notes_have_no_hints():
    """Helm does not read Prometheus objects either."""
    assert "Monitoring" not in notes(VALUES)
