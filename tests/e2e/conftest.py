"""What every scenario starts from: a cluster, images of models that differ, a release and a pod for clients."""

import base64
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from service.artifact import manifest as manifest_format
from service.artifact import writer
from tests.support.cluster import CHART, Cluster, Json, cluster_command, run, wait_until

NAMESPACE = "bakehouse-e2e"
RELEASE = "house"
NAME = "house-bakehouse"
IMAGE = "bakehouse-e2e"
INGRESS_HOST = "house.example.com"
GATEWAY_HOST = "house-gateway.example.com"
VERSIONS = [f"v{number}" for number in range(int(os.environ.get("E2E_ROLLOUTS", "10")) + 1)]
N_KEEP_ALIVE, N_RECONNECTING = 16, 4

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
# Passes every check, and ends as soon as it is to serve.
CRASHING = """
FROM {image}
ENTRYPOINT ["python", "-c", "import runpy, sys; sys.argv[1:] or exit(9); runpy.run_module('service', None, '__main__')"]
"""


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """Return a cluster; it is removed afterwards unless E2E_KEEP is set."""
    yield Cluster(cluster_command())
    if not os.environ.get("E2E_KEEP"):
        run(cluster_command(), "down")


@dataclass(frozen=True)
class Images:
    """Images that the nodes have, all of one repository.

    Args:
        body: A request that all models take, but the one with another contract.
        expected: What each version answers to it.
    """

    body: Json
    expected: dict[str, Json]


