"""Drift: each row counted once a feature, whatever the threads and processes, and written as the library does."""

import itertools
import json
import math
import os
import random
import shutil
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import exposition
from prometheus_client.openmetrics import exposition as openmetrics_exposition
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_classic

from service.artifact.contract import Contract, Feature, Output
from service.artifact.manifest import REFERENCE
from service.artifact.reference import Reference
from service.codec.json_request import parse_request
from service.inference.model import Model
from service.observability.drift import MAX_WEIGHT, ROWS_A_SECOND, ROWS_AT_ONCE, Drift
from service.observability.metric_definitions import (
    FEATURE_IMPORTANCE,
    FEATURE_REFERENCE,
    FEATURE_ROWS,
    PREDICTION_REFERENCE,
    PREDICTION_ROWS,
)
from service.observability.metrics import Metrics
from service.settings import Settings
from tests.support.log import check_lines
from tools import ROOT
from training.reference import measure_reference

PREDICTIONS = (Output("predict", "number"),)
AREA = Feature("area", "number", "float64")
MIXED = Contract(
    (
        Feature("size", "number", "float64", missing=True),
        Feature("colour", "string", "object", missing=True, categories=("blue", "green", "red")),
        Feature("new", "boolean", "bool"),
        Feature("rooms", "number", "float64", categories=(1.0, 2.0, 3.0)),
        Feature("note", "string", "object"),
    ),
    "frame",
    PREDICTIONS,
)
CELLS = (
    st.one_of(st.none(), st.sampled_from([-1.5, 0.0, 0.5, 1.0, 2.0, 1e9]), st.floats(-10, 10)),
    st.sampled_from([None, "blue", "green", "red", "mauve"]),
    st.booleans(),
    st.sampled_from([1.0, 2.0, 3.0, 2.5, 7.0]),
    st.text(max_size=2),
)
PREDICTED = st.floats(-5, 5)
ROW = st.tuples(*CELLS, PREDICTED)


def reference_of(contract: Contract, rows: list[tuple[Any, ...]]) -> dict[str, Any]:
    """Return what a bake writes of training rows, each with its prediction as the last cell."""
    *columns, predictions = zip(*rows, strict=True)
    frame = pd.DataFrame(
        {
            feature.name: pd.Series(cells, dtype=float if feature.kind == "number" else object)
            for feature, cells in zip(contract.features, columns, strict=True)
        }
    )
    reference = measure_reference(contract, frame, {"predict": np.array(predictions)})
    return json.loads(json.dumps(reference.to_dict()))  # type: ignore[no-any-return]


def hours() -> Callable[[], float]:
    """Return a clock by which an hour passes between two looks: no time in which requests are too many to count."""
    return itertools.count(step=3600).__next__


def drift_of(
    reference: Mapping[str, Any],
    contract: Contract,
    n_features: int = 50,
    n_rows: int = 32,
    clock: Callable[[], float] | None = None,
) -> Drift:
    """Return what counts rows of this contract; by default each of them, however quick a test is."""
    settings = Settings(drift_features=n_features, drift_rows=n_rows)
    return Drift(Reference.from_dict(reference), contract, "v1", settings, clock=clock or hours())


def watch(drift: Drift, contract: Contract, rows: list[tuple[Any, ...]]) -> None:
    """Have one request counted, its columns as the service makes them of JSON."""
    columns: Any = [
        np.array(cells, dtype=float) if feature.kind == "number" else list(cells)
        for feature, cells in zip(contract.features, zip(*rows, strict=True), strict=False)
    ]
    if contract.is_numeric:
        columns = np.array(columns).T
    drift("id", columns, {"predict": np.array([row[-1] for row in rows])})


def scrape(drift: Drift, family: str = "bakehouse_feature_rows_total") -> dict[tuple[str, ...], float]:
    """Return the samples of one family that are not zero, by feature, bin and kind, as far as there are such labels."""
    return {
        tuple(sample.labels[name] for name in ("feature", "bin", "kind") if name in sample.labels): sample.value
        for found in parse_classic(drift.exposition(False).decode())
        for sample in found.samples
        if sample.name == family and sample.value
    }


