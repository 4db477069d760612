"""Rows as .npy files: the answers are those of JSON, and nothing slips in that JSON could not carry."""

import io
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from flask.testing import FlaskClient
from hypothesis import given, settings
from hypothesis import strategies as st

from service.artifact.contract import Contract, Feature, Output
from service.codec.json_strict import parse_strict
from service.codec.npy import parse_array
from service.codec.predict_request import PredictRequest
from service.problems import ContractError, MalformedBodyError, ProblemError
from tests.support.problem import check_problem

NPY = "application/x-npy"
OUTPUTS = (Output("predict", "number"), Output("predict_proba", "number", ("a", "b")))
NUMBERS = Contract((Feature("a", "number", "float64"), Feature("b", "number", "float64")), "float64", OUTPUTS)
PICKY = Contract(
    (
        Feature("a", "number", "float64", missing=True),
        Feature("b", "number", "float64", categories=(1.0, 2.0), closed=True, magnitude=1e30),
    ),
    "float64",
    OUTPUTS,
)
WORDS = Contract((Feature("a", "string", "str"),), "frame", OUTPUTS)
EXAMPLE = np.array([[1500.0, 3.0], [2000.0, 4.0]])


def npy_of(values: Any, **how: Any) -> bytes:
    """Return what numpy.save writes for these values."""
    file = io.BytesIO()
    np.save(file, np.asarray(values, **how))
    return file.getvalue()


def code_of(body: bytes, contract: Contract = NUMBERS, max_rows: int = 10, outputs: str = "") -> str:
    """Return the code of the first fault for which a body is refused."""
    with pytest.raises(ProblemError) as refused:
        parse_array(body, outputs, contract, max_rows)
    return refused.value.metric_code


