"""The cells of a request, and every operation on their rows.

Where every feature is a number, the cells are a matrix of shape (n_samples, n_features) with NaN for null. Otherwise
they are a list with one column for each feature: an array of shape (n_samples,), or a list of text, booleans and None.
"""

from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any, TypeVar, overload

import numpy as np
import orjson
from numpy.typing import NDArray

Columns = NDArray[np.float64] | list[Any]
Column = TypeVar("Column")
RowNumbers = Sequence[int] | NDArray[np.intp]

EXACT_INTEGERS = 2**53  # float64 holds every integer up to here

# A matrix or an array of numbers as it is; any other column as the inside of a JSON list.
PackedColumns = NDArray[np.float64] | tuple[NDArray[Any] | bytes, ...]

# What objects take beside what they hold.
ARRAY_BYTES = 136
BUFFER_BYTES = 480  # of the one that an array is a view of
TEXT_BYTES = 56


def n_rows(columns: Columns) -> int:
    """Return how many rows there are."""
    return len(columns) if isinstance(columns, np.ndarray) else len(columns[0])


def from_features(cells: list[Any], is_numeric: bool) -> Columns:
    """Return the cells of each feature as a request has them.

    Args:
        cells: One column for each feature, at least one.
        is_numeric: Whether every feature is a number, as Contract.is_numeric has it.

    Returns:
        One matrix in C order if is_numeric, otherwise the columns as they are.
    """
    if not is_numeric:
        return cells
    matrix = np.empty((len(cells[0]), len(cells)))
    for index, column in enumerate(cells):
        matrix[:, index] = column
    return matrix


def by_feature(columns: Columns) -> Iterable[Any]:
    """Return one column for each feature; those of a matrix are views of it."""
    return columns.T if isinstance(columns, np.ndarray) else columns


@overload
def take(columns: NDArray[Any], rows: RowNumbers) -> NDArray[Any]: ...
@overload
def take(columns: list[Column], rows: RowNumbers) -> list[Column]: ...
def take(columns: Columns, rows: RowNumbers) -> Columns:
    """Return the cells of these rows, in the order of rows."""
    indices = np.asarray(rows, np.intp)
    if isinstance(columns, np.ndarray):
        return columns.take(indices, axis=0)
    numbers = indices.tolist()  # Python reads its own integers quicker than NumPy's
    return [
        column.take(indices) if isinstance(column, np.ndarray) else [column[row] for row in numbers]
        for column in columns
    ]


@overload
def concatenate(parts: Sequence[list[Column]]) -> list[Column]: ...
@overload
def concatenate(parts: Sequence[Columns]) -> Columns: ...
def concatenate(parts: Sequence[Columns]) -> Columns:
    """Return the rows of several requests, at least one, as those of one request."""
    if len(parts) == 1:
        return parts[0]
    if isinstance(parts[0], np.ndarray):
        return np.concatenate(parts)
    return [
        np.concatenate(cells) if isinstance(cells[0], np.ndarray) else list(chain.from_iterable(cells))
        for cells in zip(*parts, strict=True)
    ]


def pack(columns: Columns) -> tuple[PackedColumns, int]:
    """Return the cells of a request in the form that takes little memory, and how many bytes they take."""
    if isinstance(columns, np.ndarray):
        return columns, columns.nbytes + (ARRAY_BYTES if columns.base is None else ARRAY_BYTES + BUFFER_BYTES)
    # Without their brackets they are bytes of their own; what orjson returns may be part of a larger block.
    packed = tuple([column if isinstance(column, np.ndarray) else orjson.dumps(column)[1:-1] for column in columns])
    sizes = [len(each) + TEXT_BYTES if isinstance(each, bytes) else each.nbytes + ARRAY_BYTES for each in packed]
    return packed, sum(sizes)


def unpack(packed: PackedColumns) -> Columns:
    """Return the cells that were packed."""
    if isinstance(packed, np.ndarray):
        return packed
    return [column if isinstance(column, np.ndarray) else orjson.loads(b"[%b]" % column) for column in packed]


def n_packed_rows(packed: PackedColumns) -> int:
    """Return how many rows were packed."""
    return len(packed) if isinstance(packed, np.ndarray) else len(unpack(packed[:1])[0])
