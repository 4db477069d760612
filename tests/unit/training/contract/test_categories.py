"""Categories that may be listed: few values, each in many training rows."""

from typing import Any

import pandas as pd
import pytest

from training.contract.categories import MAX_CATEGORIES, MIN_CATEGORY_ROWS, may_be_listed


@pytest.mark.parametrize(
    ("values", "listed"),
    [
        (["red", "green"] * MIN_CATEGORY_ROWS, True),
        (["red", "green"] * MIN_CATEGORY_ROWS + [None, None], True),  # a gap is no value
        (["red", "green"] * MIN_CATEGORY_ROWS + ["Ann"], False),
        (["red"] * MIN_CATEGORY_ROWS + ["green"] * (MIN_CATEGORY_ROWS - 1), False),
        ([*range(MAX_CATEGORIES)] * MIN_CATEGORY_ROWS, True),
        ([*range(MAX_CATEGORIES + 1)] * MIN_CATEGORY_ROWS, False),
        ([7310111.0, 1.0] * (MIN_CATEGORY_ROWS - 1), False),
        ([True, False, False], True),  # which tell of nobody
        (pd.array([True, None, False], dtype="boolean"), True),
        (pd.Categorical(["red"] * MIN_CATEGORY_ROWS), True),
        (pd.Categorical(["red"] * MIN_CATEGORY_ROWS, categories=["Ann", "red"]), False),  # pandas knows another one
        (pd.Categorical([True, False]), True),
    ],
)
def test_few_values_of_many_rows_each_may_be_listed(values: Any, listed: bool):
    """Text, numbers and pandas' categories alike."""
    assert may_be_listed(pd.Series(values)) is listed


@pytest.mark.parametrize(("known", "listed"), [((1, 2), True), ((1,), True), ((1, 2, 3), False), ((False, True), True)])
def test_a_value_that_only_the_encoder_knows_is_one_of_too_few_rows(known: tuple[Any, ...], listed: bool):
    """It was fitted on other rows than these."""
    assert may_be_listed(pd.Series([1.0, 2.0] * MIN_CATEGORY_ROWS), known) is listed
