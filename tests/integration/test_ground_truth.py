"""True values told to a real server, of one process and of two."""

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.integration.test_workers import ready_models, samples
from tests.support.server import RunningServer
from tests.support.waiting import wait_for
from tools.local_http import Answer, predict, send

Serve = Callable[..., RunningServer]
JSON = {"Content-Type": "application/json"}
CANARY = 7331373313.5


def tell(server: RunningServer, document: Any) -> Answer:
    """Send feedback over a connection of its own."""
    return send(server.port, "POST", "/feedback", json.dumps(document), JSON)


def counted(server: RunningServer, name: str) -> float:
    """Return a counter of the feedback; its only labels beside this one are those of the model."""
    return sum(value for key, value in samples(server).items() if key.startswith(f"bakehouse_feedback_{name}"))


def test_feedback_shows_in_the_metrics_of_the_model(serve: Serve, house_prices: Path) -> None:
    """The id of the answer is what a true value is told by, whether the caller chose it or not."""
    server = serve(house_prices)
    answer = predict(server.port, {"X": [[1500, 3], [2000, 10]]})
    one, other = answer.json["y_pred"]
    told = tell(server, {"request_id": answer.headers["x-request-id"], "y_true": [one - 100, other + 40]})
    assert told.status == 200
    assert told.json == {"accepted": 2, "repeated": 0, "unknown": 0, "model": answer.json["model"]}
    version = answer.json["model"]["version"]
    found = samples(server)
    assert found[f'bakehouse_feedback_rows_total{{result="accepted",version="{version}"}}'] == 2
    assert found[f'bakehouse_feedback_error_total{{sign="over",version="{version}"}}'] == pytest.approx(100)
    assert found[f'bakehouse_feedback_error_total{{sign="under",version="{version}"}}'] == pytest.approx(40)
    assert 300 < found["bakehouse_feedback_remembered_bytes"] < 2000
    assert send(server.health_port, "POST", "/feedback", "{}", JSON).status == 404


def test_what_is_told_is_in_no_log(serve: Serve, house_prices: Path) -> None:
    """Neither true values nor anything else of the body."""
    server = serve(house_prices)
    predict(server.port, {"X": [[1500, 3]]}, X_Request_ID="one")
    answers = [
        tell(server, {"request_id": "one", "y_true": [CANARY]}),
        tell(server, {"request_id": f"id-{CANARY}", "y_true": [CANARY]}),
        tell(server, {"request_id": "one", "y_true": [str(CANARY)]}),
    ]
    assert [answer.status for answer in answers] == [200, 404, 422]
    wait_for(lambda: server.output.count('"route":"/feedback"') == 3)
    said = "".join(answer.body.decode() for answer in answers) + server.output + server.errors
    assert "7331373313" not in said


def test_of_several_processes_the_one_that_predicted_knows(serve: Serve, house_prices: Path) -> None:
    """What reaches another one is unknown there; sent again, it is counted once in all."""
    server = serve(house_prices, WEB_CONCURRENCY="2")
    wait_for(lambda: ready_models(server) == 2)
    names = [f"row-{index}" for index in range(20)]
    for name in names:
        assert predict(server.port, {"X": [[1500, 3]]}, X_Request_ID=name).status == 200
    (y_pred,) = predict(server.port, {"X": [[1500, 3]]}).json["y_pred"]
    for name in names:
        for attempt in itertools.count():
            if tell(server, {"request_id": name, "y_true": [y_pred - 5]}).status == 200:
                break
            assert attempt < 200
    assert counted(server, 'rows_total{result="accepted"') == 20
    assert counted(server, 'error_total{sign="over"') == pytest.approx(100)
    for name in names:
        tell(server, {"request_id": name, "y_true": [0]})
    assert counted(server, 'rows_total{result="accepted"') == 20
    assert counted(server, "remembered_bytes") > 20 * 300
