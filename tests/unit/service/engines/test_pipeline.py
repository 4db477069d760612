"""The compiled pipeline: any pipeline of common steps gives scikit-learn's answers without scikit-learn."""

import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import decomposition, ensemble, feature_selection, impute, linear_model, preprocessing, svm
from sklearn.base import clone
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor, make_column_transformer
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline, make_union

from service.engines.engine_function import EngineFunction
from service.engines.pipeline.serialization import PIPELINE_FILE, pack
from service.engines.pipeline.steps import Ufunc
from service.engines.registry import numpy_engine
from service.engines.scikit_learn import scikit_learn_engine
from tests.support.baking import derived
from training.engines.compile_pipeline import compile_pipeline
from training.engines.compile_pipeline.numbers import ufunc
from training.engines.compile_trees import ends_in_trees
from training.engines.equivalence import EquivalenceCheck, same_bits
from training.engines.native_build import compile_library
from training.engines.probe_rows import ArrayColumns, as_request, is_number
from training.errors import UnsupportedError

RNG = np.random.default_rng(1)
N_ROWS = 90
X = RNG.normal(size=(N_ROWS, 4)) * [1, 10, 0.1, 5] + [0, 3, -1, 100]
X[:, 1] = X[:, 1].round()
GAPS = np.where(RNG.random(X.shape) < 0.1, np.nan, X)
Y = X @ [1.0, 0.2, 3.0, -0.5] + RNG.normal(size=N_ROWS)
TWO, THREE = (np.median(Y) < Y).astype(int), np.digitize(Y, np.quantile(Y, [0.3, 0.7]))
WORDS = np.array(["ant", "bee", "cat", "dog"], dtype=object)[RNG.choice(4, N_ROWS, p=[0.4, 0.3, 0.25, 0.05])]
FRAME = pd.DataFrame(GAPS, columns=["a", "b", "c", "d"]).assign(
    word=np.where(RNG.random(N_ROWS) < 0.1, np.nan, WORDS), other=WORDS[::-1], flag=X[:, 0] > 0
)
NUMBERS = ["a", "b", "c", "d"]
ROUNDED = 1e-12  # of sums in another order

SCALERS = [
    preprocessing.StandardScaler(),
    preprocessing.StandardScaler(with_mean=False),
    preprocessing.MinMaxScaler(clip=True),
    preprocessing.MinMaxScaler((-1, 2)),
    preprocessing.MaxAbsScaler(),
    preprocessing.RobustScaler(),
    preprocessing.Normalizer(),
    preprocessing.Normalizer("l1"),
    preprocessing.Normalizer("max"),
    preprocessing.Binarizer(threshold=0.5),
    preprocessing.PolynomialFeatures(3),
    preprocessing.PolynomialFeatures((2, 3), interaction_only=True, include_bias=False),
    preprocessing.KBinsDiscretizer(3, quantile_method="averaged_inverted_cdf"),
    preprocessing.KBinsDiscretizer(3, encode="ordinal", quantile_method="averaged_inverted_cdf"),
    preprocessing.FunctionTransformer(np.abs),
    decomposition.PCA(3),
    decomposition.PCA(2, whiten=True),
    decomposition.TruncatedSVD(2),
    feature_selection.SelectKBest(k=2),
    feature_selection.VarianceThreshold(0.5),
    "passthrough",
]
REGRESSORS = [
    linear_model.LinearRegression(),
    linear_model.Ridge(),
    linear_model.Lasso(0.1),
    linear_model.SGDRegressor(),
    linear_model.HuberRegressor(max_iter=1000),
    linear_model.BayesianRidge(),
    svm.LinearSVR(),
]
CLASSIFIERS = [
    linear_model.LogisticRegression(),
    linear_model.RidgeClassifier(),
    linear_model.SGDClassifier(loss="log_loss"),
    linear_model.SGDClassifier(loss="modified_huber"),
    linear_model.Perceptron(),
    svm.LinearSVC(),
    LinearDiscriminantAnalysis(),
]


def compiled_and_check(estimator: Any, rows: Any) -> tuple[EngineFunction, EquivalenceCheck]:
    """Return the compiled form of a fitted estimator, through its files, and the check it has to pass."""
    contract, frame, _ = derived(estimator, rows)
    files = {PIPELINE_FILE: pack(compile_pipeline(estimator, contract))}
    if ends_in_trees(estimator):
        files |= compile_library()
    return numpy_engine(files.__getitem__), EquivalenceCheck(
        scikit_learn_engine(estimator, contract), contract, frame, 0
    )


