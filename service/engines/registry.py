"""Engines: what gives a model's answers for the columns of a request.

An engine is a function from columns and names of outputs to arrays. The manifest names the one that serves:
scikit-learn itself, the estimator as it was fitted, or a compiled form of it that the bake found to give its answers.
Each is made of files of the artifact by one function, which the bake uses as well: what was compared is what serves.
"""

from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from service.artifact.contract import Contract
from service.artifact.manifest import ArtifactError
from service.artifact.reader import Artifact
from service.engines import pipeline, trees

if TYPE_CHECKING:
    import pandas as pd

    Instances = NDArray[Any] | pd.DataFrame

from service.engines.engine_function import EngineFunction, ReadFile
from service.engines.scikit_learn import scikit_learn_engine

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


def load_engine(artifact: Artifact) -> EngineFunction:
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


def compiled_engine(name: str, read: ReadFile, contract: Contract) -> EngineFunction:
    """Return an engine that needs no estimator, made of its files."""
    if name in (NUMPY, COMPILED_TREES):
        return numpy_engine(read)
    from service.engines import onnx  # only an artifact that asks for them needs the packages

    return onnx.ENGINES[name](read, contract)


def numpy_engine(read: ReadFile) -> EngineFunction:
    """Return the engine that follows a plan; its trees are evaluated by a library of the artifact's."""

    def of_trees(model: Any) -> pipeline.Answers:
        return trees.trees_function(model, trees.load_library(read(FOLDER + trees.library_name())))

    return pipeline.pipeline_function(pipeline.unpack(read(PLAN)), of_trees)
