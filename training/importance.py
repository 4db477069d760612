"""Which features a model leans on: the most important ones are watched for drift where a model has very many."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from service.artifact.contract import PREDICT, PREDICT_PROBA
from training.contract.categories import classes_of
from training.contract.frame import replaced
from training.contract.probe import EstimatorProbe

# Enough to tell important features from others; of wide models fewer rows, as each feature has its predictions to make.
MOST_ROWS, LEAST_ROWS, MOST_PREDICTIONS = 200, 8, 20_000
MOST_CELLS_AT_ONCE = 1_000_000  # 8 MB of numbers
DIGITS = 6  # after the point; what is beyond them is rounding


def feature_importance(probe: EstimatorProbe, frame: pd.DataFrame, seed: int) -> dict[str, float]:
    """Return how much the model's answers change when the values of a feature are mixed up, by the feature's name.

    It needs no target, only the estimator's answers. Of numbers it is the mean absolute change in their standard
    deviations; of a classifier how much of the probability goes to other classes, which tells features apart that
    seldom change the label alone, or else the share of labels that change.

    Args:
        probe: Asks the fitted estimator.
        frame: The training rows, of shape (n_samples, n_features).
        seed: For the choice of rows.

    Returns:
        A number for each feature, at least 0; nothing where the estimator refuses rows that are mixed up.
    """
    n_features = frame.shape[1]
    n_rows = max(LEAST_ROWS, min(MOST_ROWS, MOST_PREDICTIONS // n_features))
    rows = np.random.default_rng(seed).permutation(len(frame))[:n_rows]
    sample = frame.iloc[rows].reset_index(drop=True)
    n_at_once = max(1, MOST_CELLS_AT_ONCE // sample.size)
    output = PREDICT_PROBA if PREDICT_PROBA in probe.outputs else probe.outputs[0]
    change = _change_of(output, probe.estimator)
    probe = EstimatorProbe(probe.estimator, probe.container, [output])
    changes: list[float] = []
    try:
        before = probe.answers(sample)[output]
        for start in range(0, n_features, n_at_once):
            names = list(frame.columns[start : start + n_at_once])
            answers = probe.answers(_mixed_up(sample, names))[output]
            changes += [round(change(before, after), DIGITS) for after in np.split(answers, len(names))]
    except Exception:  # noqa: BLE001 - an estimator refuses with whatever its own code raises
        return {}
    return dict(zip(frame.columns, changes, strict=True))


def _mixed_up(sample: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """Return the sample once for each name, one below the other, with that column's values each a row further down.

    The sample's rows are in a random order, so each row is given the value of any other.
    """
    n_rows = len(sample)
    copies = sample.iloc[np.tile(np.arange(n_rows), len(names))].reset_index(drop=True)
    columns = {}
    for number, name in enumerate(names):
        order = np.arange(len(copies))
        block = slice(number * n_rows, (number + 1) * n_rows)
        order[block] = np.roll(order[block], 1)
        columns[name] = copies[name].take(order).reset_index(drop=True)
    return replaced(copies, columns)


def _change_of(output: str, estimator: Any) -> Callable[[NDArray[Any], NDArray[Any]], float]:
    """Return what tells by how much answers changed, of shape (n_samples,) or (n_samples, n_columns)."""
    if output == PREDICT_PROBA:
        return lambda before, after: float(np.mean(np.abs(after - before).sum(axis=1) / 2))
    if output == PREDICT and classes_of(estimator) is not None:
        return lambda before, after: float(np.mean(before != after))
    return _in_deviations


def _in_deviations(before: NDArray[Any], after: NDArray[Any]) -> float:
    deviation = np.std(before, axis=0)
    change = np.mean(np.abs(after - before), axis=0)
    in_deviations = np.divide(change, deviation, out=np.zeros_like(change), where=deviation > 0)
    return float(np.mean(np.nan_to_num(in_deviations, posinf=0.0)))