def fitted(estimator: Any, rows: Any, y: Any) -> Any:
    """Return an estimator that was fitted, quietly."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return clone(estimator).fit(rows, y)


def check(estimator: Any, rows: Any, y: Any, difference: float = 0.0) -> None:
    """Compare the compiled form of an estimator with it; bit by bit where the difference is 0."""
    engine, equivalence = compiled_and_check(fitted(estimator, rows, y), rows)
    verdict = equivalence.judge(engine, difference)
    assert verdict.difference <= difference
    assert verdict.exact or difference


@pytest.mark.parametrize("scaler", SCALERS, ids=str)
def test_a_step_before_a_linear_model_keeps_the_bits(scaler: Any):
    """Each does the same operations in the same order."""
    strided = isinstance(scaler, decomposition.TruncatedSVD)  # its components are strided, and no file keeps that
    check(make_pipeline(scaler, linear_model.LinearRegression()), X, Y, ROUNDED if strided else 0.0)


@pytest.mark.parametrize("model", REGRESSORS, ids=str)
def test_a_linear_regression_keeps_the_bits(model: Any):
    """Of one target, and of several where it takes them."""
    check(make_pipeline(preprocessing.StandardScaler(), model), X, Y)
    if isinstance(model, linear_model.LinearRegression | linear_model.Ridge | linear_model.Lasso):
        check(model, X, np.column_stack([Y, -2 * Y**2]))


@pytest.mark.parametrize("model", [linear_model.PoissonRegressor(), linear_model.TweedieRegressor(power=1.5)], ids=str)
def test_a_logarithmic_link_keeps_the_bits(model: Any):
    """What the linear part answers is exponentiated."""
    check(make_pipeline(preprocessing.StandardScaler(), model), X, np.exp(Y / Y.std()))


@pytest.mark.parametrize("y", [TWO, THREE, THREE.astype(str).astype(object), THREE.astype(float)], ids=str)
@pytest.mark.parametrize("model", CLASSIFIERS, ids=str)
def test_a_linear_classifier_keeps_the_bits(model: Any, y: Any):
    """Labels of any type, scores, probabilities and projections, of two classes and of three."""
    check(make_pipeline(preprocessing.StandardScaler(), model), X, y)


ENCODERS = [
    preprocessing.OneHotEncoder(handle_unknown="ignore", sparse_output=False),
    preprocessing.OneHotEncoder(handle_unknown="ignore"),
    preprocessing.OneHotEncoder(handle_unknown="error", drop="first"),
    preprocessing.OneHotEncoder(handle_unknown="infrequent_if_exist", min_frequency=10),
    preprocessing.OneHotEncoder(handle_unknown="ignore", drop="if_binary", max_categories=3),
    preprocessing.OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-3, encoded_missing_value=-1),
    preprocessing.OrdinalEncoder(encoded_missing_value=-1, min_frequency=9),
]


@pytest.mark.filterwarnings("ignore:Found unknown categories")
@pytest.mark.parametrize("encoder", ENCODERS, ids=str)
def test_an_encoder_of_words_and_numbers_keeps_the_bits(encoder: Any):
    """Known, unknown, rare and missing categories become what the encoder makes of them."""
    frame = FRAME.assign(b=X[:, 1].clip(0, 6))
    gaps = impute.SimpleImputer(strategy="median")
    columns = make_column_transformer((encoder, ["word", "other", "b"]), (gaps, ["a", "c"]), sparse_threshold=0.9)
    check(make_pipeline(columns, linear_model.Ridge()), frame, Y)


@pytest.mark.parametrize(
    "imputer",
    [
        impute.SimpleImputer(),
        impute.SimpleImputer(strategy="median", add_indicator=True),
        impute.SimpleImputer(strategy="constant", fill_value=-1.0),
        impute.SimpleImputer(strategy="most_frequent"),
        make_union(impute.SimpleImputer(), impute.MissingIndicator(error_on_new=False)),
    ],
    ids=str,
)
def test_an_imputer_keeps_the_bits(imputer: Any):
    """Where nothing is missing, where something is, and where everything is."""
    check(make_pipeline(imputer, preprocessing.StandardScaler(), linear_model.Ridge()), GAPS, Y)


@pytest.mark.filterwarnings("ignore:Skipping features without any observed values")
def test_an_imputer_drops_the_column_that_never_had_a_value():
    """The columns after it move to the left."""
    empty = np.column_stack([np.full(N_ROWS, np.nan), GAPS])
    check(make_pipeline(impute.SimpleImputer(add_indicator=True), linear_model.Ridge()), empty, Y)
    kept = impute.SimpleImputer(keep_empty_features=True)
    check(make_pipeline(kept, linear_model.Ridge()), empty, Y)


def test_columns_are_found_however_they_are_named():
    """By name, place, slice, mask or function, what remains passed on or dropped, weighted or not, nested or not."""
    numbers = make_pipeline(impute.SimpleImputer(), preprocessing.StandardScaler())
    words = make_pipeline(
        impute.SimpleImputer(strategy="constant", fill_value="none", add_indicator=True),
        preprocessing.OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=9),
    )
    first = ColumnTransformer(
        [
            ("numbers", numbers, [0, 1]),
            ("slice", impute.SimpleImputer(), slice(2, 4)),
            ("words", words, lambda _frame: ["word", "other"]),
            ("mask", "passthrough", [False] * 6 + [True]),
        ],
        transformer_weights={"slice": 0.5},
    )
    check(make_pipeline(first, linear_model.Ridge()), FRAME, Y)
    rest = ColumnTransformer([("a", numbers, ["a", "b"])], remainder=impute.SimpleImputer())
    check(make_pipeline(rest, linear_model.Ridge()), FRAME[NUMBERS], Y)
    dropped = ColumnTransformer([("a", "drop", [1]), ("b", "passthrough", [0, 2])])
    check(make_pipeline(dropped, preprocessing.StandardScaler(), linear_model.Ridge()), X, Y)


def test_text_goes_through_steps_that_leave_it_text():
    """A column transformer before another one has columns that are no matrix."""
    fill = make_column_transformer(
        (impute.SimpleImputer(), NUMBERS), (impute.SimpleImputer(strategy="most_frequent"), ["word", "other"])
    )
    code = make_column_transformer(
        (preprocessing.OneHotEncoder(handle_unknown="ignore"), [4, 5]), (preprocessing.StandardScaler(), slice(0, 4))
    )
    check(make_pipeline(fill, code, linear_model.Ridge()), FRAME[[*NUMBERS, "word", "other"]], Y, ROUNDED)


def test_a_transformed_target_is_transformed_back():
    """By a function of NumPy's, or by a scaler."""
    functions = {"func": np.log1p, "inverse_func": np.expm1}
    check(TransformedTargetRegressor(linear_model.Ridge(), **functions), X, np.abs(Y))
    check(TransformedTargetRegressor(linear_model.Ridge(), transformer=preprocessing.StandardScaler()), X, Y)


