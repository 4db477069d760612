"""Traces of requests, sent to a real collector in this process."""

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from service import __version__
from service.api.app import create_app
from service.api.readiness import Lifecycle
from service.commands.exit_codes import EXIT_ARTIFACT_REFUSED, EXIT_SETTINGS_REFUSED
from service.inference.model import Model
from service.observability.metrics import Metrics
from service.observability.request_context import CONTEXT, RequestContext
from service.observability.tracing import Tracing
from service.settings import Settings
from tests.conftest import ROOT
from tests.support.collector import Collector, attributes, collecting
from tests.support.corpus import CANARY, GOOD
from tests.support.log import check_lines

JSON = {"Content-Type": "application/json"}
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
TRACEPARENT = f"00-{TRACE}-{PARENT}-01"

Traces = Callable[..., list[Span]]


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    """Return a collector that exporters send to."""
    with collecting() as running:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", running.endpoint)
        yield running


@pytest.fixture
def asked(collector: Collector, model_of: Callable[[str], Model]) -> Traces:
    """Return a function that asks the default model's application, and gives the spans of the requests."""

    def ask(
        path: str = "/predict", method: str = "POST", data: bytes = GOOD, environ: Any = None, **headers: str
    ) -> Any:
        lifecycle, tracing = Lifecycle(), Tracing(model_of("house_prices").artifact)
        lifecycle.served = model_of("house_prices").artifact
        app = create_app(Settings(), model_of("house_prices"), Metrics(1), lifecycle, tracing=tracing)
        sent = {**JSON, **{name.replace("_", "-"): value for name, value in headers.items()}}
        app.test_client().open(path, method=method, data=data, headers=sent, environ_overrides=environ)
        tracing.stop()
        return collector.spans

    return ask


def test_a_prediction_is_a_span_with_its_parts(
    asked: Traces, collector: Collector, model_of: Callable[[str], Model], capfd: pytest.CaptureFixture[str]
) -> None:
    """It says what was asked and what came of it, by which model, and the log line names it."""
    version = model_of("house_prices").artifact.version
    capfd.readouterr()
    *parts, span = sorted(asked(), key=lambda span: span.end_time_unix_nano)
    assert (span.name, span.kind, span.status.code) == (
        "POST /predict",
        Span.SPAN_KIND_SERVER,
        Status.STATUS_CODE_UNSET,
    )
    assert attributes(span) == {
        "http.request.method": "POST",
        "http.route": "/predict",
        "http.response.status_code": 200,
        "bakehouse.model.name": "house_prices",
        "bakehouse.model.version": version,
        "bakehouse.rows": 1,
    }
    assert [part.name for part in parts] == ["decode", "predict", "encode"]
    assert {(part.parent_span_id, part.trace_id) for part in parts} == {(span.span_id, span.trace_id)}
    (resource,) = collector.resources
    assert (resource["service.name"], resource["service.version"]) == ("bakehouse", __version__)
    assert (resource["bakehouse.model.name"], resource["bakehouse.model.version"]) == ("house_prices", version)
    (line,) = check_lines(capfd.readouterr().out)
    assert (line["trace_id"], line["span_id"]) == (span.trace_id.hex(), span.span_id.hex())
    assert line["request_id"] != line["trace_id"]  # a trace may hold many requests


