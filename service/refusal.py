"""Any exception becomes one form of answer: application/problem+json that says what to do and repeats nothing."""

import sys
import traceback
from http import HTTPStatus
from pathlib import Path

import orjson
from werkzeug.exceptions import HTTPException, MethodNotAllowed

from service.errors import PROBLEM_JSON, ProblemError, problem_body


def refusal(error: Exception, request_id: str) -> tuple[HTTPStatus, dict[str, str], bytes]:
    """Return status, headers and body of the answer to a request that failed with this error.

    What is no refusal of our own or Flask's is a bug: where it happened is written to standard error.
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
        _log_bug(error, request_id)
    return status, headers, orjson.dumps(problem_body(status, detail, faults, request_id))


def _log_bug(error: Exception, request_id: str) -> None:
    """Write where it happened; not the message, which may hold the caller's values."""
    frames = "\n".join(
        f"  {Path(frame.filename).name}:{frame.lineno} {frame.name}"
        for frame in traceback.extract_tb(error.__traceback__)
    )
    sys.stderr.write(f"Request {request_id} failed with {type(error).__name__}:\n{frames}\n")
