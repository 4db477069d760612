"""Predictions logged by real servers: lines stay whole, none is lost at a stop, and no request waits for them."""

import json
import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.integration.test_cli import service
from tests.integration.test_workers import ready_models, samples
from tests.support.server import RunningServer
from tests.support.waiting import wait_for
from tools import ROOT
from tools.local_http import predict, send

Serve = Callable[..., RunningServer]
CANARY = 7331.3733
ROWS = {"written": 'bakehouse_prediction_log_rows_total{result="written"}'}
DROPPED = 'bakehouse_prediction_log_rows_total{result="dropped"}'


def stop(server: RunningServer) -> None:
    """Stop a server as a container engine does, and wait until it ended as it should."""
    server.terminate()
    assert server.process.wait(timeout=60) == 0


def predictions(text: str) -> list[Any]:
    """Return the lines of predictions; every line is a whole one."""
    assert text.endswith("\n")
    lines = [json.loads(line) for line in text.splitlines()]
    return [line for line in lines if line.get("event") == "prediction"]


def test_predictions_on_standard_output_stand_beside_requests(serve: Serve, house_prices: Path) -> None:
    """Each line is whole, and all are there when the server has stopped."""
    server = serve(house_prices, BAKEHOUSE_PREDICTION_LOG="-")
    for index in range(100):
        assert predict(server.port, {"X": [[1500, index]] * 60}, X_Request_ID=f"r{index}").status == 200
    stop(server)
    found = predictions(server.output)
    assert len(server.output.splitlines()) >= 100 + len(found)
    rows = [(line["request_id"], row["age"]) for line in found for row in line["rows"]]
    assert rows == [(f"r{index}", index) for index in range(100) for _ in range(60)]
    assert {line["model_name"] for line in found} == {"house_prices"}


def test_several_processes_write_to_one_file(serve: Serve, house_prices: Path, tmp_path: Path) -> None:
    """Their lines do not mix, and add up in the metrics."""
    log = tmp_path / "predictions.jsonl"
    server = serve(house_prices, BAKEHOUSE_PREDICTION_LOG=str(log), WEB_CONCURRENCY="2")
    wait_for(lambda: ready_models(server) == 2)

    def ask(index: int) -> int:
        return predict(server.port, {"X": [[1500, index]] * (1 + index % 150)}, X_Request_ID=f"r{index}").status

    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(ask, range(300))) == {200}
    expected = sum(1 + index % 150 for index in range(300))
    wait_for(lambda: samples(server)[ROWS["written"]] == expected)
    assert samples(server)[DROPPED] == 0
    stop(server)
    found = predictions(log.read_text())
    assert sum(len(line["rows"]) for line in found) == expected
    assert {line["request_id"] for line in found} == {f"r{index}" for index in range(300)}
    assert not predictions(server.output)


def test_a_reader_of_the_log_that_stands_still_holds_no_request_up(
    serve: Serve, house_prices: Path, tmp_path: Path
) -> None:
    """What does not fit is dropped, and that is counted; the stop does not wait for it either."""
    os.mkfifo(tmp_path / "pipe")
    with closing(os.fdopen(os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK), "rb")):
        server = serve(house_prices, BAKEHOUSE_PREDICTION_LOG=str(tmp_path / "pipe"))
        body = {"X": [[1500, 3]] * 10_000}
        for _ in range(150):  # each takes 160 kB in the queue
            assert predict(server.port, body).status == 200
        found = samples(server)
        assert found[DROPPED] > 100_000
        assert 0 < found[ROWS["written"]] < 10_000
        stop(server)


def test_standard_output_that_nobody_reads_is_left_to_the_lines_of_requests(house_prices: Path, tmp_path: Path) -> None:
    """The prediction log leaves them most of the pipe, and nothing waits for its reader."""
    os.mkfifo(tmp_path / "pipe")
    with closing(os.fdopen(os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK), "rb")):
        command = ("sh", "-c", f"exec {sys.executable} -m service > {tmp_path / 'pipe'}")
        server = RunningServer(house_prices, {"BAKEHOUSE_PREDICTION_LOG": "-"}, command, ROOT)
        try:
            server.wait_until_ready()
            for _ in range(100):
                assert predict(server.port, {"X": [[1500, 3]] * 1000}).status == 200
            wait_for(lambda: samples(server)[ROWS["written"]] > 0)
            for _ in range(20):
                assert predict(server.port, {"X": [[1500, 3]]}).status == 200
            stop(server)
        finally:
            server.kill()


def test_values_are_in_the_prediction_log_and_nowhere_else(serve: Serve, house_prices: Path, tmp_path: Path) -> None:
    """Off, the server writes down no value; on, only there, and not those that are redacted."""
    body = {"X": [[CANARY, 3]]}
    server = serve(house_prices)
    log = tmp_path / "log"
    logging = serve(house_prices, BAKEHOUSE_PREDICTION_LOG=str(log), BAKEHOUSE_PREDICTION_LOG_REDACT="age")
    said = ""
    for each in (server, logging):
        answer = predict(each.port, body, X_Request_ID="canary")
        (y_pred,) = answer.json["y_pred"]
        wait_for(lambda each=each: '"request_id":"canary"' in each.output)
        said += each.output + each.errors + send(each.health_port, "GET", "/metrics").body.decode()
    assert "7331.37" not in said
    assert str(y_pred) not in said
    (line,) = predictions(wait_for_text(log))
    assert line["rows"] == [{"area": CANARY, "age": None}]
    assert line["outputs"] == {"y_pred": [y_pred]}
    assert line["redacted"] == ["age"]
    assert "prediction_log" not in send(server.health_port, "GET", "/metrics").body.decode()


def wait_for_text(path: Path) -> str:
    """Return what a file holds, once that is something."""
    wait_for(lambda: path.read_text() != "")
    return path.read_text()


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        ({"BAKEHOUSE_PREDICTION_LOG": "/nowhere/log"}, "BAKEHOUSE_PREDICTION_LOG /nowhere/log cannot be written"),
        (
            {"BAKEHOUSE_PREDICTION_LOG": "-", "BAKEHOUSE_PREDICTION_LOG_REDACT": "area,aeg"},
            "BAKEHOUSE_PREDICTION_LOG_REDACT names aeg",
        ),
    ],
)
def test_a_log_that_cannot_be_is_refused_at_the_start(
    variables: dict[str, str], sentence: str, house_prices: Path
) -> None:
    """With one sentence and the exit code of wrong settings."""
    server = RunningServer(house_prices, variables)
    assert server.process.wait(timeout=60) == 78
    assert server.errors.startswith(sentence)
    assert server.errors.count("\n") == 1


def test_the_gate_refuses_what_no_pod_would_start_with(house_prices: Path) -> None:
    """A model without a column that is to be redacted fails it, and no pod is touched; the file need not be there."""
    variables = {"BAKEHOUSE_PREDICTION_LOG": "/predictions/log", "BAKEHOUSE_PREDICTION_LOG_REDACT": "area"}
    assert service("check", str(house_prices), **variables).returncode == 0
    done = service("check", str(house_prices), **{**variables, "BAKEHOUSE_PREDICTION_LOG_REDACT": "owner"})
    assert done.returncode == 78
    assert done.stderr.startswith("BAKEHOUSE_PREDICTION_LOG_REDACT names owner")
