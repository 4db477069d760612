"""Golden requests: bodies with the answers that the estimator itself gives, replayed before a model takes traffic."""

import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from service.artifact.contract import PER_CLASS_OUTPUTS, Contract, Feature, answer_member
from training.contract.categories import may_be_listed, unknown_value
from training.contract.frame import as_frame, column_like, replaced, with_cells
from training.contract.probe import EstimatorProbe
from training.errors import BakeError, one_line

N_ROWS = 10
N_STEPS = 20  # into which made-up numbers divide the range of training, at least
LARGEST_STEP = 1e300  # rounded to more, a number may be beyond float64


def golden_lines(
    contract: Contract, frame: pd.DataFrame, probe: EstimatorProbe, example: Sequence[Sequence[Any]] | None
) -> bytes:
    """Return the golden exchanges as JSON lines.

    They cover one example row, a batch of lists, a batch of objects, null where the contract takes it, and unknown
    categories where it takes them; every output is asked for. The first one is shown to clients unless it is private.

    Args:
        contract: What the model takes and answers.
        frame: The training rows, as the service gives them to the estimator.
        probe: Asks the estimator.
        example: Rows for the first request, instead of a made-up one.

    Raises:
        BakeError: If the estimator refuses the example rows.
    """
    everything = [output.name for output in contract.outputs]
    served = frame.dropna(subset=[feature.name for feature in contract.features if not feature.missing])
    if served.empty:
        raise BakeError("Each row has a missing value that the estimator does not answer for: add an imputer.")
    first, is_private = _made_up_rows(contract, served, probe, 1)
    if example is not None:
        first, is_private = _example_frame(example, frame), False
    spread, _ = _made_up_rows(contract, served, probe, N_ROWS)
    missing = {feature.name: None for feature in contract.features if feature.missing}
    unknown = {feature.name: unknown_value(frame[feature.name]) for feature in contract.features if _is_open(feature)}
    changed = [with_cells(spread.tail(1), cells) for cells in (missing, unknown) if cells]
    exchanges = [
        _exchange(contract, probe, first, everything[:1], named=False, explicit=False),
        _exchange(contract, probe, spread, everything, named=False),
        _exchange(contract, probe, spread, everything, named=True),
        *(_exchange(contract, probe, rows, everything, named=False) for rows in changed),
    ]
    if is_private:
        exchanges[0]["private"] = True
    return "".join(json.dumps(exchange, sort_keys=True, allow_nan=False) + "\n" for exchange in exchanges).encode()


def _made_up_rows(
    contract: Contract, served: pd.DataFrame, probe: EstimatorProbe, n_rows: int
) -> tuple[pd.DataFrame, bool]:
    """Return rows that resemble the training rows, and whether they hold values of these that may not be listed.

    They do in two cases. A closed column takes known values only. And where the estimator refuses numbers that do not
    belong together, such as an end before its start, training rows are taken, and only their text is made up.
    """
    random = np.random.default_rng(0)
    cells = {feature.name: _made_up_cells(served[feature.name], feature, n_rows) for feature in contract.features}
    made_up = pd.DataFrame(
        {
            name: column_like(
                served[name], [column[place] for place in random.permutation(n_rows)], pd.RangeIndex(n_rows)
            )
            for name, column in cells.items()
        }
    )
    if probe.takes(made_up):
        return made_up, any(feature.is_unlisted and feature.closed for feature in contract.features)
    places = np.unique(np.linspace(0, len(served) - 1, n_rows).astype(int))
    rows = served.iloc[places].reset_index(drop=True)
    texts = [feature.name for feature in contract.features if feature.is_unlisted and not feature.closed]
    return replaced(rows, {name: made_up[name].head(len(rows)) for name in texts}), True


def _made_up_cells(column: "pd.Series[Any]", feature: Feature, n_rows: int) -> list[Any]:
    """Return cells for one column, spread as those of the training are."""
    present = column.dropna().sort_values()
    if present.empty:
        return [None] * n_rows
    places = (2 * np.arange(n_rows) + 1) * len(present) // (2 * n_rows)
    spread = present.iloc[places].tolist()
    if feature.closed or not (feature.is_unlisted or feature.kind == "number"):
        return spread
    if feature.kind == "string":
        return [unknown_value(column)] * n_rows
    return spread if feature.categories or may_be_listed(column) else _round(spread, present.iloc[0], present.iloc[-1])


def _round(numbers: Sequence[float], low: float, high: float) -> list[float]:
    """Return numbers with no more digits than N_STEPS of the range need, so that they name no account."""
    step = high / N_STEPS - low / N_STEPS
    if not 0 < step < LARGEST_STEP:
        return list(numbers)
    n_digits = -math.floor(math.log10(step))
    return [min(max(round(number, n_digits), low), high) for number in numbers]


def _example_frame(example: Sequence[Sequence[Any]], frame: pd.DataFrame) -> pd.DataFrame:
    try:
        rows = pd.DataFrame(list(example), columns=frame.columns)
        return as_frame(rows.astype(frame.dtypes.to_dict()), list(frame.columns))
    except (ValueError, TypeError) as error:
        raise BakeError(f"EXAMPLE must be a list of rows such as those of load(): {one_line(error)}") from error


def _is_open(feature: Feature) -> bool:
    """Say whether the column takes categories that were not seen in training."""
    return not feature.closed and (feature.kind == "string" or feature.known is not None)


def _exchange(
    contract: Contract,
    probe: EstimatorProbe,
    rows: pd.DataFrame,
    outputs: list[str],
    named: bool,
    explicit: bool = True,
) -> dict[str, Any]:
    try:
        answers = probe.answers(rows)
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
