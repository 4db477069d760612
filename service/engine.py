"""Engines: what gives a model's answers for the columns of a request.

An engine is a function from columns and names of outputs to arrays. The manifest names the one that serves:
scikit-learn itself, the estimator as it was fitted, or a compiled form of it that the bake found to give its answers.
Each is made of files of the artifact by one function, which the bake uses as well: what was compared is what serves.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from service import plan, trees
from service.artifact import Artifact, ArtifactError
from service.contract import Contract, Feature
from service.schema import Columns

if TYPE_CHECKING:
    import pandas as pd

    Instances = NDArray[Any] | pd.DataFrame

Engine = Callable[[Columns, Sequence[str]], dict[str, NDArray[Any]]]
Read = Callable[[str], bytes]  # from the name of one of the artifact's files to its content

SCIKIT_LEARN = "scikit-learn"
NUMPY = "numpy"
COMPILED_TREES = "compiled-trees"
ONNXRUNTIME = "onnxruntime"
TREELITE = "treelite"

FOLDER = "engine/"
PLAN = f"{FOLDER}plan.npz"
ONNX = f"{FOLDER}model.onnx"
TREELITE_MODEL = f"{FOLDER}model.treelite"
TREELITE_DTYPE = f"{FOLDER}treelite.dtype"


def load_engine(artifact: Artifact) -> Engine:
    """Return the engine that serves an artifact.

    Raises:
        ArtifactError: If its files do not match the manifest, or cannot be loaded.
    """
    name = artifact.manifest["engine"]
    if name == SCIKIT_LEARN:
        return scikit_learn_engine(artifact.load_estimator(), artifact.contract)
    try:
        return compiled_engine(name, artifact.read, artifact.contract)
    except ArtifactError:
        raise
    except Exception as error:
        problem = type(error).__name__
        raise ArtifactError(f"The engine {name} cannot be loaded ({problem}): bake the model again.") from error


def compiled_engine(name: str, read: Read, contract: Contract) -> Engine:
    """Return an engine that needs no estimator, made of its files."""
    if name in (NUMPY, COMPILED_TREES):
        return direct_engine(read)
    from service import converted  # only an artifact that asks for them needs the packages

    return converted.ENGINES[name](read, contract)


def direct_engine(read: Read) -> Engine:
    """Return the engine that follows a plan; its trees are evaluated by a library of the artifact's."""

    def of_trees(model: Any) -> plan.Answers:
        return trees.trees_function(model, trees.load_library(read(FOLDER + trees.library_name())))

    return plan.plan_function(plan.unpack(read(PLAN)), of_trees)


def scikit_learn_engine(estimator: Any, contract: Contract) -> Engine:
    """Return the engine that asks the fitted estimator."""

    def answer(columns: Columns, outputs: Sequence[str]) -> dict[str, NDArray[Any]]:
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

    given = columns.T if isinstance(columns, np.ndarray) else columns
    return pd.DataFrame(
        {feature.name: _series(column, feature, pd) for column, feature in zip(given, contract.features, strict=True)}
    )


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
