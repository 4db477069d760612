"""The cells of a request: one matrix, or a list of columns; every operation on them is here."""

from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

# The cells of a request. Where every feature is a number, a matrix of shape (n_samples, n_features) with NaN for null;
# else a column for each feature: an array of shape (n_samples,) of numbers, or a list of text, booleans and None.
Columns = NDArray[np.float64] | list[Any]

EXACT_INTEGERS = 2**53  # float64 holds every integer up to here

# A matrix as it is; of other columns those of numbers as they are, and others as the inside of a JSON list.
PackedColumns = NDArray[np.float64] | tuple[NDArray[Any] | bytes, ...]

# What objects take beside what they hold.
ARRAY_BYTES = 136
BUFFER_BYTES = 480  # of the one that an array is a view of
TEXT_BYTES = 56


def pack(columns: Columns) -> tuple[PackedColumns, int]:
    """Return the cells of a request to be kept, and how many bytes they take."""
    if isinstance(columns, np.ndarray):
        return columns, columns.nbytes + (ARRAY_BYTES if columns.base is None else ARRAY_BYTES + BUFFER_BYTES)
    # Without their brackets they are bytes of their own; what orjson returns may be part of a larger block.
    kept = tuple([column if isinstance(column, np.ndarray) else orjson.dumps(column)[1:-1] for column in columns])
    sizes = [len(each) + TEXT_BYTES if isinstance(each, bytes) else each.nbytes + ARRAY_BYTES for each in kept]
    return kept, sum(sizes)


def unpack(kept: PackedColumns) -> Columns:
    """Return the cells that were kept."""
    if isinstance(kept, np.ndarray):
        return kept
    return [column if isinstance(column, np.ndarray) else orjson.loads(b"[%b]" % column) for column in kept]


def n_packed_rows(kept: PackedColumns) -> int:
    """Return of how many rows they are."""
    return len(kept) if isinstance(kept, np.ndarray) else len(unpack(kept[:1])[0])


def take(columns: Columns, rows: Sequence[int]) -> Columns:
    """Return the cells of some rows, in the order of rows."""
    if isinstance(columns, np.ndarray):
        return columns[rows]
    return [column[rows] if isinstance(column, np.ndarray) else [column[row] for row in rows] for column in columns]


def concatenate(parts: list[Columns]) -> Columns:
    """Return the rows of several requests, at least one, as those of one."""
    if len(parts) == 1:
        return parts[0]
    if isinstance(parts[0], np.ndarray):
        return np.concatenate(parts)
    return [
        np.concatenate(cells) if isinstance(cells[0], np.ndarray) else list(chain.from_iterable(cells))
        for cells in zip(*parts, strict=True)
    ]


def n_rows(columns: Columns) -> int:
    """Return how many rows there are."""
    return len(columns) if isinstance(columns, np.ndarray) else len(columns[0])
