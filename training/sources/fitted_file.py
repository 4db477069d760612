"""Reads an estimator that was fitted elsewhere, with a sample of its rows."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
from sklearn.exceptions import InconsistentVersionWarning
from sklearn.utils.validation import check_is_fitted

from training.contract.categories import classes_of, encoder_categories
from training.errors import BakeError, one_line
from training.sources.source import Source

TRUSTED_PACKAGES = ("sklearn.", "numpy.", "scipy.")
MISSING_WORDS = ("", "NA", "N/A", "NaN", "nan", "null", "None")  # in a CSV column of numbers or booleans
ZIP_MAGIC = b"PK\x03\x04"  # skops writes zip files


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