@pytest.mark.parametrize("dtype", ["<f8", ">f8", "<f4", "<f2", "<i8", ">i4", "|i1", "<u8", "|u1"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_any_real_numbers_become_float64_row_by_row(dtype: str, order: Any) -> None:
    """Whatever NumPy wrote, byte order and memory layout included; the estimator may write into it."""
    values = np.array([[1, 2], [3, 4], [5, 6]])
    request = parse_array(npy_of(values, dtype=dtype, order=order), "", NUMBERS, 10)
    X = request.columns
    assert isinstance(X, np.ndarray)
    assert (X.dtype, X.tolist(), request.n_samples, request.outputs) == (np.float64, values.tolist(), 3, ("predict",))
    assert X.flags.c_contiguous
    assert X.flags.writeable


@pytest.mark.parametrize(
    ("values", "code"),
    [
        ([[1, np.nan]], "missing_value"),
        ([[1, np.inf]], "out_of_range"),
        ([[-np.inf, 1]], "out_of_range"),
        ([[1, 2, 3]], "wrong_width"),
        ([1, 2], "wrong_width"),
        ([[[1, 2]]], "wrong_width"),
        (np.empty((0, 2)), "empty"),
        (np.ones((11, 2)), "too_many_rows"),
        (np.array([[2**53 + 1, 1]]), "inexact_integer"),
        (np.array([[2**64 - 1, 1]], dtype=np.uint64), "inexact_integer"),
        ([[True, False]], "not_a_number"),
        ([["1", "2"]], "not_a_number"),
        ([[1j, 2]], "not_a_number"),
        (np.array([[1, 2]], dtype="datetime64[s]"), "not_a_number"),
        (np.zeros((1, 2), dtype=[("a", "f8")]), "not_a_number"),
        (np.zeros((1, 2), dtype=np.longdouble), "not_a_number"),
    ],
)
def test_what_json_could_not_carry_is_refused(values: Any, code: str) -> None:
    """The same strictness as for JSON: no boolean, no text, nothing infinite, no digits lost, no other shape."""
    assert code_of(npy_of(values)) == code


@pytest.mark.parametrize(
    ("values", "code"),
    [([[1, 3]], "unknown_category"), ([[1, np.nan]], "missing_value"), ([[1, 1e31]], "out_of_range")],
)
def test_what_the_contract_says_of_a_column_holds(values: Any, code: str) -> None:
    """Null where it may be, closed categories and magnitudes, each at its place."""
    assert parse_array(npy_of([[np.nan, 1], [1e300, 2]]), "", PICKY, 10).n_samples == 2
    assert code_of(npy_of(values), PICKY) == code


def test_a_cell_is_named_by_row_and_column() -> None:
    """The pointer leads to the very cell; the sentence says nothing of its value."""
    with pytest.raises(ContractError) as refused:
        parse_array(npy_of([[1, 2], [np.nan, 3], [4, np.inf]]), "", NUMBERS, 10)
    assert [fault.pointer for fault in refused.value.faults] == ["/1/0", "/2/1"]
    assert refused.value.detail == "at /1/0: a must not be null"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\x93NUMPY",
        b'{"X": [[1, 2]]}',
        npy_of([[1.0, 2.0]])[:-1],
        npy_of([[1.0, 2.0]]) + b"\0",
        npy_of([[1.0, 2.0]]).replace(b"\x01\x00", b"\x03\x00", 1),
        npy_of([[1.0, 2.0]]).replace(b"(1, 2)", b"(9, 2)"),
        npy_of([[1.0, 2.0]]).replace(b"(1, 2)", b"(-1,2)"),
        npy_of([[1.0, 2.0]]).replace(b"'descr'", b"'evil!'"),
        npy_of([[1.0, 2.0]]).replace(b"'<f8'", b"f(2) "),
        npy_of([[1.0, 2.0]]).replace(b"v\x00", b"\xff\xff", 1),
        b"\x93NUMPY\x01\x00\x76\x00" + b"(" * 118,
        npy_of([[1.0, 2.0]]).replace(b"(1, 2), ", b"(True,2)"),
        npy_of([[1.0, 2.0]]).replace(b"(1, 2), ", b"(1L, 2),"),
    ],
    ids=[
        "empty",
        "cut",
        "JSON",
        "short",
        "long",
        "version",
        "more",
        "negative",
        "key",
        "call",
        "head length",
        "nested",
        "true",
        "Python 2",
    ],
)
def test_what_is_no_npy_file_is_malformed(body: bytes) -> None:
    """Cut off, too long, or with a head that says something else: 400, and nothing is made of it."""
    with pytest.raises(MalformedBodyError) as refused:
        parse_array(body, "", NUMBERS, 10)
    assert refused.value.metric_code == "invalid_npy"


def test_a_signalling_nan_is_a_missing_value() -> None:
    """It is one, and NumPy need not warn of it."""
    values = np.array([0x7F800001, 0x3F800000], dtype=np.uint32).view(np.float32).reshape(1, 2)
    assert code_of(npy_of(values)) == "missing_value"


@pytest.mark.parametrize("value", [2.0**53, 1e300, -1e300])
def test_large_numbers_that_lose_nothing_are_taken(value: float) -> None:
    """Only a whole number that was one before can lose digits."""
    assert parse_array(npy_of([[value, 1.0]]), "", NUMBERS, 10).columns.tolist() == [[value, 1.0]]  # type: ignore[union-attr]


def test_pickled_objects_are_never_loaded() -> None:
    """A .npy file of objects is a pickle, which would run what it says."""

    class Evil:
        def __reduce__(self) -> Any:
            raise AssertionError("only ever pickled by this test")

    file = io.BytesIO()
    np.save(file, np.array([[None, None]], dtype=object), allow_pickle=True)
    assert code_of(file.getvalue()) == "not_a_number"


