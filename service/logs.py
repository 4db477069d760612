"""One JSON line a request on standard output, and the id by which a request is found again."""

import os
import re
import secrets
from datetime import UTC, datetime
from typing import Any
from wsgiref.types import WSGIEnvironment

import orjson

STANDARD_OUTPUT = 1
REQUEST_ID = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")  # what can stand in a header and a log line as it is
TRACEPARENT = re.compile(r"[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(-.*)?")


def request_id(environ: WSGIEnvironment) -> str:
    """Return the caller's X-Request-ID, else the trace id of its traceparent (W3C Trace Context), else a new id."""
    given = environ.get("HTTP_X_REQUEST_ID", "")
    if given and REQUEST_ID.fullmatch(given):
        return str(given)
    trace = environ.get("HTTP_TRACEPARENT", "")
    if trace and (match := TRACEPARENT.fullmatch(trace)):
        return match.group(1)
    return new_request_id()


def new_request_id() -> str:
    """Return an id for a request whose caller gave none."""
    return secrets.token_hex(16)


def log_request(**members: Any) -> None:
    """Write one line; one system call, so that lines of several threads and processes never mix."""
    time = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    line = orjson.dumps({"time": time, **members}, option=orjson.OPT_APPEND_NEWLINE)
    try:
        os.write(STANDARD_OUTPUT, line)
    except OSError:
        return  # whoever read the log is gone; the answer matters more
