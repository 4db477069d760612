"""Writes the log: JSON lines of one schema, docs/reference/log.schema.json. docs/reference/logs.md explains them.

A log line contains nothing from a request. Messages of other libraries (warnings, log records, prints, exceptions) may
contain values, so they are left out. The line says where they came from instead.
"""

import atexit
import io
import logging
import os
import re
import secrets
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache, partial
from itertools import islice
from pathlib import Path
from types import FrameType
from typing import Any, TextIO
from wsgiref.types import WSGIEnvironment

import orjson

from service.observability.log_queue import LogQueue, write_all
from service.observability.request_context import METHODS, OTHER_METHOD, RequestContext
from service.settings import LOG_LEVELS

STANDARD_OUTPUT = 1
STANDARD_ERROR = 2
STREAMS = {STANDARD_OUTPUT: "stdout", STANDARD_ERROR: "stderr"}  # as the metric of dropped lines names them
# Of a busy server, waking the writer for the line of each request would take almost half as much CPU again as the
# requests do. Messages are few, and the last ones before a crash matter most.
BATCH_SECONDS = {STANDARD_OUTPUT: 0.02, STANDARD_ERROR: 0.0}
FLUSH_SECONDS = 1.0  # how long a process that ends waits for a reader
# Each with the lowest status of a request that is logged at it.
LEVELS = dict(zip(LOG_LEVELS, (0, 400, 500), strict=True))
REQUEST_ID = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")  # what can stand in a header and a log line as it is
# Version ff is none, and version 00 ends after its 55 characters.
TRACEPARENT = re.compile(
    r"(?!ff|00.{54})[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-([0-9a-f]{2})(-.*)?", re.ASCII
)
SAMPLED = 1  # the flag of a trace that is recorded
# A line is one write, and writes of several processes to one pipe do not mix up to 4096 bytes, see pipe(7).
MAX_MESSAGE_CHARACTERS = 1000
MAX_PLACES = 20
MAX_PLACE_CHARACTERS = 100
# Their messages say nothing of requests: Gunicorn's (service/server/worker.py handles requests in its place), and those
# of the exporter of traces, whose spans hold no values.
TRUSTED_LOGGERS = ("gunicorn.error", "opentelemetry.exporter", "opentelemetry.sdk")
LEFT_OUT = "which is left out, because it may repeat a request"

_least = LEVELS["info"]
# Of each stream, in a server. Other commands have none: they write directly, and may wait for their reader.
_queues: dict[int, LogQueue] = {}


def set_level(level: str) -> None:
    """Set the lowest level that this process logs."""
    global _least
    _least = LEVELS[level]


# Requests -----------------------------------------------------------------------------------------------------


def trace_of(environ: WSGIEnvironment) -> tuple[str, bool]:
    """Return the trace id of the caller's traceparent (W3C Trace Context), or "", and whether it is recorded."""
    trace = environ.get("HTTP_TRACEPARENT", "")
    if trace and (match := TRACEPARENT.fullmatch(trace)):
        return match.group(1), bool(int(match.group(2), 16) & SAMPLED)
    return "", False


def request_id(environ: WSGIEnvironment) -> str:
    """Return the caller's X-Request-ID, else a new id; not that of its trace, which may hold many requests."""
    given = environ.get("HTTP_X_REQUEST_ID", "")
    if given and REQUEST_ID.fullmatch(given):
        return str(given)
    return new_request_id()


def new_request_id() -> str:
    """Return an id for a request whose caller gave none."""
    return secrets.token_hex(16)


def log_request(context: RequestContext, method: str, status: int, seconds: float, error: str = "") -> None:
    """Write the access log line of a request, if its level is written.

    Args:
        context: What is known of the request.
        method: Its HTTP method; one that is the caller's own word is not repeated.
        status: The status of its answer.
        seconds: From the whole request to the answer.
        error: The class of the parser's exception, of a request that is not HTTP.
    """
    if status < _least:
        return
    line = {
        "time": _now(),
        "level": "info" if status < LEVELS["warning"] else "warning" if status < LEVELS["error"] else "error",
        "event": "request",
        "status": status,
        "request_id": context.request_id,
        "route": context.route,
        "method": method if method in METHODS else OTHER_METHOD,
        "duration_seconds": round(seconds, 6),
        "queue_seconds": round(context.queue_seconds, 6),
        "rows": context.n_samples,
        "model_version": context.model_version,
    }
    if context.trace_id:
        line["trace_id"] = context.trace_id
    if context.span_id:
        line["span_id"] = context.span_id
    if context.problem_code:
        line["code"] = context.problem_code
    if error:
        line["error"] = error
    _write_line(STANDARD_OUTPUT, line)


# Messages -----------------------------------------------------------------------------------------------------


def log_message(level: str, message: str, error: str = "", where: list[str] | None = None) -> None:
    """Write a message of the server, if its level is written.

    Args:
        level: info, warning or error.
        message: What to tell; nothing of a request.
        error: The class of the exception or warning that it is about.
        where: The places in the code, the innermost first.
    """
    _log("message", level, message, {}, error, where)


def log_bug(error: BaseException, message: str, request_id: str = "", trace_id: str = "") -> None:
    """Write where the code failed; not the exception's own words, which may hold the caller's values.

    Args:
        error: What was raised.
        message: What failed.
        request_id: Of the request that it failed on.
        trace_id: Of its trace.
    """
    ids = {name: value for name, value in (("request_id", request_id), ("trace_id", trace_id)) if value}
    _log("bug", "error", message, ids, type(error).__name__, where_raised(error))


