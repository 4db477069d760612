"""The equivalence check: an engine serves only if its answers are the estimator's, on rows that find differences.

probe_rows.py makes the rows, and the reference engine answers for them by asking the estimator. Each batch is asked
for once, however many engines are checked.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from service.artifact.contract import Contract
from service.columns import n_rows, take
from service.engines.engine_function import EngineFunction
from training.engines.probe_rows import Answers, ArrayColumns, as_request, is_number, rows_by_kind, training_rows
from training.errors import UnsupportedError

BATCHES = ((1, 8), (7, 4))  # rows of a batch, batches of each kind of row


@dataclass(frozen=True)
class ProbeRows:
    """Rows of one kind.

    Args:
        kind: What they are, as in "boundary rows".
        columns: Their cells.
        answered: Whether the estimator answers, of shape (n_samples,).
    """

    kind: str
    columns: ArrayColumns
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
        self._expected: dict[tuple[str, int, int], Answers] = {}

    @cached_property
    def rows(self) -> list[ProbeRows]:
        """The rows of every kind, made when the first engine is judged."""
        ask = partial(self.ask, self.reference)
        kinds = rows_by_kind(self.contract, self._frame, self.training, ask, np.random.default_rng(self._seed))
        return [ProbeRows(kind, columns, self._answered(columns)) for kind, columns in kinds if n_rows(columns)]

    def is_batch_invariant(self, engine: EngineFunction) -> bool:
        """Say whether an engine's answer to a training row is the same bits alone and among others."""
        together = self.ask(engine, self.training)
        return all(
            same_bits(values, together[name][batch])
            for batch in _batches(n_rows(self.training))
            for name, values in self.ask(engine, take(self.training, batch)).items()
        )

    def ask(self, engine: EngineFunction, columns: ArrayColumns, outputs: Sequence[str] | None = None) -> Answers:
        """Return an engine's answers to rows; all outputs unless some are named."""
        with np.errstate(all="ignore"):
            return engine(as_request(columns, self.contract), outputs or self.outputs)

    def judge(self, engine: EngineFunction, bound: float) -> Verdict:
        """Return how an engine's answers compare with the estimator's.

        Args:
            engine: Loaded as the service loads it.
            bound: How far numbers may differ, relative to the scale of the output; labels must be the same.

        Raises:
            UnsupportedError: If they differ by more; names the output and the kind of rows.
        """
        exact, difference, batch_invariant = True, 0.0, True
        for rows in self.rows:
            self._check_refused(engine, rows)
            columns = take(rows.columns, np.flatnonzero(rows.answered))
            together: Answers = {}
            for batch in _batches(n_rows(columns)):
                try:
                    answers = self.ask(engine, take(columns, batch))
                except Exception as error:
                    failure = f"{type(error).__name__} where the estimator answers"
                    raise UnsupportedError(f"It fails on {rows.kind}: {failure}.") from error
                expected = self._expected_for(rows.kind, columns, batch)
                for name in self.outputs:
                    same, distance = self._compare(name, answers[name], expected[name], rows.kind)
                    exact, difference = exact and same, max(difference, distance)
                together = together or answers  # the first batch is all of the rows
                batch_invariant = batch_invariant and all(
                    same_bits(values, together[name][batch]) for name, values in answers.items()
                )
        if difference > bound:
            raise UnsupportedError(f"Its answers differ by {difference:.1e} of their scale, {bound:.0e} is the bound.")
        return Verdict(exact, difference, batch_invariant)

    def _expected_for(self, kind: str, columns: ArrayColumns, batch: NDArray[np.intp]) -> Answers:
        """Return the estimator's answers to a batch; each is asked for once, however many engines are judged."""
        key = kind, int(batch[0]), len(batch)
        if key not in self._expected:
            self._expected[key] = self.ask(self.reference, take(columns, batch))
        return self._expected[key]

    def _compare(self, name: str, given: NDArray[Any], expected: NDArray[Any], kind: str) -> tuple[bool, float]:
        """Return whether answers are the same bits, and how far they are apart.

        Raises:
            UnsupportedError: If shape or type differ, labels differ, or only one of the two is finite.
        """
        if given.shape != expected.shape or not _same_type(given, expected):
            raise UnsupportedError(f"{name} of {kind} is {_described(given)}, the estimator's {_described(expected)}.")
        if not is_number(name, expected, self.contract):
            unequal = given != expected
            if unequal.any():
                n_unequal = int(unequal.reshape(len(unequal), -1).any(axis=1).sum())
                raise UnsupportedError(f"{name} differs for {n_unequal} of {len(given)} {kind}.")
            return given.dtype == expected.dtype, 0.0
        by_row, expected_by_row = given.reshape(len(given), -1), expected.reshape(len(given), -1)
        finite = np.isfinite(expected_by_row).all(axis=1)
        if (np.isfinite(by_row).all(axis=1) != finite).any():
            raise UnsupportedError(f"{name} of {kind} is finite where the estimator's is not, or the other way round.")
        if not finite.any() or same_bits(given, expected):
            return True, 0.0
        by_row, expected_by_row = by_row[finite], expected_by_row[finite]
        scale = np.maximum(np.abs(expected_by_row).max(axis=1, keepdims=True), self.scales[name])
        distance = float(np.abs(by_row / scale - expected_by_row / scale).max())
        return same_bits(by_row, expected_by_row), distance

    def _scales(self) -> dict[str, float]:
        """Return the largest finite number of each output for the training rows."""
        answers = self.ask(self.reference, self.training)
        return {
            name: float(np.abs(values[np.isfinite(values)]).max(initial=0)) or 1.0
            for name, values in answers.items()
            if values.dtype.kind == "f"
        }

    def _check_refused(self, engine: EngineFunction, rows: ProbeRows) -> None:
        """See that the engine has no answer where the estimator has none.

        Raises:
            UnsupportedError: If it has one.
        """
        for row in np.flatnonzero(~rows.answered).tolist():
            try:
                answers = self.ask(engine, take(rows.columns, [row]))
            except Exception:  # noqa: BLE001, S112 - whatever it raises, the service refuses the row
                continue
            for name, values in answers.items():
                if values.dtype.kind != "f" or np.isfinite(values).all():
                    raise UnsupportedError(f"{name} is answered for one of the {rows.kind} that the estimator refuses.")

    def _answered(self, columns: ArrayColumns) -> NDArray[np.bool_]:
        """Return for each row whether the estimator answers, alone or among others."""
        answered = np.zeros(n_rows(columns), dtype=bool)
        batches = [np.arange(len(answered))]
        while batches:
            batch = batches.pop()
            try:
                self.ask(self.reference, take(columns, batch))
            except Exception:  # noqa: BLE001 - an estimator refuses with whatever its own code raises
                batches += np.array_split(batch, 2) if len(batch) > 1 else []
            else:
                answered[batch] = True
        return answered


def same_bits(first: NDArray[Any], second: NDArray[Any]) -> bool:
    """Say whether two arrays are the same in every bit."""
    if first.dtype != second.dtype or first.shape != second.shape:
        return False
    if first.dtype == object:
        return bool((first == second).all())
    return first.tobytes() == second.tobytes()


def _same_type(first: NDArray[Any], second: NDArray[Any]) -> bool:
    text_kinds = "OUT"
    return first.dtype.kind == second.dtype.kind or (first.dtype.kind in text_kinds and second.dtype.kind in text_kinds)


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
