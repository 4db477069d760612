"""Derives the contract of a fitted estimator by asking it: what it takes in each column, and what it answers.

Tags and attributes say what an estimator's class can do. Whether this pipeline takes a missing value in this column is
found by trying: each question is asked of a real row with one cell, or a group of cells, changed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from service.artifact.contract import PER_CLASS_OUTPUTS, PREDICT, Contract, Feature, Output
from training.contract.categories import classes_of, encoder_categories, may_be_listed, unknown_value
from training.contract.frame import is_category, json_kind
from training.contract.probe import KIND_OF_OUTPUT, EstimatorProbe, accepting_columns
from training.errors import BakeError

BEYOND_FLOAT32 = 1e39
FLOAT32_MAX = float(np.finfo(np.float32).max)
N_ANSWERED_ROWS = 3  # enough to see type and shape of each output

Notes = Mapping[str, Mapping[str, Any]]  # what the author says of columns, by name: unit, description, missing, unknown
Categories = Mapping[str, tuple[Any, ...]]  # by the column's name


@dataclass(frozen=True)
class AcceptedCells:
    """Which columns take which cells, found by asking the estimator.

    Args:
        missing: Those that take a missing value.
        unknown: Those that take a category it does not know.
        only_float32: Those of numbers that take none beyond float32.
    """

    missing: frozenset[str]
    unknown: frozenset[str]
    only_float32: frozenset[str]


def derive_contract(
    probe: EstimatorProbe, frame: pd.DataFrame, notes: Notes, target_names: Sequence[str] = ()
) -> Contract:
    """Return what the estimator takes and answers.

    Args:
        probe: Asks the estimator, as probe_estimator returned it.
        frame: The training rows, as the service will give them to the estimator.
        notes: What the author says of columns.
        target_names: The targets' names, for estimators that answer several.

    Raises:
        BakeError: If the author says that a column takes what the estimator refuses.
    """
    encoded = _encoded_categories(probe.estimator, frame)
    accepted = _accepted_cells(probe, frame, encoded)
    features = tuple(_feature(frame[name], encoded.get(name), accepted, notes.get(name, {})) for name in frame.columns)
    classes = classes_of(probe.estimator)
    answers = probe.answers(frame.head(N_ANSWERED_ROWS))
    # An encoder names its columns after the values, so that names may say what must not be listed.
    may_name = "transform" in answers and not any(feature.is_unlisted for feature in features)
    transformed_names = _transformed_names(probe.estimator) if may_name else ()
    outputs = tuple(_output(name, values, classes, target_names, transformed_names) for name, values in answers.items())
    return Contract(features, probe.container, outputs, classes)


def _encoded_categories(estimator: Any, frame: pd.DataFrame) -> Categories:
    """Return the categories that encoders know; not those of columns whose values an earlier step changes."""
    known = encoder_categories(estimator, list(frame.columns))
    return {name: values for name, values in known.items() if set(frame[name].dropna()) <= set(values)}


def _is_continuous(column: "pd.Series[Any]", encoded: tuple[Any, ...] | None) -> bool:
    """Say whether a column holds numbers that are no categories."""
    return json_kind(column) == "number" and encoded is None and not is_category(column)


def _accepted_cells(probe: EstimatorProbe, frame: pd.DataFrame, encoded: Categories) -> AcceptedCells:
    names: list[str] = list(frame.columns)
    # A plain boolean column has no room for a missing value: null would become false.
    nullable = [name for name in names if frame[name].dtype != bool]
    numbers = [name for name in names if _is_continuous(frame[name], encoded.get(name))]
    coded = [name for name in names if name not in numbers and json_kind(frame[name]) != "boolean"]
    beyond = accepting_columns(probe, frame, numbers, lambda _column: BEYOND_FLOAT32, finite=False)
    up_to_float32 = sorted(set(numbers) - beyond)
    return AcceptedCells(
        missing=frozenset(accepting_columns(probe, frame, nullable, lambda _column: None)),
        unknown=frozenset(accepting_columns(probe, frame, coded, lambda name: unknown_value(frame[name]))),
        only_float32=frozenset(
            accepting_columns(probe, frame, up_to_float32, lambda _column: FLOAT32_MAX, finite=False)
        ),
    )


def _feature(
    column: "pd.Series[Any]", encoded: tuple[Any, ...] | None, accepted: AcceptedCells, notes: Mapping[str, Any]
) -> Feature:
    """Return what the contract says of one column.

    Args:
        column: The training rows' cells.
        encoded: The categories that an encoder knows there, if one does.
        accepted: Which columns take which cells.
        notes: What the author says of the column.

    Raises:
        BakeError: If the author says that it takes what the estimator refuses.
    """
    name = str(column.name)
    takes_missing, takes_unknown = name in accepted.missing, name in accepted.unknown
    _check_notes(name, notes, takes_missing, takes_unknown)
    has_range = _is_continuous(column, encoded) and bool(column.notna().any())
    refuses_unknown = not takes_unknown or notes.get("unknown") == "reject"
    known = encoded or _seen_values(column, refuses_unknown)
    listed = known is not None and may_be_listed(column, known)
    return Feature(
        name=name,
        kind=json_kind(column),
        dtype=str(column.dtype),
        missing=takes_missing and notes.get("missing", bool(column.isna().any())),
        categories=known if listed else None,
        unlisted=None if listed else known,
        closed=known is not None and refuses_unknown,
        minimum=float(column.min()) if has_range else None,
        maximum=float(column.max()) if has_range else None,
        magnitude=FLOAT32_MAX if name in accepted.only_float32 else None,
        unit=notes.get("unit", ""),
        description=notes.get("description", ""),
    )


def _check_notes(name: str, notes: Mapping[str, Any], takes_missing: bool, takes_unknown: bool) -> None:
    if notes.get("missing") and not takes_missing:
        raise BakeError(f"FEATURES says that {name} may be missing, but the estimator refuses that: add an imputer.")
    if notes.get("unknown") == "encode" and not takes_unknown:
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
