"""Compiles the transformers of cells that may be missing or text: imputers and encoders."""

import warnings
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from service.engines.pipeline.cells import (
    NO_COLUMN,
    CellCodes,
    Codes,
    ColumnFill,
    EncodeOneHot,
    EncodeOrdinal,
    FillColumns,
    FillNumbers,
    IndicateMissing,
    NumberCodes,
)
from service.engines.scikit_learn import as_array
from training.contract.categories import UNKNOWN_CATEGORY
from training.engines.compile_pipeline.flow import Compiled, Flow, check_float64, matrix, to_matrix
from training.engines.scikit_learn_private import Fitted, one_hot_widths
from training.errors import UnsupportedError

# ------------------------------------------------------------------------------------------- missing cells


def imputer(fitted: Fitted, flow: Flow) -> Compiled:
    """Compile a SimpleImputer: what it fills in, the columns it drops, the indicators it adds."""
    marker = None if pd.isna(fitted.missing_values) else fitted.missing_values
    statistics = list(fitted.statistics_)
    dropped = [not fitted.keep_empty_features and bool(pd.isna(value)) for value in statistics]
    kept = [place for place, drop in enumerate(dropped) if not drop]
    indicators = tuple(map(int, fitted.indicator_.features_)) if fitted.add_indicator else ()
    kinds = (*(flow.kinds[place] for place in kept), *matrix(len(indicators)).kinds)
    if "string" not in flow.kinds:
        numbers, flow = to_matrix(flow)
        fill = FillNumbers(
            np.array(statistics, np.float64),
            None if marker is None else float(marker),
            None if len(kept) == len(statistics) else np.array(kept, np.intp),
            indicators or None,
        )
        return (*numbers, fill), matrix(len(kinds))
    if marker is not None:
        raise UnsupportedError("A SimpleImputer of text that stands for a missing value cannot be compiled.")
    fills = tuple(ColumnFill(place, _plain(statistics[place])) for place in kept)
    return (FillColumns(fills, indicators),), Flow(kinds, is_matrix=False)


def missing_indicator(indicator: Fitted, flow: Flow) -> Compiled:
    """Compile a MissingIndicator."""
    if not pd.isna(indicator.missing_values):
        raise UnsupportedError("A MissingIndicator of other values than missing ones cannot be compiled.")
    places = tuple(map(int, indicator.features_))
    refuses = indicator.features == "missing-only" and indicator.error_on_new
    complete = tuple(place for place in range(flow.width) if place not in places) if refuses else ()
    return (IndicateMissing(places, complete),), matrix(len(places))


# ------------------------------------------------------------------------------------------- categories


def ordinal(encoder: Fitted, flow: Flow) -> Compiled:
    """Compile an OrdinalEncoder."""
    check_float64(encoder.dtype, encoder)
    known, unknown = _encoded(encoder, flow)
    columns = []
    for index, categories in enumerate(encoder.categories_):
        other = None if unknown is None else float(unknown[index])
        columns.append(_codes(categories, known[: len(categories), index], other, flow.kinds[index]))
    return (EncodeOrdinal(tuple(columns)),), matrix(flow.width)


def one_hot(encoder: Fitted, flow: Flow) -> Compiled:
    """Compile a OneHotEncoder."""
    check_float64(encoder.dtype, encoder)
    known, unknown = _encoded(encoder, flow)
    columns, start = [], 0
    for index, (categories, width) in enumerate(zip(encoder.categories_, one_hot_widths(encoder), strict=True)):
        stop = start + width
        places = np.array([_place(row, start) for row in known[: len(categories), start:stop]], np.intp)
        other = None if unknown is None else _place(np.array(unknown[start:stop]), start)
        columns.append(_codes(categories, places, other, flow.kinds[index]))
        start = stop
    return (EncodeOneHot(tuple(columns), start),), matrix(start, is_sparse=bool(encoder.sparse_output))


def _place(row: NDArray[np.float64], start: int) -> int:
    """Return the place of the one column of a row that is set."""
    return start + int(np.argmax(row)) if row.any() else NO_COLUMN


def _encoded(encoder: Fitted, flow: Flow) -> tuple[NDArray[np.float64], list[float] | None]:
    """Return what an encoder makes of its categories, one row for each, and of unknown ones, None if it refuses."""
    known = [list(categories) for categories in encoder.categories_]
    longest = max(map(len, known))
    columns = [[*categories, *categories[:1] * (longest - len(categories))] for categories in known]
    strange = [
        [max((cell for cell in cells if cell == cell), default=0) + 1] if kind == "number" else [UNKNOWN_CATEGORY]
        for cells, kind in zip(known, flow.kinds, strict=True)
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a category is unknown
        coded = as_array(encoder.transform(_as_fitted(encoder, columns)))
        try:
            unknown = as_array(encoder.transform(_as_fitted(encoder, strange)))[0].tolist()
        except ValueError:
            unknown = None
    return coded, unknown


def _as_fitted(encoder: Fitted, columns: list[list[Any]]) -> NDArray[Any] | pd.DataFrame:
    if not hasattr(encoder, "feature_names_in_"):
        numbers = all(isinstance(cell, float | int | np.number) for column in columns for cell in column)
        return np.array(columns, dtype=np.float64 if numbers else object).T
    named = zip(encoder.feature_names_in_, columns, strict=True)
    return pd.DataFrame({name: pd.Series(column, dtype=object) for name, column in named})


def _codes(categories: NDArray[Any], codes: NDArray[Any], unknown: float | None, kind: str) -> Codes:
    """Return the codes of one column's categories, given in their order."""
    cells = [_plain(cell) for cell in categories]
    missing = next((code.item() for cell, code in zip(cells, codes, strict=True) if cell != cell), unknown)
    is_known = np.array([cell is not None and cell == cell for cell in cells])
    if not is_known.any():
        raise UnsupportedError("An encoder that knows no category cannot be compiled.")
    known, coded = [cell for cell, keep in zip(cells, is_known, strict=True) if keep], codes[is_known]
    if kind == "number":
        return NumberCodes(np.array(known, np.float64), coded, missing, unknown)
    return CellCodes(tuple(known), tuple(coded.tolist()), missing, unknown)


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value