def test_what_a_search_found_is_compiled():
    """The search itself does nothing when it predicts."""
    pipeline = make_pipeline(preprocessing.StandardScaler(), linear_model.Ridge())
    check(GridSearchCV(pipeline, {"ridge__alpha": [0.1, 10]}, cv=2), X, Y)


def test_a_pipeline_may_end_in_a_transformer():
    """Its output is the matrix that the steps make."""
    check(make_pipeline(preprocessing.StandardScaler(), feature_selection.SelectKBest(k=2)), X, Y)


def test_trees_follow_any_steps():
    """Gradient boosting on coded words, and on categories that it codes itself."""
    coded = make_column_transformer((ENCODERS[0], ["word", "other"]), remainder=impute.SimpleImputer())
    check(make_pipeline(coded, ensemble.RandomForestClassifier(8, random_state=0)), FRAME, THREE)
    categories = FRAME.astype({"word": "category", "other": "category"})
    boosting = ensemble.HistGradientBoostingRegressor(max_iter=9).fit(categories, Y)
    engine, equivalence = compiled_and_check(boosting, categories)
    assert equivalence.judge(engine, 0.0).exact


class OwnScaler(preprocessing.StandardScaler):
    """A scaler that may do anything."""


def line_after(transformer: Any) -> Any:
    """Return a transformer before a line."""
    return make_pipeline(transformer, linear_model.Ridge())


@pytest.mark.parametrize(
    ("estimator", "why"),
    [
        (svm.SVC(), "SVC cannot be compiled."),
        (decomposition.PCA(2), "score_samples of PCA cannot be compiled."),
        (line_after(preprocessing.QuantileTransformer(n_quantiles=9)), "QuantileTransformer cannot be compiled."),
        (line_after(preprocessing.FunctionTransformer(lambda X: X)), "A function of <lambda> is not one of NumPy's"),
        (line_after(preprocessing.OneHotEncoder(dtype=int)), "OneHotEncoder to int64 cannot be compiled."),
        (line_after(OwnScaler()), "OwnScaler cannot be compiled, because it is not part of scikit-learn."),
    ],
    ids=["SVC", "PCA", "QuantileTransformer", "FunctionTransformer", "OneHotEncoder", "OwnScaler"],
)
def test_what_cannot_be_compiled_is_named(estimator: Any, why: str):
    """The manifest says why another engine serves."""
    with pytest.raises(UnsupportedError, match=why):
        compiled_and_check(fitted(estimator, X.round(), TWO), X.round())


@pytest.mark.parametrize("function", [np.add, np.modf, np.sum, abs, None], ids=["add", "modf", "sum", "abs", "None"])
def test_a_function_takes_one_array_and_returns_one(function: Any):
    """The service finds it by its name in NumPy."""
    assert ufunc(np.log1p) == Ufunc("log1p")
    with pytest.raises(UnsupportedError, match="is not one of NumPy's from one array to one array"):
        ufunc(function)


