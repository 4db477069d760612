"""Rows as the bytes of a NumPy file (.npy), and answers likewise: no number becomes text on its way.

For many rows JSON is most of the work of a request. A .npy file is a short head, which names dtype and shape, and then
the numbers as they lie in memory: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
"""

import io
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from service.artifact.contract import Contract
from service.codec.json_response import refuse_not_finite
from service.codec.json_strict import cell_problem
from service.codec.predict_request import PredictRequest, requested_outputs, too_many_rows
from service.columns import EXACT_INTEGERS
from service.problems import (
    MAX_FAULTS,
    Fault,
    MalformedBodyError,
    NotAcceptableError,
    UnsupportedMediaTypeError,
    contract_error,
)

MEDIA_TYPE = "application/x-npy"
MAX_HEAD_BYTES = 256  # two numbers and a dtype take about 80, and NumPy fills up to a multiple of 64
MAGIC_BYTES = 10  # with the version and the length of the rest of the head
REAL_NUMBERS = ("f8", "f4", "f2", "i8", "i4", "i2", "i1", "u8", "u4", "u2", "u1")


def parse_array(body: bytes, outputs: str, contract: Contract, max_rows: int) -> PredictRequest:
    """Return what the bytes of a .npy file ask for.

    Args:
        body: The file: real numbers of shape (n_samples, n_features); NaN where a value is missing.
        outputs: Names of outputs with commas between them; empty for the first that the model offers.
        contract: What the model takes and answers.
        max_rows: The most rows that one request may hold.

    Raises:
        UnsupportedMediaTypeError: If the model takes more than numbers.
        MalformedBodyError: If it is no .npy file, or is shorter or longer than its head says.
        BodyTooLargeError: If there are more than max_rows rows.
        ContractError: If the array does not fit the contract; names the first cells at fault.
    """
    if not contract.is_numeric:
        raise UnsupportedMediaTypeError(
            "This model takes more than numbers: send JSON (Content-Type: application/json)."
        )
    n_features = len(contract.features)
    shape, fortran_order, dtype, start = _head(body)
    if len(shape) != 2 or shape[1] != n_features:
        detail = f"the array must have the shape (rows, {n_features})"
        raise contract_error([Fault("", "wrong_width", detail)])
    if len(body) - start != shape[0] * n_features * dtype.itemsize:
        raise _malformed("its length is not what its head says")
    if not shape[0]:
        raise contract_error([Fault("", "empty", "the array must hold at least one row")])
    if shape[0] > max_rows:
        raise too_many_rows(shape[0], max_rows)
    given = np.frombuffer(body, dtype, offset=start).reshape(shape, order="F" if fortran_order else "C")
    with np.errstate(invalid="ignore"):  # a NaN may be a signalling one
        X = np.array(given, dtype=np.float64, order="C")  # a copy, as estimators may want to write
    _check_cells(given, X, contract)
    return PredictRequest(X, requested_outputs(outputs.split(",") if outputs else None, contract), shape[0])


def encode_array(answers: dict[str, NDArray[Any]]) -> bytes:
    """Return an answer as the bytes of a .npy file, of shape (n_samples,) or (n_samples, n_columns).

    Raises:
        NotAcceptableError: If there is more than one output, or its values are no numbers.
        ContractError: If an answer is not finite.
    """
    values = next(iter(answers.values()))
    if len(answers) != 1 or values.dtype.kind not in "fiub":
        raise NotAcceptableError("Only one output of numbers can be answered as .npy: accept application/json.")
    if values.dtype.kind == "f":
        refuse_not_finite(values)
    file = io.BytesIO()
    npy.write_array(file, np.ascontiguousarray(values), allow_pickle=False)
    return file.getvalue()


def _head(body: bytes) -> tuple[tuple[int, ...], bool, np.dtype[Any], int]:
    """Return shape, whether columns follow each other, dtype, and where the numbers start."""
    start = MAGIC_BYTES + int.from_bytes(body[8:MAGIC_BYTES], "little")
    if body[:8] != b"\x93NUMPY\x01\x00" or start > min(len(body), MAX_HEAD_BYTES):
        raise _malformed("it does not begin as numpy.save writes it")
    return *_read_head(body[:start]), start


@lru_cache(
    maxsize=256
)  # reading one takes longer than all else, and clients send few shapes; short and few, so bounded
def _read_head(head: bytes) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    file = io.BytesIO(head)
    try:
        npy.read_magic(file)
        if b"L" in head:
            raise ValueError("written by Python 2")  # of which NumPy warns
        shape, fortran_order, dtype = npy.read_array_header_1_0(file, max_header_size=MAX_HEAD_BYTES)
        if any(type(length) is not int for length in shape):
            raise ValueError("a length is no number")
    except Exception as error:  # whatever Python's own parsers raise for what is no head
        raise _malformed("its head cannot be read") from error
    if dtype.str[1:] not in REAL_NUMBERS:
        raise contract_error([Fault("", "not_a_number", "the array must hold real numbers")])
    return shape, fortran_order, dtype


def _malformed(why: str) -> MalformedBodyError:
    return MalformedBodyError(
        f"The body is no .npy file, {why}: send the bytes that numpy.save writes.", [Fault("", "invalid_npy", why)]
    )


def _check_cells(given: NDArray[Any], X: NDArray[np.float64], contract: Contract) -> None:
    """Refuse an array with cells that JSON could not have carried to the model.

    Args:
        given: The array as it was sent.
        X: The same in float64.
        contract: What the model takes.
    """
    if contract.accepts_any_number and bool((np.abs(X) < EXACT_INTEGERS).all()):  # not so for NaN
        return
    faults = []
    for row, column in np.argwhere(~_usual_cells(given, X, contract)):
        cell = given[row, column].item()
        if problem := cell_problem(
            None if cell != cell else cell, contract.features[column]
        ):  # NaN differs from itself
            faults.append(Fault(f"/{row}/{column}", *problem))
        if len(faults) == MAX_FAULTS:
            break
    if faults:
        raise contract_error(faults)


def _usual_cells(given: NDArray[Any], X: NDArray[np.float64], contract: Contract) -> NDArray[np.bool_]:
    """Return for each cell whether nothing is wrong with it, as far as that can be said of all at once."""
    largest = EXACT_INTEGERS - 1 if given.dtype.kind in "iu" else np.finfo(np.float64).max
    usual = np.abs(X) <= largest  # not so for NaN
    for index, feature in enumerate(contract.features):
        if feature.magnitude is not None:
            usual[:, index] &= np.abs(X[:, index]) <= feature.magnitude
        if feature.closed:
            usual[:, index] &= np.isin(X[:, index], feature.known or ())
        if feature.missing:
            usual[:, index] |= np.isnan(X[:, index])
    return usual
