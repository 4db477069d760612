"""The number of pods: replicas, HorizontalPodAutoscaler and PodDisruptionBudget."""

from typing import Any

import pytest

from tests.support.objects import SERVERS, rendered, spec


def test_replicas_are_applied_without_an_autoscaler():
    """The number is 2 or the given one. An autoscaler sets its own."""
    assert spec(rendered(), "Deployment")["replicas"] == 2
    assert spec(rendered({"replicaCount": 1}), "Deployment")["replicas"] == 1
    found = rendered({"autoscaling": {"enabled": True, "minReplicas": 3, "maxReplicas": 4}})
    assert "replicas" not in spec(found, "Deployment")
    scaler = spec(found, "HorizontalPodAutoscaler")
    assert (scaler["minReplicas"], scaler["maxReplicas"]) == (3, 4)
    assert scaler["metrics"] == [
        {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 70}}}
    ]


@pytest.mark.parametrize(
    ("values", "limit"),
    [
        ({}, {"maxUnavailable": 1}),
        ({"podDisruptionBudget": {"maxUnavailable": "50%"}}, {"maxUnavailable": "50%"}),
        ({"podDisruptionBudget": {"minAvailable": 1}}, {"minAvailable": 1}),
        ({"replicaCount": 1}, {"maxUnavailable": 1}),
        ({"autoscaling": {"enabled": True, "minReplicas": 1}}, {"maxUnavailable": 1}),
        ({"autoscaling": {"enabled": True}}, {"maxUnavailable": 1}),
    ],
    ids=str,
)
def test_a_budget_limits_drains(values: dict[str, Any], limit: dict[str, Any]):
    """An unhealthy pod never blocks a drain."""
    found = spec(rendered(values), "PodDisruptionBudget")
    assert found == {**limit, "unhealthyPodEvictionPolicy": "AlwaysAllow", "selector": SERVERS}


@pytest.mark.parametrize(
    "values",
    [
        {"replicaCount": 1, "podDisruptionBudget": {"minAvailable": 1}},
        {"autoscaling": {"enabled": True, "minReplicas": 1}, "podDisruptionBudget": {"minAvailable": 1}},
        {"podDisruptionBudget": {"enabled": False}},
    ],
    ids=str,
)
def test_a_single_pod_has_no_budget_with_min_available(values: dict[str, Any]):
    """Such a budget would block every drain."""
    assert "PodDisruptionBudget" not in {each["kind"] for each in rendered(values)}
