"""Cells that are kept when their request is over: of known size, and nothing for the garbage collector to visit."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from service.schema import Columns

# A matrix as it is; of other columns those of numbers as they are, and others as the inside of a JSON list.
Kept = NDArray[np.float64] | tuple[NDArray[Any] | bytes, ...]

# What objects take beside what they hold.
ARRAY_BYTES = 136
BUFFER_BYTES = 480  # of the one that an array is a view of
TEXT_BYTES = 56


def keep(columns: Columns) -> tuple[Kept, int]:
    """Return the cells of a request to be kept, and how many bytes they take."""
    if isinstance(columns, np.ndarray):
        return columns, columns.nbytes + (ARRAY_BYTES if columns.base is None else ARRAY_BYTES + BUFFER_BYTES)
    # Without their brackets they are bytes of their own; what orjson returns may be part of a larger block.
    kept = tuple([column if isinstance(column, np.ndarray) else orjson.dumps(column)[1:-1] for column in columns])
    sizes = [len(each) + TEXT_BYTES if isinstance(each, bytes) else each.nbytes + ARRAY_BYTES for each in kept]
    return kept, sum(sizes)


def restore(kept: Kept) -> Columns:
    """Return the cells that were kept."""
    if isinstance(kept, np.ndarray):
        return kept
    return [column if isinstance(column, np.ndarray) else orjson.loads(b"[%b]" % column) for column in kept]


def n_rows(kept: Kept) -> int:
    """Return of how many rows they are."""
    return len(kept) if isinstance(kept, np.ndarray) else len(restore(kept[:1])[0])


def rows_of(columns: Columns, rows: Sequence[int]) -> Columns:
    """Return the cells of some rows, in the order of rows."""
    if isinstance(columns, np.ndarray):
        return columns[rows]
    return [column[rows] if isinstance(column, np.ndarray) else [column[row] for row in rows] for column in columns]