def naive_bin(reference: Mapping[str, Any], known: Any, cell: Any) -> tuple[str, str]:
    """Return bin and kind of one cell, by the words of the documentation."""
    if cell is None or (isinstance(cell, float) and math.isnan(cell)):
        return "missing", "missing"
    if "values" in reference:
        shown = [v for v, count in zip(reference["values"], reference["counts"], strict=True) if count][:17]
        if cell in shown:
            return str(cell).lower() if isinstance(cell, bool) else str(cell).removesuffix(".0"), "inside"
        seen = cell in reference["values"] or cell in (known or ()) or (known is None and reference["other"])
        return ("other", "other") if seen else ("unknown", "unknown")
    edges = reference["edges"]
    if not edges:
        return "00: any number", "outside"
    if cell < edges[0]:
        return f"00: below {edges[0]:.6g}", "outside"
    if cell > edges[-1]:
        return f"{max(len(edges), 2):02}: above {edges[-1]:.6g}", "outside"
    if len(edges) == 1:
        return f"01: {edges[0]:.6g}", "inside"
    number = next((i for i in range(1, len(edges)) if cell < edges[i]), len(edges) - 1)
    return f"{number:02}: {edges[number - 1]:.6g} to {edges[number]:.6g}", "inside"


def naive(reference: Mapping[str, Any], contract: Contract, rows: list[tuple[Any, ...]]) -> Counter[tuple[str, ...]]:
    """Return the rows by feature, bin and kind, cell by cell."""
    return Counter(
        (feature.name, *naive_bin(reference["features"][feature.name], feature.categories, row[index]))
        for row in rows
        for index, feature in enumerate(contract.features)
    )


@settings(max_examples=60, deadline=None)
@given(
    training=st.lists(ROW, min_size=1, max_size=40),
    requests=st.lists(st.lists(ROW, min_size=1, max_size=6), max_size=60),
)
def test_every_row_is_counted_as_one_would_by_hand(
    training: list[tuple[Any, ...]], requests: list[list[tuple[Any, ...]]]
):
    """Features of every kind and predictions; sums over the bins are the rows, in training the shares add up to 1."""
    reference = reference_of(MIXED, training)
    drift = drift_of(reference, MIXED)
    for rows in requests:
        watch(drift, MIXED, rows)
    together = [row for rows in requests for row in rows]
    found = scrape(drift)
    assert found == naive(reference, MIXED, together)
    predictions = Counter(naive_bin(reference["predictions"]["predict"], None, row[-1]) for row in together)
    assert scrape(drift, "bakehouse_prediction_rows_total") == predictions
    shares = scrape(drift, "bakehouse_feature_reference_ratio")
    for feature in MIXED.features:
        assert sum(count for key, count in found.items() if key[0] == feature.name) == len(together)
        assert sum(share for key, share in shares.items() if key[0] == feature.name) == pytest.approx(1)
    assert sum(scrape(drift, "bakehouse_prediction_reference_ratio").values()) == pytest.approx(1)


@settings(max_examples=60, deadline=None)
@given(
    training=st.lists(st.tuples(CELLS[0], CELLS[0], PREDICTED), min_size=1, max_size=40),
    requests=st.lists(st.lists(st.tuples(CELLS[0], CELLS[0], PREDICTED), min_size=1, max_size=6), max_size=60),
)
def test_matrices_are_counted_as_columns_are(training: list[tuple[Any, ...]], requests: list[list[tuple[Any, ...]]]):
    """Where all features are numbers a request is one matrix."""
    contract = Contract((AREA, replace(AREA, name="age")), "float64", PREDICTIONS)
    reference = reference_of(contract, training)
    drift = drift_of(reference, contract)
    for rows in requests:
        watch(drift, contract, rows)
    assert scrape(drift) == naive(reference, contract, [row for rows in requests for row in rows])


