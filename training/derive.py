"""The contract of a fitted estimator, found by asking it: what it was fitted on, what it takes, what it answers.

Tags and attributes tell what an estimator's class can do; whether this pipeline takes a missing value in this column is
told by trying. Each question is asked of a real row with one cell, or a group of cells, changed.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.compose import ColumnTransformer
from sklearn.pipeline import Pipeline

from service.contract import OUTPUT_METHODS, PER_CLASS_OUTPUTS, PREDICT, Contract, Feature, Kind, Output
from training.categories import may_be_listed
from training.errors import BakeError

UNKNOWN_CATEGORY = "no such category, surely"
BEYOND_FLOAT32 = 1e39
EXACT_INTEGERS = 2**53  # float64 holds every integer up to here
FLOAT32_MAX = float(np.finfo(np.float32).max)
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


class Asker:
    """A fitted estimator, asked with frames whatever it was fitted on.

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
            return {name: dense(getattr(self.estimator, name)(X)) for name in self.outputs}

    def takes(self, frame: pd.DataFrame, finite: bool = True) -> bool:
        """Say whether the estimator answers these instances, with finite numbers if finite is true."""
        try:
            answers = self.answers(frame)
        except Exception:  # noqa: BLE001 - an estimator refuses with whatever its own code raises
            return False
        return not finite or all(np.isfinite(values).all() for values in answers.values() if values.dtype.kind == "f")


def dense(answer: Any) -> NDArray[Any]:
    """Return an answer as a dense array."""
    return np.asarray(answer.toarray() if hasattr(answer, "toarray") else answer)


def as_frame(X: Any, names: Sequence[str]) -> pd.DataFrame:
    """Return the features as the service will give them: numbers as float64, the rest as they are.

    Raises:
        BakeError: If JSON cannot carry a column.
    """
    frame = X if isinstance(X, pd.DataFrame) else pd.DataFrame(X, columns=list(names))
    numbers = [name for name in names if _kind(frame[name]) == "number" and not is_category(frame[name])]
    objects = [name for name in names if frame[name].dtype == object and name not in numbers]
    rounded = [name for name in numbers if _loses_digits(frame[name])]
    if rounded:
        raise BakeError(f"float64 cannot hold the whole numbers in {', '.join(rounded)}: make them text in load().")
    frame = frame.astype(dict.fromkeys(numbers, np.float64))
    infinite = [name for name in numbers if np.isinf(frame[name]).any()]
    if infinite:
        raise BakeError(f"JSON cannot carry the infinity in {', '.join(infinite)}: replace it in load().")
    return replaced(frame, {name: frame[name].where(frame[name].notna(), np.nan) for name in objects})


def replaced(frame: pd.DataFrame, columns: "Mapping[str, pd.Series[Any]]") -> pd.DataFrame:
    """Return the frame with these columns instead; a column may have any name, also one of assign's parameters."""
    frame = frame.copy()
    for name, column in columns.items():
        frame[name] = column
    return frame


def _loses_digits(column: "pd.Series[Any]") -> bool:
    if column.dtype.kind not in "iu":
        return False
    whole = column.dropna().astype(object)
    return any(int(float(value)) != value for value in whole[whole.abs() > EXACT_INTEGERS])


def derive_contract(
    estimator: Any, X: Any, names: Sequence[str], about: Mapping[str, Mapping[str, Any]], target_names: Sequence[str]
) -> tuple[Contract, pd.DataFrame, Asker]:
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
    asker = _asker(estimator, X, frame)
    rows = frame.head(3)
    answers = asker.answers(rows)
    classes = classes_of(estimator)
    kinds = {name: _kind(frame[name]) for name in names}
    encoded = {
        name: categories
        for name, categories in encoder_categories(estimator, names).items()
        if set(frame[name].dropna()) <= set(categories)  # else a step before the encoder changes the values
    }
    # A plain boolean column has no room for a missing value: null would become false.
    takes_missing = _takers(asker, frame, [name for name in names if frame[name].dtype != bool], lambda _column: None)
    categorical = {name for name in names if name in encoded or is_category(frame[name])}
    coded = [name for name in names if kinds[name] == "string" or (kinds[name] == "number" and name in categorical)]
    takes_unknown = _takers(asker, frame, coded, lambda name: unknown_value(frame[name]))
    numbers = [name for name in names if kinds[name] == "number" and name not in categorical]
    takes_large = _takers(asker, frame, numbers, lambda _column: BEYOND_FLOAT32, finite=False)
    takes_float32 = _takers(asker, frame, sorted(set(numbers) - takes_large), lambda _column: FLOAT32_MAX, finite=False)
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


