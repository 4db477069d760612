"""JSON to the estimator's input, the quick and the careful way, and answers back to JSON."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.artifact.contract import Contract, Feature, Output
from service.codec.json_fast import _parse_matrix, parse_fast
from service.codec.json_limits import UNCOUNTED_BYTES, count_openers
from service.codec.json_request import parse_request
from service.codec.json_response import encode_answer
from service.codec.json_strict import parse_strict
from service.codec.predict_request import PredictRequest
from service.engines.scikit_learn import estimator_input
from service.inference.model import Model
from service.problems import MAX_FAULTS, BodyTooLargeError, ContractError, MalformedBodyError, ProblemError
from tests.support.corpus import CASES, Case

# The service ignores this for the whole process; pytest's own filters come after that.

PREDICT = (Output("predict", "number"),)
TWO_NUMBERS = Contract((Feature("area", "number", "float64"), Feature("age", "number", "float64")), "float64", PREDICT)
# Every kind of column that the shipped models lack.
MIXED = Contract(
    features=(
        Feature("grade", "string", "category", missing=True, categories=("A", "B"), closed=True),
        Feature("colour", "string", "category", missing=True, categories=("red", "blue")),
        Feature("rooms", "number", "category", categories=(1.0, 2.0), closed=True),
        Feature("new", "boolean", "bool"),
        Feature("size", "number", "float64", missing=True, magnitude=1e30),
        Feature("note", "string", "str", missing=True),
    ),
    container="frame",
    outputs=PREDICT,
)
# The quick way leaves closed columns of numbers to the careful one.
OPEN_ROOMS = replace(MIXED, features=tuple(replace(item, closed=item.name == "grade") for item in MIXED.features))
MAX_ROWS = 1000
GOOD_ROW = ["A", "red", 1, True, 2.5, "old"]


def parse(rows: Any, contract: Contract = TWO_NUMBERS, max_rows: int = MAX_ROWS, **more: Any) -> PredictRequest:
    """Parse a body of these rows and further members."""
    return parse_request(json.dumps({"X": rows, **more}).encode(), contract, max_rows)


def faults(rows: Any, contract: Contract = TWO_NUMBERS, **more: Any) -> list[tuple[str, str]]:
    """Return pointer and code of each fault of a body that is refused."""
    with pytest.raises(ContractError) as refused:
        parse(rows, contract, **more)
    return [(fault.pointer, fault.code) for fault in refused.value.faults]


def test_rows_become_one_matrix() -> None:
    """Integers and fractions alike are float64, a row for each row sent."""
    request = parse([[1500, 3], [2000.5, 0]])
    assert request.columns.dtype == np.float64
    assert request.columns.tolist() == [[1500.0, 3.0], [2000.5, 0.0]]
    assert request.n_samples == 2


def test_objects_are_put_in_the_order_of_the_features() -> None:
    """Each object may have an order of its own."""
    assert parse([{"age": 3, "area": 1500}, {"area": 2000, "age": 4}]).columns.tolist() == [[1500, 3], [2000, 4]]


def test_nothing_asked_for_is_the_first_output() -> None:
    """A request without outputs gets what the contract offers first."""
    contract = Contract(TWO_NUMBERS.features, "float64", (Output("transform", "number"), Output("predict", "number")))
    assert parse([[1, 2]], contract).outputs == ("transform",)
    assert parse([[1, 2]], contract, outputs=["predict", "transform"]).outputs == ("predict", "transform")


def frame_of(rows: list[Any]) -> pd.DataFrame:
    """Return what an estimator that was fitted on a frame is given for these rows."""
    frame = estimator_input(parse(rows, MIXED).columns, MIXED)
    assert isinstance(frame, pd.DataFrame)
    return frame


@pytest.mark.parametrize("named", [False, True])
def test_a_frame_has_the_dtypes_of_the_training_data(named: bool) -> None:
    """Categories, booleans and numbers arrive as the estimator saw them when it was fitted."""
    row = dict(zip(MIXED.names, GOOD_ROW, strict=True)) if named else GOOD_ROW
    frame = frame_of([row])
    assert list(frame.columns) == list(MIXED.names)
    assert [str(dtype) for dtype in frame.dtypes] == ["category", "category", "category", "bool", "float64", "str"]
    assert frame.iloc[0].tolist() == GOOD_ROW
    assert frame["grade"].cat.categories.tolist() == ["A", "B"]


def test_null_is_a_missing_value() -> None:
    """Null becomes what pandas and scikit-learn take for missing, in words and numbers."""
    frame = frame_of([[None, None, 2, False, None, None]])
    assert frame.isna().iloc[0].tolist() == [True, True, False, False, True, True]
    assert [str(dtype) for dtype in frame.dtypes[3:]] == ["bool", "float64", "str"]


def test_an_unknown_category_of_an_open_column_is_not_missing() -> None:
    """The estimator is told that there is a value, and that it is none of those it knows."""
    frame = frame_of([["A", "green", *GOOD_ROW[2:]]])
    assert frame["colour"].tolist() == ["green"]
    assert frame["colour"].cat.categories[-1] == "green"


@pytest.mark.parametrize("container", ["object", "frame"])
@pytest.mark.parametrize("others", [[], [["a", 1]]], ids=["alone", "beside another row"])
def test_null_among_objects_is_nan(container: str, others: list[Any]) -> None:
    """Imputers look for NaN there; None would go on to the model as if it were a word."""
    features = (Feature("word", "string", "object", missing=True), Feature("size", "number", "float64"))
    contract = Contract(features, container, PREDICT)
    X = estimator_input(parse([["b", 1], [None, 2], *others], contract).columns, contract)
    cell = X[1, 0] if container == "object" else X["word"][1]
    assert isinstance(cell, float)
    assert np.isnan(cell)


@pytest.mark.parametrize(
    ("column", "cell", "code"),
    [
        (0, "C", "unknown_category"),
        (0, 1, "not_a_string"),
        (2, 3, "unknown_category"),
        (2, None, "missing_value"),
        (2, True, "not_a_number"),
        (3, 1, "not_a_boolean"),
        (3, "true", "not_a_boolean"),
        (4, 1e31, "out_of_range"),
        (4, -1e31, "out_of_range"),
        (4, 2**53 + 1, "inexact_integer"),
    ],
)
def test_a_cell_that_does_not_fit_is_named(column: int, cell: Any, code: str) -> None:
    """The pointer leads to the very cell, by position or by name as the row was sent."""
    row = [*GOOD_ROW[:column], cell, *GOOD_ROW[column + 1 :]]
    assert faults([GOOD_ROW, row], MIXED) == [(f"/X/1/{column}", code)]
    named = [dict(zip(MIXED.names, cells, strict=True)) for cells in (GOOD_ROW, row)]
    assert faults(named, MIXED) == [(f"/X/1/{MIXED.names[column]}", code)]


@pytest.mark.parametrize("row", [["A", "red", 1.0, True, 1e30, ""], ["B", "red", 2, True, -1e30, ""]])
def test_the_bounds_themselves_are_taken(row: list[Any]) -> None:
    """A number as large as the estimator takes is not too large."""
    assert frame_of([row]).iloc[0].tolist() == row


@pytest.mark.parametrize(("container", "kind", "cell"), [("bool", "boolean", True), ("object", "string", "red")])
def test_a_matrix_has_the_dtype_the_estimator_was_fitted_on(container: str, kind: Any, cell: Any) -> None:
    """Estimators of booleans or of words get a matrix of those."""
    contract = Contract((Feature("x0", kind, container),), container, PREDICT)
    X = estimator_input(parse([[cell]], contract).columns, contract)
    assert (X.dtype, X.tolist()) == (np.dtype(container), [[cell]])


def test_several_faults_are_named_at_once() -> None:
    """A batch is mended in a few rounds, not in one round for each cell."""
    assert faults([[1, "2"], [3], [None, 4]]) == [
        ("/X/0/1", "not_a_number"),
        ("/X/1", "wrong_width"),
        ("/X/2/0", "missing_value"),
    ]


def test_an_answer_names_a_bounded_number_of_faults() -> None:
    """A large bad batch does not make a large answer."""
    assert len(faults([[None, None]] * 500)) == MAX_FAULTS
    assert len(faults([[1, 2]], outputs=["nothing"] * 500)) == MAX_FAULTS


def test_pointers_are_escaped() -> None:
    """A feature name with a slash or a tilde is one step of the pointer (RFC 6901)."""
    contract = Contract((Feature("km/h ~ max", "number", "float64"),), "float64", PREDICT)
    assert faults([{"km/h ~ max": None}], contract) == [("/X/0/km~1h ~0 max", "missing_value")]


def test_refusals_of_wide_models_are_short() -> None:
    """The sentence shows the first feature names and says that there are more."""
    contract = Contract(tuple(Feature(f"f{index}", "number", "float64") for index in range(64)), "float64", PREDICT)
    with pytest.raises(ContractError) as refused:
        parse([[1]], contract)
    assert refused.value.detail.endswith("must have 64 values (f0, f1, f2, f3, f4, f5, f6, f7, f8, f9, ...), it has 1")


def test_too_many_rows_are_refused_by_number() -> None:
    """The sentence says how many were sent and how many are taken."""
    with pytest.raises(BodyTooLargeError, match="X has 3 rows, at most 2 are taken"):
        parse([[1, 2]] * 3, max_rows=2)


LONG = UNCOUNTED_BYTES // 8  # so many rows make a body that is counted before it is decoded


@pytest.mark.parametrize(
    "row", ["[1, 2, 3]", "[[], []]", '{"]": "["}', "12345678"], ids=["lists", "nested", "objects", "numbers"]
)
def test_a_long_body_of_too_many_rows_is_refused_before_it_is_decoded(
    monkeypatch: pytest.MonkeyPatch, row: str
) -> None:
    """In the words of a short one."""
    monkeypatch.setattr("service.codec.json_request.parse_fast", None)
    monkeypatch.setattr("service.codec.json_request.parse_strict", None)
    with pytest.raises(BodyTooLargeError) as refused:
        parse_request(f'{{"X": [{", ".join([row] * LONG)}]}}'.encode(), TWO_NUMBERS, 100)
    assert refused.value.detail == f"X has {LONG} rows, at most 100 are taken: send several requests."


@pytest.mark.parametrize("cells", ["1", "[]", '{"a": 1}', '"ab"'])
def test_a_long_body_of_too_many_cells_is_refused_before_it_is_decoded(
    monkeypatch: pytest.MonkeyPatch, cells: str
) -> None:
    """No number of rows is wrong with it, so the sentence says what a row is."""
    monkeypatch.setattr("service.codec.json_request.parse_fast", None)
    monkeypatch.setattr("service.codec.json_request.parse_strict", None)
    with pytest.raises(ContractError) as refused:
        parse_request(f'{{"X": [[{", ".join([cells] * 4 * LONG)}]]}}'.encode(), TWO_NUMBERS, 100)
    assert refused.value.detail == "at /X: each row must be a list or an object of 2 values: area, age"


@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize("contract", [TWO_NUMBERS, MIXED], ids=["numbers", "mixed"])
def test_the_most_rows_are_never_too_much(contract: Contract, named: bool) -> None:
    """Whichever form they have, with every output asked for, and words that are full of brackets."""
    row = [1.5, 2] if contract is TWO_NUMBERS else ["A", "red", 1, True, 2.5, '[{"\\,' * 20]
    n_rows = UNCOUNTED_BYTES // 5
    rows = [dict(zip(contract.names, row, strict=True)) if named else row] * n_rows
    assert parse(rows, contract, max_rows=n_rows, outputs=["predict"]).n_samples == n_rows


def test_a_long_body_with_two_columns_too_many_names_the_first_row() -> None:
    """An index and a label come along easily, and in as many rows as there may be."""
    n_rows = UNCOUNTED_BYTES // 5
    rows = [[0, 1500, 3, 1]] * n_rows
    with pytest.raises(ContractError, match="at /X/0: the row must have 2 values"):
        parse(rows, max_rows=n_rows)


def test_an_empty_body_is_called_empty() -> None:
    """Most often it is a client that forgot to send it, which the place of a character would not tell."""
    with pytest.raises(MalformedBodyError, match="The body is empty: send JSON"):
        parse_request(b"", TWO_NUMBERS, 1)


def test_invalid_json_is_pointed_at() -> None:
    """The place of the first error is counted in characters, as an editor does."""
    with pytest.raises(MalformedBodyError, match="not valid JSON at character 8"):
        parse_request('{"é": 1 x}'.encode(), TWO_NUMBERS, 1)


# ---------------------------------------------------------------------------------------------- both ways agree


def same(one: Any, other: Any) -> bool:
    """Tell whether two inputs of an estimator are the same, bit by bit."""
    if isinstance(one, pd.DataFrame):
        return list(one.columns) == list(other.columns) and all(
            one[name].dtype == other[name].dtype and same_column(one[name], other[name]) for name in one.columns
        )
    return one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()


def same_column(one: "pd.Series[Any]", other: "pd.Series[Any]") -> bool:
    """Tell whether two columns are the same; NaN is, and 0.0 is not -0.0."""
    if one.dtype.kind == "f":
        return one.to_numpy().tobytes() == other.to_numpy().tobytes()
    return one.equals(other)


def check_agreement(body: bytes, contract: Contract) -> None:
    """Fail unless the quick way gives what the careful one gives, or leaves the body to it."""
    ways = [parse_fast, *([_parse_matrix] if contract.accepts_any_number else [])]
    quick_ones = [way(body, contract, MAX_ROWS, count_openers(body)) for way in ways]
    try:
        careful = parse_strict(body, contract, MAX_ROWS)
    except ProblemError:
        assert quick_ones == [None] * len(ways)
        return
    for quick in filter(None, quick_ones):
        assert (quick.outputs, quick.n_samples) == (careful.outputs, careful.n_samples)
        assert same(estimator_input(quick.columns, contract), estimator_input(careful.columns, contract))


TINY_AND_HUGE = ["-0", "-0.0", "5e-324", "1e-400", "2.2250738585072011e-308", "1.7976931348623159e308", "1e999", "NaN"]
INTEGERS = [2**53 - 1, 2**53, 2**53 + 1, 2**53 + 2, 2**63, 2**64, 2**64 + 1, -(2**63) - 1, 10**399, 10**400]
WORDS = ['"Torgersen"', '"a:b"', r'"\ud800"', r'"\u0041"', '"\u00e9"', '""']
NESTED = ["[]", "{}", "[1500]", "[[3]]", '{"a": 1}', '{"a": 1, "a": 2}', "[[1500, 3]]"]
ODD = st.sampled_from([*TINY_AND_HUGE, *map(str, INTEGERS), *WORDS, *NESTED, "null", "true", "01", ""])
ODD_NUMBERS = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(10**20), 10**20)
OF_KIND = {
    "number": (st.floats(-1e6, 1e6) | st.integers(-(10**6), 10**6)).map(repr),
    "string": st.sampled_from(['"a"', '"b"']),
    "boolean": st.sampled_from(["true", "false"]),
}
PLAIN_ENDS = ["", ', "outputs": ["predict"]', ', "outputs": null']
ODD_ENDS = [', "outputs": [1]', ', "X": []', ","]


def usual(feature: Feature) -> st.SearchStrategy[str]:
    """Return JSON of cells that fit."""
    known = [json.dumps(category) for category in feature.categories or ()]
    fitting = st.sampled_from(known) if known else OF_KIND[feature.kind]
    return fitting | st.just("null") if feature.missing else fitting


@st.composite
def bodies(draw: st.DrawFn, contract: Contract) -> bytes:
    """Draw a request that fits the contract, or one into which something odd came."""
    named, odd = draw(st.booleans()), draw(st.booleans())
    rows = []
    for _ in range(draw(st.integers(1, 3))):
        cells = [draw(usual(feature)) for feature in contract.features]
        for column in draw(st.lists(st.integers(0, len(cells) - 1), max_size=2 * odd)):
            cells[column] = draw(ODD | ODD_NUMBERS.map(repr))
        pairs = [f'"{name}": {cell}' for name, cell in zip(contract.names, cells, strict=True)]
        repeated = pairs[: odd and draw(st.sampled_from([0, 0, 0, 1]))]
        rows.append(f"{{{', '.join(pairs[::-1] + repeated)}}}" if named else f"[{', '.join(cells)}]")
    more = [draw(ODD)] if odd and draw(st.integers(0, 3)) == 0 else []
    end = draw(st.sampled_from(PLAIN_ENDS * (4 if odd else 1) + ODD_ENDS * odd))
    return f'{{"X": [{", ".join(rows + more)}]{end}}}'.encode()


@pytest.mark.parametrize("model", ["house_prices", "penguins"])
def test_the_quick_way_agrees_with_the_careful_one(model: str, model_of: Callable[[str], Model]) -> None:
    """For every document the quick way gives the careful way's very bits, or nothing where that one refuses."""
    contract = model_of(model).contract

    @settings(max_examples=200, deadline=None)
    @given(bodies(contract))
    def check(body: bytes) -> None:
        check_agreement(body, contract)

    check()