def test_the_bins_of_training_rows_are_those_of_the_reference():
    """What the service counts of rows such as the training had is distributed as the reference says."""
    rng = np.random.default_rng(0)
    contract = Contract((AREA,), "float64", PREDICTIONS)
    training = [(value, value) for value in rng.normal(size=1000)]
    drift = drift_of(reference_of(contract, training), contract)
    for row in training:
        watch(drift, contract, [row])
    shares = scrape(drift, "bakehouse_feature_reference_ratio")
    assert {key: count / 1000 for key, count in scrape(drift).items()} == shares


# What is counted ------------------------------------------------------------------------------------------------------

AREAS = Contract((AREA,), "float64", PREDICTIONS)
AREA_REFERENCE = reference_of(AREAS, [(float(value), float(value)) for value in range(101)])


@pytest.mark.parametrize(("n_sent", "n_counted"), [(1, 1), (32, 32), (33, 32), (1000, 32)])
def test_of_a_long_request_so_many_rows_are_counted_evenly_spread(n_sent: int, n_counted: int):
    """Each part of it has its share, so that sorted rows are counted as they are distributed."""
    drift = drift_of(AREA_REFERENCE, AREAS)
    watch(drift, AREAS, [(100 * row / n_sent, 0.0) for row in range(n_sent)])
    found = scrape(drift)
    assert sum(found.values()) == n_counted == sum(scrape(drift, "bakehouse_prediction_rows_total").values())
    if n_sent == 1000:
        assert set(found.values()) <= {3, 4}
        assert len(found) == 10


def test_a_long_request_of_mixed_columns_is_counted_row_by_row():
    """The same rows of every column: the cells of one row stay together."""
    drift = drift_of(reference_of(MIXED, [(1.0, "red", True, 1.0, "", 0.5), (3.0, "blue", False, 2.0, "", 2.0)]), MIXED)
    watch(drift, MIXED, [(1.0, "red", True, 1.0, "", 0.5)] * 500 + [(3.0, "blue", False, 2.0, "", 2.0)] * 500)
    found = scrape(drift)
    assert [found["colour", "red", "inside"], found["new", "false", "inside"], found["rooms", "2", "inside"]] == [
        16
    ] * 3


def test_what_is_remembered_of_a_long_request_does_not_keep_it_in_memory():
    """A view of 10,000 rows would keep all of them."""
    drift = drift_of(AREA_REFERENCE, AREAS)
    rows = np.zeros((10_000, 1))
    drift("id", rows, {"predict": np.zeros(10_000)})
    ((remembered, predictions),) = drift._buffer
    assert not np.shares_memory(rows, remembered)
    assert remembered.shape == (32, 1)
    assert predictions is not None
    assert predictions.base is None


def test_rows_are_counted_as_soon_as_there_are_some_hundred():
    """What is remembered is bounded, whoever scrapes or not."""
    drift = drift_of(AREA_REFERENCE, AREAS)
    for _ in range(10 * ROWS_AT_ONCE + 3):
        watch(drift, AREAS, [(1.0, 1.0)])
    assert drift._n_buffered == len(drift._buffer) == 3


def test_requests_of_any_number_of_rows_are_counted_once():
    """No row is lost or counted twice, however many come at once."""
    drift = drift_of(AREA_REFERENCE, AREAS, n_rows=ROWS_AT_ONCE + 100)
    sizes = [ROWS_AT_ONCE + 100, 1, 200, 57, ROWS_AT_ONCE, 1000]
    for n_rows in sizes:
        watch(drift, AREAS, [(1.0, 1.0)] * n_rows)
    counted = sum(min(n_rows, ROWS_AT_ONCE + 100) for n_rows in sizes)
    assert scrape(drift) == {("area", "01: 0 to 10", "inside"): counted}
    assert sum(scrape(drift, "bakehouse_prediction_rows_total").values()) == counted


