"""The rows that find differences: thresholds are found without looking into the estimator."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from service.artifact.contract import Contract, Feature, Output
from training.engines.probe_rows import (
    MAX_TRAINING_ROWS,
    Answers,
    ArrayColumns,
    as_request,
    boundary_rows,
    rows_by_kind,
    training_rows,
)

THRESHOLD = 0.1 + 0.2  # no short decimal number, so that only a search finds it
NUMBER, WORD = Feature("a", "number", "float64"), Feature("b", "string", "object", missing=True)
NUMERIC = Contract((NUMBER,), "float64", (Output("predict", "number"),))
MIXED = Contract((NUMBER, WORD), "frame", (Output("predict", "number"),))
TRAINING: ArrayColumns = [np.linspace(-1, 1, 50)]


def step(columns: ArrayColumns, outputs: Any) -> Answers:
    """Answer as a tree with one threshold does."""
    assert outputs == ["predict"]
    return {"predict": np.where(columns[0] <= THRESHOLD, 1.0, 2.0)}


def test_the_search_ends_on_both_sides_of_a_threshold():
    """At the last float64 of one side and the first of the other."""
    (numbers,) = boundary_rows(NUMERIC, TRAINING, step, np.random.default_rng(0))
    n_pairs = len(numbers) // 12  # both sides first, then ten numbers near them
    assert n_pairs > 10
    low, high = np.sort([numbers[:n_pairs], numbers[n_pairs : 2 * n_pairs]], axis=0)
    assert set(low) == {THRESHOLD}
    assert set(high) == {np.nextafter(THRESHOLD, 1)}
    near = set(numbers[2 * n_pairs :].tolist())
    assert {float(np.nextafter(THRESHOLD, -1)), float(np.float32(THRESHOLD))} <= near


@pytest.mark.parametrize(
    ("answer", "n_expected"),
    [(lambda numbers: 3 * numbers, 0), (lambda numbers: numbers > np.inf, 0)],
    ids=["smooth", "constant"],
)
def test_answers_that_do_not_jump_have_no_boundary(answer: Any, n_expected: int):
    """A smooth function moves with every nudge; a constant one nowhere."""
    (numbers,) = boundary_rows(
        NUMERIC, TRAINING, lambda columns, _outputs: {"predict": answer(columns[0])}, np.random.default_rng(0)
    )
    assert len(numbers) == n_expected


def test_an_estimator_that_refuses_numbers_between_training_values_has_no_boundary():
    """An encoder of numbers knows only those it was fitted on."""

    def refuse(columns: ArrayColumns, outputs: Any) -> Answers:
        if not np.isin(columns[0], TRAINING[0]).all():
            raise ValueError("unknown category")
        return step(columns, outputs)

    (numbers,) = boundary_rows(NUMERIC, TRAINING, refuse, np.random.default_rng(0))
    assert len(numbers) == 0


def test_every_kind_of_row_has_all_columns():
    """Also a kind without any row, which the check leaves out."""
    frame = pd.DataFrame({"a": TRAINING[0], "b": ["x", None] * 25})
    training = training_rows(MIXED, frame, 0)
    assert [cells.dtype for cells in training] == [np.float64, object]
    assert training[1].tolist() == ["x", None] * 25
    kinds = dict(rows_by_kind(MIXED, frame, training, step, np.random.default_rng(0)))
    assert len(kinds) == 7
    assert all([cells.dtype for cells in columns] == [np.float64, object] for columns in kinds.values())
    assert len(kinds["rows of each category"][0]) == 0
    assert set(kinds["rows with missing values"][1]) == {None}


def test_training_rows_are_bounded_and_in_order():
    """A row that the contract refuses is none of them."""
    numbers = np.arange(3.0 * MAX_TRAINING_ROWS)
    numbers[::5] = np.nan
    (cells,) = training_rows(NUMERIC, pd.DataFrame({"a": numbers}), 0)
    assert len(cells) == MAX_TRAINING_ROWS
    assert (np.diff(cells) > 0).all()


def test_a_request_holds_a_matrix_or_columns():
    """As the service decodes them: numbers as arrays, text as lists."""
    np.testing.assert_array_equal(as_request([np.array([1.0, 2.0])], NUMERIC), [[1.0], [2.0]])
    numbers, words = as_request([np.array([1.0]), np.array(["x"], dtype=object)], MIXED)
    assert isinstance(numbers, np.ndarray)
    assert words == ["x"]
