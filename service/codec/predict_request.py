"""A decoded prediction request, and the rules that JSON and binary bodies share."""

from dataclasses import dataclass
from typing import Any

from service.artifact.contract import Contract
from service.columns import Columns
from service.problems import MAX_FAULTS, BodyTooLargeError, Fault, contract_error

MAX_NAMES_IN_SENTENCE = 10
JSON_TYPES = {"number": (int, float), "boolean": (bool,), "string": (str,)}


@dataclass(frozen=True)
class PredictRequest:
    """A decoded request.

    Args:
        columns: The cells, in the order of the contract's features.
        outputs: The names of the outputs to answer, each one of the contract's.
        n_samples: How many rows there are, at least 1.
    """

    columns: Columns
    outputs: tuple[str, ...]
    n_samples: int


def request_members(document: Any, contract: Contract, max_rows: int) -> tuple[list[Any], tuple[str, ...]]:
    """Return the rows, at least one, and the names of the outputs."""
    if not isinstance(document, dict):
        raise contract_error([Fault("", "not_an_object", 'the body must be an object such as {"X": [[...]]}')])
    if unknown := document.keys() - {"X", "outputs"}:
        detail = f"the body takes the members X and outputs, and has {len(unknown)} more"
        raise contract_error([Fault("", "unknown_member", detail)])
    rows = document.get("X")
    if not isinstance(rows, list):
        raise contract_error([Fault("/X" if "X" in document else "", "not_rows", "X must be a list of rows")])
    if not rows:
        raise contract_error([Fault("/X", "empty", "X must hold at least one row")])
    if len(rows) > max_rows:
        raise too_many_rows(len(rows), max_rows)
    return rows, requested_outputs(document.get("outputs"), contract)


def too_many_rows(n_samples: int, max_rows: int) -> BodyTooLargeError:
    """Return the error for a request with more rows than are taken."""
    return BodyTooLargeError(
        f"X has {n_samples} rows, at most {max_rows} are taken: send several requests.",
        [Fault("/X", "too_many_rows", f"at most {max_rows} rows")],
    )


def requested_outputs(wanted: Any, contract: Contract) -> tuple[str, ...]:
    """Return the names of the outputs to answer; the first that the model offers if wanted is None.

    Raises:
        ContractError: If wanted is no list, or holds anything but names of outputs, each once.
    """
    if wanted is None:
        return contract.default_outputs
    offered = [output.name for output in contract.outputs]
    if not isinstance(wanted, list) or not wanted:
        raise contract_error([Fault("/outputs", "not_outputs", f"outputs must be a list of {', '.join(offered)}")])
    faults = [
        Fault(f"/outputs/{index}", "unknown_output", f"this model answers {', '.join(offered)}, each once")
        for index, name in enumerate(wanted[: 2 * MAX_FAULTS])
        if name not in offered or name in wanted[:index]
    ]
    if faults:
        raise contract_error(faults)
    return tuple(wanted)