@pytest.mark.parametrize("n_times", [3, 20, 1000])
def test_of_too_many_requests_some_count_for_all(n_times: int):
    """The less are looked at, the more of them there are; what is counted is about what came, and of the same kinds."""
    now = 0.0
    drift = drift_of(AREA_REFERENCE, AREAS, clock=lambda: now)
    n_requests = 100_000
    n_remembered = 0
    random.seed(0)
    for number in range(n_requests):
        now += 1 / (n_times * ROWS_A_SECOND)
        before = drift._n_buffered
        watch(drift, AREAS, [(1.0, 1.0) if number % 4 else (-1.0, 1.0)])
        n_remembered += drift._n_buffered != before
    expected = {"outside": n_requests / 4, "inside": n_requests * 3 / 4}
    assert {kind: count for (_, _, kind), count in scrape(drift).items()} == pytest.approx(expected, rel=0.15)
    n_drawn = n_requests / min(n_times, MAX_WEIGHT)
    assert n_remembered == pytest.approx(ROWS_A_SECOND + n_drawn, rel=0.3)  # at first, each of them


def test_a_flag_that_is_set_more_often_is_seen():
    """Between deciles its two values would be in one bin; any other one was not in training."""
    contract = Contract((AREA,), "float64", PREDICTIONS)
    drift = drift_of(reference_of(contract, [(float(number % 4 == 0), 0.0) for number in range(100)]), contract)
    watch(drift, contract, [(1.0, 0.0), (1.0, 0.0), (0.0, 0.0), (0.5, 0.0), (2.0, 0.0)])
    expected = {("area", "1", "inside"): 2, ("area", "0", "inside"): 1, ("area", "unknown", "unknown"): 2}
    assert scrape(drift) == expected
    assert scrape(drift, "bakehouse_feature_reference_ratio")["area", "1", "inside"] == 0.25


def test_when_there_are_few_again_each_is_counted():
    """At the latest from the next scrape on."""
    now = 0.0
    drift = drift_of(AREA_REFERENCE, AREAS, clock=lambda: now)
    for _ in range(20 * ROWS_AT_ONCE):
        now += 1e-5
        watch(drift, AREAS, [(1.0, 1.0)])
    now += 100  # so long that what came before is few on average
    before = sum(scrape(drift).values())
    for _ in range(100):
        watch(drift, AREAS, [(1.0, 1.0)])
    assert sum(scrape(drift).values()) == before + 100


def test_a_request_for_other_outputs_counts_no_prediction():
    """There is none; its features are counted all the same."""
    drift = drift_of(AREA_REFERENCE, AREAS)
    drift("id", np.array([[1.0]]), {"predict_proba": np.array([[0.5, 0.5]])})
    assert sum(scrape(drift).values()) == 1
    assert scrape(drift, "bakehouse_prediction_rows_total") == {}


def test_a_model_without_a_prediction_a_row_has_no_prediction_series():
    """Of several targets there is no one distribution."""
    drift = drift_of({**AREA_REFERENCE, "predictions": {}}, AREAS)
    drift("id", np.array([[1.0]]), {"predict": np.array([[1.0, 2.0]])})
    assert drift._buffer[0][1] is None  # nor is it kept
    text = drift.exposition(False).decode()
    assert "bakehouse_prediction" not in text
    assert sum(scrape(drift).values()) == 1


@pytest.mark.parametrize("labels", [["a", "b"], [1, 2], [True, False]])
def test_labels_are_counted_by_value(labels: list[Any]):
    """A class that training never predicted is another one; labels may be of any type."""
    contract = Contract((AREA,), "float64", PREDICTIONS, classes=(*labels, "c"))
    drift = drift_of(reference_of(contract, [(1.0, labels[0]), (1.0, labels[0]), (1.0, labels[1])]), contract)
    drift("id", np.zeros((2, 1)), {"predict": np.array(labels)})
    drift("id", np.zeros((1, 1)), {"predict": np.array(["c"])})
    names = [str(label).lower() for label in labels]
    assert scrape(drift, "bakehouse_prediction_rows_total") == {
        (names[0], "inside"): 1,
        (names[1], "inside"): 1,
        ("other", "other"): 1,
    }


