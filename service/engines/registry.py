"""Engines: what computes a model's predictions for the columns of a request.

An engine is a function from columns and names of outputs to arrays. The manifest names the one that serves:
scikit-learn itself, the estimator as it was fitted, or a compiled form of it that the bake found to give its answers.
Each is made of files of the artifact by one function, which the bake uses as well: what was compared is what serves.
"""

from service.artifact.contract import Contract
from service.artifact.manifest import ArtifactError
from service.artifact.reader import Artifact
from service.engines.engine_function import EngineFunction, ReadFile
from service.engines.onnx import onnxruntime_engine
from service.engines.pipeline.serialization import PIPELINE_FILE, unpack
from service.engines.scikit_learn import scikit_learn_engine
from service.engines.treelite import treelite_engine
from service.engines.trees import library_file, load_library

SCIKIT_LEARN = "scikit-learn"
NUMPY = "numpy"
COMPILED_TREES = "compiled-trees"
ONNXRUNTIME = "onnxruntime"
TREELITE = "treelite"


def load_engine(artifact: Artifact) -> EngineFunction:
    """Return the engine that serves an artifact.

    Raises:
        ArtifactError: If its files do not match the manifest, or cannot be loaded.
    """
    name = artifact.manifest["engine"]
    if name == SCIKIT_LEARN:
        return scikit_learn_engine(artifact.load_estimator(), artifact.contract)

    def read(file: str) -> bytes:
        if file not in artifact.manifest["files"]:
            raise ArtifactError(f"The engine {name} needs {file}, which the artifact lacks: bake the model again.")
        return artifact.read(file)

    try:
        return compiled_engine(name, read, artifact.contract)
    except ArtifactError:
        raise
    except Exception as error:
        problem = type(error).__name__
        raise ArtifactError(f"The engine {name} cannot be loaded ({problem}): bake the model again.") from error


def compiled_engine(name: str, read: ReadFile, contract: Contract) -> EngineFunction:
    """Return an engine that needs no estimator, made of its files."""
    if name == ONNXRUNTIME:
        return onnxruntime_engine(read, contract)
    if name == TREELITE:
        return treelite_engine(read, contract)
    if name in (NUMPY, COMPILED_TREES):
        return numpy_engine(read)
    raise ArtifactError(f"There is no engine {name}: use the service version that baked the model, or bake it again.")


def numpy_engine(read: ReadFile) -> EngineFunction:
    """Return the engine that follows a compiled pipeline; its trees are evaluated by a library of the artifact's."""
    return unpack(read(PIPELINE_FILE)).function(lambda: load_library(read(library_file())))
