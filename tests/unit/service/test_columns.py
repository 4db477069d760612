"""Rows of cells: whatever a request holds is counted, taken, concatenated and packed without a change."""

import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.columns import (
    Columns,
    by_feature,
    concatenate,
    from_features,
    n_packed_rows,
    n_rows,
    pack,
    take,
    unpack,
)

NUMBERS = st.floats(allow_infinity=False) | st.none()
TEXTS = st.text(alphabet=st.characters(exclude_categories=["Cs"])) | st.none()  # orjson refuses half a surrogate pair
FLAGS = st.booleans() | st.none()


def matrix(rows: list[list[Any]]) -> Columns:
    """Return rows of numbers and None as a request of an all-number model has them."""
    return np.array(rows, dtype=np.float64)


def mixed(rows: list[list[Any]]) -> Columns:
    """Return rows of number, text and flag as a request has them."""
    numbers, texts, flags = zip(*rows, strict=True)
    return [np.array(numbers, dtype=np.float64), list(texts), list(flags)]


def cells(columns: Columns) -> list[list[str]]:
    """Return the cells row by row as text, so that NaN equals NaN and -0.0 is not 0.0."""
    return [[repr(cell) for cell in row] for row in zip(*map(list, by_feature(columns)), strict=True)]


MATRICES = st.lists(st.lists(NUMBERS, min_size=2, max_size=2), min_size=1, max_size=9).map(matrix)
LISTS = st.lists(st.tuples(NUMBERS, TEXTS, FLAGS).map(list), min_size=1, max_size=9).map(mixed)
SEVERAL = st.lists(MATRICES, min_size=1, max_size=4) | st.lists(LISTS, min_size=1, max_size=4)


@given(SEVERAL, st.data())
def test_rows_are_concatenated_and_taken_in_order(requests: list[Columns], data: st.DataObject):
    """The rows of several requests come one after the other, and any of them can be taken again, in any order."""
    together = concatenate(requests)
    expected = [row for columns in requests for row in cells(columns)]
    assert cells(together) == expected
    assert n_rows(together) == len(expected) == sum(map(n_rows, requests))
    chosen = data.draw(st.lists(st.integers(0, len(expected) - 1)))
    for rows in (chosen, np.array(chosen, dtype=np.intp)):
        taken = take(together, rows)
        assert cells(taken) == [expected[row] for row in chosen]
        assert n_rows(taken) == len(chosen)


@given(MATRICES | LISTS)
def test_packed_rows_come_back(columns: Columns):
    """Packing changes no cell, and the number of rows can be told without the cells."""
    packed, n_bytes = pack(columns)
    assert cells(unpack(packed)) == cells(columns)
    assert n_packed_rows(packed) == n_rows(columns)
    assert n_bytes > 0


@pytest.mark.parametrize("n_samples", [1, 40, 2000])
def test_packed_rows_take_no_more_memory_than_is_counted(n_samples: int):
    """The bound of remembered requests holds only if each counts for all it takes."""
    n_requests = 200
    kept = []
    pack(mixed([[1.0, "warm", True]]))  # what orjson allocates once
    sources = [mixed([[row + 0.5, f"word {row}", row % 2 == 0] for row in range(n_samples)]) for _ in range(n_requests)]
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        # A copy, because the arrays of a request are packed as they are.
        kept = [pack([sources[index][0].copy(), *sources[index][1:]]) for index in range(n_requests)]
        allocated = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert allocated <= 1.05 * sum(n_bytes + 160 for _, n_bytes in kept)  # 160 for the two tuples and the number


def test_a_view_counts_for_the_buffer_behind_it():
    """The object that owns the memory stays alive as long as its view."""
    owner = np.zeros((3, 2))
    assert pack(owner[:])[1] > pack(owner)[1]


def test_features_of_numbers_become_one_matrix():
    """In C order, as engines and the prediction log read it; other columns stay the objects they are."""
    columns = from_features([np.array([1.0, 2.0]), np.array([3.0, np.nan])], is_numeric=True)
    assert isinstance(columns, np.ndarray)
    assert columns.flags.c_contiguous
    np.testing.assert_array_equal(columns, [[1.0, 3.0], [2.0, np.nan]])
    given = [np.array([1.0]), ["a"]]
    assert from_features(given, is_numeric=False) is given


def test_the_rows_of_one_request_are_not_copied():
    """A request that is answered alone costs nothing more."""
    alone = matrix([[1.0, 2.0]])
    assert concatenate([alone]) is alone
    assert unpack(pack(alone)[0]) is alone
