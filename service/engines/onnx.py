"""The engine that runs an ONNX graph in ONNX Runtime, an optional package."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.artifact.contract import Contract
from service.columns import Columns
from service.engines.engine_function import EngineFunction, Outputs, ReadFile

ONNX_FILE = "engine/model.onnx"
ONNX_DTYPES = {"tensor(float)": np.float32, "tensor(double)": np.float64}


def onnxruntime_engine(read: ReadFile, contract: Contract) -> EngineFunction:
    """Return the engine that runs an ONNX graph.

    Its inputs are one matrix where every feature is a number, otherwise one column for each feature. Its outputs are
    those of the contract, in that order.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1  # requests are served side by side already
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(read(ONNX_FILE), options, providers=["CPUExecutionProvider"])
    inputs = session.get_inputs()
    dtypes = [ONNX_DTYPES.get(declared.type, object) for declared in inputs]
    results = dict(zip((output.name for output in contract.outputs), session.get_outputs(), strict=True))
    columns_of = {output.name: output.columns for output in contract.outputs}

    def answer(columns: Columns, outputs: Sequence[str]) -> Outputs:
        if isinstance(columns, np.ndarray):
            given = {inputs[0].name: columns.astype(dtypes[0])}
        else:
            given = {
                declared.name: _column(cells, dtype)
                for declared, cells, dtype in zip(inputs, columns, dtypes, strict=True)
            }
        values = session.run([results[name].name for name in outputs], given)
        return {
            name: _like_estimator(np.asarray(value), columns_of[name])
            for name, value in zip(outputs, values, strict=True)
        }

    return answer


def _column(cells: Any, dtype: Any) -> NDArray[Any]:
    filled = ["" if cell is None else str(cell) for cell in cells] if dtype is object else cells
    return np.array(filled, dtype=dtype).reshape(-1, 1)


def _like_estimator(values: NDArray[Any], columns: Any) -> NDArray[Any]:
    flat = values.reshape(-1) if columns is None else values
    return flat.astype(np.float64) if flat.dtype.kind == "f" else flat
