"""What every scenario starts from: a cluster in order, images of models that differ, a namespace of its own, clients.

The releases of a module live in a namespace that no other module uses, so nothing is left of other modules: no number
of pods that `kubectl scale` owns, no autoscaler, no pod that still drains. Within a module, `upgrade` at the start of a
test brings the release to the state that the test names. A test that changes more than `upgrade` sets has a
release of its own, by `upgrade_other`, which is uninstalled afterwards.
"""

import base64
import http.client
import json
import os
import shutil
import socket
import ssl
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from service.artifact import manifest as manifest_format
from service.artifact import writer
from tests.support.cluster import CHART, Cluster, Json, cluster_command, run, wait_until
from tests.support.images import bake_in, golden, make_crashing, put_into

RELEASE = "house"
NAME = "house-bakehouse"
IMAGE = "bakehouse-e2e"
INGRESS_HOST = "house.example.com"
GATEWAY_HOST = "house-gateway.example.com"
VERSIONS = [f"v{number}" for number in range(int(os.environ.get("E2E_ROLLOUTS", "10")) + 1)]
N_KEEP_ALIVE, N_RECONNECTING = 16, 4
NAMESPACE_LABEL = "bakehouse-e2e"  # of every namespace of the tests, to find those of a run that was interrupted
EDGE = {
    "ingress.enabled": True,
    "ingress.hosts": [INGRESS_HOST],
    "gateway.enabled": True,
    "gateway.hostnames": [GATEWAY_HOST],
    "gateway.create.kind": "Gateway",
    "gateway.create.className": "traefik",
    "tls.mode": "selfSigned",
}

# Models that differ in their answers only, and one that takes another feature.
MODEL = """
from sklearn.linear_model import Ridge
from training.models.house_prices import EXAMPLE, load
NAME = "house_prices"
def estimator():
    return Ridge(alpha={alpha})
"""
OTHER_CONTRACT = """
from sklearn.linear_model import Ridge
from training.models import house_prices
NAME = "house_prices"
def load():
    X, y = house_prices.load()
    return X.assign(rooms=X["area"] // 250), y
def estimator():
    return Ridge()
"""
# A classifier whose engine, scikit-learn's own, joins requests that wait.
KINDS = """
import numpy as np
from sklearn.ensemble import RandomForestClassifier
from training.models import house_prices
NAME = "house_kinds"
def load():
    X, y = house_prices.load()
    return X, np.where(y > y.median(), "dear", "cheap")
def estimator():
    return RandomForestClassifier(n_estimators=50, random_state=0)
"""


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker with which a scenario names its images."""
    config.addinivalue_line("markers", "images(*tags): the model versions that a scenario releases, beside v0 and v1")


# ----------------------------------------------------------------------------------------------- cluster and images


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """Return a cluster; it is removed afterwards unless E2E_KEEP is set."""
    cluster = Cluster(cluster_command())
    cluster.kubectl("delete", "namespace", "--selector", NAMESPACE_LABEL)
    yield cluster
    if not os.environ.get("E2E_KEEP"):
        run(cluster_command(), "down")


@dataclass(frozen=True)
class Images:
    """Images that the nodes have, all of one repository.

    Args:
        tags: The model versions that there are.
        body: A request that all models take, except the one with another contract.
        expected: The answer of each version of the same contract.
    """

    tags: frozenset[str]
    body: Json
    expected: dict[str, Json]


@pytest.fixture(scope="session")
def images(request: pytest.FixtureRequest, cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Images:
    """Return images of the models that the chosen scenarios name with the marker `images`."""
    named = {tag for item in request.session.items for mark in item.iter_markers("images") for tag in mark.args}
    tags = frozenset({"v0", "v1"} | named)
    directory = tmp_path_factory.mktemp("models")
    for target in ("train", "runtime"):
        run("docker", "build", "--target", target, "--tag", f"{IMAGE}-{target}:e2e", ".")
    _bake(directory, tags)
    for tag in sorted(tags):
        put_into(f"{IMAGE}-runtime:e2e", directory / tag, f"{IMAGE}:{tag}")
    if "crash" in tags:
        make_crashing(f"{IMAGE}:crash", f"{IMAGE}:crash")
    cluster.load_images(*(f"{IMAGE}:{tag}" for tag in sorted(tags)))
    expected = {version: golden(directory / version)["response"] for version in VERSIONS if version in tags}
    assert len({json.dumps(answer) for answer in expected.values()}) == len(expected)
    return Images(tags, golden(directory / "v0")["request"], expected)


def _bake(directory: Path, tags: frozenset[str]) -> None:
    """Write the artifacts of model versions into a folder, each into a folder of its name."""
    sources = {version: MODEL.format(alpha=10.0**number) for number, version in enumerate(VERSIONS)}
    sources |= {"crash": sources["v1"], "contract": OTHER_CONTRACT, "kinds": KINDS}
    chosen = {tag: sources[tag] for tag in sorted(tags & sources.keys())}
    bake_in(f"{IMAGE}-train:e2e", directory, chosen, {"kinds": ["--engine", "scikit-learn"]})
    if "corrupt" in tags:
        _copy_with_a_flipped_bit(directory / "v1", directory / "corrupt")
    if "wrong" in tags:
        _copy_with_a_wrong_golden_answer(directory / "v1", directory / "wrong")


def _copy_with_a_flipped_bit(source: Path, target: Path) -> None:
    shutil.copytree(source, target)
    model = target / manifest_format.MODEL
    content = bytearray(model.read_bytes())
    content[len(content) // 2] ^= 1
    model.write_bytes(content)


def _copy_with_a_wrong_golden_answer(source: Path, target: Path) -> None:
    """Write an artifact whose digests are right and whose golden answer is not the model's."""
    manifest = dict(manifest_format.read_manifest(source))
    files = {name: (source / name).read_bytes() for name in manifest.pop("files")}
    lines = [json.loads(line) for line in files[manifest_format.GOLDEN].splitlines()]
    lines[0]["response"]["y_pred"][0] += 1000.0
    files[manifest_format.GOLDEN] = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
    writer.write(target, {**manifest, "version": target.name}, files, accept=lambda _: None)


