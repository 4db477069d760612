"""The equivalence gate: an engine serves only if its answers are the estimator's, on rows chosen to tell them apart.

The rows are training rows and rows made of them: categories that nobody knows, missing values, numbers of every size,
and numbers on both sides of each threshold that can be found. The estimator is a black box: a threshold is looked for
between two training values, by halving, until two neighbouring float64 have different answers.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from service.artifact.contract import PREDICT, Contract, Feature
from service.columns import Columns
from service.engines.engine_function import EngineFunction
from training.contract.categories import unknown_value
from training.errors import UnsupportedError

MAX_TRAINING_ROWS = 2000
N_ROWS = 20  # how many training rows a change is made to
N_PAIRS = 800  # how many pairs of training values are halved, shared by the features
BATCHES = ((1, 8), (7, 4))  # rows of a batch, batches of each kind of row
NUDGE = 1e-9  # relative; a step function stays where it is, a smooth one moves
MAGNITUDES = (0.0, 5e-324, 2.3e-308, 1e-300, 1e-10, 1.0, 1e10, 2.0**53, 1e30, float(np.finfo(np.float32).max), 1e39,
              1e300, float(np.finfo(np.float64).max))  # fmt: skip

Table = list[NDArray[Any]]  # the cells: for each feature float64 with NaN for a gap, or objects with None for it


@dataclass(frozen=True)
class Rows:
    """Rows of one kind.

    Args:
        kind: What they are, as in "boundary rows".
        table: Their cells.
        answered: Whether the estimator answers, of shape (n_samples,).
    """

    kind: str
    table: Table
    answered: NDArray[np.bool_]


@dataclass(frozen=True)
class Verdict:
    """How an engine's answers compare with the estimator's.

    Args:
        exact: Whether they are the same bits.
        difference: The largest difference, relative to the scale of the output.
        batch_invariant: Whether a row's answer is the same bits alone and among others.
    """

    exact: bool
    difference: float
    batch_invariant: bool


class EquivalenceCheck:
    """The rows, and the estimator's answers to them.

    Args:
        reference: The engine that asks the estimator.
        contract: What the model takes and answers.
        frame: The training rows.
        seed: For the choice of rows.
    """

    def __init__(self, reference: EngineFunction, contract: Contract, frame: pd.DataFrame, seed: int) -> None:
        self.reference = reference
        self.contract = contract
        self.outputs = [output.name for output in contract.outputs]
        self.training = training_rows(contract, frame, seed)
        self.scales = self._scales()
        self._frame, self._seed = frame, seed
        self._expected: dict[tuple[str, int, int], dict[str, NDArray[Any]]] = {}

    @cached_property
    def rows(self) -> list[Rows]:
        """The rows of every kind, made when the first engine is judged."""
        tables = _kinds_of_rows(self, self._frame, np.random.default_rng(self._seed))
        return [Rows(kind, table, self._answered(table)) for kind, table in tables if len(table[0])]

    def is_batch_invariant(self, engine: EngineFunction) -> bool:
        """Say whether an engine's answer to a training row is the same bits alone and among others."""
        together = self.ask(engine, self.training)
        return all(
            same_bits(values, together[name][part])
            for part in _batches(len(self.training[0]))
            for name, values in self.ask(engine, chosen(self.training, part)).items()
        )

    def ask(
        self, engine: EngineFunction, table: Table, outputs: Sequence[str] | None = None
    ) -> dict[str, NDArray[Any]]:
        """Return an engine's answers to rows."""
        with np.errstate(all="ignore"):
            return engine(as_columns(table, self.contract), outputs or self.outputs)

    def judge(self, engine: EngineFunction, bound: float) -> Verdict:
        """Return how an engine's answers compare with the estimator's.

        Args:
            engine: Loaded as the service loads it.
            bound: How far numbers may differ, relative to the scale of the output; labels must be the same.

        Raises:
            UnsupportedError: If they differ by more; names the output and the kind of rows.
        """
        exact, difference, invariant = True, 0.0, True
        for rows in self.rows:
            self._check_refused(engine, rows)
            table = chosen(rows.table, rows.answered)
            for part in _batches(len(table[0])):
                try:
                    answers = self.ask(engine, chosen(table, part))
                except Exception as error:
                    what = f"{type(error).__name__} where the estimator answers"
                    raise UnsupportedError(f"It fails on {rows.kind}: {what}.") from error
                expected = self._expected_for(rows.kind, table, part)
                for name in self.outputs:
                    same, distance = self._compare(name, answers[name], expected[name], rows.kind)
                    exact, difference = exact and same, max(difference, distance)
                if len(part) == len(table[0]):
                    together = answers
                invariant = invariant and all(
                    same_bits(values, together[name][part]) for name, values in answers.items()
                )
        if difference > bound:
            raise UnsupportedError(f"Its answers differ by {difference:.1e} of their scale, {bound:.0e} is the bound.")
        return Verdict(exact, difference, invariant)

    def _expected_for(self, kind: str, table: Table, part: NDArray[np.intp]) -> dict[str, NDArray[Any]]:
        """Return the estimator's answers to a batch; each is asked for once, however many engines are judged."""
        key = kind, int(part[0]), len(part)
        if key not in self._expected:
            self._expected[key] = self.ask(self.reference, chosen(table, part))
        return self._expected[key]

    def _compare(self, name: str, given: Any, expected: Any, kind: str) -> tuple[bool, float]:
        """Return whether answers are the same bits, and how far they are apart.

        Raises:
            UnsupportedError: If they are no such answers at all, or labels differ.
        """
        if given.shape != expected.shape or not _same_type(given, expected):
            raise UnsupportedError(f"{name} of {kind} is {_described(given)}, the estimator's {_described(expected)}.")
        if not self.is_number(name, expected):
            unequal = given != expected
            if unequal.any():
                n_rows = int(unequal.reshape(len(unequal), -1).any(axis=1).sum())
                raise UnsupportedError(f"{name} differs for {n_rows} of {len(given)} {kind}.")
            return given.dtype == expected.dtype, 0.0
        by_row, theirs = given.reshape(len(given), -1), expected.reshape(len(given), -1)
        finite = np.isfinite(theirs).all(axis=1)
        if (np.isfinite(by_row).all(axis=1) != finite).any():
            raise UnsupportedError(f"{name} of {kind} is finite where the estimator's is not, or the other way round.")
        if not finite.any() or same_bits(given, expected):
            return True, 0.0
        by_row, theirs = by_row[finite], theirs[finite]
        scale = np.maximum(np.abs(theirs).max(axis=1, keepdims=True), self.scales[name])
        return same_bits(by_row, theirs), float((np.abs(by_row / scale - theirs / scale)).max())

    def is_number(self, name: str, values: NDArray[Any]) -> bool:
        """Say whether an output is numbers that may be rounded, no labels."""
        return values.dtype.kind == "f" and not (name == PREDICT and self.contract.classes is not None)

    def _scales(self) -> dict[str, float]:
        """Return the largest finite number of each output for the training rows."""
        answers = self.ask(self.reference, self.training)
        return {
            name: float(np.abs(values[np.isfinite(values)]).max(initial=0)) or 1.0
            for name, values in answers.items()
            if values.dtype.kind == "f"
        }

    def _check_refused(self, engine: EngineFunction, rows: Rows) -> None:
        """See that the engine has no answer where the estimator has none.

        Raises:
            UnsupportedError: If it has one.
        """
        for row in np.flatnonzero(~rows.answered):
            try:
                answers = self.ask(engine, chosen(rows.table, [row]))
            except Exception:  # noqa: BLE001, S112 - whatever it raises, the service refuses the row
                continue
            for name, values in answers.items():
                if values.dtype.kind != "f" or np.isfinite(values).all():
                    raise UnsupportedError(f"{name} is answered for one of the {rows.kind} that the estimator refuses.")

    def _answered(self, table: Table) -> NDArray[np.bool_]:
        answered = np.zeros(len(table[0]), dtype=bool)
        waiting = [np.arange(len(answered))]
        while waiting:
            part = waiting.pop()
            try:
                self.ask(self.reference, chosen(table, part))
            except Exception:  # noqa: BLE001 - an estimator refuses with whatever its own code raises
                waiting += np.array_split(part, 2) if len(part) > 1 else []
            else:
                answered[part] = True
        return answered


