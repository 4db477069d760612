"""The fast parser of JSON requests: it decodes the usual body, and answers None for anything unusual."""

from collections.abc import Mapping, Sequence
from itertools import chain
from operator import itemgetter
from typing import Any

import numpy as np
import orjson
import simdjson
from numpy.typing import NDArray

from service.artifact.contract import Contract, Feature
from service.codec.predict_request import JSON_TYPES, PredictRequest, request_members, requested_outputs
from service.columns import EXACT_INTEGERS, Columns, from_features
from service.problems import ContractError

LONG_BODY_BYTES = 700  # from here on simdjson is the faster one
FEW_VALUES = 16  # up to here NumPy takes longer to begin than Python to do it
NUMBER_TYPES = frozenset((int, float))


def parse_fast(body: bytes, contract: Contract, max_rows: int, n_openers: int) -> PredictRequest | None:
    """Return what a body asks for, or None where anything is unusual; n_openers only matters for a long body."""
    if len(body) >= LONG_BODY_BYTES and contract.accepts_any_number:
        request = _parse_matrix(body, contract, max_rows, n_openers)
        if request:
            return request
    try:
        document = orjson.loads(body)
        rows, outputs = request_members(document, contract, max_rows)
    except (orjson.JSONDecodeError, ContractError):
        return None
    columns = None if _may_repeat_names(body, document, rows) else _decode_fast(rows, contract)
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
    if n_openers != n_containers or not _are_exactly_representable(values):
        return None
    return PredictRequest(values.reshape(n_samples, n_features), outputs, n_samples)


def _may_repeat_names(body: bytes, document: Mapping[str, Any], rows: Sequence[Any]) -> bool:
    """Say whether an object may repeat a name; each member costs one colon, and strings can only add more."""
    n_members = len(document) + sum(len(row) for row in rows if type(row) is dict)
    return body.count(b":") != n_members


# ---------------------------------------------------------------------------------------------- the short way


def _decode_fast(rows: list[Any], contract: Contract) -> Columns | None:
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
    if contract.accepts_any_number:
        if not set(map(type, chain.from_iterable(rows))) <= NUMBER_TYPES:
            return None
        values = np.array(rows, dtype=np.float64)
        return values if _are_exactly_representable(values) else None
    transposed = zip(*rows, strict=True)
    columns = [_fast_column(cells, feature) for cells, feature in zip(transposed, contract.features, strict=True)]
    return None if any(column is None for column in columns) else from_features(columns, contract.is_numeric)


def _are_exactly_representable(values: NDArray[np.float64]) -> bool:
    """Say whether all values are so small that no digit of a whole number was lost; NaN stands for null."""
    if values.size <= FEW_VALUES:
        return all(abs(value) < EXACT_INTEGERS or value != value for value in values.ravel().tolist())
    return not bool((np.abs(values) >= EXACT_INTEGERS).any())


def _fast_column(cells: Sequence[Any], feature: Feature) -> "NDArray[Any] | list[Any] | None":
    types = set(map(type, cells))
    if feature.missing:
        types.discard(type(None))
    if not types <= set(JSON_TYPES[feature.kind]):
        return None
    if feature.kind != "number":
        return None if feature.closed and not set(cells) <= {None, *(feature.known or ())} else list(cells)
    values = np.array(cells, dtype=np.float64)
    return values if _are_exactly_representable(values) and not feature.closed else None
