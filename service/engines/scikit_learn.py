"""The engine that calls the fitted estimator."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from service.artifact.contract import Contract, Feature
from service.columns import Columns, by_feature
from service.engines.engine_function import EngineFunction, Outputs

if TYPE_CHECKING:
    import pandas as pd

    Instances = NDArray[Any] | pd.DataFrame


def scikit_learn_engine(estimator: Any, contract: Contract) -> EngineFunction:
    """Return the engine that calls the fitted estimator."""

    def answer(columns: Columns, outputs: Sequence[str]) -> Outputs:
        X = estimator_input(columns, contract)
        return {name: as_array(getattr(estimator, name)(X)) for name in outputs}

    return answer


def as_array(answer: Any) -> NDArray[Any]:
    """Return an estimator's answer as a dense array of shape (n_samples,) or (n_samples, n_columns)."""
    dense = answer.toarray() if hasattr(answer, "toarray") else answer
    return np.asarray(dense)


def estimator_input(columns: Columns, contract: Contract) -> "Instances":
    """Return what the estimator was fitted on: one matrix, or a frame with the training data's dtypes."""
    if contract.container != "frame":
        if isinstance(columns, np.ndarray):
            # A copy: estimators with copy=False write to it, and the request's cells are looked at again.
            return columns.astype(contract.container)
        X = np.empty((len(columns[0]), len(columns)), dtype=contract.container)
        for index, column in enumerate(columns):
            X[:, index] = _with_nan(column) if contract.container == "object" else column
        return X
    import pandas as pd  # most estimators need no frame, and its import takes longer than all the rest

    cells = zip(by_feature(columns), contract.features, strict=True)
    return pd.DataFrame({feature.name: _series(column, feature, pd) for column, feature in cells})


def _series(column: Any, feature: Feature, pd: Any) -> Any:
    if feature.dtype == "category":
        # What is unknown becomes a category of its own; pandas would make it missing, which is something else.
        present = [cell for cell in _with_nan(column) if cell == cell]  # NaN does not
        return pd.Categorical(column, categories=list(dict.fromkeys([*(feature.known or ()), *present])))
    if feature.dtype == "object":
        column = _with_nan(column)
    return column if feature.kind == "number" else pd.array(column, dtype=feature.dtype)


def _with_nan(column: Sequence[Any]) -> list[Any]:
    """Return the cells with NaN for null: scikit-learn's imputers know no other gap in a column of objects."""
    return [np.nan if cell is None else cell for cell in column]
