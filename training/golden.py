"""Golden requests: bodies with the answers that the estimator itself gives, replayed before a model takes traffic."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from service.contract import PER_CLASS_OUTPUTS, Contract, Feature, answer_member
from training.derive import Asker, as_frame, example_row, unknown_value, with_cells
from training.errors import BakeError, one_line

N_ROWS = 10


def golden_lines(
    contract: Contract, frame: pd.DataFrame, asker: Asker, example: Sequence[Sequence[Any]] | None
) -> bytes:
    """Return the golden exchanges as JSON lines.

    They cover one example row, a batch of lists, a batch of objects, null where the contract takes it, and unknown
    categories where it takes them; every output is asked for.

    Args:
        contract: What the model takes and answers.
        frame: The training rows, as the service gives them to the estimator.
        asker: Asks the estimator.
        example: Rows for the first request, instead of the first training row.

    Raises:
        BakeError: If the estimator refuses the example rows.
    """
    everything = [output.name for output in contract.outputs]
    served = frame.dropna(subset=[feature.name for feature in contract.features if not feature.missing])
    if served.empty:
        raise BakeError("Each row has a missing value that the estimator does not answer for: add an imputer.")
    first = example_row(served) if example is None else _example_frame(example, frame)
    spread = served.iloc[np.unique(np.linspace(0, len(served) - 1, N_ROWS).astype(int))]
    missing = {feature.name: None for feature in contract.features if feature.missing}
    unknown = {feature.name: unknown_value(frame[feature.name]) for feature in contract.features if _is_open(feature)}
    changed = [with_cells(served.tail(1), cells) for cells in (missing, unknown) if cells]
    exchanges = [
        _exchange(contract, asker, first, everything[:1], named=False, explicit=False),
        _exchange(contract, asker, spread, everything, named=False),
        _exchange(contract, asker, spread, everything, named=True),
        *(_exchange(contract, asker, rows, everything, named=False) for rows in changed),
    ]
    return "".join(json.dumps(exchange, sort_keys=True, allow_nan=False) + "\n" for exchange in exchanges).encode()


def _example_frame(example: Sequence[Sequence[Any]], frame: pd.DataFrame) -> pd.DataFrame:
    try:
        rows = pd.DataFrame(list(example), columns=frame.columns)
        return as_frame(rows.astype(frame.dtypes.to_dict()), list(frame.columns))
    except (ValueError, TypeError) as error:
        raise BakeError(f"EXAMPLE must be a list of rows such as those of load(): {one_line(error)}") from error


def _is_open(feature: Feature) -> bool:
    """Say whether the column takes categories that were not seen in training."""
    return not feature.closed and (feature.kind == "string" or feature.categories is not None)


def _exchange(
    contract: Contract, asker: Asker, rows: pd.DataFrame, outputs: list[str], named: bool, explicit: bool = True
) -> dict[str, Any]:
    try:
        answers = asker.answers(rows)
    except Exception as error:
        raise BakeError(f"The estimator refuses a golden request, check EXAMPLE: {one_line(error)}") from error
    if not all(np.isfinite(values).all() for values in answers.values() if values.dtype.kind == "f"):
        raise BakeError("The estimator has no finite answer for some rows it was trained on: JSON cannot carry others.")
    cells = [
        [to_json(cell, feature) for cell, feature in zip(row, contract.features, strict=True)]
        for row in rows.itertuples(index=False, name=None)
    ]
    request: dict[str, Any] = {"X": [dict(zip(contract.names, row, strict=True)) for row in cells] if named else cells}
    if explicit:
        request["outputs"] = outputs
    response: dict[str, Any] = {answer_member(name): answers[name].tolist() for name in outputs}
    if contract.classes is not None and any(name in PER_CLASS_OUTPUTS for name in outputs):
        response["classes"] = list(contract.classes)
    return {"request": request, "response": response}


def to_json(cell: Any, feature: Feature) -> Any:
    """Return a cell as the JSON value that stands for it; whole numbers without a fraction."""
    if pd.isna(cell):
        return None
    if feature.kind == "number":
        return int(cell) if float(cell).is_integer() and abs(cell) < 1e15 else float(cell)
    return bool(cell) if feature.kind == "boolean" else str(cell)