def test_a_category_that_the_encoder_refuses_is_refused():
    """The compiled form has no answer where scikit-learn has none."""
    for encoder in (preprocessing.OneHotEncoder(), preprocessing.OrdinalEncoder()):
        model = fitted(make_pipeline(encoder, linear_model.Ridge()), FRAME[["other"]], Y)
        engine, equivalence = compiled_and_check(model, FRAME[["other"]])
        unknown: ArrayColumns = [np.array(["eel"], dtype=object)]
        with pytest.raises(ValueError, match="refuses"):
            equivalence.ask(engine, unknown)
        numbers = fitted(make_pipeline(encoder, linear_model.Ridge()), X[:, [1]], Y)
        engine, equivalence = compiled_and_check(numbers, X[:, [1]])
        with pytest.raises(ValueError, match="refuses"):
            equivalence.ask(engine, [np.array([0.5])])


def test_a_request_is_left_as_it_was():
    """Several outputs, or a batch, are made of the same array."""
    engine, equivalence = compiled_and_check(
        fitted(make_pipeline(preprocessing.StandardScaler(), CLASSIFIERS[0]), X, TWO), X
    )
    columns = as_request(equivalence.training, equivalence.contract)
    before = np.array(columns)
    engine(columns, ["predict", "predict_proba"])
    assert same_bits(columns, before)


def test_only_what_is_asked_for_is_answered():
    """In the order of the request."""
    engine, equivalence = compiled_and_check(fitted(CLASSIFIERS[0], X, TWO), X)
    asked = ["decision_function", "predict"]
    assert list(equivalence.ask(engine, equivalence.training, asked)) == asked


def can_be_fitted(steps: list[Any]) -> bool:
    """Return whether scikit-learn itself fits these steps in this order, and they can be compiled.

    It refuses a threshold that no feature meets, more components than features, and much that follows sparse columns;
    polynomials of these cannot be compiled.
    """
    try:
        fitted(make_pipeline(impute.SimpleImputer(), *steps), GAPS, Y)
    except (ValueError, TypeError):
        return False
    kinds = [type(step) for step in steps]
    return kinds != [preprocessing.KBinsDiscretizer, preprocessing.PolynomialFeatures] or steps[0].encode != "onehot"


# What pipelines are generated of: each step takes any numbers, with or without gaps.
STEPS = st.lists(st.sampled_from([step for step in SCALERS if step != "passthrough"]), max_size=2).filter(can_be_fitted)
MODELS = st.sampled_from([*REGRESSORS[:3], *CLASSIFIERS[:4], ensemble.ExtraTreesRegressor(4, random_state=0)])
NUMBER = st.one_of(st.sampled_from([0.0, -0.0, 5e-324, -1e-310, 1e30, np.nan]), st.floats(-1e6, 1e6))
WORD = st.sampled_from(["ant", "bee", "cat", "eel", "", None])


@settings(max_examples=40, deadline=None)
@given(
    steps=STEPS, model=MODELS, encoder=st.sampled_from([ENCODERS[0], ENCODERS[1], ENCODERS[5]]),
    with_words=st.booleans(),
    cells=st.lists(st.tuples(NUMBER, NUMBER, NUMBER, NUMBER, WORD, WORD), min_size=1, max_size=8),
)  # fmt: skip
def test_generated_pipelines_agree_on_generated_rows(
    steps: list[Any], model: Any, encoder: Any, with_words: bool, cells: list[Any]
):
    """Whatever is put together of what can be compiled answers, or refuses, as the estimator does."""
    numbers = make_pipeline(impute.SimpleImputer(), *steps)
    rows = FRAME[[*NUMBERS, "word", "other"]] if with_words else GAPS
    parts = [(numbers, NUMBERS), (encoder, ["word", "other"])] if with_words else []
    pipeline = make_pipeline(make_column_transformer(*parts) if with_words else numbers, model)
    estimator = fitted(pipeline, rows, TWO if model in CLASSIFIERS else Y)
    engine, equivalence = compiled_and_check(estimator, rows)
    columns = list(zip(*cells, strict=True))
    table: ArrayColumns = [np.array(column, dtype=float) for column in columns[:4]]
    table += [np.array(column, dtype=object) for column in columns[4:]] if with_words else []
    try:
        expected = equivalence.ask(equivalence.reference, table)
    except ValueError:
        with pytest.raises(ValueError, match=r"too large|refuses"):
            equivalence.ask(engine, table)
        return
    given_answers = equivalence.ask(engine, table)
    for name, values in expected.items():
        assert given_answers[name].dtype == values.dtype
        if is_number(name, values, equivalence.contract):
            np.testing.assert_allclose(given_answers[name], values, rtol=1e-9, atol=1e-9 * equivalence.scales[name])
        else:
            assert given_answers[name].tolist() == values.tolist()
