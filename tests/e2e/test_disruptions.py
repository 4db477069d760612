"""Pods, processes and nodes go away under load: what is lost is at most what was inside the process that was killed."""

import time
from typing import Any

import pytest

from tests.e2e.conftest import (
    IMAGE,
    N_KEEP_ALIVE,
    N_RECONNECTING,
    NAME,
    RELEASE,
    Upgrade,
    new_namespace,
    other_node,
    wait_for_pods,
)
from tests.support.cluster import Cluster, Json, Load, wait_until

N_CLIENTS = 2 * (N_KEEP_ALIVE + N_RECONNECTING)
KILL_SERVING_PROCESS = """
import os, signal
[child] = open("/proc/1/task/1/children").read().split()
os.kill(int(child), signal.SIGKILL)
"""
# Run with the node's process ids: number 1 cannot be killed from inside its container. Kills the "server" of a pod by
# its uid, or stops the "kubelet" of a node for so many seconds; as nobody can start anything on the node then, it is
# woken by a process that was started before.
SIGNAL_ON_NODE = """
import os, pathlib, signal, sys, time
kind, wanted, seconds = sys.argv[1:]
for process in pathlib.Path("/proc").glob("[0-9]*"):
    try:
        words = (process / "cmdline").read_bytes().decode().split(chr(0))
        cgroup = (process / "cgroup").read_text().replace("_", "-")
        status = (process / "status").read_text()
    except OSError:
        continue
    own_id = status.partition("NSpid:")[2].splitlines()[0].split()[-1]
    server = words[1:3] == ["-m", "service"] and own_id == "1" and wanted in cgroup
    named = [word for word in words if word.startswith("--hostname-override=")] or ["=" + wanted]
    kubelet = "kubelet" in [word.rpartition("/")[2] for word in words[:2]] and named[0].endswith("=" + wanted)
    if server and kind == "server":
        os.kill(int(process.name), signal.SIGKILL)
        print(process.name)
    if kubelet and kind == "kubelet":
        print(process.name, flush=True)
        if os.fork() == 0:
            os.setsid()
            for descriptor in range(3):
                os.close(descriptor)
            time.sleep(5)  # until this command has ended, which the kubelet waits for
            os.kill(int(process.name), signal.SIGSTOP)
            time.sleep(float(seconds))
            os.kill(int(process.name), signal.SIGCONT)
            os._exit(0)
        break
"""


def lost(reports: dict[str, Json]) -> int:
    """Return and print how many requests were lost."""
    for way, report in reports.items():
        print(f"{way}: {report['good']} good, {report['failed']} failed {report['failures'][:3]}")
    return sum(report["failed"] for report in reports.values())


def settle(clients: Load) -> dict[str, Json]:
    """Let the clients go on for a while after what happened, and stop them."""
    time.sleep(10)
    return clients.stop()


def test_a_killed_serving_process_loses_only_its_own_requests(
    cluster: Cluster, upgrade: Upgrade, namespace: str, load: Any
) -> None:
    """SIGKILL to Gunicorn's worker: its master keeps the port open and starts another one."""
    upgrade("v1")
    [pod, _] = wait_for_pods(cluster, namespace, 2)
    with load() as clients:
        clients.wait_for("v1")
        cluster.in_pod(namespace, pod["metadata"]["name"], KILL_SERVING_PROCESS)
        assert lost(settle(clients)) <= N_CLIENTS


def test_a_deleted_pod_loses_nothing(cluster: Cluster, upgrade: Upgrade, namespace: str, load: Any) -> None:
    """Its preStop drains it while the next one starts."""
    upgrade("v1")
    [pod, _] = wait_for_pods(cluster, namespace, 2)
    with load() as clients:
        clients.wait_for("v1")
        cluster.kubectl("-n", namespace, "delete", "pod", pod["metadata"]["name"])
        wait_for_pods(cluster, namespace, 2)
        assert lost(settle(clients)) == 0


