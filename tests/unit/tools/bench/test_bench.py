"""tools.bench: its arithmetic, its comparison of answers, and that the page says what was measured."""

import asyncio
import http.client
import io
import json
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from service.observability.drift import Drift
from service.settings import Settings
from tests.conftest import ArtifactOf
from tools import ROOT
from tools.bench import picture as drawing
from tools.bench.__main__ import PAGE, PICTURE, RESULTS, main
from tools.bench.apps import wide
from tools.bench.client import (
    Crowd,
    NotServedError,
    WrongAnswerError,
    ask,
    one_by_one,
    predictions,
    require_wrk,
    same_predictions,
    wrk,
)
from tools.bench.measure import drift_call, many_calls_us, median_ratio, medians
from tools.bench.models import FILES, JSON, LOGISTIC, NPY, BenchError, Model, Request
from tools.bench.report import (
    Line,
    block,
    growth_tables,
    lines,
    main_table,
    number,
    rises,
    sentences,
    table,
    with_numbers,
)
from tools.bench.servers import Windows, cpu_seconds, descendants, ours, proportional_bytes
from tools.local_http import send

REQUEST = Request(b'{"X": [[1]]}', JSON, [2.0])
RIGHT, WRONG = b'{"y_pred":[2.0]}', b'{"y_pred":[3.0]}'
WHITE, BLACK = "#ffffff", "#0d1117"  # the pages of GitHub
needs_wrk = pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed")


@contextmanager
def server_of(*answers: tuple[int, bytes]) -> Iterator[int]:
    """Run a server that gives these answers in turn, the last one for ever, and give its port; no status: no answer."""
    left = list(answers)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            status, body = left.pop(0) if len(left) > 1 else left[0]
            if not status:
                self.close_connection = True
                return
            self.send_response(status)
            if status == http.HTTPStatus.SERVICE_UNAVAILABLE:
                self.send_header("Retry-After", "1")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_args: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


def test_a_ratio_is_the_median_of_the_ratios_of_each_turn():
    """A turn in which the whole machine was slow counts like any other; the ratio of medians would mix turns."""
    ours = [{"cpu_us": 20.0}, {"cpu_us": 300.0}, {"cpu_us": 50.0}]
    unit = [{"cpu_us": 10.0}, {"cpu_us": 100.0}, {"cpu_us": 50.0}]
    assert median_ratio(ours, unit) == 2.0
    assert medians(ours) == {"cpu_us": 50.0}


def test_a_target_is_met_as_measured_and_not_as_rounded():
    """1.302 is shown as 1.3 and is more than 1.3."""
    assert Line("a", "units", 1.3, target=1.3).verdict == "met"
    assert Line("a", "units", 1.302, target=1.3).verdict == "missed"
    assert number(1.302) == "1.3"
    assert Line("a", "units", 5.0).verdict == ""


def test_what_is_not_served_misses_its_target():
    """A number that is missing is no small number."""
    assert Line("a", "units", None, target=2.5, note="not served (415)").verdict == "missed"


def test_numbers_have_three_digits_that_say_something():
    """More would be noise."""
    assert [number(value) for value in (None, 0.0, 0.01234, 1.0, 12.345, 1234.5)] == [
        "", "0", "0.0123", "1", "12.3", "1234"
    ]  # fmt: skip


def test_a_table_is_aligned():
    """It is read in a terminal as well."""
    assert table(("what", "ours"), [("a", "1"), ("longer", "12.34")]).splitlines() == [
        "| what   |  ours |",
        "| ------ | ----: |",
        "| a      |     1 |",
        "| longer | 12.34 |",
    ]


def test_growth_counts_each_step_that_does_not_fall():
    """The target is none from 1 to 10,000 rows."""
    assert rises({"1": 9.0, "10": 4.0, "100": 3.0, "1000": 2.0, "10000": 1.0}) == []
    assert rises({"1": 9.0, "10": 4.0, "100": 4.0, "1000": 2.0, "10000": 2.5}) == [(10, 100), (1000, 10_000)]


def test_one_part_alone_is_reported():
    """Python -m tools.bench --only start prints a table of one line."""
    results = {"start": {"seconds": 0.8, "seconds_turns": [0.8]}}
    assert [(line.ours, line.verdict) for line in lines(results)] == [(0.8, "met")]
    assert (
        main_table(results).splitlines()[-1]
        == "| house_prices: start to ready |  0.8 |          |  s | at most 1 | met |"
    )
    assert growth_tables(results) == {}


