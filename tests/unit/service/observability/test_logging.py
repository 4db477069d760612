"""Request ids and log lines."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from service.observability.logging import (
    LEVELS,
    log_bug,
    log_message,
    log_request,
    request_id,
    set_level,
    trace_of,
)
from service.observability.request_context import RequestContext
from tests.conftest import ROOT
from tests.support.corpus import CANARY
from tests.support.log import SCHEMA, VALIDATOR, check_lines

TRACE = "0af7651916cd43dd8448eb211c80319c"
TRACEPARENT = f"00-{TRACE}-b7ad6b7169203331-01"
NEW = re.compile(r"[0-9a-f]{32}")
REQUEST = {
    "request_id": "a",
    "route": "/predict",
    "method": "POST",
    "duration_seconds": 0.001,
    "queue_seconds": 0.0,
    "rows": 1,
    "model_version": "v1",
}
CONTEXT = RequestContext(request_id="a", route="/predict", model_version="v1", n_samples=1)


@pytest.fixture(autouse=True)
def _every_level() -> Iterator[None]:
    """Have each test begin with the level that is the default."""
    yield
    set_level("info")


def ids_of(**headers: str) -> tuple[str, str]:
    """Return trace id and request id of a request with these headers."""
    environ = {f"HTTP_{name.upper()}": value for name, value in headers.items()}
    return trace_of(environ)[0], request_id(environ)


@pytest.mark.parametrize("given", ["a", "order-17", "A.b_c:d/e+f=g@h-1", "x" * 128])
def test_the_callers_id_is_kept(given: str) -> None:
    """A caller finds its request by the name that it gave, and its trace by the trace's."""
    assert ids_of(x_request_id=given, traceparent=TRACEPARENT) == (TRACE, given)


@pytest.mark.parametrize("given", ["", "x" * 129, "a b", 'a"b', "a\nb", "a\n", "é", "<script>", "a\x00"])
def test_an_id_that_could_break_a_log_is_not_kept(given: str) -> None:
    """A new one takes its place."""
    assert NEW.fullmatch(ids_of(x_request_id=given)[1])


@pytest.mark.parametrize("given", [TRACEPARENT, TRACEPARENT[:-2] + "00", "cc" + TRACEPARENT[2:] + "-what-comes-later"])
def test_requests_of_one_trace_have_ids_of_their_own(given: str) -> None:
    """The truth is told by them; later versions of the header may be longer."""
    (trace, one), (_, other) = ids_of(traceparent=given), ids_of(traceparent=given)
    assert trace == TRACE
    assert NEW.fullmatch(one)
    assert TRACE != one != other


@pytest.mark.parametrize(("flags", "recorded"), [("00", False), ("01", True), ("02", False), ("ff", True)])
def test_a_trace_says_whether_it_is_recorded(flags: str, recorded: bool) -> None:
    """Nobody is led to a trace that does not exist."""
    assert trace_of({"HTTP_TRACEPARENT": TRACEPARENT[:-2] + flags}) == (TRACE, recorded)


@pytest.mark.parametrize(
    "given",
    [
        TRACEPARENT.upper(),
        TRACEPARENT[:-1],
        TRACEPARENT.replace(TRACE, "0" * 32),
        TRACEPARENT.replace("b7ad6b7169203331", "0" * 16),
        f"{TRACEPARENT}x",
        f"{TRACEPARENT}-more",
        f"ff{TRACEPARENT[2:]}",
        TRACE,
    ],
)
def test_a_traceparent_that_is_none_is_not_used(given: str) -> None:
    """W3C Trace Context says to ignore it, ids of zeros included."""
    (no_trace, one), (_, other) = ids_of(traceparent=given), ids_of(traceparent=given)
    assert no_trace == ""
    assert NEW.fullmatch(one)
    assert TRACE != one != other


def test_new_ids_differ() -> None:
    """No two requests share one."""
    assert len({ids_of()[1] for _ in range(100)}) == 100


def test_a_request_is_a_line_on_standard_output(capfd: pytest.CaptureFixture[str]) -> None:
    """The time is UTC to the millisecond, the members follow."""
    log_request(CONTEXT, "POST", 200, 0.001)
    output = capfd.readouterr()
    assert (output.out[-1], output.err) == ("\n", "")
    (line,) = check_lines(output.out)
    assert abs((datetime.now(UTC) - datetime.fromisoformat(line.pop("time"))).total_seconds()) < 60
    assert line == {"level": "info", "event": "request", "status": 200, **REQUEST}