@pytest.fixture(scope="session")
def images(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Images:
    """Return images of models that differ, and of four that must never serve."""
    directory = tmp_path_factory.mktemp("models")
    directory.chmod(0o777)
    run("make", "image", f"IMAGE={IMAGE}", "TAG=e2e")
    run("docker", "build", "--target", "runtime", "--tag", f"{IMAGE}-runtime:e2e", ".")

    def bake(version: str, code: str, *options: str) -> None:
        (directory / f"{version}.py").write_text(code)
        run("docker", "run", "--rm", "--user", f"{os.getuid()}:{os.getgid()}", "--volume", f"{directory}:/models",
            f"{IMAGE}-train:e2e", "bake", f"/models/{version}.py", "--output", f"/models/{version}",
            "--model-version", version, "--source-commit", "e2e", *options)  # fmt: skip

    sources = {version: MODEL.format(alpha=10.0**number) for number, version in enumerate(VERSIONS)}
    with ThreadPoolExecutor(2) as pool:
        list(
            pool.map(bake, *zip(*{**sources, "crash": sources["v1"], "contract": OTHER_CONTRACT}.items(), strict=True))
        )
    bake("kinds", KINDS, "--engine", "scikit-learn")
    expected = {version: _golden(directory / version)["response"] for version in VERSIONS}
    assert len({json.dumps(answer) for answer in expected.values()}) == len(VERSIONS)
    _break(directory)
    with ThreadPoolExecutor(1) as loader:  # which takes longer than to build the next one
        loaded = []
        for tag in (*VERSIONS, "kinds", "contract", "corrupt", "wrong", "crash"):
            _put_into_image(directory / tag, tag)
            if tag == "crash":
                run("docker", "build", "--tag", f"{IMAGE}:crash", "-", given=CRASHING.format(image=f"{IMAGE}:crash"))
            loaded.append(loader.submit(cluster.load_images, f"{IMAGE}:{tag}"))
        for each in loaded:
            each.result()
    return Images(_golden(directory / "v0")["request"], expected)


def _golden(directory: Path) -> Json:
    return dict(json.loads((directory / manifest_format.GOLDEN).read_text().splitlines()[0]))


def _put_into_image(directory: Path, version: str) -> None:
    """Put an artifact into the serving image, in the two lines that the README shows."""
    lines = f"FROM {IMAGE}-runtime:e2e\nCOPY . /srv/artifact\n"
    run("docker", "build", "--file", "-", "--tag", f"{IMAGE}:{version}", str(directory), given=lines)


def _break(directory: Path) -> None:
    """Make an artifact with a flipped bit, and one that is whole but answers other than it was proved to."""
    shutil.copytree(directory / "v1", directory / "corrupt")
    model = directory / "corrupt" / manifest_format.MODEL
    content = bytearray(model.read_bytes())
    content[len(content) // 2] ^= 1
    model.write_bytes(content)
    manifest = dict(manifest_format.read_manifest(directory / "v1"))
    files = {name: (directory / "v1" / name).read_bytes() for name in manifest.pop("files")}
    lines = [json.loads(line) for line in files[manifest_format.GOLDEN].splitlines()]
    lines[0]["response"]["y_pred"][0] += 1000.0
    files[manifest_format.GOLDEN] = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
    writer.write(directory / "wrong", {**manifest, "version": "wrong"}, files, accept=lambda _: None)


@pytest.fixture(scope="session")
def namespace(cluster: Cluster) -> Iterator[str]:
    """Return a namespace in which only restricted pods may run."""
    restricted = {"pod-security.kubernetes.io/enforce": "restricted"}
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": restricted}})
    yield NAMESPACE
    cluster.kubectl("delete", "namespace", NAMESPACE, "--wait=false")


Upgrade = Callable[..., Any]


def values_of(version: str, **values: Any) -> list[str]:
    """Return the arguments of helm for a release of a model version, with values as JSON by their paths."""
    own = {
        "image.repository": IMAGE,
        "image.tag": version,
        "ingress.enabled": True,
        "ingress.hosts": [INGRESS_HOST],
        "gateway.enabled": True,
        "gateway.hostnames": [GATEWAY_HOST],
        "gateway.create.kind": "Gateway",
        "gateway.create.className": "traefik",
        "tls.mode": "selfSigned",
    }
    pairs = {**own, **{name.replace("__", "."): value for name, value in values.items()}}
    return [word for name, value in pairs.items() for word in ("--set-json", f"{name}={json.dumps(value)}")]


@pytest.fixture(scope="session")
def upgrade(cluster: Cluster, images: Images, namespace: str) -> Upgrade:
    """Return a function that installs or upgrades the release and waits; it returns what helm did and its seconds."""

    def to(version: str, *options: str, check: bool = True, release: str = RELEASE, **values: Any) -> Any:
        started = time.monotonic()
        done = cluster.helm(
            "upgrade", "--install", release, str(CHART), "--namespace", namespace, "--wait", "--timeout", "5m",
            *options, *values_of(version, **{"tests__edge__address": cluster.ingress_ip, **values}), check=check,
        )  # fmt: skip
        done.seconds = time.monotonic() - started
        return done

    return to


@pytest.fixture(scope="session")
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


@pytest.fixture
def load(cluster: Cluster, images: Images, namespace: str, client_pod: str, upgrade: Upgrade) -> Any:
    """Return a function that starts the clients of both ways, once a release is there."""

    def start(n_keep_alive: int = N_KEEP_ALIVE, n_reconnecting: int = N_RECONNECTING, pause_seconds: float = 0) -> Any:
        both = {
            "body": images.body,
            "expected": images.expected,
            "keep_alive": n_keep_alive,
            "reconnecting": n_reconnecting,
            "pause_seconds": pause_seconds,
        }
        ca = authority(cluster, namespace)
        edge = {**both, "url": f"https://{INGRESS_HOST}", "connect_to": cluster.ingress_ip, "ca": ca}
        return cluster.load(namespace, client_pod, edge, {**both, "url": f"http://{NAME}"})

    return start


def authority(cluster: Cluster, namespace: str, name: str = NAME) -> str:
    """Return the certificate of the authority of the release's own certificate."""
    data = cluster.get("-n", namespace, "secret", f"{name}-tls")["data"]
    return base64.b64decode(data["ca.crt"]).decode()


def wait_until_alone(cluster: Cluster, namespace: str, version: str) -> None:
    """Return once no pod of another version is left; when Helm says done, the last one still drains."""
    others = ("-n", namespace, "pods", "-l", f"app.kubernetes.io/component=server,app.kubernetes.io/version!={version}")
    wait_until(f"the pods of other versions than {version} are gone", lambda: not cluster.get(*others)["items"])


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
