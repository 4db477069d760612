"""The derived contract is what scikit-learn really does, asked of many fitted estimators."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.cluster import DBSCAN, KMeans
from sklearn.compose import TransformedTargetRegressor, make_column_selector, make_column_transformer
from sklearn.covariance import EllipticEnvelope
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    IsolationForest,
    RandomForestClassifier,
    RandomForestRegressor,
    VotingClassifier,
)
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.multioutput import MultiOutputClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KernelDensity, KNeighborsRegressor
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, OrdinalEncoder, StandardScaler
from sklearn.svm import SVC, SVR

from service.artifact.contract import Contract, Feature
from tests.support.baking import CODES, FRAME, N_ROWS, NUMBERS, PRICES, SIGNS, WORDS, bake_whole_way, derived
from training.contract.categories import UNKNOWN_CATEGORY
from training.contract.derive import FLOAT32_MAX
from training.contract.frame import as_frame
from training.errors import BakeError

# The bake does the same: an estimator fitted on a frame warns when it is given a matrix.
pytestmark = pytest.mark.filterwarnings("ignore:X (does not have valid|has) feature names:UserWarning")

MIXED = FRAME.assign(word=WORDS)
GAPS = FRAME.where(FRAME < 1)
BOTH = np.column_stack([PRICES, -PRICES])  # two targets, shape (n_samples, 2)


def fitted(estimator: Any, X: Any, y: Any) -> Any:
    """Return the estimator, fitted."""
    return estimator.fit(X) if y is None else estimator.fit(X, y)


def derive(estimator: Any, X: Any, y: Any = None, about: Any = None, targets: Any = ()) -> Contract:
    """Return the contract of an estimator that is fitted for it."""
    return derived(fitted(estimator, X, y), X, about, targets)[0]


def feature(contract: Contract, name: str) -> Feature:
    """Return one feature by its name."""
    return next(feature for feature in contract.features if feature.name == name)


def encode(*selected: Any, encoder: Any = None) -> Any:
    """Return a classifier that encodes the selected columns and passes the others through."""
    encoders = [(encoder or OneHotEncoder(), columns) for columns in selected]
    return make_pipeline(make_column_transformer(*encoders, remainder="passthrough"), LogisticRegression())


@pytest.mark.parametrize(
    ("estimator", "X", "y", "container", "outputs"),
    [
        (LinearRegression(), NUMBERS, PRICES, "float64", ["predict"]),
        (LinearRegression(), FRAME, PRICES, "float64", ["predict"]),
        (LinearRegression(), NUMBERS.astype(np.float32), PRICES, "float64", ["predict"]),
        (LinearRegression(), FRAME.astype(np.float32), PRICES.astype(np.float32), "float64", ["predict"]),
        (StandardScaler(), NUMBERS.astype(np.float32), None, "float64", ["transform"]),
        (Ridge(), CODES.reshape(-1, 1), PRICES, "float64", ["predict"]),
        (SVR(), NUMBERS, PRICES, "float64", ["predict"]),
        (KNeighborsRegressor(3), FRAME, PRICES, "float64", ["predict"]),
        (MLPRegressor(hidden_layer_sizes=(3,), solver="lbfgs"), NUMBERS, PRICES, "float64", ["predict"]),
        (GaussianProcessRegressor(), NUMBERS, PRICES, "float64", ["predict"]),
        (TransformedTargetRegressor(LinearRegression(), func=np.log, inverse_func=np.exp), FRAME, abs(PRICES),
         "float64", ["predict"]),
        (make_pipeline(FunctionTransformer(np.abs), LinearRegression()), FRAME, PRICES, "float64", ["predict"]),
        (LogisticRegression(), NUMBERS > 0, SIGNS, "bool", ["predict", "predict_proba", "decision_function"]),
        (SVC(), NUMBERS, SIGNS, "float64", ["predict", "decision_function"]),
        (GaussianNB(), NUMBERS, SIGNS, "float64", ["predict", "predict_proba"]),
        (VotingClassifier([("a", LogisticRegression()), ("b", GaussianNB())]), NUMBERS, SIGNS, "float64",
         ["predict", "transform"]),
        (CalibratedClassifierCV(SVC(), cv=2), NUMBERS, SIGNS, "float64", ["predict", "predict_proba"]),
        (GridSearchCV(LogisticRegression(), {"C": [0.1, 1]}, cv=2), NUMBERS, SIGNS, "float64",
         ["predict", "predict_proba", "decision_function"]),
        (LinearDiscriminantAnalysis(), NUMBERS, WORDS, "float64",
         ["predict", "predict_proba", "decision_function", "transform"]),
        # Its probabilities are one matrix for each target, which is no answer of one list a row.
        (MultiOutputClassifier(LogisticRegression()), NUMBERS, np.column_stack([SIGNS, CODES]), "float64", ["predict"]),
        (KMeans(2, n_init=1, random_state=0), FRAME, None, "float64", ["predict", "transform"]),
        (IsolationForest(n_estimators=5, random_state=0), NUMBERS, None, "float64",
         ["predict", "decision_function", "score_samples"]),
        (EllipticEnvelope(random_state=0), NUMBERS, None, "float64",
         ["predict", "decision_function", "score_samples"]),
        (PCA(2), FRAME, None, "float64", ["transform", "score_samples"]),
        (StandardScaler(), NUMBERS, None, "float64", ["transform"]),
        (OneHotEncoder(), MIXED[["word"]], None, "frame", ["transform"]),
        (KernelDensity(), NUMBERS, None, "float64", ["score_samples"]),
    ],
)  # fmt: skip
def test_an_estimator_is_asked_for_what_it_answers(estimator: Any, X: Any, y: Any, container: str, outputs: list[str]):
    """Every output is offered that gives one answer a row, and a matrix is enough for columns of one kind."""
    contract = derive(estimator, X, y)
    assert (contract.container, [output.name for output in contract.outputs]) == (container, outputs)


@pytest.mark.parametrize(
    ("labels", "classes", "kind"),
    [
        (SIGNS, (0, 1), "integer"),
        (SIGNS + 1.0, (1.0, 2.0), "number"),
        (SIGNS == 1, (False, True), "boolean"),
        (WORDS, ("blue", "green", "red"), "string"),
        (pd.Series(WORDS), ("blue", "green", "red"), "string"),
        (pd.Series(WORDS, dtype="category"), ("blue", "green", "red"), "string"),
        (pd.Series(CODES, dtype="category"), (0, 1, 2), "integer"),
    ],
)
def test_labels_keep_their_type(labels: Any, classes: tuple[Any, ...], kind: str):
    """A classifier answers with what it was trained on, and names its probabilities by it."""
    contract = derive(LogisticRegression(), NUMBERS, labels)
    probabilities = contract.outputs[1]
    assert (contract.classes, contract.outputs[0].kind) == (classes, kind)
    assert list(map(type, contract.classes or ())) == list(map(type, classes))
    assert (probabilities.kind, probabilities.columns) == ("number", tuple(map(str, classes)))


def test_a_binary_decision_is_one_number():
    """Of two classes scikit-learn gives the decision for the second one only."""
    assert derive(LogisticRegression(), NUMBERS, SIGNS).outputs[2].columns is None
    assert derive(LogisticRegression(), NUMBERS, WORDS).outputs[2].columns == ("blue", "green", "red")


@pytest.mark.parametrize(
    ("estimator", "X", "y", "targets", "columns"),
    [
        (LinearRegression(), NUMBERS, BOTH, (), ("predict0", "predict1")),
        (LinearRegression(), NUMBERS, BOTH, ("price", "loss"), ("price", "loss")),
        (PCA(2), NUMBERS, None, (), ("pca0", "pca1")),
        (StandardScaler(), FRAME, None, (), ("a", "b", "c")),
        (OneHotEncoder(), MIXED[["word"]], None, (), ("word_blue", "word_green", "word_red")),
        (FunctionTransformer(np.abs), FRAME, None, (), ("transform0", "transform1", "transform2")),
    ],
)  # fmt: skip
def test_the_values_of_a_row_have_names(estimator: Any, X: Any, y: Any, targets: Any, columns: tuple[str, ...]):
    """Targets are called as in the data, transformed columns as scikit-learn calls them, others by place."""
    assert derive(estimator, X, y, targets=targets).outputs[0].columns == columns


@pytest.mark.parametrize(
    ("X", "kind", "dtype"),
    [
        (pd.DataFrame({"v": CODES}), "number", "float64"),
        (pd.DataFrame({"v": pd.array(CODES, dtype="Int64")}), "number", "float64"),
        (pd.DataFrame({"v": np.array([*range(N_ROWS - 1), 0.5], dtype=object)}), "number", "float64"),
        (pd.DataFrame({"v": CODES == 1}), "boolean", "bool"),
        (pd.DataFrame({"v": (CODES == 1).astype(object)}), "boolean", "object"),
        (pd.DataFrame({"v": pd.array(CODES == 1, dtype="boolean")}), "boolean", "boolean"),
        (pd.DataFrame({"v": pd.Categorical(CODES)}), "number", "category"),
        (pd.DataFrame({"v": pd.Categorical(CODES == 1)}), "boolean", "category"),
    ],
)
def test_a_column_has_the_type_that_json_has_for_it(X: pd.DataFrame, kind: str, dtype: str):
    """Every number comes as float64; what pandas calls it is the service's to know."""
    made = feature(derive(HistGradientBoostingRegressor(max_iter=1), X, PRICES), "v")
    assert (made.kind, made.dtype) == (kind, dtype)


