"""A release from install to uninstall: both edges, TLS, Helm's own tests, ownership of the replicas, a neighbour."""

import json
import ssl
from typing import Any

import pytest

from tests.e2e.conftest import (
    GATEWAY_HOST,
    IMAGE,
    INGRESS_HOST,
    RELEASE,
    Images,
    Upgrade,
    authority,
    request_edge,
    wait_for_edge,
    wait_for_pods,
)
from tests.support.cluster import Cluster, wait_until


@pytest.mark.parametrize("host", [INGRESS_HOST, GATEWAY_HOST])
def test_both_edges_predict_over_verified_tls(
    cluster: Cluster, upgrade: Upgrade, images: Images, namespace: str, host: str
) -> None:
    """The certificate verifies against the release's own authority; the answer names version and digest."""
    upgrade("v0")
    ca = authority(cluster, namespace)
    wait_for_edge(cluster, host, ca)
    answer = json.loads(request_edge(cluster, host, ca, "POST", "/predict", images.body).content)
    assert answer == {**images.expected["v0"], "model": {"name": "house_prices", "version": "v0"}}
    with pytest.raises(ssl.SSLCertVerificationError):
        request_edge(cluster, "other.example.com", ca, "GET", "/version")
    plain = request_edge(cluster, host, None, "GET", "/version?x=1")
    assert plain.status in (301, 308)
    assert plain.getheader("Location") == f"https://{host}/version?x=1"


def test_the_way_to_the_pod_can_be_encrypted_too(cluster: Cluster, upgrade_other: Upgrade, namespace: str) -> None:
    """The Gateway speaks TLS to the pods and trusts their authority only; Helm's tests see both."""
    host = "encrypted.example.com"
    gateway = {"enabled": True, "hostnames": [host], "create": {"kind": "Gateway", "className": "traefik"}}
    values: dict[str, Any] = {"gateway": gateway, "tls__mode": "selfSigned", "replicaCount": 1}
    upgrade_other("encrypted", "v1", **values, backendTLS__enabled=True)
    ca = authority(cluster, namespace, "encrypted-bakehouse")
    wait_for_edge(cluster, host, ca)
    [pod] = wait_for_pods(cluster, namespace, 1, release="encrypted")
    plain = "import urllib.request as r; print(r.urlopen('http://127.0.0.1:8080/version').status)"
    with pytest.raises(AssertionError, match=r"RemoteDisconnected|ConnectionReset|BadStatusLine"):
        cluster.in_pod(namespace, pod["metadata"]["name"], plain)
    done = cluster.helm("test", "encrypted", "--namespace", namespace, "--timeout", "3m").stdout
    assert done.count("Phase:          Succeeded") == 2
    refused = upgrade_other("encrypted", "v1", **values, backendTLS__enabled=False, check=False)
    assert "backendTLS.enabled cannot change while pods serve" in refused.stderr


def test_helm_test_passes_and_an_upgrade_keeps_the_certificate(
    cluster: Cluster, upgrade: Upgrade, namespace: str
) -> None:
    """Helm's tests predict through the Service and through the edge; the self-signed certificate stays."""
    upgrade("v0")
    before = authority(cluster, namespace)
    upgrade("v0", podAnnotations={"example.com/restarted": "1"})
    assert authority(cluster, namespace) == before
    wait_for_edge(cluster, INGRESS_HOST, before)
    wait_for_edge(cluster, GATEWAY_HOST, before)
    done = cluster.helm("test", RELEASE, "--namespace", namespace, "--timeout", "3m").stdout
    print(done)
    assert done.count("Phase:          Succeeded") == 3


def test_helm_test_fails_where_another_version_serves(cluster: Cluster, upgrade_other: Upgrade, namespace: str) -> None:
    """The version that answers must be the one that the release names."""
    upgrade_other("patched", "v0", replicaCount=1)
    cluster.kubectl("-n", namespace, "set", "image", "deployment/patched-bakehouse", f"server={IMAGE}:v1")
    cluster.kubectl("-n", namespace, "rollout", "status", "deployment/patched-bakehouse", "--timeout=180s")
    done = cluster.helm("test", "patched", "--namespace", namespace, "--timeout", "3m", check=False)
    assert done.returncode != 0


