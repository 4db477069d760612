"""Training rows as the service will give them to the estimator."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from service.artifact.contract import Kind
from service.columns import EXACT_INTEGERS
from training.errors import BakeError


def as_frame(X: Any, names: Sequence[str]) -> pd.DataFrame:
    """Return the features as the service will give them: numbers as float64, the rest as they are.

    Raises:
        BakeError: If JSON cannot carry a column.
    """
    frame = X if isinstance(X, pd.DataFrame) else pd.DataFrame(X, columns=list(names))
    numbers = [name for name in names if json_kind(frame[name]) == "number" and not is_category(frame[name])]
    objects = [name for name in names if frame[name].dtype == object and name not in numbers]
    rounded = [name for name in numbers if _loses_digits(frame[name])]
    if rounded:
        raise BakeError(f"float64 cannot hold the whole numbers in {', '.join(rounded)}: make them text in load().")
    frame = frame.astype(dict.fromkeys(numbers, np.float64))
    infinite = [name for name in numbers if np.isinf(frame[name]).any()]
    if infinite:
        raise BakeError(f"JSON cannot carry the infinity in {', '.join(infinite)}: replace it in load().")
    return replaced(frame, {name: frame[name].where(frame[name].notna(), np.nan) for name in objects})


def replaced(frame: pd.DataFrame, columns: "Mapping[str, pd.Series[Any]]") -> pd.DataFrame:
    """Return the frame with these columns instead; a column may have any name, also one of assign's parameters."""
    frame = frame.copy()
    for name, column in columns.items():
        frame[name] = column
    return frame


def _loses_digits(column: "pd.Series[Any]") -> bool:
    if column.dtype.kind not in "iu":
        return False
    whole = column.dropna().astype(object)
    return any(int(float(value)) != value for value in whole[whole.abs() > EXACT_INTEGERS])


def json_kind(column: "pd.Series[Any]") -> Kind:
    """Return the JSON type of a column's cells.

    Raises:
        BakeError: If JSON has none for it.
    """
    dtype = column.cat.categories.dtype if is_category(column) else column.dtype
    if pd.api.types.is_bool_dtype(dtype):
        return "boolean"
    if pd.api.types.is_numeric_dtype(dtype) and not pd.api.types.is_complex_dtype(dtype):
        return "number"
    values = column.dropna()
    types = set(map(type, values))
    if types and types <= {str, np.str_}:
        return "string"
    if types and types <= {int, float, np.float64, np.int64}:
        return "number"
    if types and types <= {bool, np.bool_}:
        return "boolean"
    raise BakeError(
        f"Column {column.name} has dtype {dtype} with {', '.join(sorted(t.__name__ for t in types)) or 'no'} values: "
        "make it numbers, text or booleans in load()."
    )


def example_row(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the first row without gaps; the first of all if each has some."""
    complete = frame.dropna()
    return (complete if len(complete) else frame).head(1)


def with_cells(row: pd.DataFrame, cells: Mapping[str, Any]) -> pd.DataFrame:
    """Return the row with these cells instead, in columns of the same dtype; None is a missing value."""
    return replaced(row, {name: column_like(row[name], [cell], row.index) for name, cell in cells.items()})


def is_category(column: "pd.Series[Any]") -> bool:
    """Say whether a column has pandas' dtype category."""
    return isinstance(column.dtype, pd.CategoricalDtype)


def column_like(column: "pd.Series[Any]", cells: Sequence[Any], index: "pd.Index[Any]") -> "pd.Series[Any]":
    """Return these cells as a column of the same dtype as another one; None is a missing value."""
    cells = [np.nan if cell is None else cell for cell in cells]
    if is_category(column):  # a frame of the client's own would know the category that training did not
        categories = dict.fromkeys([*column.cat.categories, *(cell for cell in cells if cell == cell)])
        return pd.Series(pd.Categorical(cells, categories=list(categories)), index=index)
    return pd.Series(cells, index=index).astype(column.dtype)
