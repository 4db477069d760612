"""Parses a JSON prediction request: the fast parser first, the strict one where anything is unusual."""

from service.artifact.contract import Contract
from service.codec.json_fast import LONG_BODY_BYTES, parse_fast
from service.codec.json_limits import UNCOUNTED_BYTES, count_openers
from service.codec.json_strict import parse_strict, refuse_excess
from service.codec.predict_request import PredictRequest
from service.problems import MalformedBodyError


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
        refuse_excess(body, n_openers, contract, max_rows)
    return parse_fast(body, contract, max_rows, n_openers) or parse_strict(body, contract, max_rows)