def test_the_arrays_of_a_request_are_left_as_they_are():
    """Others look at them, too."""
    columns, predictions = np.array([[3.0], [1.0], [2.0]]), np.array([3.0, 1.0, 2.0])
    drift = drift_of(AREA_REFERENCE, AREAS)
    drift("id", columns, {"predict": predictions})
    drift.exposition(False)
    assert columns.ravel().tolist() == predictions.tolist() == [3.0, 1.0, 2.0]


def test_what_cannot_be_counted_fails_no_request_and_is_said_once(capfd: pytest.CaptureFixture[str]):
    """Without the value: nobody's data are in the log."""
    drift = drift_of(AREA_REFERENCE, AREAS)
    columns: Any = [["secret"], ["secret", "of two"]]
    for _ in range(2):
        drift("id", columns, {})
        drift.exposition(False)
        drift("id", None, {})  # type: ignore[arg-type]
    said = capfd.readouterr().err
    assert len(check_lines(said)) == 1
    assert "secret" not in said
    watch(drift, AREAS, [(1.0, 1.0)])
    assert sum(scrape(drift).values()) == 1


# Which features -------------------------------------------------------------------------------------------------------

WIDE = Contract(tuple(replace(AREA, name=f"x{number}") for number in range(5)), "float64", PREDICTIONS)
WIDE_REFERENCE = reference_of(WIDE, [(1.0, 2.0, 3.0, 4.0, 5.0, 6.0)])


def test_of_a_wide_model_the_most_important_features_are_counted():
    """In the contract's order; each row's own cells."""
    importance = {"x0": 0.1, "x1": 0.5, "x2": 0.0, "x3": 0.9, "x4": 0.2}
    drift = drift_of({**WIDE_REFERENCE, "importance": importance}, WIDE, n_features=2)
    watch(drift, WIDE, [(1.0, 2.0, 3.0, 4.0, 5.0, 6.0)])
    assert list(scrape(drift).items()) == [(("x1", "01: 2", "inside"), 1), (("x3", "01: 4", "inside"), 1)]
    assert scrape(drift, "bakehouse_feature_importance") == {("x1",): 0.5, ("x3",): 0.9}


def test_an_artifact_that_tells_no_importance_has_its_first_features_counted():
    """Older ones do not."""
    drift = drift_of(WIDE_REFERENCE, WIDE, n_features=2)
    watch(drift, WIDE, [(1.0, 2.0, 3.0, 4.0, 5.0, 6.0)])
    assert {key[0] for key in scrape(drift)} == {"x0", "x1"}
    assert "importance" not in drift.exposition(False).decode()


def test_of_wide_mixed_columns_the_most_important_are_counted():
    """Columns are chosen, not only columns of numbers."""
    reference = reference_of(MIXED, [(1.0, "red", True, 1.0, "n", 0.5)])
    drift = drift_of({**reference, "importance": {"colour": 1.0, "rooms": 2.0}}, MIXED, n_features=2)
    watch(drift, MIXED, [(1.0, "red", True, 1.0, "n", 0.5)])
    assert scrape(drift) == {("colour", "red", "inside"): 1, ("rooms", "1", "inside"): 1}


# Threads and processes ------------------------------------------------------------------------------------------------