def test_an_array_of_objects_has_columns_of_several_types():
    """Numbers, text and booleans in one matrix are told apart by their values."""
    X = np.column_stack([NUMBERS[:, :1].astype(object), WORDS.astype(object), (CODES == 1).astype(object)])
    contract = derive(encode([1]), X, SIGNS)
    assert contract.container == "object"
    assert [feature.kind for feature in contract.features] == ["number", "string", "boolean"]
    assert contract.features[1].categories == ("blue", "green", "red")


@pytest.mark.parametrize(
    "values",
    [
        pd.date_range("2020-01-01", periods=N_ROWS),
        NUMBERS[:, 0] + 1j,
        np.array([1, "two"] * (N_ROWS // 2), dtype=object),
        np.array([None] * N_ROWS),
    ],
)
def test_a_column_that_json_has_no_type_for_is_refused(values: Any):
    """Dates, complex numbers, mixtures and nothing at all have no one type."""
    with pytest.raises(BakeError, match=r"Column v has dtype .* values: make it numbers, text or booleans in load"):
        as_frame(pd.DataFrame({"v": values}), ["v"])


def test_infinity_is_refused():
    """Histograms take it, JSON does not."""
    with pytest.raises(BakeError, match=r"JSON cannot carry the infinity in a, c: replace it in load"):
        derive(HistGradientBoostingRegressor(max_iter=1), FRAME.assign(a=np.inf, c=-np.inf), PRICES)


def test_the_range_seen_in_training_is_documented():
    """It is that of the present values; a column that only has gaps has none."""
    boosting = make_pipeline(SimpleImputer(keep_empty_features=True), LinearRegression())
    contract = derive(boosting, GAPS.assign(gap=np.nan), PRICES)
    assert (feature(contract, "a").minimum, feature(contract, "a").maximum) == (GAPS["a"].min(), GAPS["a"].max())
    assert (feature(contract, "gap").minimum, feature(contract, "gap").maximum) == (None, None)


@pytest.mark.parametrize(
    ("estimator", "X", "missing"),
    [
        (LinearRegression(), FRAME, False),
        (make_pipeline(SimpleImputer(), LinearRegression()), GAPS, True),
        (make_pipeline(SimpleImputer(), LinearRegression()), FRAME, False),  # none were seen
        (HistGradientBoostingRegressor(max_iter=1), GAPS, True),
        (RandomForestRegressor(2), GAPS, True),
        (RandomForestRegressor(2), FRAME, False),
        (HistGradientBoostingRegressor(max_iter=1), GAPS.assign(a=GAPS["a"].astype("Float64")), True),
    ],
)
def test_null_is_taken_where_it_was_seen_and_the_estimator_takes_it(estimator: Any, X: Any, missing: bool):
    """Whether an estimator takes a missing value in this column is found by trying."""
    assert feature(derive(estimator, X, PRICES), "a").missing is missing


def test_a_transformer_that_gives_gaps_back_takes_no_null():
    """A scaler passes NaN on, and no JSON number stands for that."""
    assert not any(feature.missing for feature in derive(StandardScaler(), GAPS).features)


def test_the_author_decides_whether_null_is_taken():
    """Of what the estimator takes, FEATURES may allow what was not seen and forbid what was."""
    imputing = make_pipeline(SimpleImputer(), LinearRegression())
    about = {"a": {"missing": True}, "b": {"missing": False}}
    allowed = derive(imputing, FRAME.assign(b=GAPS["b"]), PRICES, about)
    assert [feature.missing for feature in allowed.features] == [True, False, False]


@pytest.mark.parametrize("X", [FRAME, pd.DataFrame({"a": CODES == 1}), CODES.reshape(-1, 1) == 1])
def test_null_that_the_estimator_refuses_cannot_be_allowed(X: Any):
    """A column of plain booleans has no room for it either: null would silently become false."""
    name = "a" if isinstance(X, pd.DataFrame) else "x0"
    with pytest.raises(BakeError, match=f"FEATURES says that {name} may be missing, but the estimator refuses that"):
        derive(LinearRegression(), X, PRICES, {name: {"missing": True}})


def test_nullable_booleans_may_be_missing():
    """Pandas' own boolean type has room for null."""
    X = pd.DataFrame({"flag": pd.array([True, None, False, True] * 10, dtype="boolean")})
    imputing = make_pipeline(SimpleImputer(strategy="most_frequent"), LinearRegression())
    assert feature(derive(imputing, X, PRICES), "flag").missing


@pytest.mark.parametrize(
    "selection",
    [["word"], [3], [-1], [False, False, False, True], np.array([False, False, False, True]), slice(3, 4),
     slice("word", None), slice(-1, None), make_column_selector(dtype_exclude=float), lambda _frame: ["word"],
     pd.Index(["word"])],
)  # fmt: skip
def test_the_categories_of_an_encoder_are_found_however_it_was_given_columns(selection: Any):
    """By name, place, mask, slice or callable: the column's categories are those that the encoder learnt."""
    contract = derive(encode(selection), MIXED, SIGNS)
    assert feature(contract, "word").categories == ("blue", "green", "red")
    assert [feature.closed for feature in contract.features] == [False, False, False, True]


@pytest.mark.parametrize("selection", ["code", 3, ["code"], slice("code", "code"), slice(0, 0)])
def test_the_categories_of_a_column_of_numbers_are_the_encoders(selection: Any):
    """Nothing in the data says that these numbers are categories; only the encoder does."""
    if isinstance(selection, str | int):  # one column without brackets is given to a transformer as one dimension
        encoding = make_column_transformer((TfidfVectorizer(), selection), remainder="drop")
        contract = derive(make_pipeline(encoding, LogisticRegression()), FRAME.assign(code=WORDS), SIGNS)
        assert not feature(contract, "code").closed
        return
    contract = derive(encode(selection), FRAME.assign(code=CODES * 10), SIGNS)
    expected = (0, 10, 20) if selection != slice(0, 0) else None
    assert feature(contract, "code").categories == expected
    assert feature(contract, "code").closed is (expected is not None)


@pytest.mark.parametrize(
    ("encoder", "closed"),
    [
        (OneHotEncoder(), True),
        (OneHotEncoder(handle_unknown="ignore"), False),
        (OrdinalEncoder(), True),
        (OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1), False),
    ],
)
@pytest.mark.parametrize(
    "column", [WORDS, CODES, CODES * 1.0, pd.Categorical(WORDS), pd.Categorical(CODES)], ids=lambda values: values.dtype
)
def test_a_column_is_closed_where_the_encoder_refuses_unknown_categories(encoder: Any, closed: bool, column: Any):
    """Text, numbers and pandas' categories alike."""
    made = feature(derive(encode(["v"], encoder=encoder), FRAME.assign(v=column), SIGNS), "v")
    assert made.categories == tuple(np.unique(np.asarray(column)).tolist())
    assert made.closed is closed
    assert made.minimum is None


@pytest.mark.parametrize("column", [pd.Categorical(WORDS), pd.Categorical(CODES)], ids=["text", "numbers"])
def test_histograms_take_unknown_categories_of_pandas(column: Any):
    """scikit-learn treats them as missing; that no gap was seen in training does not make null welcome."""
    boosting = HistGradientBoostingClassifier(max_iter=2, categorical_features="from_dtype")
    made = feature(derive(boosting, FRAME.assign(v=column), SIGNS), "v")
    assert (made.closed, made.missing, made.categories) == (False, False, tuple(column.categories.tolist()))


def test_booleans_that_are_encoded_are_true_and_false():
    """There is no third value to ask an encoder for."""
    made = feature(derive(encode(["v"]), FRAME.assign(v=CODES == 1), SIGNS), "v")
    assert (made.kind, made.categories, made.closed) == ("boolean", (False, True), True)


def test_the_author_may_close_a_column():
    """An encoder that ignores what it does not know is often not what the author wants."""
    ignoring = encode(["word"], encoder=OneHotEncoder(handle_unknown="ignore"))
    assert feature(derive(ignoring, MIXED, SIGNS, {"word": {"unknown": "reject"}}), "word").closed


def test_unknown_categories_that_the_estimator_refuses_cannot_be_allowed():
    """The refusal says which option of the encoder is missing."""
    with pytest.raises(BakeError, match=r"FEATURES says that word may hold unknown categories, but .* handle_unknown"):
        derive(encode(["word"]), MIXED, SIGNS, {"word": {"unknown": "encode"}})


@pytest.mark.parametrize(
    ("estimator", "categories"),
    [
        (make_pipeline(StandardScaler(), OneHotEncoder()), None),
        (make_pipeline(SimpleImputer(), OneHotEncoder()), (0, 1, 2)),
        (make_pipeline(PCA(), OneHotEncoder(handle_unknown="ignore")), None),
        (make_pipeline(FunctionTransformer(np.abs), OneHotEncoder()), None),
        (make_pipeline(SimpleImputer(add_indicator=True), OneHotEncoder()), (0, 1, 2)),
        (make_pipeline(SimpleImputer(), StandardScaler()), None),
        (GridSearchCV(encode([0]), {"logisticregression__C": [1, 2]}, cv=2), (0, 1, 2)),
        (GridSearchCV(make_pipeline(StandardScaler(), LogisticRegression()), {"logisticregression__C": [1, 2]}), None),
    ],
)
def test_categories_are_those_of_the_column_that_clients_send(estimator: Any, categories: tuple[Any, ...] | None):
    """An encoder behind a step that changes the values, or the columns, knows others."""
    made = feature(derive(estimator, pd.DataFrame({"code": CODES}), SIGNS), "code")
    assert made.categories == categories


def test_a_text_column_has_no_categories():
    """Where the estimator takes any text and training saw many, none is known and none is kept."""
    texts = FRAME.iloc[np.arange(120) % N_ROWS].assign(text=[f"house number {number}" for number in range(120)])
    vectorizing = make_column_transformer((TfidfVectorizer(), "text"), remainder="passthrough")
    contract = derive(make_pipeline(vectorizing, LogisticRegression()), texts, np.tile(SIGNS, 3))
    made = feature(contract, "text")
    assert (made.kind, made.known, made.closed, made.missing) == ("string", None, False, False)


NAMES = np.array([f"name {number:02}" for number in np.arange(N_ROWS) // 8])  # each in 8 rows
ACCOUNTS = 7310111 + np.arange(N_ROWS) // 2


@pytest.mark.parametrize(
    "column", [NAMES, ACCOUNTS, pd.Categorical(NAMES), pd.Categorical(ACCOUNTS)], ids=lambda values: str(values.dtype)
)
@pytest.mark.parametrize(("handle_unknown", "closed"), [("error", True), ("ignore", False)])
def test_values_of_few_rows_are_known_and_not_listed(handle_unknown: str, closed: bool, column: Any):
    """Serving needs them, so the contract has them; what it writes for anyone to see has not."""
    estimator = encode(["v"], encoder=OneHotEncoder(handle_unknown=handle_unknown))
    contract = derive(estimator, FRAME.assign(v=column), SIGNS)
    made = feature(contract, "v")
    known = tuple(np.unique(np.asarray(column)).tolist())
    assert (made.categories, made.unlisted, made.known, made.closed) == (None, known, known, closed)
    assert (made.minimum, made.maximum) == (None, None)
    written = contract.to_dict()["features"][3]
    assert written.keys() - {"closed"} == {"name", "kind", "dtype"}


def test_pandas_categories_are_known_without_an_encoder():
    """What is left of them in a request would be other codes."""
    boosting = HistGradientBoostingClassifier(max_iter=2, categorical_features="from_dtype")
    made = feature(derive(boosting, FRAME.assign(v=pd.Categorical(NAMES)), SIGNS), "v")
    assert (made.categories, made.unlisted, made.closed) == (None, tuple(np.unique(NAMES).tolist()), False)


def test_one_rare_value_keeps_all_others_from_being_listed():
    """A list with one gap would tell which column has such values."""
    column = np.where(np.arange(N_ROWS) == 0, "Ann", "red")
    made = feature(derive(encode(["v"]), FRAME.assign(v=column), SIGNS), "v")
    assert (made.categories, made.unlisted) == (None, ("Ann", "red"))


def test_a_closed_column_knows_every_value():
    """However many there are: what is not known is refused."""
    words = pd.DataFrame({"word": [f"word {number}" for number in range(150)]})
    followed_by_none = make_pipeline(FunctionTransformer(), OneHotEncoder(), LogisticRegression())
    made = feature(derive(followed_by_none, words, np.arange(150) % 2), "word")
    assert (made.closed, len(made.unlisted or ())) == (True, 150)


def test_the_author_may_close_a_column_of_any_text():
    """The training's texts are then all that is taken, however many there are."""
    texts = FRAME.assign(text=[f"house number {number}" for number in range(N_ROWS)])
    vectorizing = make_column_transformer((TfidfVectorizer(), "text"), remainder="passthrough")
    estimator = make_pipeline(vectorizing, LogisticRegression())
    made = feature(derive(estimator, texts, SIGNS, {"text": {"unknown": "reject"}}), "text")
    assert (made.closed, made.categories, len(made.unlisted or ())) == (True, None, N_ROWS)


@pytest.mark.parametrize("transformer", [OneHotEncoder(), TfidfVectorizer()])
def test_the_names_of_transformed_columns_do_not_tell_values(transformer: Any):
    """An encoder calls its columns after them, and a vectorizer after words."""
    selected = "v" if isinstance(transformer, TfidfVectorizer) else ["v"]
    made = derive(make_column_transformer((transformer, selected)), pd.DataFrame({"v": NAMES}))
    columns = made.outputs[0].columns or ()
    assert columns == tuple(f"transform{number}" for number in range(len(columns)))


@pytest.mark.parametrize(
    ("estimator", "magnitude"),
    [
        (LinearRegression(), None),
        (HistGradientBoostingRegressor(max_iter=1), None),
        (RandomForestRegressor(2), FLOAT32_MAX),
        (make_pipeline(make_column_transformer((StandardScaler(), ["b"]), remainder="passthrough"),
                       RandomForestRegressor(2)), FLOAT32_MAX),
    ],
)  # fmt: skip
def test_trees_take_numbers_of_float32(estimator: Any, magnitude: float | None):
    """What is greater becomes infinite in them, and is refused."""
    assert feature(derive(estimator, FRAME, PRICES), "a").magnitude == magnitude


def test_a_row_with_gaps_does_not_hide_what_the_estimator_takes():
    """Questions are asked of a row without gaps: the first one here has no finite answer whatever is asked."""
    gaps = MIXED.assign(a=FRAME["a"].where(FRAME.index > 0))
    ignoring = make_column_transformer((OneHotEncoder(handle_unknown="ignore"), ["word"]), remainder="passthrough")
    assert not feature(derive(ignoring, gaps), "word").closed


@pytest.mark.parametrize(
    ("estimator", "X"),
    [
        (DBSCAN(), FRAME),
        (make_column_transformer(("passthrough", ["a", "word"])), MIXED),  # one column of numbers, one of text
    ],
)
def test_an_estimator_without_an_answer_a_row_is_refused(estimator: Any, X: Any):
    """Clustering that knows no new rows, and columns of several types, cannot be served."""
    with pytest.raises(BakeError, match=r"The estimator has none of predict, .* with one answer a row"):
        derive(estimator, X)


def test_text_is_an_answer():
    """A transformer of words gives words."""
    output = derive(SimpleImputer(strategy="most_frequent"), MIXED[["word"]]).outputs[0]
    assert (output.name, output.kind) == ("transform", "string")


def test_an_estimator_that_refuses_the_sample_is_refused():
    """What predict fails on are not the rows it was fitted on."""
    fitted_on_words = encode(["word"]).fit(MIXED, SIGNS)
    with pytest.raises(BakeError, match=r"predict fails on the rows it was given \(ValueError\): they must be such"):
        derived(fitted_on_words, MIXED.assign(word="mauve"))


def test_an_estimator_that_tells_integers_from_floats_is_refused():
    """JSON has one kind of number; what depends on the difference would answer differently when served."""
    telling = make_pipeline(FunctionTransformer(np.invert), LinearRegression())
    with pytest.raises(BakeError, match="answers differently when whole numbers come as float64"):
        derive(telling, pd.DataFrame({"v": CODES}), PRICES)


def impute_and_encode() -> Pipeline:
    """Return a classifier of one column of words with gaps."""
    return make_pipeline(
        SimpleImputer(strategy="most_frequent"), OneHotEncoder(handle_unknown="ignore"), LogisticRegression()
    )


WHOLE_WAY = {
    "pandas' categories with gaps": (
        HistGradientBoostingClassifier(max_iter=2, categorical_features="from_dtype"),
        GAPS.assign(
            v=pd.Categorical(np.where(CODES == 1, None, WORDS)), w=pd.Categorical(WORDS), k=pd.Categorical(CODES)
        ),
        SIGNS,
    ),
    "encoded categories of numbers": (
        encode(["k"], ["i"], encoder=OneHotEncoder(handle_unknown="ignore")),
        FRAME.assign(k=pd.Categorical(CODES), i=CODES),
        WORDS,
    ),
    "text": (
        make_pipeline(
            make_column_transformer((TfidfVectorizer(), "text"), (OrdinalEncoder(), ["word"]), remainder="passthrough"),
            RandomForestClassifier(3, n_jobs=-1, random_state=0),
        ),
        MIXED.assign(text=[f"{word} house {number}" for number, word in enumerate(WORDS)]),
        SIGNS == 1,
    ),
    "an array of objects": (
        encode([1]),
        np.column_stack([NUMBERS[:, :1].astype(object), WORDS.astype(object), (CODES == 1).astype(object)]),
        SIGNS + 1.0,
    ),
    "objects with gaps": (impute_and_encode(), np.where(CODES == 1, np.nan, WORDS.astype(object))[:, None], SIGNS),
    "a column of objects with gaps": (
        impute_and_encode(),
        pd.DataFrame({"word": np.where(CODES == 1, np.nan, WORDS.astype(object))}, dtype=object),
        SIGNS,
    ),
    "an encoder that tells unknown from missing": (
        make_pipeline(OneHotEncoder(handle_unknown="ignore"), LogisticRegression()),
        pd.DataFrame({"word": pd.Categorical(np.where(CODES == 1, None, WORDS))}),
        SIGNS,
    ),
    "booleans with and without null": (
        make_pipeline(SimpleImputer(strategy="most_frequent"), LinearRegression()),
        FRAME.assign(v=pd.array([True, None] * (N_ROWS // 2), dtype="boolean"), w=CODES == 1),
        PRICES,
    ),
    "float32": (LinearRegression(), NUMBERS.astype(np.float32), PRICES.astype(np.float32)),
    "clusters": (KMeans(2, n_init=1, random_state=0), FRAME, None),
    "targets with names": (LinearRegression(), FRAME, pd.DataFrame(BOTH, columns=["price", "loss"])),
    "several labels a row": (MultiOutputClassifier(GaussianNB()), NUMBERS, np.column_stack([SIGNS, CODES])),
    "gaps that are passed on": (StandardScaler(), GAPS, None),
    "a sparse answer": (OneHotEncoder(handle_unknown="ignore"), MIXED[["word"]], None),
    "density": (KernelDensity(), NUMBERS, None),
}


@pytest.mark.parametrize("case", WHOLE_WAY)
def test_what_is_derived_is_what_the_service_serves(tmp_path: Path, case: str):
    """The golden requests, missing values and unknown categories among them, are replayed in a fresh process."""
    estimator, X, y = WHOLE_WAY[case]
    artifact = bake_whole_way(tmp_path / "artifact", X, y, estimator)
    golden = artifact.golden()
    asked = {name for exchange in golden for name in exchange["request"].get("outputs", ())}
    assert asked == {output.name for output in artifact.contract.outputs}
    if any(feature.missing for feature in artifact.contract.features):
        assert None in np.asarray(golden[3]["request"]["X"][0], dtype=object)
    if any(feature.kind == "string" and not feature.closed for feature in artifact.contract.features):
        assert UNKNOWN_CATEGORY in golden[-1]["request"]["X"][0]


def test_a_column_may_have_any_name(tmp_path: Path):
    """Also one that a function of pandas has for itself."""
    artifact = bake_whole_way(
        tmp_path / "a", FRAME.set_axis(["self", "a/b", "größe"], axis=1), PRICES, LinearRegression()
    )
    assert artifact.contract.names == ("self", "a/b", "größe")


def test_whole_numbers_that_float64_would_change_are_refused():
    """The service would refuse them, and the estimator would have been fitted on others."""
    frame = FRAME.assign(a=np.arange(N_ROWS) + 2**53 + 1)
    with pytest.raises(BakeError, match="float64 cannot hold the whole numbers in a"):
        as_frame(frame, list(frame.columns))
    as_frame(FRAME.assign(a=2**53 + 2 * np.arange(N_ROWS)), list(frame.columns))
