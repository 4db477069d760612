"""From the bytes of a request to columns of cells, and from answers back to JSON.

The usual body takes a short way: orjson with type checks in C, or simdjson where a long matrix of numbers needs no
Python object for each. Whatever is unusual there (a type that does not fit, a very large number, more colons than
members) is decoded again cell by cell, by the only code that knows the rules and words the refusals. So the short ways
never decide that something is wrong.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from operator import itemgetter
from typing import Any

import numpy as np
import orjson
import simdjson
from numpy.typing import NDArray

from service.contract import PER_CLASS_OUTPUTS, Contract, Feature, answer_member
from service.errors import MAX_FAULTS, BodyTooLargeError, ContractError, Fault, MalformedBodyError, contract_error
from service.json_limits import UNCOUNTED_BYTES, count_excess, count_openers, nested_too_deeply

# The cells of a request. Where every feature is a number, a matrix of shape (n_samples, n_features) with NaN for null;
# else a column for each feature: an array of shape (n_samples,) of numbers, or a list of text, booleans and None.
Columns = NDArray[np.float64] | list[Any]

EXACT_INTEGERS = 2**53  # float64 holds every integer up to here
MAX_INTEGER_DIGITS = 400  # longer ones are beyond float64, and int() of very long text is slow
MAX_NAMES_IN_SENTENCE = 10
LONG_BODY_BYTES = 700  # from here on simdjson is the faster one
SPARE_COLUMNS = 2  # an index and a label that should not be there get an error that names the first row
MAX_OUTPUT_VALUES = 100  # the document, X and outputs with its names
FEW_VALUES = 16  # up to here NumPy takes longer to begin than Python to do it
NUMBER_TYPES = frozenset((int, float))
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


def parse_request(body: bytes, contract: Contract, max_rows: int) -> PredictRequest:
    """Return what a body such as {"X": [[1500, 3]], "outputs": ["predict"]} asks for.

    Args:
        body: The bytes of the JSON document, decompressed.
        contract: What the model takes and answers.
        max_rows: The most rows that one request may hold.

    Raises:
        MalformedBodyError: If the body is no JSON, or repeats a name.
        BodyTooLargeError: If there are more than max_rows rows.
        ContractError: If the JSON does not fit the contract; names the first cells at fault.
    """
    if not body:
        raise MalformedBodyError('The body is empty: send JSON such as {"X": [[...]]}.')
    n_openers = count_openers(body) if len(body) >= LONG_BODY_BYTES else 0
    if len(body) > UNCOUNTED_BYTES:
        _refuse_excess(body, n_openers, contract, max_rows)
    return _parse_quickly(body, contract, max_rows, n_openers) or parse_carefully(body, contract, max_rows)


def _refuse_excess(body: bytes, n_openers: int, contract: Contract, max_rows: int) -> None:
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


def _parse_quickly(body: bytes, contract: Contract, max_rows: int, n_openers: int) -> PredictRequest | None:
    """Return what a body asks for, or None where anything is unusual; n_openers only matters for a long body."""
    if len(body) >= LONG_BODY_BYTES and contract.any_numbers:
        request = _parse_matrix(body, contract, max_rows, n_openers)
        if request:
            return request
    try:
        document = orjson.loads(body)
        rows, outputs = _members(document, contract, max_rows)
    except (orjson.JSONDecodeError, ContractError):
        return None
    columns = None if _may_repeat_names(body, document, rows) else _decode_quickly(rows, contract)
    return None if columns is None else PredictRequest(columns, outputs, len(rows))


def _parse_matrix(body: bytes, contract: Contract, max_rows: int, n_openers: int) -> PredictRequest | None:
    """Return what a body asks for whose rows are lists of numbers, or None where anything is unusual."""
    if body[:1] != b"{":  # simdjson would also take a byte order mark
        return None
    try:
        document = simdjson.Parser().parse(body)  # one for each, because its memory is that of its longest document
        if not isinstance(document, simdjson.Object):
            return None
        names = list(document.keys())
        rows, wanted = document.get("X"), document.get("outputs")
        if not isinstance(rows, simdjson.Array) or not set(names) <= {"X", "outputs"} or len(set(names)) < len(names):
            return None
        n_samples, n_features = len(rows), len(contract.features)
        # len refuses what is no row with a TypeError.
        if set(map(len, rows)) != {n_features} or n_samples > max_rows:  # type: ignore[arg-type]
            return None
        # Flattens lists in cells as well, but each of these has brackets; strings that have some are no outputs.
        values = np.frombuffer(bytearray(rows.as_buffer(of_type="d")))  # a bytearray, as estimators may want to write
        outputs = requested_outputs(wanted.as_list() if isinstance(wanted, simdjson.Array) else wanted, contract)
    except (ValueError, TypeError, RuntimeError, ContractError):
        return None
    n_containers = n_samples + (3 if isinstance(wanted, simdjson.Array) else 2)  # the document, X and outputs
    if n_openers != n_containers or not _are_usual(values):
        return None
    return PredictRequest(values.reshape(n_samples, n_features), outputs, n_samples)


def parse_carefully(body: bytes, contract: Contract, max_rows: int) -> PredictRequest:
    """Return what a body asks for, as parse_request does, in the way that knows all rules, cell by cell."""
    rows, outputs = _members(loads_carefully(body), contract, max_rows)
    return PredictRequest(_decode_carefully(rows, contract), outputs, len(rows))


def loads_carefully(body: bytes) -> Any:
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


def _may_repeat_names(body: bytes, document: Mapping[str, Any], rows: Sequence[Any]) -> bool:
    """Say whether an object may repeat a name; each member costs one colon, and strings can only add more."""
    n_members = len(document) + sum(len(row) for row in rows if type(row) is dict)
    return body.count(b":") != n_members


def _members(document: Any, contract: Contract, max_rows: int) -> tuple[list[Any], tuple[str, ...]]:
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


# ---------------------------------------------------------------------------------------------- the short way


def _decode_quickly(rows: list[Any], contract: Contract) -> Columns | None:
    """Return the cells, or None where anything is unusual."""
    types = set(map(type, rows))
    n_features = len(contract.features)
    if types not in ({list}, {dict}) or set(map(len, rows)) != {n_features}:
        return None
    if types == {dict}:
        cells_of = itemgetter(*contract.names) if n_features > 1 else lambda row: (row[contract.names[0]],)
        try:
            rows = list(map(cells_of, rows))
        except KeyError:
            return None
    if contract.any_numbers:
        if not set(map(type, chain.from_iterable(rows))) <= NUMBER_TYPES:
            return None
        values = np.array(rows, dtype=np.float64)
        return values if _are_usual(values) else None
    transposed = zip(*rows, strict=True)
    columns = [_quick_column(cells, feature) for cells, feature in zip(transposed, contract.features, strict=True)]
    return None if any(column is None for column in columns) else _as_columns(columns, contract)


def _are_usual(values: NDArray[np.float64]) -> bool:
    """Say whether all values are so small that no digit of a whole number was lost; NaN stands for null."""
    if values.size <= FEW_VALUES:
        return all(abs(value) < EXACT_INTEGERS or value != value for value in values.ravel().tolist())
    return not bool((np.abs(values) >= EXACT_INTEGERS).any())


def _quick_column(cells: Sequence[Any], feature: Feature) -> "NDArray[Any] | list[Any] | None":
    types = set(map(type, cells))
    if feature.missing:
        types.discard(type(None))
    if not types <= set(JSON_TYPES[feature.kind]):
        return None
    if feature.kind != "number":
        return None if feature.closed and not set(cells) <= {None, *(feature.known or ())} else list(cells)
    values = np.array(cells, dtype=np.float64)
    return values if _are_usual(values) and not feature.closed else None


# ---------------------------------------------------------------------------------------------- cell by cell


def _decode_carefully(rows: list[Any], contract: Contract) -> Columns:
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
    return _as_columns(columns, contract)


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


# ---------------------------------------------------------------------------------------------- both ways


def _as_columns(columns: list[Any], contract: Contract) -> Columns:
    """Return one matrix where every feature is a number, else the columns as they are."""
    if not contract.all_numbers:
        return columns
    matrix = np.empty((len(columns[0]), len(columns)))
    for index, column in enumerate(columns):
        matrix[:, index] = column
    return matrix


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
