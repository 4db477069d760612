"""Parses the body of POST /feedback into true values."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

from service.artifact.contract import Contract, Feature
from service.codec.json_limits import UNCOUNTED_BYTES, count_excess, count_openers
from service.codec.json_strict import cell_problem, loads_strict
from service.codec.predict_request import JSON_TYPES
from service.observability.logging import REQUEST_ID
from service.problems import MAX_FAULTS, BodyTooLargeError, Fault, MalformedBodyError, contract_error


@dataclass(frozen=True)
class Truth:
    """The true values of one request's rows.

    Args:
        request_id: The id of the request.
        rows: The row numbers, each once. None means all rows.
        values: For each row the true number, or the place of the true class in the contract's list of classes.
        pointer: JSON Pointer to these values in the body.
    """

    request_id: str
    rows: list[int] | None
    values: list[float]
    pointer: str


def parse_feedback(body: bytes, contract: Contract, max_rows: int) -> list[Truth]:
    """Return the true values in a body.

    A body is {"request_id": "...", "y_true": [1.5]}, or {"feedback": [...]} with a list of such objects.

    Args:
        body: The bytes of the JSON document, decompressed.
        contract: The contract of a model with one prediction per row.
        max_rows: The most rows in one body.

    Raises:
        MalformedBodyError: If the body is not JSON, or repeats a name.
        BodyTooLargeError: If it has more than max_rows rows.
        ContractError: If the body violates the contract. It lists the first invalid places.
    """
    if not body:
        raise MalformedBodyError('The body is empty: send JSON such as {"request_id": "...", "y_true": [...]}.')
    if len(body) > UNCOUNTED_BYTES:
        _refuse_excess(body, max_rows)
    feature = _truth_feature(contract)
    place_of_class = {label: place for place, label in enumerate(contract.classes or ())}
    truths: list[Truth] = []
    faults: list[Fault] = []
    n_rows = 0
    for pointer, item in _items(loads_strict(body)):
        if fault := _item_fault(item, pointer):
            faults.append(fault)
        else:
            n_rows += len(item["y_true"])
            if n_rows > max_rows:
                raise _too_many_rows(max_rows, f"{pointer}/y_true")
            faults += islice(_value_faults(item["y_true"], feature, place_of_class, f"{pointer}/y_true"), MAX_FAULTS)
            values = [place_of_class.get(value, value) for value in item["y_true"]] if not faults else []
            truths.append(Truth(item["request_id"], item.get("rows"), values, pointer))
        if len(faults) >= MAX_FAULTS:
            break
    if faults:
        raise contract_error(faults)
    return truths


def _refuse_excess(body: bytes, max_rows: int) -> None:
    """Refuse a body with more JSON values than max_rows rows can need, before it is decoded."""
    # An item is an object with two lists. Each list has a value per row, and an item has at least one row.
    most_containers, most_members = 3 * max_rows + 2, 6 * max_rows + 2
    if count_excess(body, count_openers(body), most_containers, most_members):
        raise _too_many_rows(max_rows, "")


def _items(document: Any) -> Iterator[tuple[str, Any]]:
    """Yield the JSON Pointer and the item of each request in a document."""
    if not isinstance(document, dict) or "feedback" not in document:
        yield "", document
        return
    if len(document) > 1:
        raise contract_error([Fault("", "unknown_member", "the body must have no member except feedback")])
    items = document["feedback"]
    if not isinstance(items, list) or not items:
        raise contract_error([Fault("/feedback", "not_a_list", "feedback must be a list of at least one object")])
    for index, item in enumerate(items):
        yield f"/feedback/{index}", item


def _too_many_rows(max_rows: int, pointer: str) -> BodyTooLargeError:
    return BodyTooLargeError(
        f"The feedback has more than {max_rows} rows: send several requests.",
        [Fault(pointer, "too_many_rows", f"at most {max_rows} rows")],
    )


def _item_fault(item: Any, pointer: str) -> Fault | None:
    """Return what is wrong with the form of one item, or None."""
    if not isinstance(item, dict):
        return Fault(pointer, "not_an_object", 'it must be an object such as {"request_id": "...", "y_true": [...]}')
    if item.keys() - {"request_id", "y_true", "rows"}:
        return Fault(pointer, "unknown_member", "remove all members except request_id, y_true and rows")
    request_id, values, rows = item.get("request_id"), item.get("y_true"), item.get("rows", ...)
    if not isinstance(request_id, str) or not REQUEST_ID.fullmatch(request_id):
        detail = "request_id must be the X-Request-ID of a response: 1 to 128 letters, digits and . _ : / + = @ -"
        return Fault(f"{pointer}/request_id" if "request_id" in item else pointer, "not_a_request_id", detail)
    if not isinstance(values, list) or not values:
        detail = "y_true must be a list with one value for each row"
        return Fault(f"{pointer}/y_true" if "y_true" in item else pointer, "not_values", detail)
    if rows is ...:
        return None
    if not isinstance(rows, list) or any(type(row) is not int or row < 0 for row in rows):
        return Fault(f"{pointer}/rows", "not_rows", "rows must be a list of row numbers; the first row is 0")
    if len(rows) != len(values):
        return Fault(
            f"{pointer}/y_true", "wrong_length", f"y_true must have one value for each of the {len(rows)} rows"
        )
    if len(set(rows)) < len(rows):
        return Fault(f"{pointer}/rows", "repeated_row", "rows must not repeat a row")
    return None


def _truth_feature(contract: Contract) -> Feature:
    """Return the column of true values, so that its cells are checked like those of a feature."""
    if contract.classes is None:
        return Feature("y_true", "number", "float64")
    kind = next(kind for kind, types in JSON_TYPES.items() if isinstance(contract.classes[-1], types))
    kind = "boolean" if isinstance(contract.classes[-1], bool) else kind
    return Feature("y_true", kind, "", categories=contract.classes, closed=True)  # type: ignore[arg-type]


def _value_faults(
    values: list[Any], feature: Feature, place_of_class: Mapping[Any, int], pointer: str
) -> Iterator[Fault]:
    types = JSON_TYPES[feature.kind]
    for index, value in enumerate(values):
        if type(value) in types and value in place_of_class:
            continue
        if problem := cell_problem(value, feature):
            yield Fault(f"{pointer}/{index}", *problem)
