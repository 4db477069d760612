"""The Deployment: ports, probes, rollouts and shutdown."""

from typing import Any

import pytest

from service.settings import Settings
from tests.support.objects import container, pod, rendered, spec


def test_ports_are_those_the_service_listens_on():
    """The chart does not set the ports, so they are the settings' defaults. The Service uses their names."""
    found = rendered({"service": {"port": 8000, "healthPort": 9000}})
    settings = Settings()
    assert container(found)["ports"] == [
        {"name": "http", "containerPort": settings.http_port},
        {"name": "health", "containerPort": settings.health_port},
    ]
    assert spec(found, "Service")["ports"] == [
        {"name": "http", "port": 8000, "targetPort": "http", "appProtocol": "http"},
        {"name": "health", "port": 9000, "targetPort": "health", "appProtocol": "http"},
    ]


def test_probes_request_the_health_port():
    """Startup and traffic depend on /readyz, and restarts on /healthz. The numbers are those of the values."""
    found = container(rendered({"probes": {"readiness": {"failureThreshold": 9}}}))
    for probe, path in (("startup", "/readyz"), ("readiness", "/readyz"), ("liveness", "/healthz")):
        assert found[f"{probe}Probe"]["httpGet"] == {"path": path, "port": "health"}
    assert found["startupProbe"]["failureThreshold"] == 120
    get = {"path": "/readyz", "port": "health"}
    assert found["readinessProbe"] == {"httpGet": get, "periodSeconds": 5, "failureThreshold": 9, "timeoutSeconds": 5}
    assert found["livenessProbe"]["periodSeconds"] == 10


def test_a_rollout_is_as_the_values_say():
    """The default adds one pod and removes none."""
    usual = spec(rendered(), "Deployment")
    assert usual["strategy"] == {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
    assert (usual["minReadySeconds"], usual["progressDeadlineSeconds"], usual["revisionHistoryLimit"]) == (5, 180, 5)
    given = {
        "maxSurge": "50%",
        "maxUnavailable": 1,
        "minReadySeconds": 7,
        "progressDeadlineSeconds": 200,
        "revisionHistoryLimit": 2,
    }
    found = spec(rendered({"rollout": given}), "Deployment")
    assert found["strategy"]["rollingUpdate"] == {"maxSurge": "50%", "maxUnavailable": 1}
    assert {name: found[name] for name in list(given)[2:]} == dict(list(given.items())[2:])


@pytest.mark.parametrize(
    ("values", "seconds"),
    [
        ({}, 50),
        ({"settings": {"drainSeconds": 2.5, "gracefulTimeoutSeconds": 20}}, 33),
        ({"rollout": {"terminationGracePeriodSeconds": 90}}, 90),
    ],
    ids=["default", "rounded up", "given"],
)
def test_the_grace_period_is_long_enough(values: dict[str, Any], seconds: int):
    """It covers the drain, the requests in flight and ten seconds more, and rounds up."""
    found = pod(rendered(values))
    assert found["terminationGracePeriodSeconds"] == seconds
    (server,) = found["containers"]
    assert server["lifecycle"] == {"preStop": {"exec": {"command": ["python", "-m", "service", "drain"]}}}
