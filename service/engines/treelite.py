"""The engine that runs an ensemble of trees in Treelite's evaluator, an optional package."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.artifact.contract import PREDICT, PREDICT_PROBA, Contract
from service.columns import Columns
from service.engines.engine_function import EngineFunction, Outputs, ReadFile

TREELITE_FILE = "engine/model.treelite"
DTYPE_FILE = "engine/treelite.dtype"  # the type that the trees compare values as: one of the two below
# Forests compare float32 with their thresholds; gradient boosting by histograms compares float64.
FLOAT32, FLOAT64 = b"float32", b"float64"


def treelite_engine(read: ReadFile, contract: Contract) -> EngineFunction:
    """Return the engine that runs an ensemble of trees in Treelite's own evaluator, on one matrix of numbers."""
    import treelite

    model = treelite.Model.deserialize_bytes(read(TREELITE_FILE))
    single = read(DTYPE_FILE) == FLOAT32
    classes = None if contract.classes is None else np.array(contract.classes)

    def answer(columns: Columns, outputs: Sequence[str]) -> Outputs:
        X = np.ascontiguousarray(columns)
        if single:
            X = X.astype(np.float32).astype(np.float64)
        values = treelite.gtil.predict(model, X, nthread=1)
        values = values.reshape(len(X), -1)
        if classes is None:
            return {PREDICT: values[:, 0] if values.shape[1] == 1 else values}
        shares = values if values.shape[1] > 1 else np.concatenate([1 - values, values], axis=1)
        make: Mapping[str, Callable[[], NDArray[Any]]] = {
            PREDICT: lambda: classes.take(shares.argmax(axis=1)),
            PREDICT_PROBA: lambda: shares,
        }
        return {name: make[name]() for name in outputs}

    return answer
