"""The strict parser of JSON requests: it knows every rule, cell by cell, and words every refusal."""

import json
import math
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np

from service.artifact.contract import Contract, Feature
from service.codec.json_limits import count_excess, nested_too_deeply
from service.codec.predict_request import (
    JSON_TYPES,
    MAX_NAMES_IN_SENTENCE,
    PredictRequest,
    request_members,
    too_many_rows,
)
from service.columns import Columns, from_features
from service.problems import MAX_FAULTS, Fault, MalformedBodyError, contract_error

MAX_INTEGER_DIGITS = 400  # longer ones are beyond float64, and int() of very long text is slow
SPARE_COLUMNS = 2  # an index and a label that should not be there get an error that names the first row
MAX_OUTPUT_VALUES = 100  # the document, X and outputs with its names


def refuse_excess(body: bytes, n_openers: int, contract: Contract, max_rows: int) -> None:
    """Refuse a body that holds more than the most rows need, before it is decoded."""
    most_members = max_rows * (len(contract.features) + 1 + SPARE_COLUMNS) + MAX_OUTPUT_VALUES
    # Beside the rows there are the document, X and outputs.
    counts = count_excess(body, n_openers, max_containers=max_rows + 3, max_members=most_members)
    if counts is None:
        return
    if counts.n_rows > max_rows:
        raise too_many_rows(counts.n_rows, max_rows)
    detail = f"each row must be a list or an object of {len(contract.features)} values: {_shown_names(contract)}"
    raise contract_error([Fault("/X", "wrong_width", detail)])


def parse_strict(body: bytes, contract: Contract, max_rows: int) -> PredictRequest:
    """Return what a body asks for, as parse_request does, in the way that knows all rules, cell by cell."""
    rows, outputs = request_members(loads_strict(body), contract, max_rows)
    return PredictRequest(_decode_strict(rows, contract), outputs, len(rows))


def loads_strict(body: bytes) -> Any:
    """Return the document with every digit of its integers, which orjson rounds.

    Raises:
        MalformedBodyError: If it is no JSON, or an object in it repeats a name.
    """
    try:
        return json.loads(
            body.decode("utf-8"),
            object_pairs_hook=_unique_members,
            parse_int=_exact_integer,
            parse_constant=_refuse_constant,
        )
    except UnicodeDecodeError as error:
        raise MalformedBodyError("The body is not UTF-8: send JSON encoded as UTF-8.") from error
    except RecursionError as error:
        raise nested_too_deeply() from error
    except ValueError as error:
        place = f" at character {error.pos}" if isinstance(error, json.JSONDecodeError) else ""
        raise MalformedBodyError(f"The body is not valid JSON{place}.") from error


def _unique_members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise MalformedBodyError(
            "An object in the body repeats a name: send each name once.",
            [Fault("", "duplicate_name", "an object repeats a name")],
        )
    return members


def _exact_integer(digits: str) -> int | float:
    return int(digits) if len(digits) <= MAX_INTEGER_DIGITS else math.inf


def _refuse_constant(name: str) -> None:
    detail = f"{name} is no JSON number; send null for a missing value, where the model takes one"
    raise MalformedBodyError(f"The body is not valid JSON: {detail}.", [Fault("", "not_finite", detail)])


# ---------------------------------------------------------------------------------------------- cell by cell


def _decode_strict(rows: list[Any], contract: Contract) -> Columns:
    """Return the cells.

    Raises:
        ContractError: If a row or a cell does not fit; names up to MAX_FAULTS of them.
    """
    faults: list[Fault] = []
    checked: list[list[Any]] = []
    named = isinstance(rows[0], dict)
    for index, row in enumerate(rows):
        fault = _row_fault(row, named, f"/X/{index}", contract)
        if fault:
            faults.append(fault)
        else:
            cells = [row[name] for name in contract.names] if named else row
            checked.append(cells)
            faults += islice(_cell_faults(cells, named, f"/X/{index}", contract), MAX_FAULTS)
        if len(faults) >= MAX_FAULTS:
            break
    if faults:
        raise contract_error(faults)
    columns = [
        np.array(column, dtype=np.float64) if feature.kind == "number" else list(column)
        for column, feature in zip(zip(*checked, strict=True), contract.features, strict=True)
    ]
    return from_features(columns, contract.is_numeric)


