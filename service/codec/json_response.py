"""Encodes predictions as JSON."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from service.artifact.contract import PER_CLASS_OUTPUTS, Contract, answer_member
from service.problems import MAX_FAULTS, Fault, contract_error


def encode_answer(answers: Mapping[str, NDArray[Any]], contract: Contract, model: Mapping[str, str]) -> bytes:
    """Return the JSON body of an answer.

    Args:
        answers: The outputs by name, each of shape (n_samples,) or (n_samples, n_columns).
        contract: Where the outputs' members and the classes are taken from.
        model: What names the model, given back to the client.

    Raises:
        ContractError: If an answer is not finite, which JSON cannot carry.
    """
    body: dict[str, Any] = {}
    for name, values in answers.items():
        if values.dtype.kind == "f":
            refuse_not_finite(values)
        # orjson reads arrays of numbers in C; one value is quicker as Python's own.
        as_it_is = values.size > 1 and values.dtype.kind in "fiub"
        body[answer_member(name)] = np.ascontiguousarray(values) if as_it_is else values.tolist()
    if contract.classes is not None and any(name in PER_CLASS_OUTPUTS for name in answers):
        body["classes"] = contract.classes
    body["model"] = model
    return orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY)


def refuse_not_finite(values: NDArray[Any]) -> None:
    """Refuse answers with NaN or infinity.

    Args:
        values: Numbers of shape (n_samples,) or (n_samples, n_columns).

    Raises:
        ContractError: If one is not finite; names the rows.
    """
    if values.size == 1 and math.isfinite(values.item()):
        return
    finite = np.isfinite(values.reshape(len(values), -1)).all(axis=1)
    if not finite.all():
        raise contract_error(
            [
                Fault(f"/X/{row}", "no_finite_answer", "the model has no finite answer for this row")
                for row in np.flatnonzero(~finite)[:MAX_FAULTS]
            ]
        )
