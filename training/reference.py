"""Measures how features and predictions are distributed in training, which drift is measured against."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from service.artifact.contract import PREDICT, Contract, Feature
from service.artifact.reference import Distribution, NumberDistribution, Reference, ValueDistribution
from training.contract.categories import MAX_CATEGORIES, may_be_listed

N_BINS = 10


def measure_reference(
    contract: Contract,
    frame: pd.DataFrame,
    answers: Mapping[str, NDArray[Any]],
    importance: Mapping[str, float] | None = None,
) -> Reference:
    """Return how each feature and the predictions are distributed in training.

    Args:
        contract: What the model takes and answers.
        frame: The training rows.
        answers: The estimator's answers to them, by output.
        importance: How much the answers depend on each feature, by its name.
    """
    features = {feature.name: _feature_distribution(frame[feature.name], feature) for feature in contract.features}
    predictions: dict[str, Distribution] = {}
    if PREDICT in answers and answers[PREDICT].ndim == 1:
        values = pd.Series(answers[PREDICT])
        continuous = values.dtype.kind == "f" and contract.classes is None
        predictions[PREDICT] = _between_deciles(values) if continuous else _by_value(values, MAX_CATEGORIES)
    return Reference(len(frame), features, predictions, importance or {})


def _feature_distribution(values: "pd.Series[Any]", feature: Feature) -> Distribution:
    """Return counts between deciles, or counts of values; values that may not be listed are counted together."""
    if feature.is_unlisted:
        return _by_value(values, 0)
    if feature.kind != "number" or feature.categories is not None or _are_few(values):
        return _by_value(values, MAX_CATEGORIES)
    return _between_deciles(values)


def _are_few(values: "pd.Series[Any]") -> bool:
    """Return whether numbers are flags, counts or codes, of which a bin between deciles would hold several."""
    return 0 < values.nunique() <= N_BINS and may_be_listed(values)


def _between_deciles(values: "pd.Series[Any]") -> NumberDistribution:
    """Return counts of numbers between their deciles; missing values apart."""
    present = values.dropna().to_numpy(dtype=float)
    edges = np.unique(np.quantile(present, np.linspace(0, 1, N_BINS + 1))) if len(present) else np.array([])
    counts = np.histogram(present, edges)[0].tolist() if len(edges) > 1 else [len(present)]
    return NumberDistribution(tuple(edges.tolist()), tuple(counts), len(values) - len(present))


def _by_value(values: "pd.Series[Any]", n_most: int) -> ValueDistribution:
    """Return counts of the most frequent values, and of all others together; missing values apart."""
    present = values.dropna()
    counted = ((_plain(value), int(count)) for value, count in present.value_counts().items())
    ordered = sorted(counted, key=lambda item: (-item[1], str(item[0])))
    frequent, rest = ordered[:n_most], ordered[n_most:]
    return ValueDistribution(
        values=tuple(value for value, _ in frequent),
        counts=tuple(count for _, count in frequent),
        other=sum(count for _, count in rest),
        missing=len(values) - len(present),
    )


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value
