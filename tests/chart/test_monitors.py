"""What the chart has for a Prometheus Operator: a monitor, rules, and a word on which label is missing."""

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest
from flask.testing import FlaskClient

from service.observability.metric_definitions import DURATION_BUCKETS_SECONDS
from tests.support.pods import rendered
from tests.support.rules import VALUES, groups
from tools.helm import CHART, notes, one

SCHEMA = json.loads((CHART / "values.schema.json").read_text())
API = ["monitoring.coreos.com/v1/Prometheus"]
LOOKUP = '(lookup "monitoring.coreos.com/v1" "Prometheus" "" "").items'
Json = dict[str, Any]


@pytest.mark.parametrize("kind", ["ServiceMonitor", "PodMonitor"])
def test_every_series_is_of_its_release(kind: str):
    """Jobs differ between the kinds of monitors, so rules and dashboards go by this label; metrics have none such."""
    monitor = one(rendered({"metrics": {"monitor": {"kind": kind}}}), kind)
    (endpoint,) = monitor["spec"]["endpoints" if kind == "ServiceMonitor" else "podMetricsEndpoints"]
    assert endpoint["relabelings"] == [{"targetLabel": "release", "replacement": "house"}]
    assert "honorLabels" not in endpoint


def test_no_metric_has_a_label_of_its_target(client_of: Callable[..., FlaskClient]):
    """Prometheus would rename it, because what a pod says of itself does not count."""
    client = client_of()
    client.post("/predict", json={"X": [[1500, 3]]})
    labels = set(re.findall(r'[{,](\w+)="', client.get("/metrics").text))
    assert "route" in labels
    assert (
        labels & {"namespace", "pod", "release", "job", "instance", "container", "endpoint", "service", "node"} == set()
    )


def test_an_objective_is_a_bucket_of_the_histogram():
    """Other seconds could not be told from it."""
    assert SCHEMA["properties"]["slo"]["properties"]["latencySeconds"]["enum"] == list(DURATION_BUCKETS_SECONDS)


@pytest.mark.parametrize(("seconds", "bucket"), [(0.25, "0.25"), (0.001, "0.001"), (1, "1.0"), (10, "10.0")])
def test_a_bucket_is_named_as_prometheus_names_it(seconds: float, bucket: str):
    """Whole seconds have a point there."""
    (expression,) = {
        rule["expr"]
        for group in groups(slo={"latencySeconds": seconds})
        for rule in group["rules"]
        if rule.get("record") == "bakehouse:predict_latency:slow_increase5m"
    }
    assert f'le="{bucket}"' in expression


def burn_thresholds(**slo: float) -> dict[str, tuple[str, ...]]:
    """Return by long window from which share of failed and slow requests on the budget burns too fast."""
    found: dict[str, list[str]] = {}
    for group in groups(slo=slo):
        for rule in group["rules"]:
            if rule.get("alert", "").endswith("BudgetBurn"):
                found.setdefault(rule["labels"]["long"], []).append(rule["expr"].split("} > ")[1].split()[0])
    return {long: tuple(thresholds) for long, thresholds in found.items()}


def test_burn_rates_spend_the_budget_of_the_days():
    """2 % of 30 days within an hour is 14.4 times the rate at which they last; of fewer days it is less."""
    assert burn_thresholds() == {
        "1h": ("0.0144", "0.144"),
        "6h": ("0.006", "0.06"),
        "1d": ("0.003", "0.03"),
        "3d": ("0.001", "0.01"),
    }
    assert burn_thresholds(days=10)["1h"] == ("0.0048", "0.048")


def test_no_budget_is_so_large_that_an_outage_is_silent():
    """14.4 times a tenth is more than all requests; and no ticket is about a budget that will last."""
    assert burn_thresholds(availability=0.9, latency=0.5)["1h"] == ("0.9", "0.9")
    assert burn_thresholds(days=7)["3d"] == ("0.001", "0.01")


def test_alerts_link_their_pages_where_there_is_an_address():
    """An address that ends with a slash is one too; without any there is no link that leads nowhere."""
    url = {"rules": {"enabled": True, "runbookURL": "https://example.com/pages/"}, "monitor": {"kind": "PodMonitor"}}
    for rules, linked in ((groups(metrics=url), True), (groups(), False)):
        for rule in (rule for group in rules for rule in group["rules"] if "alert" in rule):
            page = f"https://example.com/pages/{rule['alert']}.md" if linked else None
            assert rule["annotations"].get("runbook_url") == page


