"""Where a model comes from: a model file that fits an estimator, or an estimator that somebody fitted elsewhere."""

import importlib
import importlib.util
import math
import re
import sys
import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import joblib
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.exceptions import InconsistentVersionWarning
from sklearn.utils.validation import check_is_fitted

from training.derive import classes_of, encoder_categories
from training.errors import BakeError, one_line

MODEL_FILE_MODULE = "bakehouse_model_file"  # what a model file is called once it is imported
NAME = re.compile(r"[a-z0-9]([a-z0-9_.-]{0,61}[a-z0-9])?")
FEATURE_KEYS = {"unit": str, "description": str, "missing": bool, "unknown": str}
TRUSTED_PACKAGES = ("sklearn.", "numpy.", "scipy.")
MISSING_WORDS = ("", "NA", "N/A", "NaN", "nan", "null", "None")  # in a CSV column of numbers or booleans
ZIP_MAGIC = b"PK\x03\x04"  # skops writes zip files


@dataclass
class Source:
    """A model to bake.

    Args:
        name: The model's name.
        path: The file or module it came from, for messages.
        X: Features, of shape (n_samples, n_features): a DataFrame, or an array as load() gave it.
        y: The target, of shape (n_samples,) or (n_samples, n_targets); None where there is none.
        estimator: The estimator; unfitted, unless fitted says otherwise.
        fitted: Whether the estimator was fitted elsewhere.
        description: A sentence about the model.
        bar: The least value of each named score, by scikit-learn's names, where greater is better.
        features: What the author says of columns by name: unit, description, missing, unknown.
        data_source: Where the data come from.
        data_licence: Their licence.
        example: Rows to show as the example request.
    """

    name: str
    path: str
    X: Any
    y: Any
    estimator: Any
    fitted: bool = False
    description: str = ""
    bar: Mapping[str, float] = field(default_factory=dict)
    features: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    data_source: str = ""
    data_licence: str = ""
    example: Sequence[Sequence[Any]] | None = None

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name):
            raise BakeError(
                f"The model's name {self.name!r} does not fit: set NAME or --name to lower-case letters, "
                "digits, - . and _, at most 63."
            )
        self._check_constants()
        self._check_data()

    def _check_constants(self) -> None:
        for column, about in self.features.items():
            if not (isinstance(column, str) and isinstance(about, Mapping) and _fits(about)):
                keys = ", ".join(f"{key} ({kind.__name__})" for key, kind in FEATURE_KEYS.items())
                raise BakeError(f"FEATURES[{column!r}] in {self.path} takes {keys}; unknown is 'reject' or 'encode'.")
        for score, least in self.bar.items():
            if isinstance(least, bool) or not isinstance(least, int | float) or not math.isfinite(least):
                raise BakeError(f"BAR[{score!r}] in {self.path} must be a number.")

    def _check_data(self) -> None:
        if not isinstance(self.X, pd.DataFrame):
            self.X = self._array(self.X, "features")
        if self.X.ndim != 2 or 0 in self.X.shape:
            raise BakeError(f"The features of {self.path} have shape {self.X.shape}: they must be rows of columns.")
        if isinstance(self.X, pd.DataFrame):
            names = list(self.X.columns)
            if not all(isinstance(name, str) and name for name in names) or len(set(names)) != len(names):
                raise BakeError(f"The columns of {self.path} must have names that are text, each once.")
        elif self.features and len(self.features) != self.X.shape[1]:
            raise BakeError(
                f"FEATURES in {self.path} names {len(self.features)} columns, the array has {self.X.shape[1]}."
            )
        unknown = sorted(set(self.features) - set(self.names))
        if unknown:
            raise BakeError(f"FEATURES in {self.path} names {', '.join(unknown)}, which load() does not give.")
        self._check_target()

    def _check_target(self) -> None:
        if self.y is None:
            return
        values = self._array(self.y, "targets")
        n_targets = len(values) if values.ndim else 0
        if n_targets != len(self.X):
            raise BakeError(f"{self.path} gives {len(self.X)} rows and {n_targets} targets: they must be as many.")
        n_missing = int(pd.isna(values).sum())
        if n_missing:
            raise BakeError(f"{n_missing} targets of {self.path} are missing: leave those rows out in load().")

    def _array(self, values: Any, what: str) -> NDArray[Any]:
        if hasattr(values, "toarray"):
            raise BakeError(f"The {what} of {self.path} are a sparse matrix: return a DataFrame or a dense array.")
        try:
            return np.asarray(values)
        except ValueError as error:
            raise BakeError(f"The {what} of {self.path} are no array: {one_line(error)}") from error

    @property
    def names(self) -> list[str]:
        """The names of the columns; those of an array come from FEATURES, else they are x0, x1, ..."""
        if isinstance(self.X, pd.DataFrame):
            return list(self.X.columns)
        return list(self.features) or [f"x{index}" for index in range(self.X.shape[1])]


