"""A release seen from outside, by a real Prometheus: panels, drift, feedback and alerts."""

import contextlib
import http.client
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from tests.e2e.conftest import IMAGE, RELEASE, Images, Upgrade, wait_for_pods
from tests.support.cluster import CHART, Cluster, Json, Running, wait_until
from tools.bench.client import WrongAnswerError, require_wrk, wrk
from tools.bench.models import JSON, Request
from tools.dashboards import texts
from tools.panels import Prometheus, query
from training.models import house_prices

HOUSES, KINDS = "houses", "kinds"  # a regression, which is rolled out anew, and a classifier, served in batches
HOST_OF = {HOUSES: "houses.example.com", KINDS: "kinds.example.com"}
N_PODS = 2
CONFIGURED_SECONDS = 300  # a kubelet may take two minutes to bring a Prometheus its new configuration
MONITORED = {
    "metrics.monitor.kind": "ServiceMonitor",
    "metrics.monitor.interval": "2s",
    "metrics.rules.enabled": True,
    "metrics.rules.drift.window": "1m",  # so that what a scenario sends is not outweighed by those before it
    "metrics.dashboards.enabled": True,
    "gateway.enabled": True,
    "gateway.create.kind": "Gateway",
    "gateway.create.className": "traefik",
}
PLACE = f'release=~"{HOUSES}|{KINDS}"'
USUAL = [[1500, 3]]
N_ROWS = 32  # of a request that are counted for drift
AREAS = house_prices.load()[0].sort_values("area")
TYPICAL = AREAS.iloc[(np.arange(N_ROWS) + 0.5) * len(AREAS) // N_ROWS].to_numpy(dtype=float).tolist()
SHIFTED = [[area * 10, age] for area, age in TYPICAL]  # no house that was sold then is so large
ERROR = 1000.0  # dollars by which the true prices differ from the predicted ones
LITTLE_PSI, SERIOUS_PSI = 0.1, 0.25
OF_CATEGORIES = "bakehouse:feature_unknown_ratio"  # which neither release has
# What begins to be looked at in the scenario's rollout, and does not fire: two versions, and always the same house.
OF_ROLLOUTS = {"BakehouseVersionSkew", "BakehouseFeatureDrift", "BakehousePredictionDrift"}
# One request at a time and one that waits: a release that cannot serve what it served before.
STARVED = {
    "settings.threads": 1,
    "settings.maxQueued": 1,
    "resources": {"requests": {"cpu": "50m", "memory": "128Mi"}, "limits": {"cpu": "200m", "memory": "512Mi"}},
}


@pytest.fixture(scope="module")
def prometheus(cluster: Cluster) -> str:
    """Return the address of a Prometheus that reads every monitor."""
    return cluster.monitoring()


@pytest.mark.parametrize("kind", ["ServiceMonitor", "PodMonitor"])
def test_prometheus_scrapes_every_pod(
    cluster: Cluster, upgrade: Upgrade, namespace: str, prometheus: str, kind: str
) -> None:
    """Every pod is a target that is up, says which model version it serves, and of which release it is."""
    upgrade("v1", metrics__monitor__kind=kind, metrics__monitor__interval="2s")
    names = {pod["metadata"]["name"] for pod in wait_for_pods(cluster, namespace, N_PODS)}
    info = f'bakehouse_model_info{{namespace="{namespace}", release="{RELEASE}", version="v1"}} == 1'

    def scraped() -> bool:
        return {each["metric"]["pod"] for each in query(prometheus, info)} == names

    wait_until("both pods are scraped", scraped, CONFIGURED_SECONDS)


@dataclass(frozen=True)
class Watched:
    """Two releases beside a Prometheus.

    Args:
        cluster: Where they are.
        namespace: Where they are in it.
        prometheus: Its address.
    """

    cluster: Cluster
    namespace: str
    prometheus: str

    def query(self, expression: str) -> list[Json]:
        """Return the series of an instant query now."""
        return query(self.prometheus, expression)

    def value(self, expression: str) -> float:
        """Return the one value of an instant query, or NaN where there is none."""
        found = self.query(expression)
        return float(found[0]["value"][1]) if len(found) == 1 else float("nan")

    def alerts(self, seconds: float, state: str = "firing") -> set[str]:
        """Return the alerts of the releases that fired at any time of the last seconds, or had another state."""
        fired = f'max by (alertname) (max_over_time(ALERTS{{alertstate=~"{state}", {PLACE}}}[{max(5, int(seconds))}s]))'
        return {each["metric"]["alertname"] for each in self.query(fired)}

    def empty_panels(self, board: Json) -> tuple[list[str], int]:
        """Return the queries of a dashboard that lack an answer for both releases, and how many there are."""
        asked = Prometheus(self.prometheus, seconds=600, rate_interval="30s")
        of_both = [asked.answers(board, {"namespace": self.namespace, "release": release}) for release in HOST_OF]
        empty = [
            f"{one.query.panel}: {one.query.expr}"
            for one, other in zip(*of_both, strict=True)
            if not (one.series or other.series or OF_CATEGORIES in one.query.expr)
        ]
        return empty, len(of_both[0])

    def release(self, name: str, version: str, **values: Any) -> None:
        """Install or upgrade one of them, and wait until its pods alone serve."""
        pairs = {
            **MONITORED,
            "image.repository": IMAGE,
            "image.tag": version,
            "gateway.hostnames": [HOST_OF[name]],
            "replicaCount": N_PODS if name == HOUSES else 1,
            "backendTLS.enabled": name == HOUSES,
            **{key.replace("__", "."): value for key, value in values.items()},
        }
        words = [word for key, value in pairs.items() for word in ("--set-json", f"{key}={json.dumps(value)}")]
        place = ("--namespace", self.namespace, "--wait", "--timeout", "5m")
        self.cluster.helm("upgrade", "--install", name, str(CHART), *place, *words)
        selector = f"app.kubernetes.io/instance={name},app.kubernetes.io/component=server"
        others = ("-n", self.namespace, "pods", "-l", f"{selector},app.kubernetes.io/version!={version}")
        wait_until("the pods of other versions are gone", lambda: not self.cluster.get(*others)["items"])

    def send(self, release: str, path: str, document: Any, **headers: str) -> tuple[int, bytes]:
        """Send one request to the edge, and return status and body."""
        connection = http.client.HTTPConnection(self.cluster.ingress_ip, timeout=30)
        with contextlib.closing(connection):
            fixed = {"Host": HOST_OF[release], "Content-Type": JSON}
            given = {key.replace("_", "-"): value for key, value in headers.items()}
            connection.request("POST", path, json.dumps(document), {**fixed, **given})
            answer = connection.getresponse()
            return answer.status, answer.read()

    def clients(self, images: Images) -> Running:
        """Return clients that ask for the price of a house at the edge, without pause."""
        return Running(
            {
                "url": f"http://{HOST_OF[HOUSES]}",
                "connect_to": self.cluster.ingress_ip,
                "body": images.body,
                "expected": images.expected,
                "keep_alive": 8,
                "reconnecting": 2,
                "pause_seconds": 0.01,
            }
        )

    def load(self, release: str, rows: list[list[float]], connections: int = 8, seconds: int = 15) -> int:
        """Send rows without pause with the bench's client, and return how many requests were answered or refused."""
        status, expected = self.send(release, "/predict", {"X": rows})
        assert status == http.client.OK, expected
        request = Request(json.dumps({"X": rows}).encode(), JSON, [])
        load = wrk(80, request, expected, connections, seconds, self.cluster.ingress_ip, HOST_OF[release])
        return load.answered + load.refused


@pytest.fixture(scope="module")
def watched(cluster: Cluster, images: Images, namespace: str, prometheus: str) -> Iterator[Watched]:
    """Return two releases that are installed with all that the chart has for monitoring."""
    require_wrk()
    both = Watched(cluster, namespace, prometheus)
    both.release(HOUSES, "v0")
    both.release(KINDS, "kinds")
    for name in HOST_OF:
        wait_until(f"the edge serves {name}", lambda name=name: both.send(name, "/predict", {"X": USUAL})[0] == 200)
    yield both
    for name in HOST_OF:
        cluster.helm("uninstall", name, "--namespace", namespace, "--wait")


def test_a_healthy_rollout_under_load_raises_no_alert(watched: Watched, images: Images) -> None:
    """Nobody is woken by what is as it should be: no request fails, and no alert fires."""
    n_pods = f"count(bakehouse_model_info{{{PLACE}}})"
    wait_until("all pods are scraped", lambda: watched.value(n_pods) == N_PODS + 1, CONFIGURED_SECONDS)
    time.sleep(10)  # two turns of the rules
    started = time.monotonic()
    with watched.clients(images) as running:
        wait_until("200 answers of v0", lambda: running.report()["answers"].get("v0", 0) >= 200)
        watched.release(HOUSES, "v1")
        wait_until("200 answers of v1", lambda: running.report()["answers"].get("v1", 0) >= 200)
        time.sleep(30)  # as long as the rules need to see the whole of it
        report = running.stop()
    print(f"\n{report['good']} good, {report['failed']} failed; {report['answers']}")
    assert report["failures"] == []
    assert watched.alerts(time.monotonic() - started, "pending|firing") <= OF_ROLLOUTS
    versions = watched.query(f'count by (version) (max_over_time(bakehouse_model_info{{release="{HOUSES}"}}[5m]))')
    assert {each["metric"]["version"] for each in versions} == {"v0", "v1"}


def test_feedback_shows_in_the_error_metric(watched: Watched) -> None:
    """The true prices are a thousand dollars above the predicted ones, and so the recorded errors say."""

    def tell(number: int) -> int:
        """Return how often the truth was sent until it reached the pod that had predicted."""
        identifier = f"house-{number}"
        status, body = watched.send(HOUSES, "/predict", {"X": USUAL}, X_Request_ID=identifier)
        assert status == http.client.OK, body
        truth = [value + ERROR for value in json.loads(body)["y_pred"]]
        for times in range(1, 20):  # each time it goes to another pod
            status, body = watched.send(HOUSES, "/feedback", {"request_id": identifier, "y_true": truth})
            if status == http.client.OK:
                return times
            assert status == http.client.NOT_FOUND, body
        raise AssertionError(f"no pod remembers {identifier}")

    times = [tell(number) for number in range(100)]
    print(f"\n100 truths were sent {sum(times)} times until they reached the pod that had predicted")
    for number in range(20):
        watched.send(KINDS, "/predict", {"X": USUAL}, X_Request_ID=f"kind-{number}")
        status, body = watched.send(KINDS, "/feedback", {"request_id": f"kind-{number}", "y_true": ["dear"]})
        assert status == http.client.OK, body
    place = f'{{release="{HOUSES}", version="v1"}}'
    error = f"bakehouse:feedback_mean_absolute_error{place}"
    wait_until("the error is recorded", lambda: abs(watched.value(error) - ERROR) < 1)
    assert watched.value(f"bakehouse:feedback_bias{place}") == pytest.approx(-ERROR, rel=1e-3)


def test_every_panel_has_data(watched: Watched, images: Images) -> None:
    """All queries of all dashboards return something after a load run, for one of the two releases at least."""
    for name in HOST_OF:
        print(f"\n{name}: {watched.load(name, TYPICAL)} requests", end="")
        watched.load(name, TYPICAL * 10, seconds=5)  # too long to be answered by the polling thread
        watched.send(name, "/predict", {"X": [["1500", 3]]})
        watched.cluster.helm("test", name, "--namespace", watched.namespace, "--timeout", "3m")
    with watched.clients(images):
        time.sleep(30)  # rates need some scrapes, recorded rules some turns
        for name, text in texts().items():
            empty, n_queries = watched.empty_panels(json.loads(text))
            print(f"\n{name}: {n_queries} queries for each release", end="")
            assert empty == [], name


def test_drift_shows_within_a_minute(watched: Watched) -> None:
    """Houses far larger than those of the training show in the recorded PSI of the area; typical ones do not."""
    psi = f'bakehouse:feature_drift_psi{{release="{HOUSES}", version="v1", feature="area"}}'

    def typical() -> bool:
        watched.load(HOUSES, TYPICAL, seconds=10)
        return watched.value(psi) < LITTLE_PSI

    wait_until("typical houses are no drift", typical, seconds=180)
    before, started = watched.value(psi), time.monotonic()
    n_requests = watched.load(HOUSES, SHIFTED, seconds=20)
    wait_until("the drift is recorded", lambda: watched.value(psi) > SERIOUS_PSI, seconds=40, pause=1)
    took = time.monotonic() - started
    print(f"\n{n_requests} requests; PSI of area {before:.3f}, then {watched.value(psi):.3f}, after {took:.0f} s")
    assert watched.value(psi.replace("drift_psi", "outside_ratio")) > 0
    assert took < 60


def test_a_release_made_to_fail_fires_the_alert(watched: Watched) -> None:
    """A release that refuses what its users send wakes somebody, in minutes."""
    watched.release(HOUSES, "v1", **STARVED)
    started = time.monotonic()

    def fired() -> set[str]:
        with contextlib.suppress(AssertionError, WrongAnswerError):  # it fails its users in more ways than one
            watched.load(HOUSES, TYPICAL * 30, connections=64, seconds=10)
        return {"BakehouseErrorBudgetBurn"} & watched.alerts(time.monotonic() - started)

    wait_until("the alert fires", fired, seconds=600)
    seconds = time.monotonic() - started
    print(f"\nfired {seconds:.0f} s after the release: {watched.alerts(seconds)}")
    burning = watched.query(f'ALERTS{{alertname="BakehouseErrorBudgetBurn", alertstate="firing", {PLACE}}}')
    assert {(each["metric"]["severity"], each["metric"]["release"]) for each in burning} == {("page", HOUSES)}