def training_rows(contract: Contract, frame: pd.DataFrame, seed: int) -> Table:
    """Return the training rows that the contract takes, at most MAX_TRAINING_ROWS of them, in their order."""
    complete = frame.dropna(subset=[feature.name for feature in contract.features if not feature.missing])
    if len(complete) > MAX_TRAINING_ROWS:
        choice = np.random.default_rng(seed).choice(len(complete), MAX_TRAINING_ROWS, replace=False)
        complete = complete.iloc[np.sort(choice)]
    return [_cells(complete[feature.name], feature) for feature in contract.features]


def _cells(column: "pd.Series[Any]", feature: Feature) -> NDArray[Any]:
    if feature.kind == "number":
        return column.to_numpy(dtype=np.float64, na_value=np.nan)
    make = {"boolean": bool, "string": str}[feature.kind]
    cells = np.empty(len(column), dtype=object)
    cells[:] = [None if pd.isna(cell) else make(cell) for cell in column]
    return cells


def as_columns(table: Table, contract: Contract) -> Columns:
    """Return rows as a request has them."""
    if contract.is_numeric:
        return np.ascontiguousarray(np.array(table, dtype=np.float64).T)
    return [cells if cells.dtype == np.float64 else cells.tolist() for cells in table]


def chosen(table: Table, rows: Any) -> Table:
    """Return some of the rows."""
    return [cells[rows] for cells in table]


