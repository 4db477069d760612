"""What every refusal has in common, whichever endpoint and whichever server it comes from."""

import json
from http import HTTPStatus
from typing import Any

MEMBERS = {"type", "title", "status", "detail", "error", "errors"}


def check_problem(status: int, content_type: str | None, body: bytes) -> dict[str, Any]:
    """Return an RFC 9457 document, once it agrees with itself and with the HTTP status that it came with."""
    assert content_type == "application/problem+json"
    problem: dict[str, Any] = json.loads(body)
    assert problem.keys() - {"request_id"} == MEMBERS
    assert problem["type"] == "about:blank"
    assert problem["title"] == HTTPStatus(status).phrase
    assert problem["status"] == status
    assert problem["error"] == problem["detail"]
    assert all(fault.keys() == {"pointer", "code", "detail"} for fault in problem["errors"])
    return problem
