"""k8s/ without Helm: the rendered manifests serve, and the training Job's result becomes the next image."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cluster import Cluster, run, wait_until

NAMESPACE = "bakehouse"  # of k8s/namespace.yaml
NODE_FOLDER = "/var/tmp/bakehouse-e2e"  # noqa: S108 - on a node of a throw-away cluster
GET_VERSION = "import urllib.request as r; print(r.urlopen('http://house-bakehouse/version').read().decode())"


@pytest.fixture(scope="module")
def applied(cluster: Cluster) -> Iterator[Cluster]:
    """Return a cluster to which k8s/ was applied, with the image that it names."""
    run("make", "image", "IMAGE=bakehouse", "TAG=v1")
    cluster.load_images("bakehouse:v1", "bakehouse-train:v1")
    cluster.kubectl("delete", "-k", "k8s/", "--ignore-not-found")  # of a run that was interrupted, or still goes away
    cluster.kubectl("apply", "-k", "k8s/")
    yield cluster
    cluster.kubectl("delete", "-k", "k8s/", "--wait=false")


def test_the_manifests_serve_without_helm(applied: Cluster) -> None:
    """They can be applied, twice as well, and the pods that they make predict."""
    applied.kubectl("-n", NAMESPACE, "rollout", "status", "deployment/house-bakehouse", "--timeout=180s")
    assert "deployment.apps/house-bakehouse unchanged" in applied.kubectl("apply", "-k", "k8s/")
    [pod, _] = applied.pods(NAMESPACE, "house")
    own = GET_VERSION.replace("house-bakehouse", "127.0.0.1:8080")
    assert json.loads(applied.in_pod(NAMESPACE, pod["metadata"]["name"], own))["model"]["version"] == "v1"


@pytest.fixture
def volume(cluster: Cluster) -> Iterator[None]:
    """Provide the volume that the training Job claims, where the cluster has no storage class of its own."""
    if cluster.get("storageclasses")["items"]:
        yield
        return
    node = str(cluster.get("nodes")["items"][0]["metadata"]["name"])
    on_node(cluster, node, "import os; os.makedirs('/node/train'); os.chmod('/node/train', 0o777)")
    expression = {"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}
    spec = {
        "capacity": {"storage": "1Gi"},
        "accessModes": ["ReadWriteOnce"],
        "persistentVolumeReclaimPolicy": "Retain",
        "local": {"path": f"{NODE_FOLDER}/train"},
        "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}},
    }
    cluster.kubectl("delete", "persistentvolume", "train", "--ignore-not-found")
    cluster.apply({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "train"}, "spec": spec})
    yield
    cluster.kubectl("delete", "persistentvolume", "train")
    on_node(cluster, node, "import shutil; shutil.rmtree('/node/train')")


def on_node(cluster: Cluster, node: str, code: str) -> None:
    """Run Python code on a node, as root, with a folder of the node's at /node."""
    metadata = {"name": "on-node", "namespace": "default"}
    container = {
        "name": "shell", "image": "bakehouse:v1", "imagePullPolicy": "IfNotPresent", "command": ["python", "-c", code],
        "securityContext": {"runAsUser": 0}, "volumeMounts": [{"name": "node", "mountPath": "/node"}],
    }  # fmt: skip
    folder = {"name": "node", "hostPath": {"path": NODE_FOLDER, "type": "DirectoryOrCreate"}}
    spec = {"nodeName": node, "restartPolicy": "Never", "containers": [container], "volumes": [folder]}
    cluster.apply({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
    cluster.kubectl("wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/on-node", "--timeout=60s")
    cluster.kubectl("delete", "pod", "on-node")


def test_what_the_training_job_wrote_becomes_the_next_image(applied: Cluster, volume: None, tmp_path: Path) -> None:
    """As the comment of k8s/training/job.yaml says."""
    applied.kubectl("apply", "-k", "k8s/training")
    try:
        applied.kubectl(
            "-n", NAMESPACE, "wait", "--for=create", "pod", "-l", "job-name=train", "--timeout=60s"
        )  # kubectl wait finds nothing to wait for until the Job has made its pod
        applied.kubectl(
            "-n", NAMESPACE, "wait", "--for=condition=Ready", "--timeout=180s", "pod", "-l", "job-name=train"
        )
        pod = applied.kubectl("-n", NAMESPACE, "get", "pod", "-l", "job-name=train", "-o", "name").strip()
        name = pod.removeprefix("pod/")
        artifact = tmp_path / "artifact"
        applied.kubectl("-n", NAMESPACE, "cp", f"{name}:/output/artifact", str(artifact))
    finally:
        applied.kubectl("delete", "-k", "k8s/training", "--wait=true")
        wait_until(
            "the Job's pod is gone", lambda: not applied.get("-n", NAMESPACE, "pods", "-l", "job-name=train")["items"]
        )
    run("docker", "build", "--target", "runtime", "--tag", "bakehouse-runtime", ".")
    lines = "FROM bakehouse-runtime\nCOPY . /srv/artifact\n"
    run("docker", "build", "--file", "-", "--tag", "bakehouse:v2", str(artifact), given=lines)
    said = run("docker", "run", "--rm", "bakehouse:v2", "check", "--version", "v2").stdout
    assert said.startswith("house_prices v2: digest, versions and 3 golden requests match")