def test_drift_is_reported_as_a_share_of_each_request_and_by_its_scrape():
    """What the targets are about; the sentence says of how much the share is."""
    part = {
        "requests": {"wide 1 row, JSON": {"alone_us": 1.5, "cpu_us": 150.0, "alone_share": 0.01, "share": 0.04}},
        "scrape_ms": 12.0,
        "scrape_bytes": 160_000,
        "series": 1400,
    }
    found = [(line.case, line.ours, line.unit, line.verdict) for line in lines({"drift": part})]
    assert found == [
        ("wide 1 row, JSON: counting for drift, calls alone", 1.0, "%", "met"),
        ("wide 1 row, JSON: counting for drift, in the server", 4.0, "%", "missed"),
        ("scrape with drift of 50 features, CPU", 12.0, "ms", "missed"),
    ]
    (told,) = sentences({"drift": part})
    assert "1.5 µs of 150 for wide 1 row, JSON" in told
    assert "1400 series, 160000 bytes" in told


def test_the_drift_of_a_request_is_that_of_the_service(artifact_of: ArtifactOf):
    """The bench calls what the server calls, with the columns and the answers of a real request."""
    model = Model(LOGISTIC, artifact_of(LOGISTIC))
    call = drift_call(model, 3)
    assert many_calls_us(call, 2) > 0
    (counting,) = [cell.cell_contents for cell in call.__closure__ if isinstance(cell.cell_contents, Drift)]
    text = counting.exposition(False).decode()
    counts = [float(line.rpartition(" ")[2]) for line in text.splitlines() if "prediction_rows_total{" in line]
    assert sum(counts) == 6


def test_a_server_counts_for_drift_in_every_other_window_and_notes_each(artifact_of: ArtifactOf, tmp_path: Path):
    """Windows of five requests, two to get warm and two that are compared; a request more begins a further one."""
    model, windows = Model(LOGISTIC, artifact_of(LOGISTIC)), Windows(5, tmp_path / "windows")
    request = model.json_request(1)
    with ours(model, windows=windows) as server:
        for _ in range(21):
            ask(server.port, request)
        text = send(server.health_port, "GET", "/metrics").body.decode()
        ((counting, without),) = windows.pairs()
    counts = [float(line.rpartition(" ")[2]) for line in text.splitlines() if "prediction_rows_total{" in line]
    assert sum(counts) == 11
    assert min(counting, without) > 0


def test_every_model_of_the_bench_has_its_file():
    """And the one that is not shipped has as many features as the page says, more than are watched."""
    assert [path for path in FILES.values() if not (ROOT / path).is_file()] == []
    assert wide.load()[0].shape[1] == 4 * Settings().drift_features == 200


def test_numbers_may_differ_in_the_last_digits_and_labels_may_not():
    """Engines that are not exact are held to the estimator within a millionth."""
    assert same_predictions([1.0000001, 2.0], [1.0, 2.0])
    assert not same_predictions([1.00001, 2.0], [1.0, 2.0])
    assert not same_predictions([1.0], [1.0, 2.0])
    assert same_predictions(["Adelie", 3], ["Adelie", 3])
    assert not same_predictions(["Adelie", 3], ["Adelie", 4])


def test_answers_are_read_as_json_and_as_numpy():
    """A server may answer a matrix with an array."""
    file = io.BytesIO()
    np.save(file, np.array([1.5, 2.5]))
    assert predictions(NPY, file.getvalue()) == [1.5, 2.5]
    assert predictions(JSON, b'{"y_pred": [1.5]}') == [1.5]


def test_the_first_answer_is_held_to_the_estimator():
    """All later ones are compared with it."""
    with server_of((200, RIGHT), (200, WRONG), (500, RIGHT), (415, b"")) as port:
        assert ask(port, REQUEST) == RIGHT
        with pytest.raises(WrongAnswerError, match="not the estimator's"):
            ask(port, REQUEST)
        with pytest.raises(WrongAnswerError, match="answered 500"):
            ask(port, REQUEST)
        with pytest.raises(NotServedError):
            ask(port, REQUEST)


def test_one_wrong_answer_among_many_ends_the_count():
    """A server that is fast and wrong is not measured."""
    with (
        server_of((200, RIGHT), (200, RIGHT), (200, WRONG)) as port,
        pytest.raises(WrongAnswerError, match=re.escape(str(WRONG))),
    ):
        one_by_one(port, REQUEST, RIGHT, seconds=60)


@needs_wrk
def test_one_wrong_answer_among_many_ends_the_load():
    """The script of wrk compares every answer, and refusals are counted apart."""
    with server_of((200, RIGHT), (503, b""), (200, RIGHT)) as port:
        load = wrk(port, REQUEST, RIGHT, connections=2, seconds=1)
    assert load.answered > 1
    assert load.refused == 1
    with (
        server_of((200, RIGHT), (200, WRONG), (200, RIGHT)) as port,
        pytest.raises(WrongAnswerError, match="1 wrong, and 0 connections failed"),
    ):
        wrk(port, REQUEST, RIGHT, connections=2, seconds=1)