def same_bits(first: NDArray[Any], second: NDArray[Any]) -> bool:
    """Say whether two arrays are the same in every bit."""
    if first.dtype != second.dtype or first.shape != second.shape:
        return False
    if first.dtype == object:
        return bool((first == second).all())
    return first.tobytes() == second.tobytes()


def _same_type(first: NDArray[Any], second: NDArray[Any]) -> bool:
    text = "OUT"
    return first.dtype.kind == second.dtype.kind or (first.dtype.kind in text and second.dtype.kind in text)


def _described(values: NDArray[Any]) -> str:
    return f"{values.dtype} of shape {values.shape}"


def _batches(n_samples: int) -> Iterator[NDArray[np.intp]]:
    """Yield the rows of batches: all of them first, then several and single ones from all over."""
    if n_samples:
        yield np.arange(n_samples)
    for size, count in BATCHES:
        for start in np.unique(np.linspace(0, n_samples - size, count).astype(int)):
            if size < n_samples:
                yield np.arange(start, start + size)


# ------------------------------------------------------------------------------------------- kinds of rows


def _kinds_of_rows(
    gate: EquivalenceCheck, frame: pd.DataFrame, rng: np.random.Generator
) -> Iterator[tuple[str, Table]]:
    training, contract = gate.training, gate.contract
    n_samples = len(training[0])
    yield "training rows", training
    order = [rng.permutation(n_samples)[: 25 * N_ROWS] for _ in training]
    yield "rows of shuffled columns", [cells[rows] for cells, rows in zip(training, order, strict=True)]
    base = chosen(training, np.unique(np.linspace(0, n_samples - 1, N_ROWS).astype(int)))
    yield "rows of each category", _with_each(base, contract, lambda feature: feature.known or (), 2)
    unknown = {
        index: unknown_value(frame[feature.name])
        for index, feature in enumerate(contract.features)
        if not feature.closed and (feature.kind == "string" or feature.known is not None)
    }
    yield "rows with unknown categories", _changed(base, unknown)
    missing = {
        index: np.nan if feature.kind == "number" else None
        for index, feature in enumerate(contract.features)
        if feature.missing
    }
    yield "rows with missing values", _changed(base, missing)
    yield "rows of unusual magnitude", _magnitudes(base, contract)
    yield "boundary rows", boundary_rows(gate, rng)


def _changed(base: Table, cells: Mapping[int, Any]) -> Table:
    """Return the rows with each of these cells changed, and with all of them."""
    groups = [*([index] for index in cells), *([list(cells)] if len(cells) > 1 else [])]
    return _joined([_replaced(base, {index: cells[index] for index in group}) for group in groups], base)


def _replaced(base: Table, cells: Mapping[int, Any]) -> Table:
    table = list(base)
    for index, cell in cells.items():
        table[index] = np.full(len(base[0]), cell, dtype=base[index].dtype)
    return table


def _joined(tables: Sequence[Table], like: Table) -> Table:
    return [np.concatenate(columns) for columns in zip(*tables, strict=True)] if tables else chosen(like, slice(0))


def _with_each(base: Table, contract: Contract, cells: Callable[[Feature], Sequence[Any]], n_rows: int) -> Table:
    few = chosen(base, slice(n_rows))
    tables = [
        _replaced(few, {index: cell}) for index, feature in enumerate(contract.features) for cell in cells(feature)
    ]
    return _joined(tables, base)


def _magnitudes(base: Table, contract: Contract) -> Table:
    """Return rows with a number of every size in each feature, and in all of them at once."""

    def allowed(feature: Feature) -> list[float]:
        if feature.kind != "number" or feature.closed:
            return []
        limit = np.inf if feature.magnitude is None else feature.magnitude
        return [sign * size for size in MAGNITUDES for sign in (1.0, -1.0) if size <= limit]

    everywhere = [
        {index: number for index, feature in enumerate(contract.features) if number in allowed(feature)}
        for number in [sign * size for size in MAGNITUDES for sign in (1.0, -1.0)]
    ]
    one = chosen(base, slice(1))
    return _joined([_with_each(base, contract, allowed, 1), *(_replaced(one, cells) for cells in everywhere)], base)


