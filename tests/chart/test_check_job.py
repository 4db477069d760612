"""The check Job before a rollout, which runs before any object of the release exists."""

from typing import Any

import pytest

from tests.support.objects import CHECK_JOB, NAME, SERVER, container, pod, rendered
from tools.helm import one


@pytest.mark.parametrize(
    ("gate", "is_upgrade", "arguments"),
    [
        ({}, False, ["--version=v1", "--latency-budget=250"]),
        ({}, True, ["--version=v1", "--latency-budget=250", f"--live=http://{NAME}:9000"]),
        ({"latencyBudgetMilliseconds": None}, False, ["--version=v1"]),
        ({"latencyBudgetMilliseconds": 0.5}, False, ["--version=v1", "--latency-budget=0.5"]),
        ({"latencyBudgetMilliseconds": 10_000_000}, False, ["--version=v1", "--latency-budget=10000000"]),
        ({"allowContractChange": True}, False, ["--version=v1", "--latency-budget=250", "--allow-contract-change"]),
    ],
    ids=str,
)
def test_the_check_gets_its_limits_and_the_live_release(gate: dict[str, Any], is_upgrade: bool, arguments: list[str]):
    """Only an upgrade has a live release. The Job runs once, before any other object of the release exists."""
    found = rendered({"gate": gate, "service": {"healthPort": 9000}}, is_upgrade=is_upgrade)
    assert container(found, CHECK_JOB)["args"] == ["check", *arguments]
    job = one(found, "Job")
    assert job["metadata"]["annotations"]["helm.sh/hook"] == "pre-install,pre-upgrade"
    assert (job["spec"]["backoffLimit"], job["spec"]["activeDeadlineSeconds"]) == (0, 180)
    assert "serviceAccountName" not in pod(found, CHECK_JOB)


@pytest.mark.parametrize("kind", ["Job", "Pod"])
def test_checks_run_with_an_existing_service_account(kind: str):
    """Such an account may have pull secrets. The account of the release does not exist yet."""
    for account, name in (({"create": False, "name": "puller"}, "puller"), ({"create": False}, "default")):
        found = one(rendered({"serviceAccount": account}), kind)["spec"]
        assert (found["template"]["spec"] if kind == "Job" else found)["serviceAccountName"] == name
    found = one(rendered({}), kind)["spec"]
    assert "serviceAccountName" not in (found["template"]["spec"] if kind == "Job" else found)


def test_the_check_needs_no_object_of_the_release():
    """A Secret of extraObjects does not exist before the first install. Annotations can keep sidecars away."""
    from_secret = {"secretKeyRef": {"name": "a", "key": "b"}}
    variables = [{"name": "A", "valueFrom": from_secret}, {"name": "B", "value": "1"}]
    found = rendered({"extraEnv": variables, "podAnnotations": {"sidecar.example.com/inject": "false"}})
    check, server = (container(found, each)["env"] for each in (CHECK_JOB, SERVER))
    assert {"name": "A", "valueFrom": {"secretKeyRef": {"name": "a", "key": "b", "optional": True}}} in check
    assert variables[0] in server
    assert variables[1] in check
    annotations = one(found, "Job")["spec"]["template"]["metadata"]["annotations"]
    assert annotations == {"sidecar.example.com/inject": "false"}
