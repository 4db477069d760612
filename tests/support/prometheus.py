"""A real Prometheus as a process of its own, which scrapes servers of this machine as if they were a release's pods."""

import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from tests.support.promtool import program
from tools.local_http import free_port

NAMESPACE = "models"
START_TIMEOUT_SECONDS = 60


class Pod(NamedTuple):
    """A server that stands for a pod of a release, scraped at its health port."""

    release: str
    name: str
    health_port: int


def prometheus_command() -> str:
    """Return the path of prometheus, as program does."""
    return program("prometheus")


class RunningPrometheus:
    """A Prometheus that was started.

    Args:
        command: Its path.
        directory: Where its files are kept.
        pods: What to scrape, every second.
        rules: Groups of rules, which are evaluated every second whatever they say.
    """

    def __init__(self, command: str, directory: Path, pods: Iterable[Pod], rules: Sequence[Mapping[str, Any]]) -> None:
        self.url = f"http://127.0.0.1:{free_port()}"
        self._log = directory / "prometheus.log"
        # The labels that a monitor of the chart gives.
        targets = [
            {
                "targets": [f"127.0.0.1:{pod.health_port}"],
                "labels": {"namespace": NAMESPACE, "release": pod.release, "pod": pod.name},
            }
            for pod in pods
        ]
        groups = [{**group, "interval": "1s"} for group in rules]
        (directory / "rules.yaml").write_text(yaml.safe_dump({"groups": groups}))
        (directory / "prometheus.yaml").write_text(
            yaml.safe_dump(
                {
                    "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
                    "rule_files": ["rules.yaml"],
                    "scrape_configs": [{"job_name": "pods", "static_configs": targets}],
                }
            )
        )
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [
                    command,
                    f"--config.file={directory / 'prometheus.yaml'}",
                    f"--storage.tsdb.path={directory / 'data'}",
                    f"--web.listen-address={self.url.removeprefix('http://')}",
                ],
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def wait_until_ready(self) -> "RunningPrometheus":
        """Return once it answers.

        Raises:
            RuntimeError: If it ends, or takes too long.
        """
        deadline = time.monotonic() + START_TIMEOUT_SECONDS
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                with urllib.request.urlopen(f"{self.url}/-/ready", timeout=5):
                    return self
            except (urllib.error.URLError, OSError):
                time.sleep(0.05)
        raise RuntimeError(f"Prometheus is not ready: {self._log.read_text()}")

    def stop(self) -> None:
        """End it."""
        self.process.kill()
        self.process.wait(timeout=30)
