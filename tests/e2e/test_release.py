"""A release from install to uninstall: both edges, TLS, Helm's own tests, ownership of the replicas, a neighbour."""

import http.client
import json
import socket
import ssl
from typing import Any

import pytest

from tests.e2e.conftest import (
    GATEWAY_HOST,
    INGRESS_HOST,
    NAME,
    RELEASE,
    Images,
    Upgrade,
    authority,
    values_of,
    wait_for_pods,
)
from tests.support.cluster import CHART, Cluster, wait_until


def request(cluster: Cluster, host: str, ca: str | None, method: str, path: str, body: Any = None) -> Any:
    """Send one request to the edge, over verified TLS if there is an authority; return response and content."""
    port = 443 if ca else 80
    connection = http.client.HTTPConnection(host, port, timeout=30)
    stream = socket.create_connection((cluster.ingress_ip, port), timeout=30)
    connection.sock = ssl.create_default_context(cadata=ca).wrap_socket(stream, server_hostname=host) if ca else stream
    headers = {"Content-Type": "application/json"} if body else {}
    connection.request(method, path, json.dumps(body) if body else None, headers)
    response = connection.getresponse()
    response.content = response.read()  # type: ignore[attr-defined]
    connection.close()
    return response


def wait_for_edge(cluster: Cluster, host: str, ca: str) -> None:
    """Return once the edge has learned of a host."""

    def answers() -> bool:
        try:
            return bool(request(cluster, host, ca, "GET", "/version").status == 200)
        except ssl.SSLCertVerificationError:
            return False  # the edge's default certificate, until it has read ours

    wait_until(f"{host} is served", answers)


@pytest.mark.parametrize("host", [INGRESS_HOST, GATEWAY_HOST])
def test_both_edges_predict_over_verified_tls(
    cluster: Cluster, upgrade: Upgrade, images: Images, namespace: str, host: str
) -> None:
    """The certificate verifies against the release's own authority; the answer names version and digest."""
    upgrade("v0")
    ca = authority(cluster, namespace)
    wait_for_edge(cluster, host, ca)
    answer = json.loads(request(cluster, host, ca, "POST", "/predict", images.body).content)
    assert answer == {**images.expected["v0"], "model": {"name": "house_prices", "version": "v0"}}
    with pytest.raises(ssl.SSLCertVerificationError):
        request(cluster, "other.example.com", ca, "GET", "/version")
    plain = request(cluster, host, None, "GET", "/version?x=1")
    assert plain.status in (301, 308)
    assert plain.getheader("Location") == f"https://{host}/version?x=1"


def test_the_way_to_the_pod_can_be_encrypted_too(cluster: Cluster, namespace: str, images: Images) -> None:
    """The Gateway speaks TLS to the pods and trusts their authority only; Helm's tests see both."""
    host = "encrypted.example.com"
    values = values_of("v1", ingress__enabled=False, gateway__hostnames=[host], backendTLS__enabled=True,
                       replicaCount=1, tests__edge__address=cluster.ingress_ip)  # fmt: skip
    place = ("--namespace", namespace)
    cluster.helm("install", "encrypted", str(CHART), *place, "--wait", "--timeout", "3m", *values)
    try:
        ca = authority(cluster, namespace, "encrypted-bakehouse")
        wait_for_edge(cluster, host, ca)
        [pod] = wait_for_pods(cluster, namespace, 1, release="encrypted")
        plain = "import urllib.request as r; print(r.urlopen('http://127.0.0.1:8080/version').status)"
        with pytest.raises(AssertionError, match=r"RemoteDisconnected|ConnectionReset|BadStatusLine"):
            cluster.in_pod(namespace, pod["metadata"]["name"], plain)
        said = cluster.helm("test", "encrypted", *place, "--timeout", "3m").stdout
        assert said.count("Phase:          Succeeded") == 2
        plain_again = [*values, "--set", "backendTLS.enabled=false"]
        refused = cluster.helm("upgrade", "encrypted", str(CHART), *place, *plain_again, check=False)
        assert "backendTLS.enabled cannot change while pods serve" in refused.stderr
    finally:
        cluster.helm("uninstall", "encrypted", *place, "--wait")


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
    said = cluster.helm("test", RELEASE, "--namespace", namespace, "--timeout", "3m").stdout
    print(said)
    assert said.count("Phase:          Succeeded") == 3


