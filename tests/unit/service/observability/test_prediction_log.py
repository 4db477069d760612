"""The prediction log: what its lines say, and that no request suffers from what happens to its file or reader."""

import errno
import fcntl
import json
import os
import random
import resource
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service.artifact.contract import Feature
from service.codec.json_request import parse_request
from service.inference.model import Model
from service.observability import prediction_log
from service.observability.metrics import Metrics
from service.observability.prediction_log import LINE_BYTES, PredictionLog, Target, check_prediction_log, redacted_names
from service.settings import Settings, SettingsError
from tests.support.log import check_lines
from tests.support.waiting import wait_for
from tools import ROOT

HOUSE = {"X": [[1500, 3], [2000, 10]]}


class Logged:
    """A model whose predictions are logged.

    Args:
        model: What predicts.
        variables: Settings by their variables.
    """

    def __init__(self, model: Model, variables: dict[str, str]) -> None:
        self.model = model
        self.metrics = Metrics(1)
        self.log = PredictionLog(Settings.from_env(variables), model.artifact, self.metrics)

    def predict(self, request_id: str, document: Any) -> dict[str, Any]:
        """Predict, have it logged, and return the outputs."""
        request = parse_request(json.dumps(document).encode(), self.model.contract, 100_000)
        answers = self.model.predict(request.columns, request.outputs)
        self.log(request_id, request.columns, answers)
        return {name: values.tolist() for name, values in answers.items()}

    def rows(self, result: str) -> float:
        """Return how many rows were written or dropped."""
        name = f'bakehouse_prediction_log_rows_total{{result="{result}"}} '
        text = self.metrics.exposition("")[0].decode()
        return float(text.partition(name)[2].partition("\n")[0])

    def wait_until_written(self, n_rows: int) -> None:
        """Return once so many rows are in the file."""
        wait_for(lambda: self.rows("written") == n_rows)


@pytest.fixture
def logged(model_of: Callable[[str], Model]) -> Iterator[Callable[..., Logged]]:
    """Return a function that has the predictions of a shipped model logged."""
    made: list[Logged] = []

    def make(path: Path | str, name: str = "house_prices", **variables: str) -> Logged:
        made.append(Logged(model_of(name), {"BAKEHOUSE_PREDICTION_LOG": str(path), **variables}))
        return made[-1]

    yield make
    for each in made:
        each.log.close()


def lines(path: Path) -> list[Any]:
    """Return the lines of a file, each of which must be a whole one."""
    text = path.read_text()
    assert not text or text.endswith("\n")
    return check_lines(text)


# What a line says -----------------------------------------------------------------------------------------------------


def test_a_line_says_what_was_asked_and_answered(tmp_path: Path, logged: Callable[..., Logged]) -> None:
    """By feature and by output, with the id by which it is joined and the model that answered."""
    one = logged(tmp_path / "log")
    answers = one.predict("order-17", HOUSE)
    one.wait_until_written(2)
    (line,) = lines(tmp_path / "log")
    when = datetime.fromisoformat(line.pop("time"))
    assert abs((datetime.now(UTC) - when).total_seconds()) < 3600
    assert line == {
        "event": "prediction",
        "request_id": "order-17",
        "model_name": "house_prices",
        "model_version": one.model.artifact.version,
        "first_row": 0,
        "rows": [{"area": 1500, "age": 3}, {"area": 2000, "age": 10}],
        "outputs": {"y_pred": answers["predict"]},
        "redacted": [],
    }
    assert (tmp_path / "log").stat().st_mode & 0o007 == 0


def test_every_kind_of_cell_and_output_is_logged(tmp_path: Path, logged: Callable[..., Logged]) -> None:
    """Text, numbers, gaps; labels and probabilities."""
    one = logged(tmp_path / "log", "penguins")
    row = {
        "island": "Tørger\"sen", "bill_length_mm": None, "bill_depth_mm": 18.7, "flipper_length_mm": 181,
        "body_mass_g": 3750, "sex": None,
    }  # fmt: skip
    answers = one.predict("one", {"X": [row], "outputs": ["predict_proba", "predict"]})
    one.wait_until_written(1)
    (line,) = lines(tmp_path / "log")
    assert line["rows"] == [row]
    assert line["outputs"] == {"predict_proba": answers["predict_proba"], "y_pred": answers["predict"]}


