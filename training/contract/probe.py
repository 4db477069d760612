"""Asks a fitted estimator what it accepts and answers."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from service.artifact.contract import OUTPUT_METHODS, PREDICT
from service.engines.scikit_learn import as_array
from training.contract.frame import example_row, is_category, json_kind, with_cells
from training.errors import BakeError

N_COMPARED_ROWS = 1000  # how many rows the ways of giving them to the estimator are compared on
KIND_OF_OUTPUT = {
    "f": "number",
    "i": "integer",
    "u": "integer",
    "b": "boolean",
    "U": "string",
    "O": "string",
    "T": "string",
}


class EstimatorProbe:
    """Asks a fitted estimator, with frames whatever it was fitted on.

    Args:
        estimator: The fitted estimator.
        container: What it is given: "frame", or the dtype of a matrix.
        outputs: The names of its outputs.
    """

    def __init__(self, estimator: Any, container: str, outputs: Sequence[str]) -> None:
        self.estimator = estimator
        self.container = container
        self.outputs = tuple(outputs)

    def answers(self, frame: pd.DataFrame) -> dict[str, NDArray[Any]]:
        """Return every output for these instances, by name, each of shape (n_samples,) or (n_samples, n_columns)."""
        X = frame if self.container == "frame" else frame.to_numpy(dtype=self.container)
        with np.errstate(all="ignore"):
            return {name: as_array(getattr(self.estimator, name)(X)) for name in self.outputs}

    def takes(self, frame: pd.DataFrame, finite: bool = True) -> bool:
        """Say whether the estimator answers these instances, with finite numbers if finite is true."""
        try:
            answers = self.answers(frame)
        except Exception:  # noqa: BLE001 - an estimator refuses with whatever its own code raises
            return False
        return not finite or all(np.isfinite(values).all() for values in answers.values() if values.dtype.kind == "f")


def probe_estimator(estimator: Any, X: Any, frame: pd.DataFrame) -> EstimatorProbe:
    """Return how to ask the estimator: by the simplest container that gives the answers of the training data's own."""
    rows = X[:N_COMPARED_ROWS]
    offered = _offered_outputs(estimator, rows)
    expected = {name: as_array(getattr(estimator, name)(rows)) for name in offered}
    served = frame.head(N_COMPARED_ROWS)
    for container in _containers(X, frame):
        probe = EstimatorProbe(estimator, container, offered)
        if probe.takes(served, finite=False) and _same(probe.answers(served), expected):
            return probe
    raise BakeError(
        "The estimator answers differently when whole numbers come as float64, as JSON clients send them: "
        "convert the columns with astype(float) in load()."
    )


def _offered_outputs(estimator: Any, rows: Any) -> list[str]:
    offered = []
    for name in OUTPUT_METHODS:
        if hasattr(estimator, name):
            try:
                values = as_array(getattr(estimator, name)(rows))
            except Exception as error:
                if name == PREDICT:
                    raise BakeError(
                        f"The estimator's predict fails on the rows it was given ({type(error).__name__}): "
                        "they must be such as it was fitted on."
                    ) from error
                continue
            if values.ndim in (1, 2) and len(values) == len(rows) and _is_plain(values):
                offered.append(name)
    if not offered:
        raise BakeError(
            f"The estimator has none of {', '.join(OUTPUT_METHODS)} with one answer a row: nothing to serve."
        )
    return offered


def _is_plain(values: NDArray[Any]) -> bool:
    """Say whether all values have one type of JSON's; columns of several types come as objects."""
    if values.dtype.kind == "O":
        return all(isinstance(value, str) for value in values.flat)
    return values.dtype.kind in KIND_OF_OUTPUT


def _containers(X: Any, frame: pd.DataFrame) -> list[str]:
    kinds = {json_kind(frame[name]) for name in frame.columns}
    if not isinstance(X, pd.DataFrame):
        return [{frozenset({"number"}): "float64", frozenset({"boolean"}): "bool"}.get(frozenset(kinds), "object")]
    categorical = any(is_category(frame[name]) for name in frame.columns)
    return ["float64", "frame"] if kinds == {"number"} and not categorical else ["frame"]


def _same(given: Mapping[str, NDArray[Any]], expected: Mapping[str, NDArray[Any]]) -> bool:
    """Say whether answers are equal but for rounding: a matrix in another memory layout is summed in another order."""
    return all(
        np.allclose(given[name], values, rtol=0, atol=_rounding(values), equal_nan=True)
        if values.dtype.kind == "f"
        else np.array_equal(given[name], values)
        for name, values in expected.items()
    )


def _rounding(values: NDArray[Any]) -> float:
    """Return how far answers may differ: half the digits of their dtype, counted from the greatest of them."""
    greatest = np.abs(values[np.isfinite(values)]).max(initial=0)
    return float(np.sqrt(np.finfo(values.dtype).eps) * greatest)


def accepting_columns(
    probe: EstimatorProbe, frame: pd.DataFrame, names: Sequence[str], cell: Callable[[str], Any], finite: bool = True
) -> set[str]:
    """Return the columns in which the estimator takes a cell; whole groups are tried first."""
    if not names:
        return set()
    row = with_cells(example_row(frame), {name: cell(name) for name in names})
    if probe.takes(row, finite):
        return set(names)
    if len(names) == 1:
        return set()
    half = len(names) // 2
    first = accepting_columns(probe, frame, names[:half], cell, finite)
    return first | accepting_columns(probe, frame, names[half:], cell, finite)