def test_messages_and_bugs_are_lines_on_standard_error(capfd: pytest.CaptureFixture[str]) -> None:
    """They say which process speaks; a bug says where it is, the innermost place first, and not what it said."""
    log_message("info", "All is well.")
    try:
        json.loads(CANARY + "x")
    except ValueError as error:
        log_bug(error, "It failed.", "order-17", TRACE)
    output = capfd.readouterr()
    message, bug = check_lines(output.err)
    assert (message["message"], message["process_id"]) == ("All is well.", os.getpid())
    assert (bug["error"], bug["request_id"], bug["trace_id"]) == ("JSONDecodeError", "order-17", TRACE)
    assert [place.partition(":")[0] for place in bug["where"]] == ["decoder.py", "__init__.py", "test_logging.py"]
    assert CANARY not in output.err
    assert output.out == ""


def test_a_line_is_short_enough_to_be_written_at_once(capfd: pytest.CaptureFixture[str]) -> None:
    """Up to 4096 bytes do not mix with what others write: a long message is cut, and so is a deep trace."""

    def recurse(depth: int) -> None:
        if not depth:
            raise RecursionError
        recurse(depth - 1)

    try:
        recurse(500)
    except RecursionError as error:
        log_bug(error, "x" * 5000)
    line = capfd.readouterr().err
    check_lines(line)
    assert len(line) < 4096


@pytest.mark.parametrize(("level", "statuses"), [("info", [200, 404, 503]), ("warning", [404, 503]), ("error", [503])])
def test_what_is_below_the_level_is_not_written(
    level: str, statuses: list[int], capfd: pytest.CaptureFixture[str]
) -> None:
    """Requests and messages have the same levels."""
    set_level(level)
    for status in (200, 404, 503):
        log_request(replace(CONTEXT, problem_code="not_a_number" if status >= 400 else ""), "POST", status, 0.001)
    for word in LEVELS:
        log_message(word, "Something happened.")
    output = capfd.readouterr()
    assert [line["status"] for line in check_lines(output.out)] == statuses
    assert [line["level"] for line in check_lines(output.err)] == list(LEVELS)[-len(statuses) :]


@pytest.mark.parametrize(
    "change",
    [
        {"time": "2026-01-01T00:00:00Z"},
        {"level": "error"},
        {"status": "200"},
        {"route": "/predict?area=1500"},
        {"method": "CANARY"},
        {"rows": 1.5},
        {"code": "not_a_number"},
        {"trace_id": "x"},
        {"body": "x"},
        {"event": "message"},
    ],
    ids=str,
)
def test_the_schema_refuses_what_is_no_line(change: dict[str, Any]) -> None:
    """It is strict: no member more, no level that does not fit the status, no text where there are few words."""
    line = {"time": "2026-01-01T00:00:00.000Z", "level": "info", "event": "request", "status": 200, **REQUEST}
    VALIDATOR.validate(line)
    assert not VALIDATOR.is_valid({**line, **change})


# What others say. In a process of its own, because a process has one log. ---------------------------------------

BEGIN = (
    "import logging.config\nfrom service.observability.logging import LOGGING, begin\n"
    "begin('info')\nlogging.config.dictConfig({'version': 1, **LOGGING})\n"
)


