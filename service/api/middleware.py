"""WSGI middleware around the whole application. It gives every request an id, counts it, and logs one line."""

import time
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from service.observability.logging import log_request, request_id, trace_of
from service.observability.metrics import Metrics
from service.observability.request_context import UNMATCHED, request_context


def with_access_log(
    application: WSGIApplication, has_route: Callable[[str], bool], model_version: str, metrics: Metrics
) -> WSGIApplication:
    """Return the application with every request logged and counted.

    Args:
        application: The application.
        has_route: Returns whether a path has a route. It is used if no route accepts the method of the request.
        model_version: The model version for the log lines.
        metrics: Counts the requests.
    """

    def answer(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        started = time.perf_counter()
        context = request_context(environ)
        context.model_version = model_version
        context.request_id = identifier = request_id(environ)
        if not context.trace_id:
            context.trace_id, context.sampled = trace_of(environ)
        status = int(HTTPStatus.INTERNAL_SERVER_ERROR)

        def start(line: str, headers: list[tuple[str, str]], *error: Any) -> Any:
            nonlocal status
            status = int(line[:3])
            headers.append(("X-Request-ID", identifier))
            return start_response(line, headers, *error)

        try:
            return application(environ, start)
        finally:
            seconds = time.perf_counter() - started + context.queue_seconds
            if not context.route:
                path = environ["PATH_INFO"]
                context.route = path if has_route(path) else UNMATCHED
            if status >= HTTPStatus.BAD_REQUEST and not context.problem_code:
                context.problem_code = _code_of(status)  # an extension refused it, or a signal ended the process
            method = environ["REQUEST_METHOD"]
            # An exemplar in the histogram leads to the trace of a slow request.
            exemplar = {"trace_id": context.trace_id} if context.sampled else None
            metrics.count_request(context.route, method, status, seconds, exemplar)
            log_request(context, method, status, seconds)

    return answer


def _code_of(status: int) -> str:
    try:
        return HTTPStatus(status).name.lower()
    except ValueError:
        return "unknown_status"