@settings(max_examples=200, deadline=None)
@given(bodies(OPEN_ROOMS))
def test_the_quick_way_agrees_for_every_kind_of_column(body: bytes) -> None:
    """Categories, closed ones too, booleans and bounded numbers are decoded alike both ways."""
    check_agreement(body, OPEN_ROOMS)


@pytest.mark.parametrize(
    "case", [case for case in CASES if not case.headers.get("Content-Encoding")], ids=lambda c: c.name
)
def test_the_quick_way_agrees_on_the_corpus(case: Case) -> None:
    """Each body that is known to be odd is decoded alike both ways."""
    check_agreement(case.body, TWO_NUMBERS)


@pytest.mark.parametrize("body", ["[[1500, 3]]", '[{"age": 3, "area": 1500}]'])
def test_the_usual_body_takes_the_quick_way(body: str) -> None:
    """What agrees because it never happens would be no use."""
    document = f'{{"X": {body}}}'.encode()
    assert parse_fast(document, TWO_NUMBERS, MAX_ROWS, count_openers(document)) is not None


@pytest.mark.parametrize("end", ["", ', "outputs": ["predict"]', ', "outputs": null'])
def test_a_long_matrix_of_numbers_takes_the_way_without_objects(end: str) -> None:
    """Whole numbers and others, whatever is asked for."""
    body = f'{{"X": [[1500, 3], [1.5e3, -0]]{end}}}'.encode()
    assert _parse_matrix(body, TWO_NUMBERS, MAX_ROWS, count_openers(body)) is not None