def _fits(about: Mapping[str, Any]) -> bool:
    """Say whether these are members that FEATURES may have for one column."""
    return about.get("unknown", "reject") in ("reject", "encode") and all(
        key in FEATURE_KEYS and isinstance(value, FEATURE_KEYS[key]) for key, value in about.items()
    )


def from_model_file(model: str) -> Source:
    """Return what a model file describes.

    Args:
        model: A Python file or a module's name, with the functions load() and estimator(), and optionally NAME,
            DESCRIPTION, BAR, FEATURES, SOURCE, LICENCE and EXAMPLE.

    Raises:
        BakeError: If it cannot be imported, a function is missing, or one of them fails.
    """
    module = _import(model)
    load, estimator = (_function(module, model, name) for name in ("load", "estimator"))
    loaded = _call(load, model, "load()")
    if not isinstance(loaded, tuple) or len(loaded) != 2:
        raise BakeError(f"load() in {model} must return two things: the features and the target (or None).")
    made = _call(estimator, model, "estimator()")
    if not isinstance(made, BaseEstimator):
        raise BakeError(f"estimator() in {model} must return a scikit-learn estimator that is not fitted.")
    return Source(
        name=_constant(module, model, "NAME", Path(model).stem if model.endswith(".py") else model.rpartition(".")[2]),
        path=model,
        X=loaded[0],
        y=loaded[1],
        estimator=made,
        description=_constant(module, model, "DESCRIPTION", _first_line(module.__doc__)),
        bar=_constant(module, model, "BAR", {}),
        features=_constant(module, model, "FEATURES", {}),
        data_source=_constant(module, model, "SOURCE", ""),
        data_licence=_constant(module, model, "LICENCE", ""),
        example=getattr(module, "EXAMPLE", None),
    )


def _import(model: str) -> ModuleType:
    if not model.endswith(".py") and Path(model).name == model:
        return _call(lambda: importlib.import_module(model), model, "importing it")  # type: ignore[no-any-return]
    if not Path(model).is_file():
        raise BakeError(f"There is no file {model}: name a Python file or module with load() and estimator().")
    spec = importlib.util.spec_from_file_location(MODEL_FILE_MODULE, model)
    if spec is None or spec.loader is None:
        raise BakeError(f"{model} cannot be imported: name a Python file or module with load() and estimator().")
    module = importlib.util.module_from_spec(spec)
    sys.modules[MODEL_FILE_MODULE] = module  # dataclasses and pickle look their module up
    loader = spec.loader
    _call(lambda: loader.exec_module(module), model, "importing it")
    return module


def _function(module: ModuleType, model: str, name: str) -> Callable[[], Any]:
    function = getattr(module, name, None)
    if not callable(function):
        raise BakeError(f"{model} has no function {name}(): a model file has load() and estimator().")
    return function  # type: ignore[no-any-return]


def _constant(module: ModuleType, model: str, name: str, default: Any) -> Any:
    value = getattr(module, name, default)
    if not isinstance(value, type(default)):
        raise BakeError(f"{name} in {model} must be a {type(default).__name__}.")
    return value


def _call(function: Callable[[], Any], model: str, what: str) -> Any:
    """Call code of the model file; its failures become one sentence that names the line."""
    try:
        return function()
    except (Exception, SystemExit) as error:
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename.endswith(model)]
        line = f" at line {frames[-1].lineno}" if frames else ""
        raise BakeError(f"{model}: {what} failed{line} with {type(error).__name__}: {one_line(error)}") from error


def _first_line(doc: str | None) -> str:
    return (doc or "").strip().partition("\n")[0]


