"""Traces of a real server, received by a real OTLP collector."""

import os
import signal
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.collector import Collector, collecting
from tests.support.log import check_lines
from tests.support.server import RunningServer
from tests.support.waiting import wait_for
from tools.local_http import free_port, predict, send

Serve = Callable[..., RunningServer]
EXAMPLE = {"X": [[1500, 3], [2000, 10]]}
TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def variables(collector: Collector, **more: str) -> dict[str, str]:
    """Return the settings of a server that sends its traces there, soon."""
    return {
        "BAKEHOUSE_TRACING": "true",
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint,
        "OTEL_BSP_SCHEDULE_DELAY": "50",
        **more,
    }


def test_requests_at_the_same_time_are_traces_of_their_own(serve: Serve, house_prices: Path) -> None:
    """Each with its parts, whichever thread made them; the log names them, and probes and scrapes are none."""
    large = {"X": [[1500, 3]] * 2000}
    with collecting() as collector, ThreadPoolExecutor(8) as clients:
        server = serve(house_prices, **variables(collector, BAKEHOUSE_THREADS="4"))
        for path in ("/healthz", "/readyz", "/metrics"):
            assert send(server.health_port, "GET", path, headers={"traceparent": TRACEPARENT}).status == 200
        answers = list(clients.map(lambda _: predict(server.port, large), range(40)))
        wait_for(lambda: len(collector.named("POST /predict")) == 40)
        spans = {span.span_id: span for span in collector.named("POST /predict")}
        wait_for(lambda: len(collector.spans) == 4 * 40)
    assert {answer.status for answer in answers} == {200}
    assert len({span.trace_id for span in spans.values()}) == 40
    parts = [span for span in collector.spans if span.span_id not in spans]
    assert all(part.trace_id == spans[part.parent_span_id].trace_id for part in parts)
    assert Counter(part.name for part in parts) == {"decode": 40, "predict": 40, "encode": 40}
    wait_for(lambda: server.output.count("\n") == 40)
    logged = {(line["trace_id"], line["span_id"]) for line in check_lines(server.output)}
    assert logged == {(span.trace_id.hex(), span.span_id.hex()) for span in spans.values()}


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_stop_sends_what_was_not_sent_yet(serve: Serve, house_prices: Path, workers: str) -> None:
    """Of each process; spans wait in batches, which would be lost otherwise."""
    with collecting() as collector:
        later = {"OTEL_BSP_SCHEDULE_DELAY": "600000", "WEB_CONCURRENCY": workers}
        server = serve(house_prices, **variables(collector, **later))
        for _ in range(20):
            predict(server.port, EXAMPLE)
        assert collector.spans == []
        server.terminate()
        assert server.process.wait(timeout=60) == 0
        assert len(collector.named("POST /predict")) == 20


def test_a_collector_that_is_not_there_disturbs_nobody(serve: Serve, house_prices: Path) -> None:
    """Requests are answered, the log says what is wrong in lines, and a stop does not wait for it."""
    collector = Collector(port=free_port())
    server = serve(house_prices, **variables(collector))
    for _ in range(10):
        assert predict(server.port, EXAMPLE).status == 200
    wait_for(lambda: "encountered while exporting" in server.errors)
    assert predict(server.port, EXAMPLE).status == 200
    server.terminate()
    assert server.process.wait(timeout=60) == 0
    lines = [line for line in check_lines(server.errors) if "export" in line["message"]]
    assert {line["event"] for line in lines} == {"message"}
    assert "Traceback" not in server.errors


def test_a_killed_process_is_replaced_by_one_that_traces(serve: Serve, house_prices: Path) -> None:
    """Each process makes its own exporter after it was forked."""
    with collecting() as collector:
        server = serve(house_prices, **variables(collector))
        wait_for(lambda: "is ready" in server.errors)
        os.kill(server.workers()[0], signal.SIGKILL)
        wait_for(lambda: server.errors.count("is ready") == 2)
        assert predict(server.port, EXAMPLE).status == 200
        wait_for(lambda: collector.named("POST /predict"))
