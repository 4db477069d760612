"""A model that is broken, breaks clients or lies never answers a request: its release fails and goes back."""

from typing import Any

import pytest

from tests.e2e.conftest import Upgrade, wait_for_pods
from tests.support.cluster import Cluster

REASONS = {
    "corrupt": "model.joblib",
    "contract": "feature rooms is new",
    "wrong": "does not give its golden answers",
    "crash": "",  # nothing in its artifact is wrong; it never gets ready
}


@pytest.mark.parametrize("tag", [pytest.param(tag, marks=pytest.mark.images(tag)) for tag in REASONS])
def test_a_bad_model_never_answers(cluster: Cluster, upgrade: Upgrade, namespace: str, load: Any, tag: str) -> None:
    """The upgrade fails and says why, the release goes back, and the old pods were never touched."""
    upgrade("v1")
    before = {pod["metadata"]["uid"] for pod in wait_for_pods(cluster, namespace, 2)}
    with load() as clients:
        clients.wait_for("v1")
        patience = ["--timeout", "45s"] if tag == "crash" else []  # it is only seen by waiting
        done = upgrade(tag, "--rollback-on-failure", *patience, check=False)
        clients.wait_for("v1", n_answers=clients.edge.last["answers"]["v1"] + 200)
        reports = clients.stop()
    assert done.returncode != 0
    said = done.stdout + done.stderr
    print(f"\n{tag}: {said}")
    assert REASONS[tag] in said
    for way, report in reports.items():
        print(f"{tag}, {way}: {report['good']} good, {report['failed']} failed")
        assert report["failures"] == []
        assert set(report["answers"]) == {"v1"}
    after = wait_for_pods(cluster, namespace, 2)
    assert {pod["metadata"]["uid"] for pod in after} == before
    deployed = cluster.get("-n", namespace, "deployment", "house-bakehouse")
    assert deployed["spec"]["template"]["spec"]["containers"][0]["image"].endswith(":v1")
    assert '"status":"deployed"' in cluster.helm("status", "house", "--namespace", namespace, "-o", "json").stdout
