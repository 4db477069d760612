"""The contract of a fitted estimator, found by asking it: what it was fitted on, what it takes, what it answers.

Tags and attributes tell what an estimator's class can do; whether this pipeline takes a missing value in this column is
told by trying. Each question is asked of a real row with one cell, or a group of cells, changed.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from service.artifact.contract import PER_CLASS_OUTPUTS, PREDICT, Contract, Feature, Output
from training.contract.categories import classes_of, encoder_categories, may_be_listed, unknown_value
from training.contract.frame import as_frame, is_category, json_kind
from training.contract.probe import KIND_OF_OUTPUT, EstimatorProbe, accepting_columns, probe_estimator
from training.errors import BakeError

BEYOND_FLOAT32 = 1e39
FLOAT32_MAX = float(np.finfo(np.float32).max)


def derive_contract(
    estimator: Any, X: Any, names: Sequence[str], about: Mapping[str, Mapping[str, Any]], target_names: Sequence[str]
) -> tuple[Contract, pd.DataFrame, EstimatorProbe]:
    """Return the contract, the training rows as the service will give them, and a way to ask the estimator.

    Args:
        estimator: The fitted estimator.
        X: What it was fitted on, of shape (n_samples, n_features).
        names: The columns' names.
        about: What the author says of columns: unit, description, missing, unknown.
        target_names: The targets' names, for estimators that answer several.

    Raises:
        BakeError: If the columns cannot be carried by JSON, or the estimator answers nothing that can be served.
    """
    frame = as_frame(X, names)
    asker = probe_estimator(estimator, X, frame)
    rows = frame.head(3)
    answers = asker.answers(rows)
    classes = classes_of(estimator)
    kinds = {name: json_kind(frame[name]) for name in names}
    encoded = {
        name: categories
        for name, categories in encoder_categories(estimator, names).items()
        if set(frame[name].dropna()) <= set(categories)  # else a step before the encoder changes the values
    }
    # A plain boolean column has no room for a missing value: null would become false.
    takes_missing = accepting_columns(
        asker, frame, [name for name in names if frame[name].dtype != bool], lambda _column: None
    )
    categorical = {name for name in names if name in encoded or is_category(frame[name])}
    coded = [name for name in names if kinds[name] == "string" or (kinds[name] == "number" and name in categorical)]
    takes_unknown = accepting_columns(asker, frame, coded, lambda name: unknown_value(frame[name]))
    numbers = [name for name in names if kinds[name] == "number" and name not in categorical]
    takes_large = accepting_columns(asker, frame, numbers, lambda _column: BEYOND_FLOAT32, finite=False)
    takes_float32 = accepting_columns(
        asker, frame, sorted(set(numbers) - takes_large), lambda _column: FLOAT32_MAX, finite=False
    )
    features = []
    for name in names:
        said = about.get(name, {})
        column = frame[name]
        continuous = name in numbers and bool(column.notna().any())
        refuses_unknown = name not in takes_unknown or said.get("unknown") == "reject"
        known = encoded.get(name) or _seen_values(column, refuses_unknown)
        listed = known is not None and may_be_listed(column, known)
        _check_said(name, said, name in takes_missing, name in takes_unknown)
        features.append(
            Feature(
                name=name,
                kind=kinds[name],
                dtype=str(column.dtype),
                missing=name in takes_missing and said.get("missing", bool(column.isna().any())),
                categories=known if listed else None,
                unlisted=None if listed else known,
                closed=known is not None and refuses_unknown,
                minimum=float(column.min()) if continuous else None,
                maximum=float(column.max()) if continuous else None,
                magnitude=FLOAT32_MAX if name in takes_float32 else None,
                unit=said.get("unit", ""),
                description=said.get("description", ""),
            )
        )
    # An encoder names its columns after the values, so that names may say what must not be listed.
    transformed_names = () if any(feature.is_unlisted for feature in features) else _transformed_names(estimator)
    outputs = tuple(_output(name, values, classes, target_names, transformed_names) for name, values in answers.items())
    return Contract(tuple(features), asker.container, outputs, classes), frame, asker


def _check_said(name: str, said: Mapping[str, Any], takes_missing: bool, takes_unknown: bool) -> None:
    if said.get("missing") and not takes_missing:
        raise BakeError(f"FEATURES says that {name} may be missing, but the estimator refuses that: add an imputer.")
    if said.get("unknown") == "encode" and not takes_unknown:
        raise BakeError(
            f"FEATURES says that {name} may hold unknown categories, but the estimator refuses them: "
            "give its encoder handle_unknown."
        )


def _output(
    name: str,
    values: NDArray[Any],
    classes: tuple[Any, ...] | None,
    target_names: Sequence[str],
    transformed_names: Sequence[str],
) -> Output:
    kind = KIND_OF_OUTPUT[values.dtype.kind]
    if values.ndim == 1:
        return Output(name, kind)  # type: ignore[arg-type]
    n_columns = values.shape[1]
    columns = tuple(f"{name}{index}" for index in range(n_columns))
    if name in PER_CLASS_OUTPUTS and classes is not None and len(classes) == n_columns:
        columns = tuple(map(str, classes))
    if name == PREDICT and len(target_names) == n_columns:
        columns = tuple(target_names)
    if name == "transform" and len(transformed_names) == n_columns:
        columns = tuple(transformed_names)
    return Output(name, kind, columns)  # type: ignore[arg-type]


def _transformed_names(estimator: Any) -> tuple[str, ...]:
    """Return what a transformer calls its columns, nothing if it has no names."""
    try:
        return tuple(map(str, estimator.get_feature_names_out()))
    except Exception:  # noqa: BLE001 - many transformers cannot name their columns, in many ways
        return ()


def _seen_values(column: "pd.Series[Any]", refuses_unknown: bool) -> tuple[Any, ...] | None:
    """Return the values of a column of categories; None for numbers, and for text that the estimator takes as it is."""
    if is_category(column):
        return tuple(column.cat.categories.tolist())
    if json_kind(column) != "string" or not (refuses_unknown or may_be_listed(column)):
        return None
    return tuple(sorted(column.dropna().unique().tolist()))
