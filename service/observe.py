"""Every request, whichever way it takes through the application, gets an id, is counted and becomes one log line."""

import time
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from service.logs import TRACEPARENT, log_request, request_id
from service.metrics import Metrics
from service.series import UNMATCHED

# What the application and this module tell each other, in the environ of a request.
REQUEST_ID = "bakehouse.request_id"  # how the request is found again; set before the application is asked
ROUTE = "bakehouse.route"  # the pattern of the route that answers, as far as one does
ROWS = "bakehouse.rows"  # how many rows were predicted
QUEUE_SECONDS = "bakehouse.queue_seconds"  # how long the request waited for a thread, if it did; set by the worker


def observed(
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
            metrics.count_request(route, method, status, seconds, _exemplar(environ))
            log_request(
                request_id=identifier,
                route=route,
                method=method if route != UNMATCHED else "",
                status=status,
                duration_seconds=round(seconds, 6),
                queue_seconds=round(queue_seconds, 6),
                rows=environ.get(ROWS, 0),
                model_version=model_version,
            )

    return observe


def _exemplar(environ: WSGIEnvironment) -> dict[str, str] | None:
    """Return the trace that the request belongs to, so that a slow one is found from the histogram."""
    trace = environ.get("HTTP_TRACEPARENT")
    match = TRACEPARENT.fullmatch(trace) if trace else None
    return {"trace_id": match[1]} if match else None
