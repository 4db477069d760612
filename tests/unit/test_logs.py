"""Request ids and log lines."""

import json
import os
import re
from datetime import UTC, datetime

import pytest

from service.logs import log_request, request_id

TRACE = "0af7651916cd43dd8448eb211c80319c"
TRACEPARENT = f"00-{TRACE}-b7ad6b7169203331-01"
NEW = re.compile(r"[0-9a-f]{32}")


def id_of(**headers: str) -> str:
    """Return the id of a request with these headers."""
    return request_id({f"HTTP_{name.upper()}": value for name, value in headers.items()})


@pytest.mark.parametrize("given", ["a", "order-17", "A.b_c:d/e+f=g@h-1", "x" * 128])
def test_the_callers_id_is_kept(given: str) -> None:
    """A caller finds its request by the name that it gave."""
    assert id_of(x_request_id=given, traceparent=TRACEPARENT) == given


@pytest.mark.parametrize("given", ["", "x" * 129, "a b", 'a"b', "a\nb", "a\n", "é", "<script>", "a\x00"])
def test_an_id_that_could_break_a_log_is_not_kept(given: str) -> None:
    """A new one takes its place."""
    assert NEW.fullmatch(id_of(x_request_id=given))


@pytest.mark.parametrize("given", [TRACEPARENT, TRACEPARENT[:-2] + "00", "cc" + TRACEPARENT[2:] + "-what-comes-later"])
def test_the_trace_id_stands_in(given: str) -> None:
    """Tracing and logs meet in one id; later versions of the header may be longer."""
    assert id_of(traceparent=given) == TRACE
    assert id_of(traceparent=given, x_request_id="not valid") == TRACE


@pytest.mark.parametrize(
    "given",
    [
        TRACEPARENT.upper(),
        TRACEPARENT[:-1],
        TRACEPARENT.replace(TRACE, "0" * 32),
        TRACEPARENT.replace("b7ad6b7169203331", "0" * 16),
        f"{TRACEPARENT}x",
        TRACE,
    ],
)
def test_a_traceparent_that_is_none_is_not_used(given: str) -> None:
    """W3C Trace Context says to ignore it, ids of zeros included."""
    one, other = id_of(traceparent=given), id_of(traceparent=given)
    assert NEW.fullmatch(one)
    assert TRACE != one != other


def test_new_ids_differ() -> None:
    """No two requests share one."""
    assert len({id_of() for _ in range(100)}) == 100


def test_a_line_is_json_with_a_time(capfd: pytest.CaptureFixture[str]) -> None:
    """The time is UTC to the millisecond, the members follow."""
    log_request(route="/predict", status=200)
    line = capfd.readouterr().out
    assert line.endswith("\n")
    members = json.loads(line)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", members["time"])
    assert abs((datetime.now(UTC) - datetime.fromisoformat(members.pop("time"))).days) == 0
    assert members == {"route": "/predict", "status": 200}


def test_a_log_that_nobody_reads_stops_no_request() -> None:
    """With the reader gone, the line is lost and the answer is not."""
    standard_output = os.dup(1)
    reader, writer = os.pipe()
    os.dup2(writer, 1)
    os.close(reader)
    try:
        log_request(status=200)
    finally:
        os.dup2(standard_output, 1)
        os.close(standard_output)
        os.close(writer)