def test_the_version_is_one_chain(cluster: Cluster, upgrade: Upgrade, images: Images, namespace: str) -> None:
    """Tag, label, /version, metrics and log name the same model version."""
    upgrade("v0")
    pods = wait_for_pods(cluster, namespace, 2)
    ca = authority(cluster, namespace)
    wait_for_edge(cluster, INGRESS_HOST, ca)
    request_edge(cluster, INGRESS_HOST, ca, "POST", "/predict", images.body)
    model = json.loads(request_edge(cluster, INGRESS_HOST, ca, "GET", "/version").content)["model"]
    assert model["version"] == "v0"
    logs = ""
    for pod in pods:
        name = pod["metadata"]["name"]
        assert pod["metadata"]["labels"]["app.kubernetes.io/version"] == "v0"
        assert pod["spec"]["containers"][0]["image"].endswith(":v0")
        scrape = "import urllib.request as r; print(r.urlopen('http://127.0.0.1:8081/metrics').read().decode())"
        metrics = cluster.in_pod(namespace, name, scrape)
        assert f'digest="{model["digest"]}"' in metrics
        assert 'version="v0"' in metrics
        logs += cluster.kubectl("-n", namespace, "logs", name)
    assert '"route":"/predict"' in logs
    lines = [json.loads(line) for line in logs.splitlines() if line.startswith("{")]
    assert {line["model_version"] for line in lines if line["event"] == "request"} == {"v0"}


def test_upgrades_have_no_conflicts_with_whoever_scales(
    cluster: Cluster, upgrade_other: Upgrade, namespace: str
) -> None:
    """Not after kubectl scale, not when an autoscaler takes over or goes; and no upgrade drops pods."""
    autoscaled = {"autoscaling__enabled": True, "autoscaling__minReplicas": 2}

    def upgrade(version: str, **values: Any) -> Any:
        return upgrade_other("scaled", version, settings__drainSeconds=2, **values)

    def replicas() -> int:
        return int(cluster.get("-n", namespace, "deployment", "scaled-bakehouse")["spec"]["replicas"])

    upgrade("v0")
    assert replicas() == 2
    upgrade("v0", **autoscaled)
    assert replicas() == 2  # a field that is only left out would have gone back to 1
    upgrade("v0", replicaCount=3)
    assert replicas() == 3
    cluster.kubectl("-n", namespace, "scale", "deployment/scaled-bakehouse", "--replicas=2")
    done = upgrade("v1", replicaCount=3)
    assert replicas() == 2
    assert "It keeps 2 pods" in done.stdout
    upgrade("v1", **autoscaled)
    upgrade("v0", **autoscaled)
    upgrade("v0")
    assert replicas() == 2


def test_a_second_release_stands_beside_and_uninstall_leaves_nothing(
    cluster: Cluster, upgrade: Upgrade, upgrade_other: Upgrade, namespace: str
) -> None:
    """Two releases do not touch each other; what one made is gone after its uninstall."""
    upgrade("v0")
    before = {pod["metadata"]["uid"] for pod in wait_for_pods(cluster, namespace, 2)}
    upgrade_other("flat", "v1", replicaCount=1)
    get_version = "import urllib.request as r; print(r.urlopen('http://127.0.0.1:8080/version').read().decode())"
    cluster.helm("test", "flat", "--namespace", namespace, "--timeout", "3m")
    [pod] = wait_for_pods(cluster, namespace, 1, release="flat")
    assert json.loads(cluster.in_pod(namespace, pod["metadata"]["name"], get_version))["model"]["version"] == "v1"
    assert named(cluster, namespace, "flat")
    cluster.helm("uninstall", "flat", "--namespace", namespace, "--wait")
    wait_until("nothing of the release is left", lambda: not named(cluster, namespace, "flat"), seconds=60)
    assert {pod["metadata"]["uid"] for pod in cluster.pods(namespace, RELEASE)} == before


def named(cluster: Cluster, namespace: str, release: str) -> list[str]:
    """Return all objects of any kind in a namespace that belong to a release by label or name."""
    kinds = cluster.kubectl("api-resources", "--verbs=list", "--namespaced", "-o", "name").split()
    kinds = [kind for kind in kinds if not kind.startswith(("events", "pods.metrics"))]
    listed = cluster.kubectl("-n", namespace, "get", ",".join(kinds), "-o", "name", "--ignore-not-found").split()
    labelled = cluster.kubectl(
        "-n", namespace, "get", ",".join(kinds), "-l", f"app.kubernetes.io/instance={release}", "-o", "name"
    ).split()
    return sorted({*labelled, *(name for name in listed if f"{release}-bakehouse" in name or f".{release}." in name)})
