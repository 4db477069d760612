"""Pods come under load and go after it, and no request notices."""

from typing import Any

from tests.e2e.conftest import NAME, Upgrade, wait_for_pods
from tests.support.cluster import Cluster, wait_until

QUICK = {
    "scaleUp": {"stabilizationWindowSeconds": 0},
    "scaleDown": {"stabilizationWindowSeconds": 15, "policies": [{"type": "Pods", "value": 4, "periodSeconds": 15}]},
}


def test_scaling_up_and_down_loses_no_request(cluster: Cluster, upgrade: Upgrade, namespace: str, load: Any) -> None:
    """Many clients make it more than two pods, a single one makes it two again."""

    def replicas() -> int:
        return int(cluster.get("-n", namespace, "deployment", NAME)["status"].get("readyReplicas", 0))

    values = {"autoscaling__enabled": True, "autoscaling__maxReplicas": 4, "autoscaling__behavior": QUICK}
    resources = {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"cpu": "2", "memory": "512Mi"}}
    upgrade("v1", resources=resources, **values)
    wait_for_pods(cluster, namespace, 2)  # a first installation under an autoscaler starts with one
    with load(n_keep_alive=1, n_reconnecting=1, pause_seconds=0.1) as few:
        with load() as many:
            wait_until("more than two pods", lambda: replicas() > 2, seconds=240)
            many.wait_for("v1")
            busy = many.stop()
        most = replicas()
        wait_until("two pods again", lambda: replicas() == 2, seconds=300)
        quiet = few.stop()
    print(f"\n2 pods, then {most}, then 2")
    for name, reports in (("many", busy), ("few", quiet)):
        for way, report in reports.items():
            print(f"{name}, {way}: {report['good']} good, {report['failed']} failed")
            assert report["failures"] == []