# ------------------------------------------------------------------------------------------- namespace and releases


@contextmanager
def new_namespace(cluster: Cluster, name: str, pod_security: str) -> Iterator[str]:
    """Create a namespace under a name that was never used before; afterwards its releases and itself are removed.

    Args:
        cluster: Where it is created.
        name: The first part of its name.
        pod_security: The pods that may run in it: `restricted` or `privileged`.
    """
    namespace = f"bakehouse-{name}-{uuid.uuid4().hex[:6]}"
    labels = {NAMESPACE_LABEL: "true", "pod-security.kubernetes.io/enforce": pod_security}
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "labels": labels}})
    yield namespace
    # First the releases, so that no host of theirs is at the edge when the next module's release gets it.
    for release in cluster.helm("list", "--namespace", namespace, "--short").stdout.split():
        cluster.helm("uninstall", release, "--namespace", namespace)
    cluster.kubectl("delete", "namespace", namespace, "--wait=false")


@pytest.fixture(scope="module")
def namespace(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[str]:
    """Return an empty namespace in which only restricted pods may run; all nodes are ready and take pods."""
    nodes = [node["metadata"]["name"] for node in cluster.get("nodes")["items"]]
    cluster.kubectl("uncordon", *nodes)
    cluster.kubectl("wait", "--for=condition=Ready", "node", "--all", "--timeout=120s")
    with new_namespace(cluster, request.path.stem.removeprefix("test_").replace("_", "-"), "restricted") as name:
        yield name


Upgrade = Callable[..., Any]


@pytest.fixture(scope="module")
def upgrade(cluster: Cluster, images: Images, namespace: str) -> Upgrade:
    """Return a function that installs or upgrades a release; it returns what helm did and its seconds.

    It waits until no pod drains any more: when Helm is done, the last old one still does. Values are given by their
    path with `__` for dots. The release of the edge's hosts is RELEASE; others stand beside it.
    """

    def to(version: str, *options: str, check: bool = True, release: str = RELEASE, **values: Any) -> Any:
        assert version in images.tags, f"no image: name it with pytest.mark.images({version!r})"
        pairs = {
            "image.repository": IMAGE,
            "image.tag": version,
            "tests.edge.address": cluster.ingress_ip,
            **(EDGE if release == RELEASE else {}),
            **{name.replace("__", "."): value for name, value in values.items()},
        }
        words = [word for name, value in pairs.items() for word in ("--set-json", f"{name}={json.dumps(value)}")]
        started = time.monotonic()
        done = cluster.helm(
            "upgrade", "--install", release, str(CHART), "--namespace", namespace, "--wait", "--timeout", "5m",
            *options, *words, check=check,
        )  # fmt: skip
        done.seconds = time.monotonic() - started
        if done.returncode == 0:
            wait_until(f"no pod of {release} drains", lambda: not drains(cluster, namespace, release))
        return done

    return to


@pytest.fixture
def upgrade_other(cluster: Cluster, namespace: str, upgrade: Upgrade) -> Iterator[Upgrade]:
    """Return a function that installs or upgrades a release by its name; after the test it is uninstalled."""
    releases: dict[str, None] = {}

    def to(release: str, version: str, *options: str, **values: Any) -> Any:
        releases[release] = None
        return upgrade(version, *options, release=release, **values)

    yield to
    for release in releases:
        cluster.helm("uninstall", release, "--namespace", namespace, "--ignore-not-found", "--wait")


def drains(cluster: Cluster, namespace: str, release: str) -> bool:
    """Return whether a server pod of a release is on its way out."""
    selector = f"app.kubernetes.io/instance={release},app.kubernetes.io/component=server"
    pods = cluster.get("-n", namespace, "pods", "-l", selector)["items"]
    return any("deletionTimestamp" in pod["metadata"] for pod in pods)


def wait_for_pods(cluster: Cluster, namespace: str, n_pods: int, release: str = RELEASE) -> list[Json]:
    """Return the server pods once there are so many and all are ready."""

    def ready() -> list[Json]:
        pods = cluster.pods(namespace, release)
        conditions = [
            any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions", []))
            for pod in pods
        ]
        return pods if len(pods) == n_pods and all(conditions) else []

    return list(wait_until(f"{n_pods} ready pods", ready, seconds=180))


# --------------------------------------------------------------------------------------------------- edge and clients


def authority(cluster: Cluster, namespace: str, name: str = NAME) -> str:
    """Return the certificate of the authority of the release's own certificate."""
    data = cluster.get("-n", namespace, "secret", f"{name}-tls")["data"]
    return base64.b64decode(data["ca.crt"]).decode()


def request_edge(cluster: Cluster, host: str, ca: str | None, method: str, path: str, body: Any = None) -> Any:
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
    """Return once the edge serves a host."""

    def answers() -> bool:
        try:
            return bool(request_edge(cluster, host, ca, "GET", "/version").status == http.HTTPStatus.OK)
        except ssl.SSLCertVerificationError:
            return False  # the edge's default certificate, until it has read ours

    wait_until(f"{host} is served", answers)


def edge_node(cluster: Cluster) -> str:
    """Return the node that the edge is reached at."""
    for node in cluster.get("nodes")["items"]:
        if cluster.ingress_ip in [address["address"] for address in node["status"]["addresses"]]:
            return str(node["metadata"]["name"])
    raise AssertionError(f"no node has {cluster.ingress_ip}")


def other_node(cluster: Cluster) -> str:
    """Return a node that the edge is not on."""
    names = {str(node["metadata"]["name"]) for node in cluster.get("nodes")["items"]}
    return sorted(names - {edge_node(cluster)})[0]


@pytest.fixture(scope="module")
def client_pod(cluster: Cluster, images: Images, namespace: str) -> str:
    """Return a pod for clients, on the node of the edge, which no scenario drains."""
    context = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    cluster.apply(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "clients", "namespace": namespace},
            "spec": {
                "nodeName": edge_node(cluster),
                "automountServiceAccountToken": False,
                "terminationGracePeriodSeconds": 1,
                "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
                "containers": [
                    {
                        "name": "clients",
                        "image": f"{IMAGE}:v0",
                        "imagePullPolicy": "IfNotPresent",
                        "command": ["python", "-c", "import time; time.sleep(86400)"],
                        "securityContext": context,
                    }
                ],
            },
        }
    )
    cluster.kubectl("-n", namespace, "wait", "--for=condition=Ready", "pod/clients", "--timeout=120s")
    return "clients"


@pytest.fixture
def load(cluster: Cluster, images: Images, namespace: str, client_pod: str) -> Any:
    """Return a function that starts clients at the edge and in a pod, once the release is installed."""

    def start(n_keep_alive: int = N_KEEP_ALIVE, n_reconnecting: int = N_RECONNECTING, pause_seconds: float = 0) -> Any:
        both = {
            "body": images.body,
            "expected": images.expected,
            "keep_alive": n_keep_alive,
            "reconnecting": n_reconnecting,
            "pause_seconds": pause_seconds,
        }
        ca = authority(cluster, namespace)
        wait_for_edge(cluster, INGRESS_HOST, ca)
        edge = {**both, "url": f"https://{INGRESS_HOST}", "connect_to": cluster.ingress_ip, "ca": ca}
        return cluster.load(namespace, client_pod, edge, {**both, "url": f"http://{NAME}"})

    return start
