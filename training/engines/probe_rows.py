"""Rows that find differences between an engine and the estimator: training rows, and rows made of them.

They hold categories that nobody knows, missing values, numbers of every size, and numbers on both sides of each
threshold that can be found. The estimator is a black box: a threshold is searched between two training values, by
halving, until two neighboring float64 have different answers.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from service.artifact.contract import PREDICT, Contract, Feature
from service.columns import Columns, concatenate, from_features, n_rows, take
from training.contract.categories import unknown_value

MAX_TRAINING_ROWS = 2000
N_ROWS = 20  # how many training rows a change is made to
N_PAIRS = 800  # how many pairs of training values are halved, shared by the features
NUDGE = 1e-9  # relative; a step function stays where it is, a smooth one moves
MAGNITUDES = (0.0, 5e-324, 2.3e-308, 1e-300, 1e-10, 1.0, 1e10, 2.0**53, 1e30, float(np.finfo(np.float32).max), 1e39,
              1e300, float(np.finfo(np.float64).max))  # fmt: skip
SIGNED_MAGNITUDES = [sign * size for size in MAGNITUDES for sign in (1.0, -1.0)]

# One array for each feature: float64 with NaN for a missing value, or objects with None for it.
ArrayColumns = list[NDArray[Any]]
Answers = dict[str, NDArray[Any]]  # the outputs by name, each of shape (n_samples,) or (n_samples, n_columns)
AskReference = Callable[[ArrayColumns, Sequence[str]], Answers]  # the reference engine's answers, for these outputs


def training_rows(contract: Contract, frame: pd.DataFrame, seed: int) -> ArrayColumns:
    """Return the training rows that the contract takes, at most MAX_TRAINING_ROWS of them, in their order."""
    complete = frame.dropna(subset=[feature.name for feature in contract.features if not feature.missing])
    if len(complete) > MAX_TRAINING_ROWS:
        choice = np.random.default_rng(seed).choice(len(complete), MAX_TRAINING_ROWS, replace=False)
        complete = complete.iloc[np.sort(choice)]
    return [_cells(complete[feature.name], feature) for feature in contract.features]


def _cells(column: "pd.Series[Any]", feature: Feature) -> NDArray[Any]:
    if feature.kind == "number":
        return column.to_numpy(dtype=np.float64, na_value=np.nan)
    plain_type = {"boolean": bool, "string": str}[feature.kind]
    cells = np.empty(len(column), dtype=object)
    cells[:] = [None if pd.isna(cell) else plain_type(cell) for cell in column]
    return cells


def as_request(columns: ArrayColumns, contract: Contract) -> Columns:
    """Return rows as a request has them."""
    cells = [column if column.dtype == np.float64 else column.tolist() for column in columns]
    return from_features(cells, contract.is_numeric)


def is_number(name: str, values: NDArray[Any], contract: Contract) -> bool:
    """Say whether an output is numbers, which may be rounded, and not labels."""
    return values.dtype.kind == "f" and not (name == PREDICT and contract.classes is not None)


# ------------------------------------------------------------------------------------------- kinds of rows


def rows_by_kind(
    contract: Contract, frame: pd.DataFrame, training: ArrayColumns, ask: AskReference, rng: np.random.Generator
) -> Iterator[tuple[str, ArrayColumns]]:
    """Yield rows of each kind, some of them without any row, and what they are, as in "boundary rows".

    Args:
        contract: What the model takes and answers.
        frame: The training rows, of which unknown categories are made.
        training: Those of training_rows.
        ask: Asks the reference engine.
        rng: Chooses rows and values.
    """
    n_samples = n_rows(training)
    yield "training rows", training
    order = [rng.permutation(n_samples)[: 25 * N_ROWS] for _ in training]
    yield "rows of shuffled columns", [cells[rows] for cells, rows in zip(training, order, strict=True)]
    base = take(training, np.unique(np.linspace(0, n_samples - 1, N_ROWS).astype(int)))
    yield "rows of each category", _with_each(take(base, range(2)), contract, lambda feature: feature.known or ())
    unknown = {
        index: unknown_value(frame[feature.name])
        for index, feature in enumerate(contract.features)
        if not feature.closed and (feature.kind == "string" or feature.known is not None)
    }
    yield "rows with unknown categories", _one_by_one_and_together(base, unknown)
    missing = {
        index: np.nan if feature.kind == "number" else None
        for index, feature in enumerate(contract.features)
        if feature.missing
    }
    yield "rows with missing values", _one_by_one_and_together(base, missing)
    yield "rows of unusual magnitude", _magnitudes(take(base, range(1)), contract)
    yield "boundary rows", boundary_rows(contract, training, ask, rng)


def _one_by_one_and_together(base: ArrayColumns, cells: Mapping[int, Any]) -> ArrayColumns:
    """Return the rows with each of these cells changed, and with all of them; cells are by index of the feature."""
    groups = [*([index] for index in cells), *([list(cells)] if len(cells) > 1 else [])]
    return _below_each_other([_replaced(base, {index: cells[index] for index in group}) for group in groups], base)


def _with_each(base: ArrayColumns, contract: Contract, cells: Callable[[Feature], Sequence[Any]]) -> ArrayColumns:
    """Return the rows once for each cell that a feature may have, with that cell."""
    variants = [
        _replaced(base, {index: cell}) for index, feature in enumerate(contract.features) for cell in cells(feature)
    ]
    return _below_each_other(variants, base)


def _magnitudes(base: ArrayColumns, contract: Contract) -> ArrayColumns:
    """Return rows with a number of every size in each feature, and in all of them at once."""

    def allowed(feature: Feature) -> list[float]:
        if feature.kind != "number" or feature.closed:
            return []
        limit = np.inf if feature.magnitude is None else feature.magnitude
        return [number for number in SIGNED_MAGNITUDES if abs(number) <= limit]

    everywhere = [
        {index: number for index, feature in enumerate(contract.features) if number in allowed(feature)}
        for number in SIGNED_MAGNITUDES
    ]
    variants = [_with_each(base, contract, allowed), *(_replaced(base, cells) for cells in everywhere)]
    return _below_each_other(variants, base)


def _replaced(base: ArrayColumns, cells: Mapping[int, Any]) -> ArrayColumns:
    """Return the rows with these cells in each; cells are by index of the feature."""
    columns = list(base)
    for index, cell in cells.items():
        columns[index] = np.full(n_rows(base), cell, dtype=base[index].dtype)
    return columns


def _below_each_other(variants: Sequence[ArrayColumns], like: ArrayColumns) -> ArrayColumns:
    """Return the rows of all variants; no row, in columns like those given, where there is no variant."""
    return concatenate(variants) if variants else take(like, ())


# ------------------------------------------------------------------------------------------- thresholds


def boundary_rows(
    contract: Contract, training: ArrayColumns, ask: AskReference, rng: np.random.Generator
) -> ArrayColumns:
    """Return rows on both sides of thresholds, one and two float64 apart, and at the nearest float32.

    Only for answers that jump: labels, and the numbers of trees.
    """
    no_rows = take(training, ())
    outputs = _outputs_that_jump(contract, training, ask)
    features = [index for index, feature in enumerate(contract.features)
                if feature.kind == "number" and not feature.closed]  # fmt: skip
    if not outputs or not features:
        return no_rows
    rows, changed, low, high = _value_pairs(training, features, rng)
    base = take(training, rows)
    try:
        low, high, differ = _nearest_neighbors(
            low, high, lambda numbers: ask(_with_numbers(base, changed, numbers), outputs)
        )
    except Exception:  # noqa: BLE001 - an estimator that refuses values between its training values has no such rows
        return no_rows
    single = [value.astype(np.float32) for value in (low, high)]
    numbers = [
        low, high, np.nextafter(low, -np.inf), np.nextafter(low, np.inf), np.nextafter(high, -np.inf),
        np.nextafter(high, np.inf),
        *(np.nextafter(value, np.float32(way)).astype(np.float64) for value in single for way in (-np.inf, np.inf)),
        *(value.astype(np.float64) for value in single),
    ]  # fmt: skip
    return concatenate([
        take(_with_numbers(base, changed, values), np.flatnonzero(differ & np.isfinite(values))) for values in numbers
    ])  # fmt: skip


def _outputs_that_jump(contract: Contract, training: ArrayColumns, ask: AskReference) -> list[str]:
    """Return the outputs to look for jumps in: numbers that stay the same when all of a row's move a little, or labels.

    Labels follow from such numbers, so that they jump where those do.
    """
    outputs = [output.name for output in contract.outputs]
    nudged = [cells * (1 + NUDGE) if cells.dtype == np.float64 else cells for cells in training]
    try:
        before, after = ask(training, outputs), ask(nudged, outputs)
    except Exception:  # noqa: BLE001 - an encoder of numbers refuses others
        return []
    jumping = [name for name in outputs if np.mean(_equal({name: before[name]}, {name: after[name]})) > 0.5]
    numbers = [name for name in jumping if is_number(name, before[name], contract)]
    return numbers[:1] or jumping


def _value_pairs(columns: ArrayColumns, features: list[int], rng: np.random.Generator) -> tuple[Any, Any, Any, Any]:
    """Return rows, the feature to change in each, and two different training values for it."""
    pairs = []
    for index in features:
        count = max(4, N_PAIRS // len(features))
        rows, others = rng.integers(n_rows(columns), size=(2, count))
        low, high = columns[index][rows], columns[index][others]
        usable = np.isfinite(low) & np.isfinite(high) & (low != high)
        pairs.append((rows[usable], np.full(usable.sum(), index), low[usable], high[usable]))
    rows, changed, low, high = (np.concatenate(values) for values in zip(*pairs, strict=True))
    return rows, changed, low, high


def _nearest_neighbors(
    low: NDArray[np.float64], high: NDArray[np.float64], answers: Callable[[NDArray[np.float64]], Answers]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    """Return pairs of neighboring float64 with different answers, found by halving the distance of each pair.

    Args:
        low: One number for each row.
        high: Another one for each row.
        answers: Returns the answers to the rows with these numbers.

    Returns:
        The pairs, and for which of them the answers differ; the others are not halved.
    """
    answers_to_low = answers(low)
    differ = ~_equal(answers_to_low, answers(high))
    left, right = _to_ordinals(low), _to_ordinals(high)
    while (np.abs(left - right) > 1)[differ].any():
        middle = (left & right) + ((left ^ right) >> 1)
        same = _equal(answers_to_low, answers(_from_ordinals(middle)))
        left, right = np.where(same, middle, left), np.where(same, right, middle)
    return _from_ordinals(left), _from_ordinals(right), differ


def _with_numbers(columns: ArrayColumns, changed: NDArray[np.intp], numbers: NDArray[np.float64]) -> ArrayColumns:
    """Return the rows with one number replaced in each: that of the feature which changed holds."""
    return [
        np.where(changed == index, numbers, cells) if cells.dtype == np.float64 else cells
        for index, cells in enumerate(columns)
    ]


def _equal(first: Mapping[str, NDArray[Any]], second: Mapping[str, NDArray[Any]]) -> NDArray[np.bool_]:
    """Return for each row whether all outputs are equal."""
    by_output = [(first[name] == second[name]).reshape(len(first[name]), -1).all(axis=1) for name in first]
    equal: NDArray[np.bool_] = np.logical_and.reduce(by_output)
    return equal


def _to_ordinals(numbers: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return integers in the order of the numbers, neighbors one apart."""
    bits = numbers.view(np.int64)
    return bits ^ ((bits >> 63) & np.int64(2**63 - 1))


def _from_ordinals(ordinals: NDArray[np.int64]) -> NDArray[np.float64]:
    return (ordinals ^ ((ordinals >> 63) & np.int64(2**63 - 1))).view(np.float64)
