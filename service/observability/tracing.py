"""Traces of requests, sent to a collector over OTLP/HTTP; imported only where BAKEHOUSE_TRACING is true.

A request is a span, a child of the caller's where its traceparent tells one, and decode, predict and encode are spans
in it. As in the log, nothing that a request holds is in them: neither its path nor an exception's message. Where to
send them, how many, and as whom is told by OpenTelemetry's own variables (OTEL_EXPORTER_OTLP_ENDPOINT and others).
"""

import threading
import time
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import Any, ParamSpec, TypeVar
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import (
    Span,
    SpanKind,
    Status,
    StatusCode,
    format_span_id,
    format_trace_id,
    get_current_span,
    use_span,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from service import __version__
from service.artifact.reader import Artifact
from service.observability.request_context import METHODS, UNMATCHED, RequestContext, request_context

FLUSH_SECONDS = 5.0  # how long a stop waits for spans to be sent; the chart's termination period has ten to spare
NANOSECONDS = 1_000_000_000

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


class Tracing:
    """The spans of one serving process, made after the fork: a thread of its own sends them.

    Args:
        artifact: Whose requests they are.
    """

    def __init__(self, artifact: Artifact) -> None:
        model = {"bakehouse.model.name": artifact.name, "bakehouse.model.version": artifact.version}
        own = {"service.name": "bakehouse", "service.version": __version__, "bakehouse.model.digest": artifact.digest}
        # What the variables say of the service counts more than what is said here.
        resource = Resource.create().merge(Resource({**own, **model})).merge(OTELResourceDetector().detect())
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("bakehouse", __version__)
        self._propagator = TraceContextTextMapPropagator()
        self._model = model

    def traced(self, application: WSGIApplication) -> WSGIApplication:
        """Return the application with each request in a span, whose ids the application finds in the environ."""

        def answer(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
            status = int(HTTPStatus.INTERNAL_SERVER_ERROR)

            def start(line: str, headers: list[tuple[str, str]], *error: Any) -> Any:
                nonlocal status
                status = int(line[:3])
                return start_response(line, headers, *error)

            request = request_context(environ)
            span = self._span_of(environ, request.queue_seconds)
            context = span.get_span_context()
            if context.is_valid:  # it is not where OpenTelemetry is turned off by its own variable
                request.trace_id, request.span_id = format_trace_id(context.trace_id), format_span_id(context.span_id)
                request.sampled = context.trace_flags.sampled
            with use_span(span, end_on_exit=True, record_exception=False, set_status_on_exception=False):
                try:
                    return application(environ, start)
                finally:
                    _annotate_span(span, environ["REQUEST_METHOD"], request, status)

        return answer

    def _span_of(self, environ: WSGIEnvironment, queue_seconds: float) -> Span:
        """Return a span that begins when the whole request was there, before it waited for a thread."""
        method = environ["REQUEST_METHOD"]
        return self._tracer.start_span(
            method if method in METHODS else "HTTP",
            self._propagator.extract(
                {name: environ.get(f"HTTP_{name.upper()}", "") for name in ("traceparent", "tracestate")}
            ),
            SpanKind.SERVER,
            {"http.request.method": method if method in METHODS else "_OTHER", **self._model},
            start_time=time.time_ns() - int(queue_seconds * NANOSECONDS),
        )

    def stage(self, name: str, function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
        """Return the function with each of its calls in a span within that of the request."""

        def traced(*positional: Arguments.args, **named: Arguments.kwargs) -> Result:
            if not get_current_span().is_recording():
                return function(*positional, **named)
            with self._tracer.start_as_current_span(name, record_exception=False, set_status_on_exception=False):
                return function(*positional, **named)

        return traced

    def stop(self) -> None:
        """Send what was not sent yet, as far as the collector takes it in a few seconds."""
        stopping = threading.Thread(target=self._provider.shutdown, name="flush", daemon=True)
        stopping.start()
        stopping.join(FLUSH_SECONDS)


def _annotate_span(span: Span, method: str, request: RequestContext, status: int) -> None:
    """Set what became of the request; names as in OpenTelemetry's semantic conventions for HTTP."""
    span.set_attribute("http.response.status_code", status)
    if request.n_samples:
        span.set_attribute("bakehouse.rows", request.n_samples)
    if request.route and request.route != UNMATCHED:
        span.set_attribute("http.route", request.route)
        span.update_name(f"{method if method in METHODS else 'HTTP'} {request.route}")
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        span.set_attribute("error.type", str(status))
        span.set_status(Status(StatusCode.ERROR))