def where_raised(error: BaseException) -> list[str]:
    """Return the places in the code that an exception came through, the innermost first."""
    frames = [(frame, line) for frame, line in traceback.walk_tb(error.__traceback__)]
    return _places(reversed(frames))


def _log(event: str, level: str, message: str, ids: dict[str, str], error: str, where: list[str] | None) -> None:
    if LEVELS[level] < _least:
        return
    sentence = message.partition("\n")[0][:MAX_MESSAGE_CHARACTERS]  # behind it, Gunicorn puts traces
    line = {"time": _now(), "level": level, "event": event, "process_id": os.getpid(), "message": sentence, **ids}
    if error:
        line["error"] = error
    if where:
        line["where"] = where
    _write_line(STANDARD_ERROR, line)


def _places(frames: Iterator[tuple[FrameType, int]]) -> list[str]:
    return [
        f"{Path(frame.f_code.co_filename).name}:{line} {frame.f_code.co_name}"[:MAX_PLACE_CHARACTERS]
        for frame, line in islice(frames, MAX_PLACES)
    ]


def _now() -> str:
    seconds, nanoseconds = divmod(time.time_ns(), 1_000_000_000)
    return f"{_second(seconds)}.{nanoseconds // 1_000_000:03}Z"


@lru_cache(maxsize=1)  # in which there are many lines
def _second(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))


def write_text(text: str) -> None:
    """Write text for a person at a terminal to standard error, in order with the lines."""
    _write(STANDARD_ERROR, text.encode())


def _write_line(stream: int, line: dict[str, Any]) -> None:
    _write(stream, orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))


def _write(stream: int, text: bytes) -> None:
    if queue := _queues.get(stream):
        queue.put(text)
    else:
        with suppress(OSError):  # the reader is gone
            write_all(stream, text)


# The queues of a server ---------------------------------------------------------------------------------------


def dropped_lines() -> dict[str, int]:
    """Return how many lines this process dropped since the last call, by stream; nothing where there are no queues."""
    return {STREAMS[stream]: queue.take_dropped() for stream, queue in _queues.items()}


def _begin_queues() -> None:
    """Make queues for this process; those of its parent are written by its parent."""
    for stream, name in STREAMS.items():
        _queues[stream] = LogQueue(stream, BATCH_SECONDS[stream], partial(_report_dropped, name))


def _report_dropped(name: str, n_lines: int) -> None:
    log_message("warning", f"The reader of {name} was too slow or away: {n_lines} lines were dropped.")


def _flush() -> None:
    deadline = time.monotonic() + FLUSH_SECONDS
    for queue in _queues.values():
        queue.flush(deadline)


# What others say ----------------------------------------------------------------------------------------------


def begin(level: str) -> None:
    """Have all that Python code says in this process, and in those that it forks, become lines of the log.

    From now on lines are queued and written by a thread, which each process starts for itself; the master as well,
    because one that waits for a reader replaces no process and does not stop. What is queued is written at the exit.

    Args:
        level: The lowest that is written.
    """
    set_level(level)
    _begin_queues()
    os.register_at_fork(after_in_child=_begin_queues)
    atexit.register(_flush)
    warnings.showwarning = _log_warning
    sys.excepthook = _log_uncaught
    sys.unraisablehook = lambda unraisable: _log_uncaught(None, unraisable.exc_value)
    threading.excepthook = lambda failed: _log_uncaught(None, failed.exc_value)
    sys.stdout = sys.stderr = _Printed()


class Handler(logging.Handler):
    """Makes lines of the records of Python's logging, which Gunicorn and libraries use."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write the line of a record."""
        level = (
            "error" if record.levelno >= logging.ERROR else "warning" if record.levelno >= logging.WARNING else "info"
        )
        message, where = f"A library logged something, {LEFT_OUT}.", [f"{record.filename}:{record.lineno}"]
        if record.name.startswith(TRUSTED_LOGGERS):
            message, where = record.getMessage(), []
        error = record.exc_info[1] if record.exc_info else None
        if error is None:
            log_message(level, message, "", where)
        else:
            log_message(level, message, type(error).__name__, where_raised(error))


# Gunicorn's option logconfig_dict, see logging.config. No record of Gunicorn's access log is ever made.
LOGGING = {
    "disable_existing_loggers": False,
    "handlers": {"lines": {"()": Handler}},
    "root": {"level": "WARNING", "handlers": ["lines"]},
    "loggers": {
        "gunicorn.error": {"level": "INFO", "handlers": [], "propagate": True},
        "gunicorn.access": {"handlers": [], "propagate": False},
        # Warns of traceparent and tracestate headers that are none, which is the clients' matter.
        "opentelemetry.trace": {"level": "ERROR"},
    },
}


class _Printed(io.TextIOBase):
    """Stands for Python's standard streams: what is printed is no line of the log, and may hold values."""

    def write(self, text: str) -> int:
        if text.strip():
            frames = traceback.walk_stack(sys._getframe(1))
            log_message("warning", f"A library printed something, {LEFT_OUT}.", where=_places(frames))
        return len(text)


def _log_warning(
    message: Warning | str,  # noqa: ARG001 - the warnings module decides what is given
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,  # noqa: ARG001
    line: str | None = None,  # noqa: ARG001
) -> None:
    where = [f"{Path(filename).name}:{lineno}"]
    log_message("warning", f"A library gave a warning, {LEFT_OUT}.", category.__name__, where)


def _log_uncaught(_kind: Any, error: BaseException | None, *_more: Any) -> None:
    if error is not None:
        log_bug(error, "An exception was not caught.")