def from_fitted_file(path: Path, sample: Path, target: str | None, name: str | None) -> Source:
    """Return an estimator that was fitted elsewhere.

    Args:
        path: A joblib, pickle or skops file; joblib and pickle run whatever it says, so it must be your own.
        sample: A CSV file with a header and rows such as those the estimator was fitted on.
        target: The column of the sample that holds the true values, if one does.
        name: The model's name; the file's stem if None.

    Raises:
        BakeError: If a file cannot be read, the estimator is not fitted, or the sample does not fit it.
    """
    estimator = _read_estimator(path)
    try:
        check_is_fitted(estimator)
    except Exception as error:  # NotFittedError, or TypeError for what is no estimator
        raise BakeError(f"{path} holds no fitted scikit-learn estimator: save it after fit().") from error
    frame = _read_sample(sample)
    y = None
    if target is not None:
        if target not in frame.columns:
            raise BakeError(f"{sample} has no column {target}: name the one that holds the true values.")
        y = _typed(frame.pop(target), classes_of(estimator))
    frame = _check_columns(frame, estimator, sample)
    categories = encoder_categories(estimator, list(frame.columns))
    frame = pd.DataFrame({name: _typed(frame[name], categories.get(name)) for name in frame.columns})
    knows_names = hasattr(estimator, "feature_names_in_")
    return Source(
        name=name or path.stem,
        path=str(path),
        X=frame if knows_names else frame.to_numpy(),
        y=y,
        estimator=estimator,
        fitted=True,
        features={} if knows_names else {column: {} for column in frame.columns},
        description=f"{type(estimator).__name__}, fitted elsewhere.",
    )


def _read_estimator(path: Path) -> Any:
    try:
        with path.open("rb") as file:
            is_zip = file.read(len(ZIP_MAGIC)) == ZIP_MAGIC
    except OSError as error:
        raise BakeError(f"{path} cannot be read ({error.strerror}).") from error
    with warnings.catch_warnings():
        warnings.simplefilter("error", InconsistentVersionWarning)
        try:
            return _read_skops(path) if is_zip else joblib.load(path)
        except InconsistentVersionWarning as warning:
            raise BakeError(
                f"{path} was fitted with scikit-learn {warning.original_sklearn_version}, here is "
                f"{warning.current_sklearn_version}: bake with the version it was fitted with, or fit it again."
            ) from warning
        except BakeError:
            raise
        except (Exception, SystemExit) as error:
            raise BakeError(
                f"{path} cannot be loaded as joblib, pickle or skops ({type(error).__name__}: {one_line(error)[:-1]}): "
                "install the packages it was fitted with, or save it again."
            ) from error


def _read_skops(path: Path) -> Any:
    import skops.io

    unknown = [name for name in skops.io.get_untrusted_types(file=path) if not name.startswith(TRUSTED_PACKAGES)]
    if unknown:
        raise BakeError(f"{path} holds types that are not scikit-learn's ({', '.join(unknown)}): save it with joblib.")
    return skops.io.load(path, trusted=skops.io.get_untrusted_types(file=path))


def _read_sample(sample: Path) -> pd.DataFrame:
    """Return the cells as they are written; only the estimator knows whether 01234 is a number or a word."""
    try:
        frame = pd.read_csv(sample, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise BakeError(f"{sample} cannot be read as CSV with a header: {one_line(error)}") from error
    if pd.to_numeric(pd.Series(frame.columns), errors="coerce").notna().any():
        raise BakeError(f"{sample} has no header: its first line must be the names of the columns.")
    return frame


def _typed(column: "pd.Series[Any]", known: Sequence[Any] | None) -> "pd.Series[Any]":
    """Return a column of a CSV file with the type that its cells look like, or that of the values known of it.

    Args:
        column: The cells as text.
        known: The categories or classes that the estimator knows there, if it does.
    """
    if known and all(isinstance(value, str) for value in known):
        return column.where(column.isin(known) | (column != ""), np.nan)
    missing = column.isin(MISSING_WORDS)
    if not missing.all() and set(column[~missing]) <= {"True", "False"}:
        return (column == "True").astype("boolean").mask(missing) if missing.any() else column == "True"
    numbers = pd.to_numeric(column.where(~missing, np.nan), errors="coerce")
    if numbers[~missing].notna().all():
        return numbers
    return column.where(column != "", np.nan)


def _check_columns(frame: pd.DataFrame, estimator: Any, sample: Path) -> pd.DataFrame:
    """Return the sample's columns in the order the estimator was fitted on; by name, where it knows names."""
    names = getattr(estimator, "feature_names_in_", None)
    if names is None:
        n_features = getattr(estimator, "n_features_in_", frame.shape[1])
        if frame.shape[1] != n_features:
            raise BakeError(f"{sample} has {frame.shape[1]} columns, the estimator was fitted on {n_features}.")
        return frame
    missing, more = sorted(set(names) - set(frame.columns)), sorted(set(frame.columns) - set(names))
    if missing:
        raise BakeError(f"{sample} lacks the columns {', '.join(missing)}, which the estimator was fitted on.")
    if more:
        raise BakeError(
            f"{sample} has the columns {', '.join(more)} too: name the true values with --target, drop others."
        )
    return frame[list(names)]
