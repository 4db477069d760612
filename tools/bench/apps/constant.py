"""The unit: an application that reads a body and answers the same bytes each time, without any framework."""

import os
from collections.abc import Callable, Iterable
from typing import Any

ANSWER = os.environ["ANSWER"].encode()
HEADERS = [("Content-Type", "application/json"), ("Content-Length", str(len(ANSWER)))]


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Answer any request."""
    environ["wsgi.input"].read()
    start_response("200 OK", HEADERS)
    return [ANSWER]