def _cell_faults(cells: Sequence[Any], named: bool, pointer: str, contract: Contract) -> Iterator[Fault]:
    keys = map(_escape, contract.names) if named else map(str, range(len(cells)))
    for key, cell, feature in zip(keys, cells, contract.features, strict=True):
        if problem := cell_problem(cell, feature):
            yield Fault(f"{pointer}/{key}", *problem)


def _shown_names(contract: Contract) -> str:
    more = ", ..." if len(contract.features) > MAX_NAMES_IN_SENTENCE else ""
    return ", ".join(contract.names[:MAX_NAMES_IN_SENTENCE]) + more


def _row_fault(row: Any, named: bool, pointer: str, contract: Contract) -> Fault | None:
    n_features = len(contract.features)
    shown = _shown_names(contract)
    if not isinstance(row, dict if named else list):
        detail = f"each row must be {'an object' if named else 'a list'} of {n_features} values: {shown}"
        return Fault(pointer, "not_a_row", detail)
    if named:
        missing = [name for name in contract.names if name not in row]
        if missing:
            return Fault(pointer, "missing_feature", f"the row lacks {', '.join(missing[:MAX_NAMES_IN_SENTENCE])}")
        if len(row) > n_features:
            return Fault(pointer, "unknown_feature", f"the row has names that are no feature; the features are {shown}")
    elif len(row) != n_features:
        return Fault(pointer, "wrong_width", f"the row must have {n_features} values ({shown}), it has {len(row)}")
    return None


def _escape(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")  # RFC 6901


def cell_problem(cell: Any, feature: Feature) -> tuple[str, str] | None:
    """Return the code and the sentence of what is wrong with a cell, or None.

    Args:
        cell: A value as JSON has it; None for null.
        feature: The feature that it is of.
    """
    if cell is None:
        return None if feature.missing else ("missing_value", f"{feature.name} must not be null")
    if type(cell) not in JSON_TYPES[feature.kind]:
        return f"not_a_{feature.kind}", f"{feature.name} must be a {feature.kind}"
    if feature.kind == "number":
        return _number_problem(cell, feature)
    if feature.kind == "string" and not cell.isascii() and not _is_text(cell):
        return "not_text", f"{feature.name} holds half of a surrogate pair, which is no text"
    return _category_problem(cell, feature)


def _number_problem(cell: int | float, feature: Feature) -> tuple[str, str] | None:
    limit = feature.magnitude or math.inf
    try:
        value = float(cell)
    except OverflowError:
        value = math.inf
    if abs(value) >= math.inf or abs(value) > limit:
        bound = "float64 holds" if limit == math.inf else f"the model takes, {limit:.6g}"
        return "out_of_range", f"{feature.name} is larger than {bound}"
    if value != cell:
        return "inexact_integer", f"{feature.name} is an integer that float64 cannot hold without losing digits"
    return _category_problem(value, feature)


def _category_problem(cell: Any, feature: Feature) -> tuple[str, str] | None:
    known = feature.known or ()
    if not feature.closed or cell in known:
        return None
    if feature.is_unlisted:
        return "unknown_category", f"{feature.name} must be one of the {len(known)} known values, which are not listed"
    shown = ", ".join(map(str, known[:MAX_NAMES_IN_SENTENCE]))
    return "unknown_category", f"{feature.name} must be one of the {len(known)} known: {shown}"


def _is_text(cell: str) -> bool:
    try:
        cell.encode()
    except UnicodeEncodeError:
        return False
    return True
