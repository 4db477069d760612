"""All private attributes of scikit-learn that the compilers read.

A new version of scikit-learn may change them without notice. `tests/unit/training/engines/test_scikit_learn_private.py`
fails then; a bake that meets the change serves with another engine, because it compares all answers.
"""

from collections.abc import Iterator
from copy import copy
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import _iforest

Fitted = Any  # a fitted transformer or estimator: scikit-learn declares no types

# ------------------------------------------------------------------------------------------- transformers


def input_places(transformer: Fitted, name: str) -> list[int]:
    """Return the places of the columns that one part of a ColumnTransformer takes."""
    return [int(place) for place in transformer._transformer_to_input_indices[name]]


def polynomial_degrees(features: Fitted) -> tuple[int, int]:
    """Return the least and the greatest degree of PolynomialFeatures."""
    return int(features._min_degree), int(features._max_degree)


def one_hot_encoder(bins: Fitted) -> Fitted:
    """Return the OneHotEncoder of a KBinsDiscretizer that encodes one-hot."""
    return bins._encoder


def one_hot_widths(encoder: Fitted) -> list[int]:
    """Return how many columns a OneHotEncoder makes of each column."""
    return [int(width) for width in encoder._n_features_outs]


def n_discriminants(analysis: Fitted) -> int:
    """Return how many columns the transform of LinearDiscriminantAnalysis returns."""
    return int(analysis._max_components)


# ------------------------------------------------------------------------------------------- linear models


def is_flat_target(regressor: Fitted) -> bool:
    """Say whether a TransformedTargetRegressor was fitted on a column, not a matrix."""
    return bool(regressor._training_dim == 1)


def link_name(estimator: Fitted) -> str:
    """Return the class of a generalized linear model's link, such as LogLink; empty for other estimators."""
    loss = getattr(estimator, "_base_loss", None)
    return "" if loss is None else type(loss.link).__name__


# ------------------------------------------------------------------------------------------- ensembles of trees


def starts(boosting: Fitted, rows: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return what gradient boosting starts from for rows, of shape (n_samples, n_columns)."""
    start: NDArray[np.float64] = boosting._raw_predict_init(rows)
    return start


def histogram_start(boosting: Fitted) -> NDArray[Any]:
    """Return what histogram gradient boosting starts from, of shape (n_columns,)."""
    return np.ravel(boosting._baseline_prediction)


def histogram_trees(boosting: Fitted) -> list[Fitted]:
    """Return the trees of histogram gradient boosting in the order of their sums."""
    return [member for iteration in boosting._predictors for member in iteration]


def category_encoder(boosting: Fitted) -> Fitted | None:
    """Return the ColumnTransformer that histogram gradient boosting encodes categories with, None if it has none."""
    return getattr(boosting, "_preprocessor", None)


def without_category_encoder(boosting: Fitted) -> Fitted:
    """Return a copy of histogram gradient boosting that takes encoded categories, those first, as its trees do."""
    encoded = copy(boosting)
    encoded._preprocessor = encoded.is_categorical_ = None
    return encoded


def path_lengths(forest: Fitted) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
    """Yield for each tree of an IsolationForest the steps to each node, and the mean length below it."""
    return zip(forest._decision_path_lengths, forest._average_path_length_per_tree, strict=True)


def takes_all_features(forest: Fitted) -> bool:
    """Say whether each tree of an IsolationForest takes all features."""
    return bool(forest._max_features == forest.n_features_in_)


def usual_path_length(forest: Fitted) -> float:
    """Return the mean path length in a tree of as many rows as each tree of an IsolationForest was fitted on."""
    return float(_iforest._average_path_length([forest._max_samples])[0])
