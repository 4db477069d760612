"""The forms of an estimator that could serve in its place."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from service.artifact.contract import PREDICT, PREDICT_PROBA, Contract
from service.engines.onnx import ONNX_FILE
from service.engines.pipeline.serialization import PIPELINE_FILE, pack
from service.engines.registry import ONNXRUNTIME, compiled_engine
from service.engines.treelite import DTYPE_FILE, FLOAT32, FLOAT64, TREELITE_FILE
from training.engines.compile_pipeline import compile_pipeline
from training.engines.compile_trees import ends_in_trees
from training.engines.native_build import compile_library
from training.engines.scikit_learn_private import Fitted
from training.errors import UnsupportedError

FLOAT64_BOUND, FLOAT32_BOUND = 1e-9, 1e-5  # of the scale of an output


@dataclass(frozen=True)
class Candidate:
    """A form of the estimator.

    Args:
        files: The artifact's files that it is made of.
        bound: How far its numbers may differ from the estimator's, relative to the scale of the output.
        libraries: The distributions that serving it needs.
    """

    files: Mapping[str, bytes]
    bound: float
    libraries: tuple[str, ...] = ()


def pipeline_candidate(estimator: Fitted, contract: Contract) -> Candidate:
    """Return the compiled pipeline, with compiled trees where the estimator ends in some.

    Raises:
        UnsupportedError: If a step cannot be compiled; says which.
    """
    files = {PIPELINE_FILE: pack(compile_pipeline(estimator, contract))}
    if ends_in_trees(estimator):
        files |= compile_library()
    return Candidate(files, FLOAT64_BOUND)


def treelite_candidate(estimator: Fitted, contract: Contract) -> Candidate:
    """Return the ensemble in Treelite's format.

    Raises:
        UnsupportedError: If Treelite is not installed, or does not take the estimator.
    """
    _need("treelite")
    kind = type(estimator).__name__.removesuffix("Classifier").removesuffix("Regressor")
    if kind not in ("RandomForest", "ExtraTrees", "GradientBoosting", "HistGradientBoosting"):
        raise UnsupportedError("It takes ensembles of trees alone.")
    if contract.container != "float64":
        raise UnsupportedError("It takes a matrix of numbers.")
    if more := {output.name for output in contract.outputs} - {PREDICT, PREDICT_PROBA}:
        raise UnsupportedError(f"It has no {', '.join(sorted(more))}.")
    import treelite

    dtype = FLOAT64 if kind == "HistGradientBoosting" else FLOAT32
    model = treelite.sklearn.import_model(estimator)
    return Candidate({TREELITE_FILE: model.serialize_bytes(), DTYPE_FILE: dtype}, FLOAT64_BOUND, ("treelite",))


def onnx_candidate(estimator: Fitted, contract: Contract) -> Candidate:
    """Return the estimator as an ONNX graph.

    Raises:
        UnsupportedError: If the converters are not installed, or one graph cannot hold all outputs.
    """
    _need("onnxruntime", "skl2onnx")
    from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType

    outputs = [output.name for output in contract.outputs]
    if len(outputs) > (2 if PREDICT in outputs else 1):
        raise UnsupportedError(f"One graph has no more than a label and one kind of scores, not {', '.join(outputs)}.")
    problem: Exception = UnsupportedError("It was not converted.")
    numbers = [(DoubleTensorType, FLOAT64_BOUND), (FloatTensorType, FLOAT32_BOUND)]
    for number, bound in reversed(numbers) if ends_in_trees(estimator) else numbers:  # a graph's trees hold float32
        try:
            files = {ONNX_FILE: _onnx_graph(estimator, contract, number)}
            compiled_engine(ONNXRUNTIME, files.__getitem__, contract)
        except Exception as error:  # noqa: BLE001 - the other type of numbers may do
            problem = error
        else:
            return Candidate(files, bound, ("onnxruntime",))
    raise problem


def _onnx_graph(estimator: Fitted, contract: Contract, number: Any) -> bytes:
    from skl2onnx import convert_sklearn
    from skl2onnx.common.data_types import BooleanTensorType, StringTensorType

    types = {"number": number, "boolean": BooleanTensorType, "string": StringTensorType}
    if contract.is_numeric and contract.container != "frame":
        inputs = [("X", number([None, len(contract.features)]))]
    else:
        inputs = [(feature.name, types[feature.kind]([None, 1])) for feature in contract.features]
    scores = "decision_function" in {output.name for output in contract.outputs}
    options = {id(estimator): {"zipmap": False, **({"raw_scores": True} if scores else {})}}
    graph = convert_sklearn(estimator, initial_types=inputs, options=options if contract.classes is not None else None)
    return bytes(graph.SerializeToString())


def _need(*distributions: str) -> None:
    missing = [name for name in distributions if find_spec(name) is None]
    if missing:
        raise UnsupportedError(f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} not installed.")