def _kind(column: "pd.Series[Any]") -> Kind:
    """Return the JSON type of a column's cells.

    Raises:
        BakeError: If JSON has none for it.
    """
    dtype = column.cat.categories.dtype if is_category(column) else column.dtype
    if pd.api.types.is_bool_dtype(dtype):
        return "boolean"
    if pd.api.types.is_numeric_dtype(dtype) and not pd.api.types.is_complex_dtype(dtype):
        return "number"
    values = column.dropna()
    types = set(map(type, values))
    if types and types <= {str, np.str_}:
        return "string"
    if types and types <= {int, float, np.float64, np.int64}:
        return "number"
    if types and types <= {bool, np.bool_}:
        return "boolean"
    raise BakeError(
        f"Column {column.name} has dtype {dtype} with {', '.join(sorted(t.__name__ for t in types)) or 'no'} values: "
        "make it numbers, text or booleans in load()."
    )


def _asker(estimator: Any, X: Any, frame: pd.DataFrame) -> Asker:
    """Return how to ask the estimator: by the simplest container that gives the answers of the training data's own."""
    rows = X[:N_COMPARED_ROWS]
    offered = _offered_outputs(estimator, rows)
    expected = {name: dense(getattr(estimator, name)(rows)) for name in offered}
    served = frame.head(N_COMPARED_ROWS)
    for container in _containers(X, frame):
        asker = Asker(estimator, container, offered)
        if asker.takes(served, finite=False) and _same(asker.answers(served), expected):
            return asker
    raise BakeError(
        "The estimator answers differently when whole numbers come as float64, as JSON clients send them: "
        "convert the columns with astype(float) in load()."
    )


def _offered_outputs(estimator: Any, rows: Any) -> list[str]:
    offered = []
    for name in OUTPUT_METHODS:
        if hasattr(estimator, name):
            try:
                values = dense(getattr(estimator, name)(rows))
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
    kinds = {_kind(frame[name]) for name in frame.columns}
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


def _takers(
    asker: Asker, frame: pd.DataFrame, names: Sequence[str], cell: Callable[[str], Any], finite: bool = True
) -> set[str]:
    """Return the columns in which the estimator takes a cell; whole groups are tried first."""
    if not names:
        return set()
    row = with_cells(example_row(frame), {name: cell(name) for name in names})
    if asker.takes(row, finite):
        return set(names)
    if len(names) == 1:
        return set()
    half = len(names) // 2
    first, second = (_takers(asker, frame, part, cell, finite) for part in (names[:half], names[half:]))
    return first | second


def example_row(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the first row without gaps; the first of all if each has some."""
    complete = frame.dropna()
    return (complete if len(complete) else frame).head(1)


def with_cells(row: pd.DataFrame, cells: Mapping[str, Any]) -> pd.DataFrame:
    """Return the row with these cells instead, in columns of the same dtype; None is a missing value."""
    return replaced(row, {name: column_like(row[name], [cell], row.index) for name, cell in cells.items()})


def column_like(column: "pd.Series[Any]", cells: Sequence[Any], index: "pd.Index[Any]") -> "pd.Series[Any]":
    """Return these cells as a column of the same dtype as another one; None is a missing value."""
    cells = [np.nan if cell is None else cell for cell in cells]
    if is_category(column):  # a frame of the client's own would know the category that training did not
        categories = dict.fromkeys([*column.cat.categories, *(cell for cell in cells if cell == cell)])
        return pd.Series(pd.Categorical(cells, categories=list(categories)), index=index)
    return pd.Series(cells, index=index).astype(column.dtype)


def unknown_value(column: "pd.Series[Any]") -> Any:
    """Return a value that a column of categories does not hold."""
    if _kind(column) == "string":
        return UNKNOWN_CATEGORY
    return max(column.cat.categories if is_category(column) else column.dropna()) + 1


def is_category(column: "pd.Series[Any]") -> bool:
    """Say whether a column has pandas' dtype category."""
    return isinstance(column.dtype, pd.CategoricalDtype)


def classes_of(estimator: Any) -> tuple[Any, ...] | None:
    """Return the labels of a classifier with one target, in the order of its probabilities."""
    classes = getattr(estimator, "classes_", None)
    return tuple(classes.tolist()) if isinstance(classes, np.ndarray) and classes.ndim == 1 else None


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
    if _kind(column) != "string" or not (refuses_unknown or may_be_listed(column)):
        return None
    return tuple(sorted(column.dropna().unique().tolist()))


def encoder_categories(estimator: Any, names: Sequence[str]) -> dict[str, tuple[Any, ...]]:
    """Return the categories that the estimator's encoders know, by the name of the input column they are given.

    Follows pipelines and column transformers as far as columns keep their place: through steps that give back as many
    columns as they take.
    """
    estimator = getattr(estimator, "best_estimator_", estimator)  # what a search found
    if isinstance(estimator, Pipeline):
        for _, step in estimator.steps:
            if found := encoder_categories(step, names):
                return found
            if getattr(step, "n_features_in_", None) != len(names) or not _keeps_columns(step):
                return {}
        return {}
    if isinstance(estimator, ColumnTransformer):
        found = {}
        for _, transformer, columns in estimator.transformers_:
            if isinstance(transformer, BaseEstimator):
                found.update(encoder_categories(transformer, _selected(columns, names)))
        return found
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
