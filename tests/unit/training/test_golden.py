"""Golden requests cover what the contract takes, with the answers of the estimator itself."""

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

from service.artifact.contract import Feature
from tests.support.baking import CODES, FRAME, PRICES, SIGNS, WORDS, derived
from tests.support.baking import N_ROWS as N_FRAME_ROWS
from training.contract.categories import UNKNOWN_CATEGORY
from training.errors import BakeError
from training.golden import N_ROWS, golden_lines, to_json

pytestmark = pytest.mark.filterwarnings("ignore:X (does not have valid|has) feature names:UserWarning")


def golden(estimator: Any, X: pd.DataFrame, y: Any, example: Any = None, about: Any = None) -> list[dict[str, Any]]:
    """Return the golden exchanges of an estimator that is fitted for it."""
    fitted = estimator.fit(X) if y is None else estimator.fit(X, y)
    contract, frame, probe = derived(fitted, X, about)
    return [json.loads(line) for line in golden_lines(contract, frame, probe, example).splitlines()]


def test_an_example_a_batch_of_lists_and_a_batch_of_objects_are_asked():
    """The first request is the shortest a client can send; the batches ask for every output."""
    first, lists, objects = golden(LogisticRegression(), FRAME, SIGNS)
    assert set(first["request"]) == {"X"}
    assert set(first["response"]) == {"y_pred"}
    assert len(first["request"]["X"]) == 1
    assert lists["request"]["outputs"] == ["predict", "predict_proba", "decision_function"]
    assert objects["request"]["X"] == [dict(zip("abc", row, strict=True)) for row in lists["request"]["X"]]
    assert len(lists["request"]["X"]) == N_ROWS
    assert lists["response"] == objects["response"]


def test_the_answers_are_the_estimators():
    """They are taken from the estimator, by its own methods."""
    _, lists, _ = golden(LogisticRegression(), FRAME, WORDS)
    estimator = LogisticRegression().fit(FRAME, WORDS)
    asked = pd.DataFrame(lists["request"]["X"], columns=FRAME.columns)
    assert lists["response"]["y_pred"] == estimator.predict(asked).tolist()
    assert np.allclose(lists["response"]["predict_proba"], estimator.predict_proba(asked))
    assert lists["response"]["classes"] == ["blue", "green", "red"]


IDENTIFIERS = 90_000_007 + 7919 * np.arange(N_FRAME_ROWS)
OPEN, CLOSED = OneHotEncoder(handle_unknown="ignore"), OneHotEncoder()


def test_numbers_are_made_up():
    """Round ones within the range of training, whole where those are; flags are as they were."""
    X = pd.DataFrame({"identifier": IDENTIFIERS, "flag": CODES % 2, "size": FRAME["a"]})
    exchanges = golden(LinearRegression(), X, PRICES)
    for exchange in exchanges:
        rows = pd.DataFrame(exchange["request"]["X"], columns=X.columns)
        assert rows["identifier"].between(IDENTIFIERS[0], IDENTIFIERS[-1]).all()
        assert not set(rows["identifier"]) & set(IDENTIFIERS)
        assert (rows["identifier"] % 10_000 == 0).all()
        assert not set(rows["size"]) & set(X["size"])
        assert set(rows["flag"]) <= {0, 1}
    assert set(rows["flag"]) == {0, 1}
    assert rows["identifier"].nunique() == rows["size"].nunique() == N_ROWS


def test_text_is_made_up_where_any_is_taken():
    """Categories that may be listed are as they were."""
    texts = [f"person {number}" for number in range(N_FRAME_ROWS)]
    estimator = make_pipeline(make_column_transformer((OPEN, ["text", "word"])), LogisticRegression())
    exchanges = golden(estimator, pd.DataFrame({"text": texts, "word": WORDS}), SIGNS)
    rows = pd.DataFrame(exchanges[1]["request"]["X"], columns=["text", "word"])
    assert set(rows["text"]) == {UNKNOWN_CATEGORY}
    assert set(rows["word"]) == set(WORDS)
    assert "person" not in json.dumps(exchanges)
    assert not any("private" in exchange for exchange in exchanges)


@pytest.mark.parametrize(("column", "encoder"), [(IDENTIFIERS, CLOSED), (IDENTIFIERS.astype(str), CLOSED)])
def test_known_values_are_asked_of_a_closed_column_and_are_private(column: Any, encoder: Any):
    """It takes nothing else, and clients are not shown them."""
    estimator = make_pipeline(make_column_transformer((encoder, ["v"]), remainder="passthrough"), LogisticRegression())
    exchanges = golden(estimator, FRAME.assign(v=column), SIGNS)
    assert {row[3] for row in exchanges[1]["request"]["X"]} <= set(column.tolist())
    assert [exchange.get("private") for exchange in exchanges] == [True, None, None]
    given = [[1, 2.5, -3, column[0]]]
    assert "private" not in golden(estimator, FRAME.assign(v=column), SIGNS, given)[0]


def test_rows_that_the_estimator_refuses_are_not_made_up():
    """Where columns depend on each other, those of a training row fit; they are not shown."""
    X = pd.DataFrame({"start": np.arange(40) * 10.0, "end": np.arange(40) * 10.0 + 1})
    estimator = make_pipeline(FunctionTransformer(_checked), LinearRegression())
    exchanges = golden(estimator, X, PRICES)
    assert [end - start for start, end in exchanges[1]["request"]["X"]] == [1] * N_ROWS
    assert exchanges[0]["private"]