@pytest.mark.parametrize("cells", ["[1500], 3", "[[1500]], 3", "[], 1500, 3", "[1500, 3]", "[1500, 3], 1"])
def test_a_list_in_a_cell_is_not_flattened(cells: str) -> None:
    """A library that flattens lists must not make two numbers of a cell, or one of a list."""
    body = f'{{"X": [[{cells}], [1500, 3]]}}'.encode()
    assert _parse_matrix(body, TWO_NUMBERS, MAX_ROWS, count_openers(body)) is None


# ---------------------------------------------------------------------------------------------- back to JSON


def encode(contract: Contract = TWO_NUMBERS, **answers: Any) -> Any:
    """Return the answer that arrays with these values become."""
    arrays = {name: np.asarray(values) for name, values in answers.items()}
    return json.loads(encode_answer(arrays, contract, {"name": "test", "version": "1"}))


@pytest.mark.parametrize(
    "values",
    [[1.5, 2.5], [1, 2], [True, False], ["a", "b"], [[0.25, 0.75]], [["a", "b"]]],
    ids=["float", "integer", "boolean", "string", "row of floats", "row of strings"],
)
def test_answers_keep_type_and_shape(values: list[Any]) -> None:
    """Numbers, labels and rows of them come out of JSON as they went in."""
    answer = encode(predict=values)
    assert json.dumps(answer["y_pred"]) == json.dumps(values)
    assert answer["model"] == {"name": "test", "version": "1"}


def test_an_answer_that_is_no_row_after_row_array_is_encoded() -> None:
    """A transposed matrix is answered by rows like any other."""
    assert encode(transform=np.array([[1.0, 2.0], [3.0, 4.0]]).T)["transform"] == [[1.0, 3.0], [2.0, 4.0]]


def test_classes_come_with_what_is_answered_per_class() -> None:
    """Only then is their order needed."""
    contract = Contract((), "float64", (), classes=("low", "high"))
    assert encode(contract, predict_proba=[[0.5, 0.5]])["classes"] == ["low", "high"]
    assert "classes" not in encode(contract, predict=["low"])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_an_answer_that_is_not_finite_is_refused_by_row(value: float) -> None:
    """JSON has no word for it, and null would look like an answer."""
    with pytest.raises(ContractError) as refused:
        encode(transform=[[1.0, 2.0], [3.0, value]])
    assert [(fault.pointer, fault.code) for fault in refused.value.faults] == [("/X/1", "no_finite_answer")]