@pytest.fixture
def _eager_threads() -> Iterator[None]:
    """Have threads take turns thousands of times as often as they do."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("_eager_threads")
def test_threads_and_scrapes_lose_nothing():
    """Two threads call while a third one scrapes; what it sees never falls."""
    drift = drift_of(AREA_REFERENCE, AREAS)
    n_calls = 3000
    seen: list[float] = []
    done = threading.Event()

    def call() -> None:
        for _ in range(n_calls):
            watch(drift, AREAS, [(1.0, 1.0), (50.0, 50.0)])

    def scrape_on() -> None:
        while not done.is_set():
            seen.append(sum(scrape(drift).values()))

    threads = [threading.Thread(target=call) for _ in range(2)]
    scraper = threading.Thread(target=scrape_on)
    for thread in (scraper, *threads):
        thread.start()
    for thread in threads:
        thread.join()
    done.set()
    scraper.join()
    assert seen == sorted(seen)
    assert sum(scrape(drift).values()) == 4 * n_calls == sum(scrape(drift, "bakehouse_prediction_rows_total").values())


def test_processes_add_up_and_a_successor_goes_on(tmp_path: Path):
    """Whichever is scraped answers for all; who takes over a slot takes over its counts."""

    def process(slot: int) -> Drift:
        return Drift(Reference.from_dict(AREA_REFERENCE), AREAS, "v1", Settings(), tmp_path, slot, hours())

    first, second = process(1), process(2)
    for _ in range(ROWS_AT_ONCE + 1):
        watch(first, AREAS, [(1.0, 1.0)])
    watch(second, AREAS, [(1.0, 1.0)])
    key = ("area", "01: 0 to 10", "inside")
    assert scrape(second)[key] == ROWS_AT_ONCE + 1  # the first one's last row is only remembered
    assert scrape(first)[key] == scrape(second)[key] == ROWS_AT_ONCE + 2
    del first
    successor = process(1)
    watch(successor, AREAS, [(1.0, 1.0)])
    assert scrape(successor)[key] == ROWS_AT_ONCE + 3
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("n_bytes", [0, 12])
def test_a_file_that_is_not_all_there_counts_nothing_and_is_completed(tmp_path: Path, n_bytes: int):
    """A process makes it just now, or was killed while it made it."""
    (tmp_path / "drift_1.counts").write_bytes(bytes(n_bytes))
    other = Drift(Reference.from_dict(AREA_REFERENCE), AREAS, "v1", Settings(), tmp_path, 2)
    watch(other, AREAS, [(1.0, 1.0)])
    assert sum(scrape(other).values()) == 1
    successor = Drift(Reference.from_dict(AREA_REFERENCE), AREAS, "v1", Settings(), tmp_path, 1)
    watch(successor, AREAS, [(1.0, 1.0)])
    assert sum(scrape(successor).values()) == sum(scrape(other).values()) == 2


def test_counts_are_in_files_of_the_process_that_made_them(tmp_path: Path):
    """A process that is killed has counted what it counted."""
    code = (
        "import json, os, sys\n"
        "from pathlib import Path\n"
        "import numpy as np\n"
        "from service.settings import Settings\n"
        "from service.artifact.contract import Contract\n"
        "from service.artifact.reference import Reference\n"
        "from service.observability.drift import Drift\n"
        "reference, contract = json.loads(sys.argv[2])\n"
        "reference, contract = Reference.from_dict(reference), Contract.from_dict(contract)\n"
        "drift = Drift(reference, contract, 'v1', Settings(), Path(sys.argv[1]), 1)\n"
        "drift('id', np.array([[1.0]]), {})\n"
        "drift.exposition(False)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    given = json.dumps([AREA_REFERENCE, AREAS.to_dict()])
    subprocess.run([sys.executable, "-c", code, str(tmp_path), given], cwd=ROOT)
    other = Drift(Reference.from_dict(AREA_REFERENCE), AREAS, "v1", Settings(), tmp_path, 2)
    assert sum(scrape(other).values()) == 1


# What is scraped ------------------------------------------------------------------------------------------------------

ODD = Contract(
    (
        replace(AREA, name='a "quoted" \\ name\nof two lines'),
        Feature("tést", "string", "object", categories=("a\u2028b", 'x"y', "")),
    ),
    "frame",
    PREDICTIONS,
)


@pytest.mark.parametrize("openmetrics", [False, True])
def test_the_text_is_what_the_library_would_have_written(openmetrics: bool):
    """Names and values of every kind, and the order of the series, in both formats."""
    rows = [(1.0, "a\u2028b", 1.0), (2.0, 'x"y', 2.0), (2.5, "", 2.0)]
    importance = {ODD.names[0]: 0.25, ODD.names[1]: 3.0}
    drift = drift_of({**reference_of(ODD, rows), "importance": importance}, ODD)
    for row in rows:
        watch(drift, ODD, [row])
    end = "# EOF\n" if openmetrics else ""
    text = drift.exposition(openmetrics).decode() + end
    parse = parse_openmetrics if openmetrics else parse_classic
    encode = openmetrics_exposition.generate_latest if openmetrics else exposition.generate_latest
    families = list(parse(text))

    class Parsed:
        def collect(self) -> Any:
            return families

    def as_numbers(written: str) -> list[Any]:
        lines = [line.rpartition(" ") for line in written.split("\n") if line]
        return [line if line[0].startswith("#") else (line[0], float(line[2])) for line in lines]

    assert as_numbers(text) == as_numbers(encode(Parsed()).decode())  # type: ignore[arg-type]
    assert sum(sample.value for sample in families[0].samples) == 6
    declared = (FEATURE_ROWS, PREDICTION_ROWS, FEATURE_REFERENCE, PREDICTION_REFERENCE, FEATURE_IMPORTANCE)
    found = {
        (sample.name, family.type, tuple(sorted(sample.labels))) for family in families for sample in family.samples
    }
    assert found == {(one.name, one.type, tuple(sorted(one.labels))) for one in declared}
    assert {family.documentation for family in families} == {one.help for one in declared}


def test_counts_are_written_with_every_digit():
    """A counter that is rounded stands still."""
    drift = drift_of(AREA_REFERENCE, AREAS)
    drift._counters.add(np.full(len(drift._bins), 10**15 + 1))
    assert " 1000000000000001\n" in drift.exposition(False).decode()


@pytest.mark.parametrize("accept", ["", "application/openmetrics-text; version=1.0.0"])
def test_a_scrape_has_the_series_among_the_others(accept: str):
    """In whatever format it wants, with one end."""
    metrics = Metrics(os.getpid())
    drift = drift_of(AREA_REFERENCE, AREAS)
    metrics.add_source(drift.exposition)
    watch(drift, AREAS, [(1.0, 1.0)])
    body, content_type = metrics.exposition(accept)
    parse = parse_openmetrics if "openmetrics" in content_type else parse_classic
    names = {sample.name for family in parse(body.decode()) for sample in family.samples}
    assert {"bakehouse_feature_rows_total", "bakehouse_predicted_rows_total"} <= names


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_promtool_finds_nothing_to_improve():
    """Names, units and help follow the conventions of Prometheus."""
    drift = drift_of({**AREA_REFERENCE, "importance": {"area": 1.0}}, AREAS)
    checked = subprocess.run(
        ["promtool", "check", "metrics"], input=drift.exposition(False), capture_output=True, check=False
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")


@pytest.mark.parametrize("name", ["house_prices", "breast_cancer", "digits", "penguins"])
def test_shipped_models_are_watched(name: str, model_of: Callable[[str], Model]):
    """Golden rows go the way of requests; each is counted for each watched feature, and so is its prediction."""
    model = model_of(name)
    drift = drift_of(json.loads(model.artifact.read(REFERENCE)), model.contract)
    n_rows = 0
    for exchange in model.artifact.golden():
        request = parse_request(json.dumps({"X": exchange["request"]["X"][:20]}).encode(), model.contract, 20)
        drift("id", request.columns, model.predict(request.columns, ("predict",)))
        n_rows += request.n_samples
    assert sum(scrape(drift).values()) == n_rows * min(50, len(model.contract.features))
    assert sum(scrape(drift, "bakehouse_prediction_rows_total").values()) == n_rows
    assert len(scrape(drift, "bakehouse_feature_importance")) > 0
