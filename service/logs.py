"""One JSON line a request on standard output, and the id by which a request is found again."""

import os
import re
import secrets
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import orjson

STANDARD_OUTPUT = 1
REQUEST_ID = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")  # what can stand in a header and a log line as it is
TRACEPARENT = re.compile(r"[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(-.*)?")


def request_id(header: Callable[[str, str], str]) -> str:
    """Return the caller's X-Request-ID, else the trace id of its traceparent (W3C Trace Context), else a new id.

    Args:
        header: Gives a header by its name, or what is to stand in for it.
    """
    given = header("X-Request-ID", "")
    if REQUEST_ID.fullmatch(given):
        return given
    if trace := TRACEPARENT.fullmatch(header("traceparent", "")):
        return trace.group(1)
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
