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

from tests.e2e.conftest import Images, Upgrade, wait_for_pods
from tests.support.cluster import Cluster, Json, Running, wait_until
from tools.bench.client import WrongAnswerError, require_wrk, wrk
from tools.bench.models import JSON, Request
from tools.dashboards import texts
from tools.panels import Prometheus, query
from training.models import house_prices

pytestmark = pytest.mark.images("kinds")

HOUSES, KINDS = "houses", "kinds"  # a regression, and a classifier that is served in batches
MONITOR_OF = {HOUSES: "ServiceMonitor", KINDS: "PodMonitor"}
VERSION_OF = {HOUSES: "v1", KINDS: "kinds"}  # after the rollout of HOUSES from v0
STARVED = "starved"  # another regression, which cannot serve what its users send
N_PODS = 2
CONFIGURED_SECONDS = 300  # a kubelet may take two minutes to bring a Prometheus its new configuration
MONITORED = {
    "metrics__monitor__kind": "ServiceMonitor",
    "metrics__monitor__interval": "2s",
    "metrics__rules__enabled": True,
    "metrics__rules__drift__window": "1m",  # so that what a test sends is not outweighed by what was sent before
    "metrics__dashboards__enabled": True,
    "gateway__enabled": True,
    "gateway__create__kind": "Gateway",
    "gateway__create__className": "traefik",
}
# One request at a time, and one that waits.
STARVING = {
    "replicaCount": 1,
    "settings__threads": 1,
    "settings__maxQueued": 1,
    "resources": {"requests": {"cpu": "50m", "memory": "128Mi"}, "limits": {"cpu": "200m", "memory": "512Mi"}},
}
USUAL = [[1500, 3]]
N_ROWS = 32  # of a request that are counted for drift
AREAS = house_prices.load()[0].sort_values("area")
TYPICAL = AREAS.iloc[(np.arange(N_ROWS) + 0.5) * len(AREAS) // N_ROWS].to_numpy(dtype=float).tolist()
SHIFTED = [[area * 10, age] for area, age in TYPICAL]  # no house that was sold then is so large
ERROR = 1000.0  # dollars by which the true prices differ from the predicted ones
LITTLE_PSI, SERIOUS_PSI = 0.1, 0.25
OF_CATEGORIES = "bakehouse:feature_unknown_ratio"  # which neither release has
# What becomes pending in the rollout, and does not fire: two versions, and always the same house.
OF_ROLLOUTS = {"BakehouseVersionSkew", "BakehouseFeatureDrift", "BakehousePredictionDrift"}


@dataclass(frozen=True)
class Watched:
    """Releases beside a Prometheus that reads every monitor.

    Args:
        cluster: Where they are.
        namespace: Where they are in it.
        prometheus: Its address.
        upgrade: Installs or upgrades a release.
        started: When the first of them was installed, on the monotonic clock.
    """

    cluster: Cluster
    namespace: str
    prometheus: str
    upgrade: Upgrade
    started: float

    def query(self, expression: str) -> list[Json]:
        """Return the series of an instant query now."""
        return query(self.prometheus, expression)

    def value(self, expression: str) -> float:
        """Return the one value of an instant query, or NaN where there is none."""
        found = self.query(expression)
        return float(found[0]["value"][1]) if len(found) == 1 else float("nan")

    def alerts(self, releases: str, seconds: float, state: str = "firing") -> set[str]:
        """Return the alerts of releases, given as a pattern, that were in a state at any time of the last seconds."""
        place = f'namespace="{self.namespace}", release=~"{releases}"'
        ranged = f'ALERTS{{alertstate=~"{state}", {place}}}[{max(5, int(seconds))}s]'
        return {each["metric"]["alertname"] for each in self.query(f"max by (alertname) (max_over_time({ranged}))")}

    def scraped(self, release: str, version: str) -> set[str]:
        """Return the pods of a release that Prometheus scrapes and that serve a version."""
        place = f'namespace="{self.namespace}", release="{release}", version="{version}"'
        return {each["metric"]["pod"] for each in self.query(f"bakehouse_model_info{{{place}}} == 1")}

    def empty_panels(self, board: Json) -> tuple[list[str], int]:
        """Return the queries of a dashboard that lack an answer for both releases, and how many there are."""
        seconds = max(600, int(time.monotonic() - self.started))  # so long that the rollout is shown
        asked = Prometheus(self.prometheus, seconds=seconds, rate_interval="30s")
        of_both = [asked.answers(board, {"namespace": self.namespace, "release": name}) for name in (HOUSES, KINDS)]
        empty = [
            f"{one.query.panel}: {one.query.expr}"
            for one, other in zip(*of_both, strict=True)
            if not (one.series or other.series or OF_CATEGORIES in one.query.expr)
        ]
        return empty, len(of_both[0])

    def release(self, name: str, version: str, **values: Any) -> None:
        """Install or upgrade a release, and wait until the edge serves it."""
        host = {"gateway__hostnames": [host_of(name)]}
        self.upgrade(version, release=name, **{**MONITORED, **host, "replicaCount": N_PODS, **values})
        wait_until(f"the edge serves {name}", lambda: self.send(name, "/predict", {"X": USUAL})[0] == http.client.OK)

    def send(self, release: str, path: str, document: Any, **headers: str) -> tuple[int, bytes]:
        """Send one request to the edge, and return status and body."""
        connection = http.client.HTTPConnection(self.cluster.ingress_ip, timeout=30)
        with contextlib.closing(connection):
            fixed = {"Host": host_of(release), "Content-Type": JSON}
            given = {key.replace("_", "-"): value for key, value in headers.items()}
            connection.request("POST", path, json.dumps(document), {**fixed, **given})
            answer = connection.getresponse()
            return answer.status, answer.read()

    def send_truth(self, release: str, identifier: str, y_true: list[Any]) -> int:
        """Return how often the truth of a prediction was sent until it reached the pod that had predicted."""
        for times in range(1, 20):  # each time it goes to another pod
            status, body = self.send(release, "/feedback", {"request_id": identifier, "y_true": y_true})
            if status == http.client.OK:
                return times
            assert status == http.client.NOT_FOUND, body
        raise AssertionError(f"no pod remembers {identifier}")

    def clients(self, images: Images) -> Running:
        """Return clients that ask for the price of a house at the edge, without pause."""
        return Running(
            {
                "url": f"http://{host_of(HOUSES)}",
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
        load = wrk(80, request, expected, connections, seconds, self.cluster.ingress_ip, host_of(release))
        return load.answered + load.refused


def host_of(release: str) -> str:
    """Return the host under which the edge serves a release."""
    return f"{release}.example.com"


def send_feedback(watched: Watched, n_houses: int = 100, n_kinds: int = 20) -> int:
    """Predict and send the truth of each prediction, for houses ERROR above it; return how often truths were sent."""
    n_sent = 0
    for release, count in ((HOUSES, n_houses), (KINDS, n_kinds)):
        for number in range(count):
            identifier = f"{release}-{number}-{time.monotonic_ns()}"
            status, body = watched.send(release, "/predict", {"X": USUAL}, X_Request_ID=identifier)
            assert status == http.client.OK, body
            truth = ["dear"] if release == KINDS else [value + ERROR for value in json.loads(body)["y_pred"]]
            n_sent += watched.send_truth(release, identifier, truth)
    return n_sent


@dataclass(frozen=True)
class Rollout:
    """A rollout under load.

    Args:
        report: What the clients counted.
        alerts: The alerts that were pending or fired.
        versions: The model versions that Prometheus saw.
    """

    report: Json
    alerts: set[str]
    versions: set[str]


@pytest.fixture(scope="module")
def watched(cluster: Cluster, upgrade: Upgrade, namespace: str) -> Watched:
    """Return a Prometheus beside which a test installs what it needs."""
    require_wrk()
    return Watched(cluster, namespace, cluster.monitoring(), upgrade, time.monotonic())


@pytest.fixture(scope="module")
def rollout(watched: Watched, images: Images) -> Rollout:
    """Install two releases with all that the chart has for monitoring, and roll out HOUSES under load."""
    watched.release(HOUSES, "v0", backendTLS__enabled=True)
    watched.release(KINDS, "kinds", metrics__monitor__kind=MONITOR_OF[KINDS])
    for name, version in ((HOUSES, "v0"), (KINDS, "kinds")):
        wait_until(
            f"all pods of {name} are scraped",
            lambda name=name, version=version: len(watched.scraped(name, version)) == N_PODS,
            CONFIGURED_SECONDS,
        )
    time.sleep(10)  # two turns of the rules
    started = time.monotonic()
    with watched.clients(images) as running:
        wait_until("200 answers of v0", lambda: running.report()["answers"].get("v0", 0) >= 200)
        watched.release(HOUSES, "v1", backendTLS__enabled=True)
        wait_until("200 answers of v1", lambda: running.report()["answers"].get("v1", 0) >= 200)
        time.sleep(30)  # as long as the rules need to see the whole of it
        report = running.stop()
    alerts = watched.alerts(f"{HOUSES}|{KINDS}", time.monotonic() - started, "pending|firing")
    place = f'namespace="{watched.namespace}", release="{HOUSES}"'
    versions = watched.query(f"count by (version) (max_over_time(bakehouse_model_info{{{place}}}[5m]))")
    return Rollout(report, alerts, {each["metric"]["version"] for each in versions})


@pytest.mark.parametrize("release", [HOUSES, KINDS])
def test_prometheus_scrapes_every_pod(watched: Watched, rollout: Rollout, release: str) -> None:
    """With either monitor, every pod is a target that is up and reports model version and release."""
    pods = wait_for_pods(watched.cluster, watched.namespace, N_PODS, release)
    names = {pod["metadata"]["name"] for pod in pods}
    wait_until(f"the {MONITOR_OF[release]} finds both pods",
               lambda: watched.scraped(release, VERSION_OF[release]) == names, CONFIGURED_SECONDS)  # fmt: skip


def test_a_healthy_rollout_under_load_raises_no_alert(rollout: Rollout) -> None:
    """Nobody is woken by what is as it should be: no request fails, and no alert fires."""
    report = rollout.report
    print(f"\n{report['good']} good, {report['failed']} failed; {report['answers']}")
    assert report["failures"] == []
    assert rollout.alerts <= OF_ROLLOUTS
    assert rollout.versions == {"v0", "v1"}


def test_feedback_shows_in_the_error_metric(watched: Watched, rollout: Rollout) -> None:
    """The true prices are a thousand dollars above the predicted ones, and so are the recorded errors."""
    print(f"\n120 truths were sent {send_feedback(watched)} times until they reached the pod that had predicted")
    place = f'{{namespace="{watched.namespace}", release="{HOUSES}", version="v1"}}'
    error = f"bakehouse:feedback_mean_absolute_error{place}"
    wait_until("the error is recorded", lambda: abs(watched.value(error) - ERROR) < 1)
    assert watched.value(f"bakehouse:feedback_bias{place}") == pytest.approx(-ERROR, rel=1e-3)


def test_every_panel_has_data(watched: Watched, rollout: Rollout, images: Images) -> None:
    """All queries of all dashboards return something after a load run, for one of the two releases at least."""
    send_feedback(watched)
    for name in (HOUSES, KINDS):
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


def test_drift_shows_within_a_minute(watched: Watched, rollout: Rollout) -> None:
    """Houses far larger than those of the training show in the recorded PSI of the area; typical ones do not."""
    place = f'namespace="{watched.namespace}", release="{HOUSES}", version="v1", feature="area"'
    psi = f"bakehouse:feature_drift_psi{{{place}}}"

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


@pytest.fixture
def starved(cluster: Cluster, watched: Watched) -> Iterator[str]:
    """Return a release that cannot serve what its users send."""
    watched.release(STARVED, "v1", **STARVING)
    yield STARVED
    cluster.helm("uninstall", STARVED, "--namespace", watched.namespace, "--wait")


def test_a_release_made_to_fail_fires_the_alert(watched: Watched, starved: str) -> None:
    """A release that refuses what its users send wakes somebody, in minutes."""
    started = time.monotonic()

    def fired() -> set[str]:
        with contextlib.suppress(AssertionError, WrongAnswerError):  # it fails its users in more ways than one
            watched.load(starved, TYPICAL * 30, connections=64, seconds=10)
        return {"BakehouseErrorBudgetBurn"} & watched.alerts(starved, time.monotonic() - started)

    wait_until("the alert fires", fired, seconds=600)
    seconds = time.monotonic() - started
    print(f"\nfired {seconds:.0f} s after the release: {watched.alerts(starved, seconds)}")
    place = f'namespace="{watched.namespace}", release="{starved}"'
    burning = watched.query(f'ALERTS{{alertname="BakehouseErrorBudgetBurn", alertstate="firing", {place}}}')
    assert {(each["metric"]["severity"], each["metric"]["release"]) for each in burning} == {("page", starved)}
