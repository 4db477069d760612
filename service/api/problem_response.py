"""Turns any exception into an application/problem+json response that repeats nothing from the request."""

from http import HTTPStatus

import orjson
from werkzeug.exceptions import HTTPException, MethodNotAllowed

from service.observability.logging import log_bug
from service.observability.request_context import RequestContext
from service.problems import PROBLEM_JSON, ProblemError, problem_body


def problem_response(error: Exception, context: RequestContext) -> tuple[HTTPStatus, dict[str, str], bytes]:
    """Return status, headers and body of the response to a request that failed with this error.

    An exception that is neither a ProblemError nor from Flask is a bug. The log says where it happened.
    """
    headers = {"Content-Type": PROBLEM_JSON}
    faults = error.faults if isinstance(error, ProblemError) else ()
    if isinstance(error, ProblemError):
        status, detail = error.status, error.detail
        headers |= error.headers
    elif isinstance(error, HTTPException):
        # Flask's description may repeat parts of the request, so it is not used.
        status = HTTPStatus(error.code or HTTPStatus.INTERNAL_SERVER_ERROR)
        detail = f"{status.phrase}: the API is described at /openapi.json."
        if isinstance(error, MethodNotAllowed) and error.valid_methods:
            headers["Allow"] = ", ".join(sorted(error.valid_methods))
            detail = f"This path accepts only {headers['Allow']}."
    else:
        status, detail = HTTPStatus.INTERNAL_SERVER_ERROR, "The service failed on this request; its log says where."
        log_bug(error, "The service failed on this request.", context.request_id, context.trace_id)
    context.problem_code = error.metric_code if isinstance(error, ProblemError) else status.name.lower()
    return status, headers, orjson.dumps(problem_body(status, detail, faults, context.request_id))