def _checked(X: Any) -> Any:
    values = np.asarray(X)
    if (values[:, 0] >= values[:, 1]).any():
        raise ValueError("an end before its start")
    return values


@pytest.mark.parametrize("numbers", [[5.0], [0.0, 5e-324], [-1.7e308, 1.7e308], [1e-9, 2e-9], [0, 3]])
def test_made_up_numbers_are_finite_and_in_range(numbers: list[float]):
    """However narrow or wide that is."""
    X = pd.DataFrame({"v": np.resize(np.array(numbers), 9)})
    cells = golden(FunctionTransformer(np.sign, validate=True), X, None)[1]["request"]["X"]
    assert all(min(numbers) <= cell <= max(numbers) for (cell,) in cells)


def test_null_is_asked_where_it_is_taken():
    """One request has no value in each of the columns that may lack one, and only there."""
    X = FRAME.assign(b=FRAME["b"].where(FRAME["b"] < 1))
    with_null = golden(HistGradientBoostingRegressor(max_iter=1), X, PRICES)[3]["request"]["X"]
    assert [[cell is None for cell in row] for row in with_null] == [[False, True, False]]


@pytest.mark.parametrize(
    ("column", "unknown"),
    [(WORDS, UNKNOWN_CATEGORY), (CODES, 3), (pd.Categorical(WORDS), UNKNOWN_CATEGORY), (pd.Categorical(CODES), 3)],
    ids=["text", "numbers", "text of pandas", "numbers of pandas"],
)
def test_unknown_categories_are_asked_where_they_are_taken(column: Any, unknown: Any):
    """One request has a category that training has not seen."""
    ignoring = make_column_transformer((OneHotEncoder(handle_unknown="ignore"), ["v"]), remainder="passthrough")
    exchanges = golden(make_pipeline(ignoring, LogisticRegression()), FRAME.assign(v=column), SIGNS)
    assert exchanges[3]["request"]["X"][0][3] == unknown


def test_unknown_categories_are_not_asked_of_a_closed_column():
    """The service would refuse them."""
    encoding = make_column_transformer((OneHotEncoder(), ["v"]), remainder="passthrough")
    assert len(golden(make_pipeline(encoding, LogisticRegression()), FRAME.assign(v=WORDS), SIGNS)) == 3


def test_rows_that_the_contract_refuses_are_not_asked():
    """Where the author forbids null, training rows without a value are no requests."""
    X = FRAME.assign(a=FRAME["a"].where(FRAME.index % 2 == 1))
    exchanges = golden(HistGradientBoostingRegressor(max_iter=1), X, PRICES, about={"a": {"missing": False}})
    assert len(exchanges) == 3
    assert not any(cell is None for row in exchanges[1]["request"]["X"] for cell in row)


@pytest.mark.parametrize("example", [[[1, 2.5, -3]], ((1, 2.5, -3),), np.array([[1, 2.5, -3]])])
def test_the_author_may_give_the_example(example: Any):
    """It is what the documentation shows."""
    assert golden(LinearRegression(), FRAME, PRICES, example)[0]["request"] == {"X": [[1, 2.5, -3]]}


@pytest.mark.parametrize("example", [5, [[1, 2]], [["one", 2, 3]], [1, 2, 3]])
def test_an_example_that_is_no_row_is_refused(example: Any):
    """The refusal names the constant of the model file."""
    with pytest.raises(BakeError, match=r"EXAMPLE must be a list of rows such as those of load\(\): "):
        golden(LinearRegression(), FRAME, PRICES, example)


@pytest.mark.parametrize("example", [[], [[None, 1, 2]]])
def test_an_example_that_the_estimator_refuses_is_refused(example: Any):
    """No rows, or a gap where the estimator takes none."""
    with pytest.raises(BakeError, match="The estimator refuses a golden request, check EXAMPLE: "):
        golden(LinearRegression(), FRAME, PRICES, example)


@pytest.mark.filterwarnings("ignore:divide by zero encountered in log:RuntimeWarning")
def test_an_answer_that_is_not_finite_is_refused():
    """JSON has no word for the logarithm of zero."""
    with pytest.raises(BakeError, match="The estimator has no finite answer for some rows it was trained on"):
        golden(FunctionTransformer(np.log), FRAME.abs().mask(FRAME > 1, 0), None)


def test_data_that_all_have_gaps_which_are_not_taken_are_refused():
    """No row could ever be asked."""
    with pytest.raises(BakeError, match="Each row has a missing value that the estimator does not answer for"):
        golden(StandardScaler(), FRAME.mask(CODES[:, None] == [0, 1, 2]), None)


@pytest.mark.parametrize(
    ("cell", "kind", "value"),
    [
        (3.0, "number", 3),
        (2.5, "number", 2.5),
        (1e15, "number", 1e15),
        (np.int64(3), "number", 3),
        (np.nan, "number", None),
        (np.True_, "boolean", True),
        (pd.NA, "boolean", None),
        (np.str_("red"), "string", "red"),
    ],
)
def test_a_cell_becomes_the_json_that_stands_for_it(cell: Any, kind: Any, value: Any):
    """Whole numbers lose their fraction, as people write them, while integers of JSON hold them."""
    made = to_json(cell, Feature("v", kind, "object"))
    assert (made, type(made)) == (value, type(value))
