"""The errors that a client can cause, each with its HTTP status. The body is application/problem+json (RFC 9457).

server/worker.py decides the status of requests that never reach the application: malformed, slow, or too many.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import orjson

PROBLEM_JSON = "application/problem+json"

# How many faults one response lists. A client can repair a batch in a few rounds, and the response stays short.
MAX_FAULTS = 20


@dataclass(frozen=True)
class Fault:
    """One invalid place in the request body.

    Args:
        pointer: JSON Pointer (RFC 6901) to the place, such as /X/3/1. It never contains a name from the client.
        code: What is wrong, from a fixed list of codes.
        detail: What to do about it. It never repeats a value of the client.
    """

    pointer: str
    code: str
    detail: str


class ProblemError(Exception):
    """The service cannot answer the request as the client sent it. Subclasses name the condition and its status."""

    status = HTTPStatus.BAD_REQUEST
    code = "bad_request"

    def __init__(self, detail: str, faults: Sequence[Fault] = (), headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.faults = tuple(faults)
        self.headers = dict(headers or {})

    @property
    def metric_code(self) -> str:
        """The code under which the metrics count the error: that of the first fault, otherwise that of the class."""
        return self.faults[0].code if self.faults else self.code


class MalformedBodyError(ProblemError):
    """The body does not match its headers: it is not JSON, its gzip is invalid, or it is cut off."""

    code = "invalid_json"


class BadEncodingError(MalformedBodyError):
    """The compressed body cannot be decompressed."""

    code = "invalid_gzip"


class IncompleteBodyError(MalformedBodyError):
    """The client closed the connection or broke the framing before the body was complete."""

    code = "incomplete_body"


class BodyTooLargeError(ProblemError):
    """The body has more bytes, or more rows, than the settings allow."""

    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    code = "too_large"


class NotFoundError(ProblemError):
    """The service does not have what the request refers to."""

    status = HTTPStatus.NOT_FOUND
    code = "not_found"


class NotAcceptableError(ProblemError):
    """The response cannot have the media type that the client accepts."""

    status = HTTPStatus.NOT_ACCEPTABLE
    code = "not_acceptable"


class UnsupportedMediaTypeError(ProblemError):
    """The service does not support the content type, charset or content coding of the body."""

    status = HTTPStatus.UNSUPPORTED_MEDIA_TYPE
    code = "unsupported_media_type"


class ContractError(ProblemError):
    """The body is JSON, but it violates the model's contract."""

    status = HTTPStatus.UNPROCESSABLE_ENTITY
    code = "contract"


class NotReadyError(ProblemError):
    """The model is not loaded yet, or the server is draining."""

    status = HTTPStatus.SERVICE_UNAVAILABLE
    code = "not_ready"


def contract_error(faults: Sequence[Fault]) -> ContractError:
    """Return the error for these faults, at least one. The first fault gives the detail."""
    first = faults[0]
    where = f"at {first.pointer}: " if first.pointer else ""
    return ContractError(where + first.detail, faults[:MAX_FAULTS])


def raw_problem(
    status: HTTPStatus, detail: str, request_id: str, close: bool = True, headers: Mapping[str, str] | None = None
) -> bytes:
    """Return a complete HTTP response for a request that never reached the application.

    Args:
        status: The status.
        detail: What to do about it.
        request_id: The id of the request in the log.
        close: Whether the response closes its connection.
        headers: More headers.
    """
    body = orjson.dumps(problem_body(status, detail, (), request_id))
    fields = {
        "Connection": "close" if close else "keep-alive",
        "Content-Type": PROBLEM_JSON,
        "Content-Length": len(body),
        "X-Request-ID": request_id,
        **(headers or {}),
    }
    lines = [f"HTTP/1.1 {int(status)} {status.phrase}", *(f"{name}: {value}" for name, value in fields.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + body


def problem_body(status: int, detail: str, faults: Sequence[Fault] = (), request_id: str = "") -> dict[str, Any]:
    """Return the members of a problem document. "error" repeats the detail for Open Inference Protocol clients."""
    body: dict[str, Any] = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": int(status),
        "detail": detail,
        "error": detail,
        "errors": [{"pointer": fault.pointer, "code": fault.code, "detail": fault.detail} for fault in faults],
    }
    if request_id:
        body["request_id"] = request_id
    return body