@pytest.mark.parametrize(
    ("variables", "name"),
    [
        ({"OTEL_SERVICE_NAME": "prices"}, "prices"),
        ({"OTEL_RESOURCE_ATTRIBUTES": "service.name=prices,team=a"}, "prices"),
        ({"OTEL_RESOURCE_ATTRIBUTES": "team=a"}, "bakehouse"),
    ],
)
def test_the_standard_variables_name_the_service(
    asked: Traces, collector: Collector, variables: dict[str, str], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are what people set for all of their services."""
    for variable, value in variables.items():
        monkeypatch.setenv(variable, value)
    asked()
    assert collector.resources[0]["service.name"] == name
    assert collector.resources[0].get("team", "") == ("a" if "team" in str(variables) else "")


def test_the_callers_trace_goes_on(asked: Traces, capfd: pytest.CaptureFixture[str]) -> None:
    """The request's span is a child of the caller's, and passes on what others wrote into the trace's state."""
    span = next(span for span in asked(traceparent=TRACEPARENT, tracestate="vendor=1") if span.name == "POST /predict")
    assert (span.trace_id.hex(), span.parent_span_id.hex(), span.trace_state) == (TRACE, PARENT, "vendor=1")
    assert [line["trace_id"] for line in check_lines(capfd.readouterr().out)] == [TRACE]


def test_a_trace_that_the_caller_does_not_record_is_not_sent(asked: Traces, capfd: pytest.CaptureFixture[str]) -> None:
    """Who begins a trace decides for all; its id is logged all the same."""
    assert asked(traceparent=f"{TRACEPARENT[:-1]}0") == []
    assert [line["trace_id"] for line in check_lines(capfd.readouterr().out)] == [TRACE]


@pytest.mark.parametrize("given", [f"{TRACEPARENT[:-3]}-x", f"ff{TRACEPARENT[2:]}", f"{TRACEPARENT}-more"])
def test_a_traceparent_that_is_none_begins_a_new_trace(
    asked: Traces, given: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """The log and the trace agree on which is one."""
    span = next(span for span in asked(traceparent=given) if span.name == "POST /predict")
    assert (span.parent_span_id, span.trace_id.hex() == TRACE) == (b"", False)
    assert [line["trace_id"] for line in check_lines(capfd.readouterr().out)] == [span.trace_id.hex()]


@pytest.mark.parametrize(
    ("method", "path", "name", "status"),
    [
        ("GET", "/version", "GET /version", 200),
        ("GET", f"/{CANARY}?{CANARY}={CANARY}", "GET", 404),
        ("POST", "/predict", "POST /predict", 400),
        (f"C{CANARY}", "/version", "HTTP /version", 405),
    ],
)
def test_a_clients_fault_is_no_error_and_nothing_of_it_is_told(
    asked: Traces, collector: Collector, method: str, path: str, name: str, status: int
) -> None:
    """What a client made up, such as a path, is no name and no attribute of a span."""
    more = {"traceparent": f"00-{CANARY}", "tracestate": f"{CANARY};={CANARY}", f"X-{CANARY}": CANARY}
    spans = asked(path, method, b"{" + CANARY.encode(), None, User_Agent=CANARY, **more)
    (span,) = [span for span in spans if span.kind == Span.SPAN_KIND_SERVER]
    assert (span.name, attributes(span)["http.response.status_code"]) == (name, status)
    assert span.status.code == Status.STATUS_CODE_UNSET
    assert CANARY.encode() not in b"".join(collector.bodies)


def test_a_bug_is_an_error_without_its_message(
    asked: Traces, collector: Collector, model_of: Callable[[str], Model], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The exception's own words may hold the caller's values: the log says where it was."""
    monkeypatch.setattr(model_of("house_prices"), "predict", lambda *_: {}[CANARY])
    spans = {span.name: span for span in asked()}
    assert spans["POST /predict"].status.code == Status.STATUS_CODE_ERROR
    assert attributes(spans["POST /predict"])["error.type"] == "500"
    assert not any(span.events for span in spans.values())
    assert CANARY.encode() not in b"".join(collector.bodies)


def test_the_time_in_the_queue_is_part_of_the_span(asked: Traces) -> None:
    """A request that waits for a thread has begun."""
    span = next(
        span for span in asked(environ={CONTEXT: RequestContext(queue_seconds=7.5)}) if span.name == "POST /predict"
    )
    assert span.end_time_unix_nano - span.start_time_unix_nano > 7_500_000_000


def test_a_stop_does_not_wait_for_a_collector_that_does_not_answer(
    model_of: Callable[[str], Model], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It goes on although the spans are not sent: the pod's time is for requests."""
    monkeypatch.setattr("service.observability.tracing.FLUSH_SECONDS", 0.01)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # connections are made, and nobody reads
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "2")
        tracing = Tracing(model_of("house_prices").artifact)
        app = create_app(Settings(), model_of("house_prices"), Metrics(1), Lifecycle(), tracing=tracing)
        assert app.test_client().post("/predict", data=GOOD, headers=JSON).status_code == 200
        tracing.stop()
        (flush,) = [thread for thread in threading.enumerate() if thread.name == "flush"]
        flush.join()


def test_without_tracing_nothing_is_around_the_application(model_of: Callable[[str], Model]) -> None:
    """It costs nothing where it is off: the same functions are called, by the same ones."""
    model = model_of("house_prices")
    app = create_app(Settings(), model, Metrics(1), Lifecycle())
    assert app.wsgi_app.__qualname__ == "with_access_log.<locals>.answer"
    code = "from service.server.application import Server; import json, sys; print(json.dumps(list(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not [name for name in json.loads(done.stdout) if name.startswith("opentelemetry")]


def test_missing_packages_are_a_wrong_setting() -> None:
    """The start, and the check before a rollout, say what to install; without the setting nobody needs them."""
    code = (
        "import sys; sys.modules['opentelemetry'] = None  # as where it is not installed\n"
        "from service.__main__ import main; sys.exit(main(['check', 'no-artifact']))"
    )
    codes = {}
    for wanted in ("true", "false"):
        environ = {**os.environ, "BAKEHOUSE_TRACING": wanted}
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environ, capture_output=True, text=True)
        codes[wanted] = done.returncode
        said = "install the extra tracing, or build the image with REQUIREMENTS=serving-tracing" in done.stderr
        assert said is (wanted == "true")
    assert codes == {"true": EXIT_SETTINGS_REFUSED, "false": EXIT_ARTIFACT_REFUSED}
