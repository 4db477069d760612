"""Which values of the training rows may be shown to anyone who can see a model's contract, metrics or documents."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

MAX_CATEGORIES = 50  # more are no list that people read, and a column of names or texts has more
MIN_CATEGORY_ROWS = 10  # of each value: what fewer rows share may name a person, an account or an address


def may_be_listed(column: "pd.Series[Any]", known: Sequence[Any] | None = None) -> bool:
    """Say whether a column holds categories that may be listed: few values, each in many training rows.

    True and false may always be: they tell of nobody. A missing value is no value.

    Args:
        column: The cells of the training rows.
        known: The values that the estimator knows, where it knows others than the rows have.
    """
    counts = column.value_counts().to_dict()
    values = list(counts) if known is None else known
    if all(isinstance(value, bool | np.bool_) for value in values):
        return True
    return len(values) <= MAX_CATEGORIES and all(counts.get(value, 0) >= MIN_CATEGORY_ROWS for value in values)