def test_a_crowd_counts_what_became_of_each_request():
    """Refusals are fine under overload; wrong answers and broken connections are told apart from them."""
    answers = [(200, RIGHT), (503, b""), (200, WRONG), (0, b""), (200, RIGHT)]
    with server_of(*answers) as port:
        crowd = Crowd(port, REQUEST, RIGHT)
        tally = asyncio.run(crowd.open_loop(per_second=50, seconds=0.5, most_in_flight=1000))
    assert (tally.offered, tally.withheld) == (25, 0)
    assert (tally.good, tally.refused, tally.wrong, tally.broken, tally.hanging) == (22, 1, 1, 1, 0)


def test_a_crowd_sends_no_more_than_it_may_have_in_flight():
    """A client has an end of connections too; what it holds back is counted."""
    with server_of((200, RIGHT)) as port:
        tally = asyncio.run(Crowd(port, REQUEST, RIGHT).open_loop(per_second=1e6, seconds=0.01, most_in_flight=1))
    assert tally.withheld > 0
    assert tally.good == tally.offered >= 1


def test_the_cpu_time_of_a_process_counts_threads_that_have_ended():
    """A server that used a thread for each request would look free otherwise."""
    code = """
import threading, time
def work():
    while time.thread_time() < 0.2: pass
thread = threading.Thread(target=work); thread.start(); thread.join()
print(time.process_time(), flush=True); input()
"""
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        said = float(process.stdout.readline())
        assert said >= 0.2
        assert cpu_seconds(process.pid) >= said
        assert proportional_bytes(process.pid) > 1_000_000
        process.communicate("\n")


def test_processes_of_a_server_are_found_through_their_parents():
    """The master's children do the work."""
    child_code = "print(2, flush=True); input()"
    code = f"import subprocess, sys; print(1, flush=True); subprocess.run([sys.executable, '-c', {child_code!r}])"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert (process.stdout.readline(), process.stdout.readline()) == (b"1\n", b"2\n")
        parent, child = descendants(process.pid)
        assert (parent, descendants(child)) == (process.pid, [child])
        process.communicate(b"\n")


def test_a_missing_wrk_is_one_sentence_that_says_how_to_get_it(monkeypatch, tmp_path, capsys):
    """Make bench ends with it."""
    with pytest.raises(BenchError, match="apt-get install wrk"):
        require_wrk(str(tmp_path))
    with monkeypatch.context() as context:
        context.setenv("PATH", str(tmp_path))
        assert main([]) == 1
    assert capsys.readouterr().err.splitlines() == [
        "make bench needs wrk, which is not on the PATH: install it with `apt-get install wrk` on Debian or Ubuntu, "
        "or `brew install wrk` on macOS."
    ]


def test_the_page_says_what_was_measured():
    """Python -m tools.bench --render would change nothing."""
    page = PAGE.read_text()
    assert with_numbers(page, json.loads(RESULTS.read_text())) == page


def test_the_picture_says_what_was_measured():
    """Every text in it is one of a picture drawn anew, and the numbers of the table are there."""
    results = json.loads(RESULTS.read_text())
    texts = re.findall(r"<text [^>]*>(.*?)</text>", PICTURE.read_text())
    assert texts == re.findall(r"<text [^>]*>(.*?)</text>", drawing.picture(results))
    for line in lines(results):
        if line.unit == "units" and line.target is not None:
            assert {line.note or number(line.ours), number(line.textbook)} - {""} <= set(texts)


def test_the_picture_is_the_same_every_time():
    """So it changes in the repository only where results do."""
    results = json.loads(RESULTS.read_text())
    assert drawing.picture(results) == drawing.picture(results)


def contrast(one: str, other: str) -> float:
    """Return the contrast ratio of two colours, as WCAG 2 defines it, from 1 to 21."""

    def luminance(colour: str) -> float:
        channels = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
        red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize(
    "colour", [drawing.TEXT, drawing.OURS, drawing.TEXTBOOK, drawing.TARGET, drawing.LOGISTIC_CURVE]
)
def test_the_picture_is_read_on_light_and_on_dark_pages(colour: str):
    """It has no background of its own."""
    assert min(contrast(colour, WHITE), contrast(colour, BLACK)) >= 3.5


def test_a_part_alone_is_not_written(capsys):
    """Numbers of one page are of one run."""
    with pytest.raises(SystemExit, match="2"):
        main(["--only", "start", "--write"])
    assert "--write is for whole runs" in capsys.readouterr().err


def test_make_bench_runs_the_bench():
    """The README's command is there."""
    done = subprocess.run(["make", "--dry-run", "bench"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "-m tools.bench\n" in done.stdout
    assert "make bench" in (ROOT / "README.md").read_text()


def test_the_block_of_numbers_names_machine_and_date():
    """A number without them says nothing."""
    results = json.loads(RESULTS.read_text())
    text = block(results)
    for name in ("date", "commit", "cpu", "python"):
        assert results["machine"][name] in text