@pytest.mark.parametrize(
    ("values", "seconds"),
    [
        ({}, 900),
        ({"replicaCount": 6}, 6 * 180 + 50),
        ({"autoscaling": {"enabled": True, "maxReplicas": 8}}, 8 * 180 + 50),
        ({"replicaCount": 6, "rollout": {"progressDeadlineSeconds": 600}}, 3600),
    ],
)
def test_versions_may_differ_for_as_long_as_a_rollout_takes(values: Json, seconds: int):
    """Which depends on the number of pods and the deadline of each, up to an hour."""
    (skew,) = [
        rule for group in groups(**values) for rule in group["rules"] if rule.get("alert") == "BakehouseVersionSkew"
    ]
    assert skew["for"] == f"{seconds}s"


# Hints ----------------------------------------------------------------------------------------------------------------


@pytest.fixture
def hints(tmp_path: Path) -> Any:
    """Return a function that gives what the notes say where these Prometheus objects are in the cluster."""
    chart = copytree(CHART, tmp_path / "bakehouse")
    helpers = chart / "templates/_helpers.tpl"
    assert helpers.read_text().count(LOOKUP) == 1
    helpers.write_text(helpers.read_text().replace(LOOKUP, ".Values.global.prometheuses"))

    def said(*specs: Json, **values: Any) -> str:
        found = [{"metadata": {"name": "main", "namespace": "monitoring"}, "spec": spec} for spec in specs]
        given = {**VALUES, **values, "global": {"prometheuses": found}}
        text = notes(given, chart=chart, namespace="models", api_versions=API)
        return text.partition("\n\nMonitoring:\n")[2]

    return said


EVERYWHERE: Json = {"podMonitorNamespaceSelector": {}, "ruleNamespaceSelector": {}}
EVERYTHING: Json = {**EVERYWHERE, "podMonitorSelector": {}, "ruleSelector": {}}
SELECTED = """\
Prometheus monitoring/main selects the PodMonitor.
Prometheus monitoring/main selects the PrometheusRule.
"""


def expression(operator: str, key: str, *values: str) -> Json:
    """Return a label selector of one expression."""
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
def test_who_selects_the_objects_is_told(hints: Any, spec: Json):
    """By labels, by expressions and by namespace."""
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
        ({"ruleSelector": None}, "It selects no PrometheusRule at all: give it a ruleSelector"),
        ({"podMonitorNamespaceSelector": None}, "It looks into its own namespace only"),
        (
            {"podMonitorNamespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "other"}}},
            "It does not look into the namespace models: change its podMonitorNamespaceSelector",
        ),
        ({"ruleNamespaceSelector": {"matchLabels": {"team": "a"}}}, "kubectl label namespace models team=a"),
    ],
)
def test_what_keeps_a_prometheus_from_them_is_told(hints: Any, spec: Json, sentence: str):
    """With the words of the command line that add a label; the other object is selected."""
    given = {name: value for name, value in {**EVERYTHING, **spec}.items() if value is not None}
    said = hints(given)
    assert sentence in said
    assert said.count("does not select the") == 1
    assert said.count("selects the") == 1


def test_the_labels_of_the_values_count(hints: Any):
    """What the notes said to add is enough."""
    labels = {"labels": {"release": "kps"}}
    selector = {"matchLabels": {"release": "kps"}}
    metrics = {"monitor": {"kind": "PodMonitor", **labels}, "rules": {"enabled": True, **labels}}
    assert hints({**EVERYWHERE, "podMonitorSelector": selector, "ruleSelector": selector}, metrics=metrics) == SELECTED


def test_every_prometheus_is_told_of(hints: Any):
    """One may select what another does not."""
    said = hints(EVERYTHING, EVERYWHERE)
    assert said.startswith(SELECTED.strip())
    assert said.count("does not select the") == 2


@pytest.mark.parametrize(
    "metrics",
    [{"monitor": {"kind": "none"}, "rules": {"enabled": False}}, {**VALUES["metrics"], "monitor": {"lookup": False}}],
)
def test_nothing_is_looked_up_unasked(hints: Any, metrics: Mapping[str, Any]):
    """Who may not list the objects of a cluster can install nevertheless."""
    merged = {**metrics, "monitor": {"kind": "PodMonitor", **metrics["monitor"]}}
    assert hints(EVERYTHING, metrics=merged) == ""


def test_a_service_monitor_is_selected_as_one(hints: Any):
    """By the fields that are for it."""
    metrics = {"monitor": {"kind": "ServiceMonitor"}}
    said = hints({"serviceMonitorNamespaceSelector": {}, "serviceMonitorSelector": {}}, metrics=metrics)
    assert said == "Prometheus monitoring/main selects the ServiceMonitor.\n"


def test_without_the_operator_there_is_nothing_to_say():
    """And nothing is asked of the cluster."""
    assert "Monitoring" not in notes(VALUES)
