"""A real Prometheus finds the pods by the release's own monitor."""

import json
import urllib.parse
import urllib.request

import pytest

from tests.e2e.conftest import RELEASE, Upgrade, wait_for_pods
from tests.support.cluster import Cluster, wait_until


@pytest.fixture(scope="module")
def prometheus(cluster: Cluster) -> str:
    """Return the address of a Prometheus that reads every monitor."""
    return cluster.monitoring()


@pytest.mark.parametrize("kind", ["ServiceMonitor", "PodMonitor"])
def test_prometheus_scrapes_every_pod(
    cluster: Cluster, upgrade: Upgrade, namespace: str, prometheus: str, kind: str
) -> None:
    """Every pod is a target that is up, and says which model version it serves."""
    upgrade("v1", metrics__monitor__kind=kind, metrics__monitor__interval="2s")
    names = {pod["metadata"]["name"] for pod in wait_for_pods(cluster, namespace, 2)}

    def scraped() -> bool:
        query = f'bakehouse_model_info{{namespace="{namespace}", job=~".*{RELEASE}.*", version="v1"}} == 1'
        with urllib.request.urlopen(f"{prometheus}/api/v1/query?{urllib.parse.urlencode({'query': query})}") as answer:
            result = json.load(answer)["data"]["result"]
        return {series["metric"]["pod"] for series in result} == names

    wait_until("both pods are scraped", scraped)