def test_helm_test_fails_where_another_version_serves(cluster: Cluster, upgrade: Upgrade, namespace: str) -> None:
    """The version that answers must be the one that the release names."""
    upgrade("v0")
    cluster.kubectl("-n", namespace, "set", "image", f"deployment/{NAME}", "server=bakehouse-e2e:v1")
    cluster.kubectl("-n", namespace, "rollout", "status", f"deployment/{NAME}", "--timeout=180s")
    try:
        done = cluster.helm("test", RELEASE, "--namespace", namespace, "--timeout", "3m", check=False)
        assert done.returncode != 0
    finally:
        upgrade("v0", "--force-conflicts")


def test_the_version_is_one_chain(cluster: Cluster, upgrade: Upgrade, images: Images, namespace: str) -> None:
    """Tag, label, /version, metrics and log name the same model version."""
    upgrade("v0")
    pods = wait_for_pods(cluster, namespace, 2)
    ca = authority(cluster, namespace)
    wait_for_edge(cluster, INGRESS_HOST, ca)
    request(cluster, INGRESS_HOST, ca, "POST", "/predict", images.body)
    model = json.loads(request(cluster, INGRESS_HOST, ca, "GET", "/version").content)["model"]
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


def test_upgrades_have_no_conflicts_with_whoever_scales(cluster: Cluster, upgrade: Upgrade, namespace: str) -> None:
    """Not after kubectl scale, not when an autoscaler takes over or goes; and no upgrade drops pods."""

    def replicas() -> int:
        return int(cluster.get("-n", namespace, "deployment", NAME)["spec"]["replicas"])

    upgrade("v0")
    assert replicas() == 2
    upgrade("v0", autoscaling__enabled=True, autoscaling__minReplicas=2)
    assert replicas() == 2  # a field that is only left out would have gone back to 1
    upgrade("v0", replicaCount=3)
    assert replicas() == 3
    cluster.kubectl("-n", namespace, "scale", f"deployment/{NAME}", "--replicas=2")
    done = upgrade("v1", replicaCount=3)
    assert replicas() == 2
    assert "It keeps 2 pods" in done.stdout
    upgrade("v1", autoscaling__enabled=True, autoscaling__minReplicas=2)
    upgrade("v0", autoscaling__enabled=True, autoscaling__minReplicas=2)
    upgrade("v0")
    assert replicas() == 2


def test_a_second_release_stands_beside_and_uninstall_leaves_nothing(
    cluster: Cluster, upgrade: Upgrade, namespace: str
) -> None:
    """Two releases do not touch each other; what one made is gone after its uninstall."""
    upgrade("v0")
    before = {pod["metadata"]["uid"] for pod in wait_for_pods(cluster, namespace, 2)}
    cluster.helm("install", "flat", str(CHART), "--namespace", namespace, "--wait", "--timeout", "3m",
                 "--set", "image.repository=bakehouse-e2e,image.tag=v1,replicaCount=1")  # fmt: skip
    get_version = "import urllib.request as r; print(r.urlopen('http://flat-bakehouse/version').read().decode())"
    cluster.helm("test", "flat", "--namespace", namespace, "--timeout", "3m")
    [pod] = wait_for_pods(cluster, namespace, 1, release="flat")
    own = get_version.replace("flat-bakehouse", "127.0.0.1:8080")
    assert json.loads(cluster.in_pod(namespace, pod["metadata"]["name"], own))["model"]["version"] == "v1"
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