def test_long_requests_are_several_lines_that_pipes_take_whole(tmp_path: Path, logged: Callable[..., Logged]) -> None:
    """Each says with which row it begins; together they are the request."""
    one = logged(tmp_path / "log")
    rows = [[1000 + index, index % 90] for index in range(1003)]
    answers = one.predict("long", {"X": rows})
    one.wait_until_written(1003)
    assert max(map(len, (tmp_path / "log").read_bytes().splitlines(keepends=True))) <= LINE_BYTES
    found = lines(tmp_path / "log")
    assert 10 < len(found) < 60
    assert [row["area"] for line in found for row in line["rows"]] == [row[0] for row in rows]
    assert [value for line in found for value in line["outputs"]["y_pred"]] == answers["predict"]
    starts = np.cumsum([0, *(len(line["rows"]) for line in found)]).tolist()
    assert [line["first_row"] for line in found] == starts[:-1]


def test_a_row_that_is_longer_than_that_is_one_line(tmp_path: Path, logged: Callable[..., Logged]) -> None:
    """A row is not cut."""
    one = logged(tmp_path / "log", "penguins")
    row = ["x" * 10_000, 39.1, 18.7, 181, 3750, "male"]
    one.predict("wide", {"X": [row, row]})
    one.wait_until_written(2)
    assert [line["rows"][0]["island"] for line in lines(tmp_path / "log")] == ["x" * 10_000] * 2


@pytest.mark.parametrize(
    ("names", "island", "sex", "label", "redacted"),
    [
        ("island", None, "male", "Adelie", ["island"]),
        (" sex , y_pred", "Torgersen", None, None, ["sex", "y_pred"]),
        ('"island"', None, "male", "Adelie", ["island"]),
        ("*", None, None, "Adelie", sorted(["bill_depth_mm", "bill_length_mm", "body_mass_g", "flipper_length_mm",
                                            "island", "sex"])),
    ],
)  # fmt: skip
def test_what_is_redacted_is_null_and_named(
    names: str, island: Any, sex: Any, label: Any, redacted: Any, tmp_path: Path, logged: Callable[..., Logged]
) -> None:
    """Columns and outputs are left out in every row; whoever reads the line sees that there was something."""
    one = logged(tmp_path / "log", "penguins", BAKEHOUSE_PREDICTION_LOG_REDACT=names)
    one.predict("one", {"X": [["Torgersen", 39.1, 18.7, 181, 3750, "male"]]})
    one.wait_until_written(1)
    (line,) = lines(tmp_path / "log")
    assert (line["rows"][0]["island"], line["rows"][0]["sex"]) == (island, sex)
    assert line["rows"][0]["body_mass_g"] == (None if names == "*" else 3750)
    assert line["outputs"] == {"y_pred": label and [label]}
    assert line["redacted"] == redacted


