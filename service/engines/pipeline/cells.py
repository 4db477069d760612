"""Steps of a compiled pipeline on cells that may be missing or text: imputers and encoders.

A missing cell is NaN in a matrix or in a column of numbers, and None in any other column.
"""
# ruff: noqa: D102 - the docstring of a class says what its function does

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isnan
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from service.engines.engine_function import Floats
from service.engines.pipeline.steps import StepFunction

NO_COLUMN = -1  # the place of a category that sets no column of a one-hot code

Cell = str | bool | int | float


# ------------------------------------------------------------------------------------------- missing cells


@dataclass(frozen=True)
class FillNumbers:
    """Fills the gaps of a matrix.

    Args:
        fill: What to fill in, of shape (n_columns,).
        marker: The number that stands for a missing one, or None where NaN does.
        kept: The places of the columns to return, or None for all.
        indicators: The places of the columns to append an indicator of gaps for, or None for no indicators.
    """

    fill: Floats
    marker: float | None
    kept: NDArray[np.intp] | None
    indicators: tuple[int, ...] | None

    def function(self) -> StepFunction:
        fill, marker, kept = self.fill, self.marker, self.kept
        indicators = None if self.indicators is None else list(self.indicators)

        def fill_gaps(X: Floats) -> Floats:
            # The sum of squares is NaN only if a cell is: for a few cells far cheaper than to look at each.
            if marker is None and indicators is None and kept is None and not isnan(np.vdot(X, X)):
                return X
            gaps = np.isnan(X) if marker is None else np.equal(X, marker)
            filled = np.where(gaps, fill, X)
            if kept is not None:
                filled = filled[:, kept]
            if indicators is None:
                return filled
            added = gaps if len(indicators) == gaps.shape[1] else gaps[:, indicators]  # two memory layouts
            return np.concatenate([filled, added], axis=1)

        return fill_gaps


@dataclass(frozen=True)
class ColumnFill:
    """What to fill the gaps of one column with."""

    place: int
    value: Cell


@dataclass(frozen=True)
class FillColumns:
    """Fills the gaps of a list of columns.

    Args:
        fills: One for each column to return.
        indicators: The places of the columns to append an indicator of gaps for.
    """

    fills: tuple[ColumnFill, ...]
    indicators: tuple[int, ...]

    def function(self) -> StepFunction:
        fills, indicators = [(each.place, each.value) for each in self.fills], self.indicators

        def fill_gaps(columns: list[Any]) -> list[Any]:
            filled = [_filled(columns[place], value) for place, value in fills]
            return [*filled, *(_gaps(columns[place]).astype(np.float64) for place in indicators)]

        return fill_gaps


def _filled(column: Any, value: Any) -> Any:
    if isinstance(column, np.ndarray):
        return np.where(np.isnan(column), value, column)
    return [value if cell is None else cell for cell in column] if None in column else column


def _gaps(column: Any) -> NDArray[np.bool_]:
    if isinstance(column, np.ndarray):
        return np.isnan(column)
    return np.fromiter((cell is None for cell in column), bool, len(column))


@dataclass(frozen=True)
class IndicateMissing:
    """Returns a matrix that is 1 where a cell is missing, and 0 elsewhere.

    Args:
        places: The columns to indicate.
        complete: The columns in which a missing cell is refused.
    """

    places: tuple[int, ...]
    complete: tuple[int, ...]

    def function(self) -> StepFunction:
        places, complete = self.places, self.complete

        def indicate(value: Any) -> Floats:
            columns = value.T if isinstance(value, np.ndarray) else value
            if any(_gaps(columns[place]).any() for place in complete):
                raise ValueError("A value is missing in a column that had them all in training.")
            return np.array([_gaps(columns[place]) for place in places], dtype=np.float64).T

        return indicate


# ------------------------------------------------------------------------------------------- categories


class Codes(Protocol):
    """The codes of the categories of one column.

    The code of a missing cell is `missing`, that of any other cell that is not a category `unknown`. Such cells are
    refused where that is None.
    """

    def function(self) -> Callable[[Any], Any]:
        """Return the function from the column's cells to their codes, which raises ValueError for refused cells."""


@dataclass(frozen=True)
class NumberCodes:
    """The codes of the categories of a column of numbers.

    Args:
        known: The categories, of shape (n_categories,).
        codes: Their codes, of the same shape.
        missing: As in Codes.
        unknown: As in Codes.
    """

    known: Floats
    codes: NDArray[Any]
    missing: float | None
    unknown: float | None

    def function(self) -> Callable[[Floats], NDArray[Any]]:
        order = np.argsort(self.known)
        known, codes = self.known[order], self.codes[order]
        missing, unknown = self.missing, self.unknown
        last = len(known) - 1

        def look_up(cells: Floats) -> NDArray[Any]:
            places = np.minimum(np.searchsorted(known, cells), last)
            found, gaps = known[places] == cells, np.isnan(cells)
            if (unknown is None and not (found | gaps).all()) or (missing is None and gaps.any()):
                raise ValueError("A cell holds a category that the encoder refuses.")
            coded: NDArray[Any] = np.where(found, codes[places], codes.dtype.type(0 if unknown is None else unknown))
            if missing is not None:
                coded[gaps] = missing
            return coded

        return look_up


@dataclass(frozen=True)
class CellCodes:
    """The codes of the categories of a column of text or booleans.

    Args:
        known: The categories.
        codes: Their codes.
        missing: As in Codes.
        unknown: As in Codes.
    """

    known: tuple[Cell, ...]
    codes: tuple[float, ...]
    missing: float | None
    unknown: float | None

    def function(self) -> Callable[[Sequence[Any]], list[float]]:
        codes: dict[Cell | None, float | None] = dict(zip(self.known, self.codes, strict=True))
        codes[None] = self.missing
        unknown = self.unknown

        def look_up(cells: Sequence[Any]) -> list[Any]:
            coded = [codes.get(cell, unknown) for cell in cells]
            if None in coded:
                raise ValueError("A cell holds a category that the encoder refuses.")
            return coded

        return look_up


@dataclass(frozen=True)
class EncodeOrdinal:
    """Returns the code of each cell, one column for each of the input."""

    columns: tuple[Codes, ...]

    def function(self) -> StepFunction:
        lookups = [codes.function() for codes in self.columns]

        def encode(value: Any) -> Floats:
            columns = value.T if isinstance(value, np.ndarray) else value
            coded = np.empty((len(columns[0]), len(lookups)))
            for index, (look_up, column) in enumerate(zip(lookups, columns, strict=True)):
                coded[:, index] = look_up(column)
            return coded

        return encode


@dataclass(frozen=True)
class EncodeOneHot:
    """Returns a matrix that is 1 in the column of each cell's category, and 0 elsewhere.

    Args:
        columns: For each column of the input the columns that its categories set, as codes; NO_COLUMN sets none.
        width: How many columns there are.
    """

    columns: tuple[Codes, ...]
    width: int

    def function(self) -> StepFunction:
        lookups, width = [codes.function() for codes in self.columns], self.width

        def encode(value: Any) -> Floats:
            columns = value.T if isinstance(value, np.ndarray) else value
            n_samples = len(columns[0])
            places = [look_up(column) for look_up, column in zip(lookups, columns, strict=True)]
            coded = np.zeros((n_samples, width))
            if n_samples == 1:
                for (place,) in places:
                    if place != NO_COLUMN:
                        coded[0, place] = 1.0
                return coded
            for column in places:
                in_row = np.asarray(column)
                rows = np.flatnonzero(in_row != NO_COLUMN)
                coded[rows, in_row[rows]] = 1.0
            return coded

        return encode
