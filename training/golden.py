"""Golden requests: bodies with the answers that the estimator itself gives, replayed before a model takes traffic."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from service.contract import PER_CLASS_OUTPUTS, Contract, Feature, answer_member
from training.derive import UNKNOWN_CATEGORY, Asker, as_frame
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
    first = _example_frame(example, frame)
    spread = frame.iloc[np.unique(np.linspace(0, len(frame) - 1, N_ROWS).astype(int))]
    changed = [
        _change(frame, contract, lambda feature: feature.missing, None),
        _change(frame, contract, lambda feature: feature.kind == "string" and not feature.closed, UNKNOWN_CATEGORY),
    ]
    exchanges = [
        _exchange(contract, asker, first, everything[:1], named=False, explicit=False),
        _exchange(contract, asker, spread, everything, named=False),
        _exchange(contract, asker, spread, everything, named=True),
        *(_exchange(contract, asker, rows, everything, named=False) for rows in changed if rows is not None),
    ]
    return "".join(json.dumps(exchange, sort_keys=True, allow_nan=False) + "\n" for exchange in exchanges).encode()


def _example_frame(example: Sequence[Sequence[Any]] | None, frame: pd.DataFrame) -> pd.DataFrame:
    if example is None:
        complete = frame.dropna()
        return (complete if len(complete) else frame).head(1)
    try:
        rows = pd.DataFrame(list(example), columns=frame.columns)
        return as_frame(rows.astype(frame.dtypes.to_dict()), list(frame.columns))
    except (ValueError, TypeError) as error:
        raise BakeError(f"EXAMPLE must be a list of rows such as those of load(): {one_line(error)}") from error


def _change(frame: pd.DataFrame, contract: Contract, applies: Any, value: Any) -> pd.DataFrame | None:
    """Return a real row with this value in every column that takes it; None if no column does."""
    row = frame.tail(1).copy()
    names = [feature.name for feature in contract.features if applies(feature)]
    for name in names:
        row[name] = pd.Series([np.nan if value is None else value], index=row.index).astype(frame[name].dtype)
    return row if names else None


def _exchange(
    contract: Contract, asker: Asker, rows: pd.DataFrame, outputs: list[str], named: bool, explicit: bool = True
) -> dict[str, Any]:
    try:
        answers = asker.answers(rows)
    except Exception as error:
        raise BakeError(f"The estimator refuses a golden request, check EXAMPLE: {one_line(error)}") from error
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
