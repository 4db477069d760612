"""Counts many values by bin at once."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.artifact.reference import CategoryBins, Ranges


class NumberCounter:
    """Counts all columns of numbers at once.

    Args:
        columns: For each column its bins, and the place of its first count.
    """

    def __init__(self, columns: Sequence[tuple[Ranges, int]]) -> None:
        width = max(len(ranges.bounds) for ranges, _ in columns)
        # A column with fewer bounds than others repeats its last bound. No number falls between equal bounds.
        self._bounds = [np.array(_filled(ranges.bounds, width)) for ranges, _ in columns]
        places = [[begin + cell for cell in _filled(ranges.cells, width + 1)] for ranges, begin in columns]
        self._places = np.array(places, dtype=np.intp).ravel()
        self._shape = len(columns), width + 2

    def counts(self, values: NDArray[np.float64], n_places: int) -> NDArray[np.int64]:
        """Return how many values are in each bin.

        Args:
            values: Shape (n_columns, n_samples), C-contiguous. NaN is a missing value.
            n_places: The number of all bins, including those of other counters.
        """
        n_below = np.zeros(self._shape, dtype=np.int64)  # values below each bound; the first is 0, the last is all
        n_below[:, 1:-1] = list(map(np.ndarray.searchsorted, np.sort(values, axis=1), self._bounds))
        n_below[:, -1] = values.shape[1]
        n_in_cells = np.diff(n_below, axis=1).ravel()
        return np.bincount(self._places, n_in_cells, n_places).astype(np.int64)


def _filled(values: tuple[Any, ...], width: int) -> tuple[Any, ...]:
    return values + values[-1:] * (width - len(values))


class CategoryPlaces(dict[Any, int]):
    """Maps each value of a column to the place of its count. Values without a bin get the place of all others."""

    def __init__(self, values: CategoryBins, begin: int) -> None:
        super().__init__((value, begin + number) for value, number in values.of_value.items())
        self._other_place = begin + values.of_others

    def __missing__(self, _value: Any) -> int:
        return self._other_place
