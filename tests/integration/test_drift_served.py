"""Drift, seen from outside: rows sent to a real server are in the bins of its metrics."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from service.artifact.manifest import read_manifest
from tests.integration.test_workers import ready_models
from tests.support.server import RunningServer
from tests.support.waiting import wait_for
from tools.local_http import predict, send

Serve = Callable[..., RunningServer]
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"


def scrape(server: RunningServer, name: str, **labels: str) -> dict[str, float]:
    """Return the samples of a name with these labels that are not zero, by bin."""
    text = send(server.health_port, "GET", "/metrics", headers={"Accept": OPENMETRICS}).body.decode()
    return {
        sample.labels["bin"]: sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name and sample.value and labels.items() <= sample.labels.items()
    }


def test_rows_sent_are_in_the_bins_of_the_metrics(serve: Serve, house_prices: Path) -> None:
    """As JSON and as a matrix, with the version as a label; what is refused is not counted."""
    server = serve(house_prices)
    version = read_manifest(house_prices)["version"]
    reference = json.loads((house_prices / "reference.json").read_bytes())
    rng = np.random.default_rng(0)
    rows = rng.uniform([500, 0], [6000, 100], size=(300, 2)).round()
    n_json = 200
    for row in rows[:n_json].tolist():
        assert predict(server.port, {"X": [row]}).status == 200
    for part in np.split(rows[n_json:], 5):
        assert predict(server.port, {"X": part.tolist()}).status == 200
    assert predict(server.port, {"X": [[1500, None]]}).status == 422
    edges = reference["features"]["area"]["edges"]
    inside = np.histogram(rows[:, 0], edges)[0].tolist()
    expected = [(rows[:, 0] < edges[0]).sum(), *inside, (rows[:, 0] > edges[-1]).sum()]
    found = scrape(server, "bakehouse_feature_rows_total", feature="area", version=version)
    assert [found[key] for key in sorted(found)] == [count for count in expected if count]
    assert all(re.match(r"\d\d: ", key) for key in found)
    assert sum(scrape(server, "bakehouse_prediction_rows_total", version=version).values()) == len(rows)
    shares = scrape(server, "bakehouse_feature_reference_ratio", feature="area", version=version)
    assert sum(shares.values()) == pytest.approx(1)


def test_processes_add_up(serve: Serve, house_prices: Path) -> None:
    """Whichever process answers, all that were sent are counted once each has been scraped."""
    server = serve(house_prices, WEB_CONCURRENCY="2")
    wait_for(lambda: ready_models(server) == 2)
    for _ in range(60):
        assert predict(server.port, {"X": [[1500, 3], [100, 3]]}).status == 200

    def count(kind: str) -> float:
        return sum(scrape(server, "bakehouse_feature_rows_total", feature="area", kind=kind).values())

    wait_for(lambda: count("inside") == count("outside") == 60)
    wait_for(lambda: sum(scrape(server, "bakehouse_prediction_rows_total").values()) == 120)


def test_drift_can_be_turned_off(serve: Serve, house_prices: Path) -> None:
    """Then there is no series of it."""
    server = serve(house_prices, BAKEHOUSE_DRIFT_FEATURES="0")
    assert predict(server.port, {"X": [[1500, 3]]}).status == 200
    text = send(server.health_port, "GET", "/metrics").body
    assert b"bakehouse_predicted_rows_total" in text
    assert b"bakehouse_feature" not in text
    assert b"bakehouse_prediction_rows" not in text
