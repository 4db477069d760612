"""Every request, whichever way it takes through the application, gets an id, is counted and becomes one log line."""

import time
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from service.observability.logging import is_logged, log_request, request_id, trace_of
from service.observability.metric_definitions import METHODS, UNMATCHED
from service.observability.metrics import Metrics

# What the application and this module tell each other, in the environ of a request.
REQUEST_ID = "bakehouse.request_id"  # how the request is found again; set before the application is asked
ROUTE = "bakehouse.route"  # the pattern of the route that answers, as far as one does
ROWS = "bakehouse.rows"  # how many rows were predicted
CODE = "bakehouse.code"  # what was wrong, in the word of the problem that answers
TRACE_ID = "bakehouse.trace_id"  # the trace that the request is part of, where it is known
SAMPLED = "bakehouse.sampled"  # whether somebody records that trace
SPAN_ID = "bakehouse.span_id"  # the request's own part of it, where traces are made
QUEUE_SECONDS = "bakehouse.queue_seconds"  # how long the request waited for a thread, if it did; set by the worker
OTHER = "other"  # the method of requests whose method is the callers' own
OPTIONAL = (("trace_id", TRACE_ID), ("span_id", SPAN_ID), ("code", CODE))  # members of a log line that not all have


def with_access_log(
    application: WSGIApplication, has_route: Callable[[str], bool], model_version: str, metrics: Metrics
) -> WSGIApplication:
    """Return the application with every request logged and counted.

    Args:
        application: What answers.
        has_route: Says whether a path has a route, for requests whose method it does not take.
        model_version: What the log lines name.
        metrics: Where requests are counted.
    """

    def observe(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        started = time.perf_counter()
        if TRACE_ID not in environ:
            trace, environ[SAMPLED] = trace_of(environ)
            if trace:
                environ[TRACE_ID] = trace
        identifier = environ[REQUEST_ID] = request_id(environ)
        status = int(HTTPStatus.INTERNAL_SERVER_ERROR)

        def start(line: str, headers: list[tuple[str, str]], *error: Any) -> Any:
            nonlocal status
            status = int(line[:3])
            headers.append(("X-Request-ID", identifier))
            return start_response(line, headers, *error)

        try:
            return application(environ, start)
        finally:
            queue_seconds = environ.get(QUEUE_SECONDS, 0.0)
            seconds = time.perf_counter() - started + queue_seconds
            path = environ["PATH_INFO"]
            route = environ.get(ROUTE) or (path if has_route(path) else UNMATCHED)
            method = environ["REQUEST_METHOD"]
            # So that a slow one is found from the histogram.
            exemplar = {"trace_id": environ[TRACE_ID]} if environ[SAMPLED] else None
            metrics.count_request(route, method, status, seconds, exemplar)
            if is_logged(status):
                line = {
                    "request_id": identifier,
                    "route": route,
                    "method": method if method in METHODS else OTHER,
                    "duration_seconds": round(seconds, 6),
                    "queue_seconds": round(queue_seconds, 6),
                    "rows": environ.get(ROWS, 0),
                    "model_version": model_version,
                }
                for member, key in OPTIONAL:
                    if key in environ:
                        line[member] = environ[key]
                log_request(status, line)

    return observe
