"""What a bake starts from: data, estimator, and what the author says of them."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from training.errors import BakeError, one_line

NAME = re.compile(r"[a-z0-9]([a-z0-9_.-]{0,61}[a-z0-9])?")
FEATURE_KEYS = {"unit": str, "description": str, "missing": bool, "unknown": str}


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
        min_scores: The lowest accepted value of each named score, by scikit-learn's names; greater is better.
        features: What the author says of columns by name: unit, description, missing, unknown.
        data_source: Where the data come from.
        data_license: Their license, as an SPDX expression such as CC-BY-4.0, or in words where it has none.
        example: Rows to show as the example request.
    """

    name: str
    path: str
    X: Any
    y: Any
    estimator: Any
    fitted: bool = False
    description: str = ""
    min_scores: Mapping[str, float] = field(default_factory=dict)
    features: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    data_source: str = ""
    data_license: str = ""
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
        for column, notes in self.features.items():
            if not (isinstance(column, str) and isinstance(notes, Mapping) and _fits(notes)):
                keys = ", ".join(f"{key} ({kind.__name__})" for key, kind in FEATURE_KEYS.items())
                raise BakeError(f"FEATURES[{column!r}] in {self.path} takes {keys}; unknown is 'reject' or 'encode'.")
        for score, minimum in self.min_scores.items():
            if isinstance(minimum, bool) or not isinstance(minimum, int | float) or not math.isfinite(minimum):
                raise BakeError(f"MIN_SCORES[{score!r}] in {self.path} must be a number.")

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


def _fits(notes: Mapping[str, Any]) -> bool:
    """Say whether these are members that FEATURES may have for one column."""
    return notes.get("unknown", "reject") in ("reject", "encode") and all(
        key in FEATURE_KEYS and isinstance(value, FEATURE_KEYS[key]) for key, value in notes.items()
    )
