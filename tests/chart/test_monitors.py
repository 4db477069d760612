"""The chart's objects for a Prometheus Operator: monitors, and the rules that values change."""

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from flask.testing import FlaskClient

from service.observability.metric_definitions import DURATION_BUCKETS_SECONDS
from tests.support.objects import rendered
from tests.support.rules import groups
from tools.helm import CHART, one

SCHEMA = json.loads((CHART / "values.schema.json").read_text())
Json = dict[str, Any]


@pytest.mark.parametrize("kind", ["ServiceMonitor", "PodMonitor"])
def test_every_series_is_of_its_release(kind: str):
    """Rules and dashboards match this label, because jobs differ between the kinds of monitors."""
    monitor = one(rendered({"metrics": {"monitor": {"kind": kind}}}), kind)
    (endpoint,) = monitor["spec"]["endpoints" if kind == "ServiceMonitor" else "podMetricsEndpoints"]
    assert endpoint["relabelings"] == [{"targetLabel": "release", "replacement": "house"}]
    assert "honorLabels" not in endpoint


def test_no_metric_has_a_label_of_its_target(client_of: Callable[..., FlaskClient]):
    """Prometheus would rename such a label of a metric."""
    client = client_of()
    client.post("/predict", json={"X": [[1500, 3]]})
    labels = set(re.findall(r'[{,](\w+)="', client.get("/metrics").text))
    assert "route" in labels
    assert (
        labels & {"namespace", "pod", "release", "job", "instance", "container", "endpoint", "service", "node"} == set()
    )


def test_an_objective_is_a_bucket_of_the_histogram():
    """Without a bucket, Prometheus could not count predictions below the objective."""
    assert SCHEMA["properties"]["slo"]["properties"]["latencySeconds"]["enum"] == list(DURATION_BUCKETS_SECONDS)


@pytest.mark.parametrize(("seconds", "bucket"), [(0.25, "0.25"), (0.001, "0.001"), (1, "1.0"), (10, "10.0")])
def test_a_bucket_is_named_as_prometheus_names_it(seconds: float, bucket: str):
    """Whole seconds end with .0 there."""
    (expression,) = {
        rule["expr"]
        for group in groups(slo={"latencySeconds": seconds})
        for rule in group["rules"]
        if rule.get("record") == "bakehouse:predict_latency:slow_increase5m"
    }
    assert f'le="{bucket}"' in expression


def burn_thresholds(**slo: float) -> dict[str, tuple[str, ...]]:
    """Return the share of failed and of slow requests that fires an alert, by long window."""
    found: dict[str, list[str]] = {}
    for group in groups(slo=slo):
        for rule in group["rules"]:
            if rule.get("alert", "").endswith("BudgetBurn"):
                found.setdefault(rule["labels"]["long"], []).append(rule["expr"].split("} > ")[1].split()[0])
    return {long: tuple(thresholds) for long, thresholds in found.items()}


def test_burn_rates_spend_the_budget_of_the_days():
    """2 % of 30 days within an hour is a burn rate of 14.4. Fewer days have a lower one."""
    assert burn_thresholds() == {
        "1h": ("0.0144", "0.144"),
        "6h": ("0.006", "0.06"),
        "1d": ("0.003", "0.03"),
        "3d": ("0.001", "0.01"),
    }
    assert burn_thresholds(days=10)["1h"] == ("0.0048", "0.048")


def test_no_budget_is_so_large_that_an_outage_is_silent():
    """14.4 times a tenth is more than all requests. A budget that lasts for its days fires no ticket."""
    assert burn_thresholds(availability=0.9, latency=0.5)["1h"] == ("0.9", "0.9")
    assert burn_thresholds(days=7)["3d"] == ("0.001", "0.01")


def test_alerts_link_their_runbooks():
    """The address may end with a slash. Without an address there is no link."""
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
    """The time depends on the number of pods and their deadline, and is at most an hour."""
    (skew,) = [
        rule for group in groups(**values) for rule in group["rules"] if rule.get("alert") == "BakehouseVersionSkew"
    ]
    assert skew["for"] == f"{seconds}s"
