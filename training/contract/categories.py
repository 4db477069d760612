"""The categories that a model knows, and which of them may be listed."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator
from sklearn.compose import ColumnTransformer
from sklearn.pipeline import Pipeline

from training.contract.frame import is_category, json_kind

MAX_CATEGORIES = 50  # more are no list that people read, and a column of names or texts has more
MIN_CATEGORY_ROWS = 10  # of each value: what fewer rows share may name a person, an account or an address


def may_be_listed(column: "pd.Series[Any]", known: Sequence[Any] | None = None) -> bool:
    """Say whether a column holds categories that may be listed: few values, each in many training rows.

    True and false may always be: they tell of nobody. A missing value is no value.

    Args:
        column: The cells of the training rows.
        known: The values that the estimator knows, where it knows others than the rows have.
    """
    counts = column.value_counts().to_dict()
    values = list(counts) if known is None else known
    if all(isinstance(value, bool | np.bool_) for value in values):
        return True
    return len(values) <= MAX_CATEGORIES and all(counts.get(value, 0) >= MIN_CATEGORY_ROWS for value in values)


UNKNOWN_CATEGORY = "no such category, surely"


def unknown_value(column: "pd.Series[Any]") -> Any:
    """Return a value that a column of categories does not hold."""
    if json_kind(column) == "string":
        return UNKNOWN_CATEGORY
    return max(column.cat.categories if is_category(column) else column.dropna()) + 1


def classes_of(estimator: Any) -> tuple[Any, ...] | None:
    """Return the labels of a classifier with one target, in the order of its probabilities."""
    classes = getattr(estimator, "classes_", None)
    return tuple(classes.tolist()) if isinstance(classes, np.ndarray) and classes.ndim == 1 else None


def encoder_categories(estimator: Any, names: Sequence[str]) -> dict[str, tuple[Any, ...]]:
    """Return the categories that the estimator's encoders know, by the name of the input column they are given.

    Follows pipelines and column transformers as far as columns keep their place: through steps that give back as many
    columns as they take.
    """
    estimator = getattr(estimator, "best_estimator_", estimator)  # of a search
    if isinstance(estimator, Pipeline):
        for _, step in estimator.steps:
            if categories := encoder_categories(step, names):
                return categories
            if getattr(step, "n_features_in_", None) != len(names) or not _keeps_columns(step):
                return {}
        return {}
    if isinstance(estimator, ColumnTransformer):
        by_name = {}
        for _, transformer, columns in estimator.transformers_:
            if isinstance(transformer, BaseEstimator):
                by_name.update(encoder_categories(transformer, _selected(columns, names)))
        return by_name
    known = getattr(estimator, "categories_", None)
    if not isinstance(known, list) or len(known) != len(names):
        return {}
    return {
        name: tuple(value for value in categories.tolist() if not pd.isna(value))
        for name, categories in zip(names, known, strict=True)
    }


def _keeps_columns(step: Any) -> bool:
    try:
        return bool(len(step.get_feature_names_out()) == step.n_features_in_)
    except Exception:  # noqa: BLE001 - what cannot name its columns is not followed further
        return False


def _selected(columns: Any, names: Sequence[str]) -> list[str]:
    """Return the names that a column transformer's selection stands for: names, places, a mask or a slice."""
    places = pd.Series(list(names), index=list(names))
    chosen: Any = [columns] if isinstance(columns, str | int) else columns
    first = (chosen.start or chosen.stop) if isinstance(chosen, slice) else next(iter(chosen), None)
    return list(places.loc[chosen] if isinstance(first, str) else places.iloc[chosen])