def boundary_rows(gate: EquivalenceCheck, rng: np.random.Generator) -> Table:
    """Return rows on both sides of thresholds, one and two float64 apart, and at the nearest float32.

    Only for answers that jump: labels, and the numbers of trees.
    """
    nothing = chosen(gate.training, slice(0))
    jumping = _jumping(gate)
    features = [index for index, feature in enumerate(gate.contract.features)
                if feature.kind == "number" and not feature.closed]  # fmt: skip
    if not jumping or not features:
        return nothing
    rows, changed, low, high = _pairs(gate.training, features, rng)
    table = chosen(gate.training, rows)

    def answers(numbers: NDArray[np.float64]) -> dict[str, NDArray[Any]]:
        return gate.ask(gate.reference, _with_numbers(table, changed, numbers), jumping)

    try:
        first = answers(low)
        apart = ~_equal(first, answers(high))
        left, right = _ordered(low), _ordered(high)
        while (np.abs(left - right) > 1)[apart].any():
            middle = (left & right) + ((left ^ right) >> 1)
            same = _equal(first, answers(_number(middle)))
            left, right = np.where(same, middle, left), np.where(same, right, middle)
    except Exception:  # noqa: BLE001 - an estimator that refuses values between its training values has no such rows
        return nothing
    low, high = _number(left), _number(right)
    single = [value.astype(np.float32) for value in (low, high)]
    numbers = [
        low, high, np.nextafter(low, -np.inf), np.nextafter(low, np.inf), np.nextafter(high, -np.inf),
        np.nextafter(high, np.inf),
        *(np.nextafter(value, np.float32(way)).astype(np.float64) for value in single for way in (-np.inf, np.inf)),
        *(value.astype(np.float64) for value in single),
    ]  # fmt: skip
    tables = [chosen(_with_numbers(table, changed, values), apart & np.isfinite(values)) for values in numbers]
    return _joined(tables, nothing)


def _jumping(gate: EquivalenceCheck) -> list[str]:
    """Return the outputs to look for jumps in: numbers that stay the same when all of a row's move a little, or labels.

    Labels follow from such numbers, so that they jump where those do.
    """
    nudged = [cells * (1 + NUDGE) if cells.dtype == np.float64 else cells for cells in gate.training]
    try:
        before, after = gate.ask(gate.reference, gate.training), gate.ask(gate.reference, nudged)
    except Exception:  # noqa: BLE001 - an encoder of numbers refuses others
        return []
    jumping = [name for name in before if np.mean(_equal({name: before[name]}, {name: after[name]})) > 0.5]
    numbers = [name for name in jumping if gate.is_number(name, before[name])]
    return numbers[:1] or jumping


def _pairs(table: Table, features: list[int], rng: np.random.Generator) -> tuple[Any, Any, Any, Any]:
    """Return rows, the feature to change in each, and two different training values for it."""
    parts = []
    for index in features:
        count = max(4, N_PAIRS // len(features))
        rows, others = rng.integers(len(table[0]), size=(2, count))
        low, high = table[index][rows], table[index][others]
        usable = np.isfinite(low) & np.isfinite(high) & (low != high)
        parts.append((rows[usable], np.full(usable.sum(), index), low[usable], high[usable]))
    rows, changed, low, high = (np.concatenate(values) for values in zip(*parts, strict=True))
    return rows, changed, low, high


def _with_numbers(table: Table, changed: NDArray[np.intp], numbers: NDArray[np.float64]) -> Table:
    return [
        np.where(changed == index, numbers, cells) if cells.dtype == np.float64 else cells
        for index, cells in enumerate(table)
    ]


def _equal(first: Mapping[str, NDArray[Any]], second: Mapping[str, NDArray[Any]]) -> NDArray[np.bool_]:
    """Return for each row whether all outputs are equal."""
    parts = [(first[name] == second[name]).reshape(len(first[name]), -1).all(axis=1) for name in first]
    equal: NDArray[np.bool_] = np.logical_and.reduce(parts)
    return equal


def _ordered(numbers: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return integers in the order of the numbers, neighbours one apart."""
    bits = numbers.view(np.int64)
    return bits ^ ((bits >> 63) & np.int64(2**63 - 1))


def _number(ordered: NDArray[np.int64]) -> NDArray[np.float64]:
    return (ordered ^ ((ordered >> 63) & np.int64(2**63 - 1))).view(np.float64)
