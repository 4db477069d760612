"""Sends traces of requests to a collector over OTLP/HTTP. It is imported only if BAKEHOUSE_TRACING is true.

Each request is a span. It is a child of the caller's span if the request has a traceparent. Decode, predict and encode
are spans inside it. As in the log, spans contain nothing from the request: no path and no exception message.
OpenTelemetry's own variables (OTEL_EXPORTER_OTLP_ENDPOINT and others) set the address, the sampling and the names.
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

FLUSH_SECONDS = 5.0  # a stop waits this long to send spans; the chart's termination period has ten seconds to spare
NANOSECONDS = 1_000_000_000

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


class Tracing:
    """Creates the spans of one serving process. Create it after the fork, because it starts a thread that sends them.

    Args:
        artifact: The served artifact.
    """

    def __init__(self, artifact: Artifact) -> None:
        model = {"bakehouse.model.name": artifact.name, "bakehouse.model.version": artifact.version}
        service = {
            "service.name": "bakehouse",
            "service.version": __version__,
            "bakehouse.model.digest": artifact.digest,
        }
        # Attributes from OpenTelemetry's variables take precedence over these.
        resource = Resource.create().merge(Resource({**service, **model})).merge(OTELResourceDetector().detect())
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("bakehouse", __version__)
        self._propagator = TraceContextTextMapPropagator()
        self._model = model

    def traced(self, application: WSGIApplication) -> WSGIApplication:
        """Return the application with each request in a span. The request context holds the ids of the span."""

        def answer(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
            status = int(HTTPStatus.INTERNAL_SERVER_ERROR)

            def start(line: str, headers: list[tuple[str, str]], *error: Any) -> Any:
                nonlocal status
                status = int(line[:3])
                return start_response(line, headers, *error)

            request = request_context(environ)
            span = self._start_span(environ, request.queue_seconds)
            context = span.get_span_context()
            if context.is_valid:  # it is invalid if OTEL_SDK_DISABLED is set
                request.trace_id, request.span_id = format_trace_id(context.trace_id), format_span_id(context.span_id)
                request.sampled = context.trace_flags.sampled
            with use_span(span, end_on_exit=True, record_exception=False, set_status_on_exception=False):
                try:
                    return application(environ, start)
                finally:
                    _annotate_span(span, environ["REQUEST_METHOD"], request, status)

        return answer

    def _start_span(self, environ: WSGIEnvironment, queue_seconds: float) -> Span:
        """Return a span that begins when the whole request had arrived, before its wait for a thread."""
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
        """Return the function with each call in a span inside the request's span."""

        def traced(*positional: Arguments.args, **named: Arguments.kwargs) -> Result:
            if not get_current_span().is_recording():
                return function(*positional, **named)
            with self._tracer.start_as_current_span(name, record_exception=False, set_status_on_exception=False):
                return function(*positional, **named)

        return traced

    def stop(self) -> None:
        """Send the remaining spans. Give up after FLUSH_SECONDS."""
        stopping = threading.Thread(target=self._provider.shutdown, name="flush", daemon=True)
        stopping.start()
        stopping.join(FLUSH_SECONDS)


def _annotate_span(span: Span, method: str, request: RequestContext, status: int) -> None:
    """Add status, route and rows to the span. Names follow OpenTelemetry's semantic conventions for HTTP."""
    span.set_attribute("http.response.status_code", status)
    if request.n_samples:
        span.set_attribute("bakehouse.rows", request.n_samples)
    if request.route and request.route != UNMATCHED:
        span.set_attribute("http.route", request.route)
        span.update_name(f"{method if method in METHODS else 'HTTP'} {request.route}")
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        span.set_attribute("error.type", str(status))
        span.set_status(Status(StatusCode.ERROR))