def test_a_node_drain_loses_nothing_and_the_budget_holds(
    cluster: Cluster, upgrade: Upgrade, namespace: str, load: Any
) -> None:
    """With all pods on the drained node, they leave one by one, each once another one is ready."""
    node = other_node(cluster)
    upgrade("v1", replicaCount=3, affinity=preferring(node), topologySpreadConstraints=[])
    pods = wait_for_pods(cluster, namespace, 3)
    assert {pod["spec"]["nodeName"] for pod in pods} == {node}
    fewest = 3
    try:
        with load() as clients:
            clients.wait_for("v1")
            cluster.kubectl("cordon", node)
            # Other pods may have to stay, such as the cluster's.
            ours = ("--pod-selector", f"app.kubernetes.io/instance={RELEASE}")
            draining = cluster.kubectl_started("drain", node, "--ignore-daemonsets", "--timeout=240s", *ours)
            while draining.poll() is None:
                ready = cluster.get("-n", namespace, "deployment", NAME)["status"].get("readyReplicas", 0)
                fewest = min(fewest, ready)
                time.sleep(0.5)
            assert draining.returncode == 0
            assert lost(settle(clients)) == 0
    finally:
        cluster.kubectl("uncordon", node)
    print(f"fewest pods ready during the drain: {fewest} of 3")
    assert fewest >= 2


def preferring(node: str) -> Json:
    """Return an affinity to a node that others may take the place of."""
    terms = [{"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}]
    preference = {"weight": 100, "preference": {"matchExpressions": terms}}
    return {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [preference]}}


@pytest.fixture(scope="module")
def signal_on_node(cluster: Cluster, images: Any) -> Any:
    """Return a function that signals one process of a node, from a pod with the node's process ids."""
    with new_namespace(cluster, "nodes", "privileged") as namespace:

        def start(node: str) -> Any:
            container = {
                "name": "shell", "image": f"{IMAGE}:v0", "imagePullPolicy": "IfNotPresent",
                "command": ["python", "-c", "import time; time.sleep(86400)"],
                "securityContext": {"privileged": True, "runAsUser": 0},
            }  # fmt: skip
            spec = {"nodeName": node, "hostPID": True, "terminationGracePeriodSeconds": 1, "containers": [container]}
            metadata = {"name": node, "namespace": namespace}
            cluster.apply({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
            cluster.kubectl("-n", namespace, "wait", "--for=condition=Ready", f"pod/{node}", "--timeout=120s")

            def send(kind: str, wanted: str, seconds: float = 0) -> None:
                signalled = cluster.in_pod(namespace, node, SIGNAL_ON_NODE, kind, wanted, str(seconds)).split()
                assert len(signalled) == 1

            return send

        yield start


def test_a_killed_server_loses_what_was_inside_until_it_is_found_dead(
    cluster: Cluster, upgrade: Upgrade, namespace: str, load: Any, signal_on_node: Any
) -> None:
    """SIGKILL to Gunicorn's master, which ends the container with all that is inside.

    Until the kubelet has noticed, the Service still leads to its port, where nobody listens: requests that are sent in
    that time are refused. They never reached the server, and are counted apart.
    """
    upgrade("v1")
    [pod, _] = wait_for_pods(cluster, namespace, 2)
    send = signal_on_node(pod["spec"]["nodeName"])
    with load() as clients:
        clients.wait_for("v1")
        send("server", pod["metadata"]["uid"])
        killed = time.time()
        reports = settle(clients)
    lost(reports)
    failures = [sent for report in reports.values() for sent, _ in report["failures"]]
    inside = [sent for sent in failures if sent <= killed]
    refused = [sent - killed for sent in failures if sent > killed]
    print(f"inside: {len(inside)}; refused afterwards: {len(refused)}, for {max(refused, default=0):.1f} s")
    assert len(inside) <= N_CLIENTS
    wait_for_pods(cluster, namespace, 2)
    with load() as clients:
        clients.wait_for("v1")
        assert lost(clients.stop()) == 0


def test_a_lost_kubelet_loses_nothing(
    cluster: Cluster, upgrade: Upgrade, namespace: str, load: Any, signal_on_node: Any
) -> None:
    """The node is taken for dead and its pods out of the endpoints, while they still answer."""
    upgrade("v1")
    node = other_node(cluster)
    send = signal_on_node(node)
    with load() as clients:
        clients.wait_for("v1")
        send("kubelet", node, seconds=75)
        wait_until("the node is not ready", lambda: not is_ready(cluster, node), seconds=90)
        wait_until("the node is ready", lambda: is_ready(cluster, node), seconds=120)
        assert lost(settle(clients)) == 0


def is_ready(cluster: Cluster, node: str) -> bool:
    """Say whether a node is ready."""
    conditions = cluster.get("node", node)["status"]["conditions"]
    return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)
