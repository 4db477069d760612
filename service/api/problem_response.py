"""Any exception becomes one form of answer: application/problem+json that says what to do and repeats nothing."""

from http import HTTPStatus

import orjson
from werkzeug.exceptions import HTTPException, MethodNotAllowed

from service.observability.logging import log_bug
from service.observability.request_context import RequestContext
from service.problems import PROBLEM_JSON, ProblemError, problem_body


def problem_response(error: Exception, context: RequestContext) -> tuple[HTTPStatus, dict[str, str], bytes]:
    """Return status, headers and body of the answer to a request that failed with this error.

    What is no refusal of our own or Flask's is a bug: where it happened is logged.
    """
    headers = {"Content-Type": PROBLEM_JSON}
    faults = error.faults if isinstance(error, ProblemError) else ()
    if isinstance(error, ProblemError):
        status, detail = error.status, error.detail
        headers |= error.headers
    elif isinstance(error, HTTPException):
        # Its own words may repeat the caller's, so they are not used.
        status = HTTPStatus(error.code or HTTPStatus.INTERNAL_SERVER_ERROR)
        detail = f"{status.phrase}: the API is described at /openapi.json."
        if isinstance(error, MethodNotAllowed) and error.valid_methods:
            headers["Allow"] = ", ".join(sorted(error.valid_methods))
            detail = f"This path takes {headers['Allow']}."
    else:
        status, detail = HTTPStatus.INTERNAL_SERVER_ERROR, "The service failed on this request; its log says where."
        log_bug(error, "The service failed on this request.", context.request_id, context.trace_id)
    context.problem_code = error.metric_code if isinstance(error, ProblemError) else status.name.lower()
    return status, headers, orjson.dumps(problem_body(status, detail, faults, context.request_id))