def outcome(parse: Callable[[], PredictRequest]) -> tuple[str, bytes]:
    """Return the code of a refusal, or the bits of what the estimator is given."""
    try:
        return "", np.asarray(parse().columns).tobytes()
    except ProblemError as refused:
        return refused.metric_code, b""


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(*[st.floats() | st.integers(-(2**63), 2**64 - 1)] * 2), min_size=1, max_size=3))
def test_it_takes_and_refuses_what_json_does(rows: list[tuple[Any, Any]]) -> None:
    """For any numbers, both say the same of the same cells, and give the estimator the same bits."""
    values = np.array(rows)
    if values.dtype.kind == "O":  # integers of both halves of 64 bits fit no dtype
        return
    cells = [[None if cell != cell else cell for cell in row] for row in values.tolist()]
    text = json.dumps({"X": cells}).replace("Infinity", "1e999").encode()
    for contract in (NUMBERS, PICKY):
        expected = outcome(lambda contract=contract: parse_strict(text, contract, 10))
        assert outcome(lambda contract=contract: parse_array(npy_of(values), "", contract, 10)) == expected


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200), st.integers(0, 127))
def test_any_bytes_are_answered_or_refused(noise: bytes, start: int) -> None:
    """Whatever a file holds from some place on."""
    body = npy_of(EXAMPLE)[:start] + noise
    try:
        parse_array(body, "", NUMBERS, 10)
    except ProblemError:
        return


# ---------------------------------------------------------------------------------------------- as a request


def post(client: FlaskClient, values: Any, path: str = "/predict", **headers: str) -> Any:
    """Send an array."""
    return client.post(path, data=npy_of(values), headers={"Content-Type": NPY, **headers})


def test_the_answer_is_that_of_json(client_of: Callable[..., FlaskClient]) -> None:
    """The same members, the same numbers."""
    client = client_of("breast_cancer")
    X = np.random.default_rng(0).uniform(0, 30, size=(7, 30))
    outputs = ["predict", "predict_proba"]
    expected = client.post("/predict", json={"X": X.tolist(), "outputs": outputs}).json
    assert post(client, X, "/predict?outputs=predict,predict_proba").json == expected
    assert post(client, X, "/predict?outputs=predict&outputs=predict_proba").json == expected
    assert post(client, X).json == {name: expected[name] for name in ("y_pred", "model")}


def test_the_answer_may_be_an_array(client_of: Callable[..., FlaskClient]) -> None:
    """Accept asks for the bytes of one output's numbers."""
    response = post(client_of(), EXAMPLE, Accept=NPY)
    assert response.content_type == NPY
    expected = client_of().post("/predict", json={"X": EXAMPLE.tolist()}).json["y_pred"]
    assert np.load(io.BytesIO(response.data)).tolist() == expected


def test_a_long_query_is_read_all_the_same(client_of: Callable[..., FlaskClient]) -> None:
    """What is not meant for us is let alone."""
    query = "&".join(f"a{number}=1" for number in range(50))
    assert post(client_of(), EXAMPLE, f"/predict?{query}").status_code == 200


def test_what_is_accepted_beside_arrays_changes_nothing(client_of: Callable[..., FlaskClient]) -> None:
    """The first of the list is what the client wants most."""
    assert post(client_of(), EXAMPLE, Accept=f"{NPY}, */*;q=0.1").content_type == NPY
    assert post(client_of(), EXAMPLE, Accept=f"application/json, {NPY}").content_type == "application/json"


@pytest.mark.parametrize("outputs", ["predict", "predict_proba,decision_function"])
def test_words_and_several_outputs_are_no_array(outputs: str, client_of: Callable[..., FlaskClient]) -> None:
    """406 says what can be had instead."""
    response = post(client_of("breast_cancer"), np.ones((1, 30)), f"/predict?outputs={outputs}", Accept=NPY)
    problem = check_problem(406, response.content_type, response.data)
    assert "application/json" in problem["detail"]


def test_an_output_that_the_model_has_not_is_refused(client_of: Callable[..., FlaskClient]) -> None:
    """As in JSON."""
    response = post(client_of(), EXAMPLE, "/predict?outputs=predict_proba")
    assert (response.status_code, response.json["errors"][0]["code"]) == (422, "unknown_output")


def test_a_model_of_words_says_to_send_json(client_of: Callable[..., FlaskClient]) -> None:
    """An array of numbers cannot hold them."""
    response = post(client_of("penguins"), EXAMPLE)
    assert check_problem(415, response.content_type, response.data)["detail"].endswith(
        "(Content-Type: application/json)."
    )
