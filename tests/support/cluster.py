"""A real cluster through the verbs of $CLUSTER (up, env, load, monitoring, down), and what the tests do on it."""

import json
import os
import shlex
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tests.support.waiting import wait_until
from tools import ROOT

CHART = ROOT / "helm/bakehouse"
CLIENTS = (ROOT / "tests/e2e/clients.py").read_text()
MINUTE = 60

Json = dict[str, Any]


def run(
    *command: str, environ: Mapping[str, str] | None = None, check: bool = True, given: str | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end.

    Raises:
        AssertionError: If it fails and that matters; shows all that it printed.
    """
    done = subprocess.run(
        command, env=environ, input=given, capture_output=True, text=True, timeout=20 * MINUTE, check=False, cwd=ROOT
    )
    assert not check or done.returncode == 0, f"{shlex.join(command)}:\n{done.stdout}{done.stderr}"
    return done


class Running:
    """Clients that run, tests/e2e/clients.py.

    Args:
        configuration: What they are to do.
        place: The words before a command that has it run where they are, such as those of kubectl exec.
        environ: The environment of these words.
    """

    def __init__(self, configuration: Json, place: tuple[str, ...] = (), environ: Mapping[str, str] | None = None):
        self.place, self.environ = place, environ
        self.socket = f"/tmp/clients-{uuid.uuid4()}"  # noqa: S108  as a pod has no folder of its own to offer
        self.last: Json = {}
        self.stopped = False
        self._clients("start", self.socket, json.dumps(configuration))

    def _clients(self, *arguments: str) -> str:
        python = "python" if self.place else sys.executable
        return run(*self.place, python, "-c", CLIENTS, *arguments, environ=self.environ).stdout

    def __enter__(self) -> "Running":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def report(self) -> Json:
        """Return what they count so far."""
        self.last = json.loads(self._clients("report", self.socket))
        return self.last

    def stop(self) -> Json:
        """Stop them, if they were not, and return what they counted."""
        if not self.stopped:
            self.last = json.loads(self._clients("stop", self.socket))
            self.stopped = True
        return self.last


@dataclass
class Load:
    """Clients at the edge and, from a pod, straight at the Service."""

    edge: Running
    direct: Running

    def reports(self) -> dict[str, Json]:
        """Return what both count so far."""
        return {"edge": self.edge.report(), "direct": self.direct.report()}

    def stop(self) -> dict[str, Json]:
        """Stop both and return what they counted."""
        return {"edge": self.edge.stop(), "direct": self.direct.stop()}

    def wait_for(self, version: str, n_answers: int = 200) -> None:
        """Return once clients on both ways were answered so often by a model version."""
        for clients in (self.edge, self.direct):
            wait_until(
                f"{n_answers} answers of {version}",
                lambda clients=clients: clients.report()["answers"].get(version, 0) >= n_answers,
            )


class Cluster:
    """A cluster that is up.

    Args:
        command: What has the verbs.
    """

    def __init__(self, command: str) -> None:
        self.command = command
        run(command, "up")
        self.environ = self._environ()
        self.ingress_ip = self.environ["INGRESS_IP"]

    def _environ(self) -> dict[str, str]:
        exported = run("bash", "-c", f'eval "$({shlex.quote(self.command)} env)" && env -0').stdout
        return dict(pair.split("=", 1) for pair in exported.split("\0") if pair)

    def load_images(self, *images: str) -> None:
        """Copy images of the local engine to the nodes, in one archive: layers that they share are copied once."""
        with tempfile.TemporaryDirectory() as folder:
            archive = f"{folder}/images.tar"
            run("docker", "save", "--output", archive, *images)
            run(self.command, "load", archive)

    def monitoring(self) -> str:
        """Add a Prometheus that reads every monitor, and return its address."""
        run(self.command, "monitoring")
        self.environ = self._environ()
        return self.environ["PROMETHEUS_URL"]

    def kubectl(self, *arguments: str, given: str | None = None, check: bool = True) -> str:
        """Run kubectl and return what it prints."""
        return run("kubectl", *arguments, environ=self.environ, check=check, given=given).stdout

    def kubectl_started(self, *arguments: str) -> subprocess.Popen[str]:
        """Start kubectl and return its process."""
        return subprocess.Popen(["kubectl", *arguments], env=self.environ, stdout=subprocess.DEVNULL, text=True)

    def get(self, *arguments: str) -> Json:
        """Return what kubectl get prints as JSON."""
        return dict(json.loads(self.kubectl("get", *arguments, "-o", "json")))

    def apply(self, *objects: Json) -> None:
        """Apply objects."""
        self.kubectl("apply", "-f", "-", given=json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))

    def helm(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run helm."""
        return run("helm", *arguments, environ=self.environ, check=check)

    def in_pod(self, namespace: str, pod: str, code: str, *arguments: str) -> str:
        """Run Python code in a pod and return what it prints."""
        return self.kubectl("-n", namespace, "exec", pod, "--", "python", "-c", code, *arguments)

    def pods(self, namespace: str, release: str) -> list[Json]:
        """Return the server pods of a release that are not on their way out."""
        selector = f"app.kubernetes.io/instance={release},app.kubernetes.io/component=server"
        items = self.get("-n", namespace, "pods", "-l", selector)["items"]
        return [pod for pod in items if "deletionTimestamp" not in pod["metadata"]]

    @contextmanager
    def load(self, namespace: str, pod: str, edge: Json, direct: Json) -> Iterator[Load]:
        """Have clients on this machine and in a pod predict without pause; each answers before this returns."""
        in_pod = ("kubectl", "-n", namespace, "exec", pod, "--")
        with Running(edge) as at_edge, Running(direct, in_pod, self.environ) as at_service:
            yield Load(at_edge, at_service)


def cluster_command() -> str:
    """Return the command with the cluster's verbs."""
    return os.environ.get("CLUSTER", str(ROOT / "tests/e2e/cluster"))