def test_a_share_of_the_requests_is_logged(
    tmp_path: Path, logged: Callable[..., Logged], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each wholly or not at all; the others are not counted as dropped."""
    monkeypatch.setattr(prediction_log, "random", random.Random(0))
    one = logged(tmp_path / "log", BAKEHOUSE_PREDICTION_LOG_RATIO="0.25")
    for index in range(400):
        one.predict(str(index), HOUSE)
    one.log.close()
    found = lines(tmp_path / "log")
    assert 70 < len(found) < 130
    assert one.rows("written") == 2 * len(found)
    assert one.rows("dropped") == 0


@pytest.mark.parametrize(("ratio", "n_lines"), [("0", 0), ("1", 50)])
def test_none_and_all_mean_what_they_say(
    ratio: str, n_lines: int, tmp_path: Path, logged: Callable[..., Logged]
) -> None:
    """The ends of the scale are exact."""
    one = logged(tmp_path / "log", BAKEHOUSE_PREDICTION_LOG_RATIO=ratio)
    for index in range(50):
        one.predict(str(index), HOUSE)
    one.log.close()
    written = lines(tmp_path / "log") if (tmp_path / "log").exists() else []
    assert len(written) == n_lines


# What is refused at the start -----------------------------------------------------------------------------------------


def settings_of(**variables: str) -> Settings:
    """Return settings by the ends of their variables."""
    return Settings.from_env({f"BAKEHOUSE_PREDICTION_LOG{name}": value for name, value in variables.items()})


def test_names_that_the_model_does_not_have_are_refused(model_of: Callable[[str], Model]) -> None:
    """A column that was to be left out, and is not because of a typing error, would be a leak."""
    contract = model_of("penguins").contract
    with pytest.raises(SettingsError, match="names ilsand, predict: that is no feature or output of the model"):
        check_prediction_log(settings_of(**{"": "-", "_REDACT": "ilsand,sex,predict"}), contract)
    check_prediction_log(settings_of(_REDACT="ilsand"), contract)  # nothing is logged
    assert redacted_names(settings_of(**{"": "-", "_REDACT": ",sex,,island,sex"}), contract) == ["island", "sex"]


@pytest.mark.parametrize("given", ['" salary "', '" salary ", age', 'age," salary "'])
def test_a_name_with_outer_spaces_can_be_redacted(given: str, model_of: Callable[[str], Model]) -> None:
    """Columns of hand-made tables have such names; those of others may be written with spaces around them."""
    features = (Feature(" salary ", "number", "float64"), Feature("age", "number", "float64"))
    contract = replace(model_of("penguins").contract, features=features)
    assert " salary " in redacted_names(settings_of(_REDACT=given), contract)


def test_a_file_that_cannot_be_written_is_refused(tmp_path: Path, model_of: Callable[[str], Model]) -> None:
    """At the start, with the reason; not when the first prediction is lost."""
    contract = model_of("house_prices").contract
    for path, reason in ((tmp_path / "none/log", "No such file"), (tmp_path, "Is a directory")):
        with pytest.raises(SettingsError, match=f"cannot be written .{reason}.*its folder must exist"):
            check_prediction_log(settings_of(**{"": str(path)}), contract)
    check_prediction_log(settings_of(**{"": str(tmp_path / "log")}), contract)
    assert (tmp_path / "log").read_bytes() == b""


# What can happen to the file ------------------------------------------------------------------------------------------


def test_a_file_that_is_moved_or_removed_is_made_anew(tmp_path: Path, logged: Callable[..., Logged]) -> None:
    """As logrotate does it; no signal is needed, and no line is lost."""
    path = tmp_path / "log"
    one = logged(path)
    one.predict("first", HOUSE)
    one.wait_until_written(2)
    path.rename(tmp_path / "log.1")
    one.predict("second", HOUSE)
    one.wait_until_written(4)
    path.unlink()
    one.predict("third", HOUSE)
    one.wait_until_written(6)
    assert [line["request_id"] for line in lines(tmp_path / "log.1")] == ["first"]
    assert [line["request_id"] for line in lines(path)] == ["third"]


def test_a_file_that_is_cut_off_goes_on_at_its_new_end(tmp_path: Path, logged: Callable[..., Logged]) -> None:
    """Logrotate's copytruncate leaves no hole of zeros."""
    path = tmp_path / "log"
    one = logged(path)
    one.predict("first", HOUSE)
    one.wait_until_written(2)
    os.truncate(path, 0)
    one.predict("second", HOUSE)
    one.wait_until_written(4)
    assert [line["request_id"] for line in lines(path)] == ["second"]


def test_while_the_file_cannot_be_written_rows_are_dropped_and_counted(
    tmp_path: Path, logged: Callable[..., Logged], capfd: pytest.CaptureFixture[str]
) -> None:
    """It is said once, when it begins and when it is over; then lines are written again."""
    folder = tmp_path / "folder"
    folder.mkdir()
    one = logged(folder / "log")
    one.predict("first", HOUSE)
    one.wait_until_written(2)
    folder.rename(tmp_path / "away")
    for _ in range(5):
        one.predict("lost", HOUSE)
    wait_for(lambda: one.rows("dropped") == 10)
    folder.mkdir()
    one.predict("last", HOUSE)
    one.wait_until_written(4)
    assert [line["request_id"] for line in lines(folder / "log")] == ["last"]
    said = [line["message"] for line in check_lines(capfd.readouterr().err)]
    assert said == [
        "The prediction log cannot be written (No such file or directory): rows are dropped until it can.",
        "The prediction log is written again.",
    ]


def test_a_line_that_a_full_disk_cut_is_taken_back(tmp_path: Path) -> None:
    """So that all lines are whole for whoever joins them; a limit of the file's size stands in for the disk's end."""
    code = f"""
import resource, signal
from service.observability.prediction_log import Target
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20, {resource.RLIM_INFINITY}))
target = Target({str(tmp_path / "log")!r}, lambda: None)
target.follow()
target.write(b'{{"a": 1}}\\n')
for _ in range(2):
    try:
        target.write(b'{{"long": "line"}}\\n')
    except OSError as error:
        target.close()
        target.follow()
resource.setrlimit(resource.RLIMIT_FSIZE, ({resource.RLIM_INFINITY}, {resource.RLIM_INFINITY}))
target.write(b'{{"b": 2}}\\n')
target.write(b'{{"c": 3}}\\n')
"""
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
    assert (tmp_path / "log").read_text().splitlines() == ['{"a": 1}', '{"b": 2}', '{"c": 3}']


def test_a_line_that_a_crash_cut_is_ended_before_the_next_one(tmp_path: Path, logged: Callable[..., Logged]) -> None:
    """Only that one is broken."""
    path = tmp_path / "log"
    path.write_text('{"a": 1}\n{"long": "l')
    one = logged(path)
    one.predict("next", HOUSE)
    one.wait_until_written(2)
    *before, after = path.read_text().splitlines()
    assert before == ['{"a": 1}', '{"long": "l']
    assert json.loads(after)["request_id"] == "next"


def test_a_pipe_that_nobody_reads_costs_rows_and_no_request(
    tmp_path: Path, logged: Callable[..., Logged], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The queue is bounded by what it takes in memory; what does not fit is counted, and the end waits only so long."""
    monkeypatch.setattr(prediction_log, "QUEUE_BYTES", 200_000)
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    with closing(os.fdopen(reader, "rb")):
        one = logged(tmp_path / "pipe")
        document = {"X": [[1500, 3]] * 100}
        for _ in range(300):
            one.predict("stuck", document)
        assert one.rows("dropped") > 10_000
        wait_for(lambda: one.rows("written") > 0)
        assert fcntl.fcntl(reader, fcntl.F_GETPIPE_SZ) / 4 < len(os.read(reader, 10**6)) < 40_000  # the rest is free
        one.log.close()
        assert one.rows("written") + one.rows("dropped") == 30_000


def test_a_reader_that_comes_back_gets_whole_lines(tmp_path: Path, logged: Callable[..., Logged]) -> None:
    """A named pipe without a reader is no file that can be written; with the next one it is."""
    os.mkfifo(tmp_path / "pipe")
    one = logged(tmp_path / "pipe")
    one.predict("nobody", HOUSE)
    wait_for(lambda: one.rows("dropped") == 2)
    with closing(os.fdopen(os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK), "rb")) as reader:
        one.predict("somebody", {"X": [[1500, 3]] * 2000})  # more than the pipe holds
        text = b""
        while text.count(b"area") < 2000:
            text += reader.read() or b""
    assert sum(len(json.loads(line)["rows"]) for line in text.splitlines()) == 2000


def test_lines_of_several_processes_stay_whole(tmp_path: Path) -> None:
    """Each is one write to the end of the file."""
    code = """
import sys
from service.observability.prediction_log import Target
target = Target(sys.argv[1], lambda: None)
for index in range(3000):
    target.follow()
    target.write((sys.argv[2] * (index % 4000) + "\\n").encode())
"""
    processes = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "log"), letter], cwd=ROOT) for letter in "abc"
    ]
    assert [process.wait(120) for process in processes] == [0, 0, 0]
    found = (tmp_path / "log").read_text().splitlines()
    assert len(found) == 9000
    assert all(len(set(line)) <= 1 for line in found)


def test_what_is_queued_is_written_at_the_end(tmp_path: Path, logged: Callable[..., Logged]) -> None:
    """A server that stops has logged all that it predicted."""
    one = logged(tmp_path / "log")
    for index in range(2000):
        one.predict(str(index), HOUSE)
    one.log.close()
    assert len(lines(tmp_path / "log")) == 2000
    assert not [thread for thread in threading.enumerate() if thread is one.log._writer]


def test_an_answer_that_cannot_be_written_stops_nothing(tmp_path: Path, logged: Callable[..., Logged]) -> None:
    """Whatever is wrong with one prediction, the next one is logged."""
    one = logged(tmp_path / "log")
    request = parse_request(json.dumps(HOUSE).encode(), one.model.contract, 10)
    one.log("odd", request.columns, {"predict": np.array([object(), object()])})
    one.predict("good", HOUSE)
    one.wait_until_written(2)
    assert one.rows("dropped") == 2
    assert [line["request_id"] for line in lines(tmp_path / "log")] == ["good"]


def test_one_prediction_fits_always(
    tmp_path: Path, logged: Callable[..., Logged], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the largest requests would never be in the log."""
    monkeypatch.setattr(prediction_log, "QUEUE_BYTES", 1000)
    one = logged(tmp_path / "log")
    one.predict("large", {"X": [[1500, 3]] * 1000})
    one.wait_until_written(1000)


def test_giving_up_at_the_end_is_an_error_of_the_target(tmp_path: Path) -> None:
    """The writer drops the row then, instead of waiting for ever."""
    os.mkfifo(tmp_path / "pipe")
    with closing(os.fdopen(os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK), "rb")):

        def give_up() -> None:
            raise TimeoutError(errno.ETIMEDOUT, "nobody reads it")

        target = Target(str(tmp_path / "pipe"), give_up)
        target.follow()
        target.write(b"x" * 40_000 + b"\n")
        with pytest.raises(TimeoutError):
            target.write(b"y\n")
        target.close()