def said_by(code: str) -> tuple[list[dict[str, Any]], subprocess.CompletedProcess[str]]:
    """Return the lines that some code leads to, once the log has begun, and how its process ended."""
    done = subprocess.run([sys.executable, "-c", BEGIN + code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert CANARY not in done.stdout + done.stderr
    return check_lines(done.stdout + done.stderr), done


@pytest.mark.parametrize(
    ("code", "message", "error"),
    [
        (f"import warnings; warnings.warn('{CANARY}')", "gave a warning", "UserWarning"),
        (f"print('{CANARY}')", "printed something", None),
        (f"import sys; sys.stderr.write('{CANARY}\\n')", "printed something", None),
        (f"logging.getLogger('lib').warning('a %s', '{CANARY}')", "logged something", None),
        (f"try: int('{CANARY}x')\nexcept ValueError: logging.exception('{CANARY}')", "logged something", "ValueError"),
        (f"int('{CANARY}x')", "was not caught", "ValueError"),
        (f"import threading; threading.Thread(target=int, args=['{CANARY}x']).start()", "was not caught", "ValueError"),
        (f"class A:\n  def __del__(self): int('{CANARY}x')\nA()", "was not caught", "ValueError"),
        (
            f"try: int('{CANARY}x')\nexcept ValueError: logging.getLogger('gunicorn.error').exception('It failed')",
            "It failed",
            "ValueError",
        ),
    ],
)  # fmt: skip
def test_what_a_library_says_is_left_out_but_for_where_it_was(code: str, message: str, error: str | None) -> None:
    """Its words may be the caller's values; that it spoke, and where, is for whoever looks for the reason."""
    (line,), _ = said_by(code)
    assert message in line["message"]
    assert line.get("error") == error
    assert line["where"]


def test_gunicorn_and_the_exporter_of_traces_are_quoted() -> None:
    """Their messages say nothing of requests; of several lines, the first is quoted, without the trace."""
    lines, _ = said_by(
        "logging.getLogger('gunicorn.error').info('Listening at %s', 'a')\n"
        "logging.getLogger('gunicorn.error').critical('It ended:\\n%s', 'trace')\n"
        "logging.getLogger('opentelemetry.exporter.otlp').error('No collector')\n"
    )
    assert [(line["level"], line["message"]) for line in lines] == [
        ("info", "Listening at a"),
        ("error", "It ended:"),
        ("error", "No collector"),
    ]


def test_debugging_of_libraries_is_not_logged() -> None:
    """Only what they warn of is: logging is theirs, and the log is the operator's."""
    lines, _ = said_by(
        "logging.getLogger('lib').info('x'); logging.getLogger('gunicorn.error').debug('x')\n"
        "logging.getLogger('gunicorn.access').info('x'); logging.getLogger('opentelemetry.trace.span').warning('x')\n"
        "print(); print(' ')\n"
    )
    assert lines == []


# How lines leave a process ------------------------------------------------------------------------------------------


def test_all_lines_are_written_before_a_process_ends() -> None:
    """Those that are still queued when it exits as well, in order; the exit code stays what it is."""
    lines, done = said_by(
        "import sys; from service.observability.logging import log_message\n"
        "for index in range(5000): log_message('info', str(index))\n"
        "sys.exit(3)"
    )
    assert [line["message"] for line in lines] == [str(index) for index in range(5000)]
    assert done.returncode == 3


def test_a_forked_process_writes_its_own_lines_and_not_those_of_its_parent() -> None:
    """The thread that writes exists in the parent only, and lines that are queued there are written there."""
    lines, _ = said_by(
        "import os, sys, warnings; from service.observability.logging import log_message\n"
        "warnings.simplefilter('ignore')  # later Pythons warn of a fork beside a thread\n"
        "for index in range(100): log_message('info', 'parent')\n"
        "child = os.fork()\n"
        "log_message('info', 'parent' if child else 'child')\n"
        "if child: os.waitpid(child, 0)\n"
        "else: sys.exit()"
    )
    assert Counter(line["message"] for line in lines) == {"parent": 101, "child": 1}
    assert len({line["process_id"] for line in lines}) == 2


# What is written about it ------------------------------------------------------------------------------------------

PAGE = (ROOT / "docs/reference/logs.md").read_text()
EXAMPLES = "".join(re.findall(r"^```json\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE))


def test_the_examples_of_the_page_are_lines() -> None:
    """They came from a server, and are of the schema as it is now."""
    lines = check_lines(EXAMPLES)
    assert {line["event"] for line in lines} == {"request", "message"}


def test_the_page_tells_of_every_member() -> None:
    """And the schema describes it."""
    members = {name for event in SCHEMA["$defs"].values() for name in event.get("properties", {})}
    assert len(members) > 10
    assert [name for name in sorted(members) if f"`{name}`" not in PAGE] == []


@pytest.mark.skipif(not shutil.which("jq"), reason="jq is not installed")
def test_the_questions_of_the_page_are_answered(tmp_path: Path) -> None:
    """Each command runs, and finds something in a log with lines of every kind."""
    bug = {"event": "bug", "error": "KeyError", "where": ["views.py:1 predict"]}
    (tmp_path / "log").write_text(EXAMPLES + json.dumps(bug) + "\n")
    commands = [line for line in PAGE.splitlines() if line.startswith("jq ")]
    assert len(commands) >= 4
    for command in commands:
        done = subprocess.run(["sh", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=True)
        assert done.stdout, command
        assert not done.stderr, command
