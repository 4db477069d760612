"""Counts a great many values by bin at once."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.artifact.reference import CategoryBins, Ranges


class NumberCounter:
    """Counts columns of numbers, all of them at once.

    Args:
        columns: The bins of each column, and at which place the counts of these begin.
    """

    def __init__(self, columns: Sequence[tuple[Ranges, int]]) -> None:
        width = max(len(ranges.bounds) for ranges, _ in columns)
        # Where a column has fewer bounds than others, its last one is repeated, and no number is in between.
        self._bounds = [np.array(_filled(ranges.bounds, width)) for ranges, _ in columns]
        places = [[begin + cell for cell in _filled(ranges.cells, width + 1)] for ranges, begin in columns]
        self._places = np.array(places, dtype=np.intp).ravel()
        self._shape = len(columns), width + 2

    def counts(self, values: NDArray[np.float64], n_places: int) -> NDArray[np.int64]:
        """Return how many values are in each bin.

        Args:
            values: Of shape (n_columns, n_samples), each row in one piece of memory; NaN for what is missing.
            n_places: How many bins there are, these and others.
        """
        n_below = np.zeros(self._shape, dtype=np.int64)  # first none, then up to each bound, in the end all
        n_below[:, 1:-1] = list(map(np.ndarray.searchsorted, np.sort(values, axis=1), self._bounds))
        n_below[:, -1] = values.shape[1]
        n_in_cells = np.diff(n_below, axis=1).ravel()
        return np.bincount(self._places, n_in_cells, n_places).astype(np.int64)


def _filled(values: tuple[Any, ...], width: int) -> tuple[Any, ...]:
    return values + values[-1:] * (width - len(values))


class CategoryPlaces(dict[Any, int]):
    """Where each value of a column is counted; values that it does not hold, too."""

    def __init__(self, values: CategoryBins, begin: int) -> None:
        super().__init__((value, begin + number) for value, number in values.of_value.items())
        self._of_others = begin + values.of_others

    def __missing__(self, _value: Any) -> int:
        return self._of_others
