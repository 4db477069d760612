"""Compiled trees give the bits that scikit-learn gives, whatever the ensemble and whatever the rows."""

import platform
import re
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn import ensemble, tree
from sklearn.dummy import DummyClassifier
from sklearn.ensemble._hist_gradient_boosting.gradient_boosting import BaseHistGradientBoosting
from sklearn.linear_model import LinearRegression, LogisticRegression

from service.artifact.contract import OUTPUT_METHODS
from service.artifact.manifest import ArtifactError
from service.engines import trees
from service.engines.pipeline.models import Pipeline
from service.engines.pipeline.serialization import pack, unpack
from service.engines.trees import library_file, load_library
from tools import ROOT
from training.engines.compile_trees import FORESTS, TREES, as_if_rounded, compile_trees
from training.engines.native_build import compile_library
from training.errors import UnsupportedError

SIZES = (1, 7, 8, 9)  # around the number of rows that the evaluator takes at a time
GREATEST = float(np.finfo(np.float32).max)
# Numbers at the ends of float32 and float64, and halfway between two float32 numbers.
SPECIAL = (0.0, -0.0, 5e-324, -5e-324, 1e-45, -1e-45, 7.1e-46, 1e-40, 1e-30, 1.0 + 2**-24, 1e30, GREATEST, -GREATEST)
BEYOND_FLOAT32 = (float.fromhex("0x1.ffffffp127"), 1e300, -1e300, 1.7e308, np.inf, -np.inf)


def compiled(estimator: Any) -> Any:
    """Return the function that answers as the estimator does, of trees that went through a file."""
    pipeline = unpack(pack(Pipeline((), compile_trees(estimator))))
    return pipeline.function(lambda: load_library(compile_library()[library_file()]))


def offered(estimator: Any) -> list[str]:
    """Return the names of the outputs that the estimator offers."""
    return [name for name in OUTPUT_METHODS if hasattr(estimator, name)]


def assert_same(estimator: Any, X: NDArray[np.float64]) -> None:
    """Compare every output for a few rows and for all of them, with the estimator's bits, dtype and shape."""
    answer, outputs = compiled(estimator), offered(estimator)
    for rows in (*(X[-size:] for size in SIZES), X):
        rows = np.ascontiguousarray(rows)
        kept = rows.copy()
        with np.errstate(all="ignore"):  # as the service does
            given_answers = answer(rows, outputs)
            expected = {name: getattr(estimator, name)(rows) for name in outputs}
        assert rows.tobytes() == kept.tobytes()
        for name in outputs:
            assert_same_bits(given_answers[name], expected[name])


def assert_same_bits(answer: NDArray[Any], expected: NDArray[Any]) -> None:
    """Compare two arrays, -0 and 0 being different."""
    assert (answer.dtype, answer.shape) == (expected.dtype, expected.shape)
    if expected.dtype.kind == "O":
        assert answer.tolist() == expected.tolist()
    else:
        assert answer.tobytes() == expected.tobytes()


def training_data(seed: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return rows of few or many distinct numbers, some next to each other in float32, and a number for each row."""
    random = np.random.default_rng(seed)
    n_samples, n_features = int(random.integers(20, 90)), int(random.integers(1, 7))
    X = random.normal(size=(n_samples, n_features)) * 10.0 ** random.integers(-3, 4, size=n_features)
    shape = random.choice(["plain", "whole", "near", "float32"])
    if shape == "whole":
        X = np.round(X)
    elif shape == "near":
        X = 1 + np.round(random.normal(size=X.shape) * 3) * 2.0**-23
    elif shape == "float32":
        X = X.astype(np.float32).astype(np.float64)
    return np.ascontiguousarray(X), random.normal(size=n_samples) + np.nan_to_num(X[:, 0] > np.median(X[:, 0]))


def with_gaps(X: NDArray[np.float64], seed: int, share: float = 0.2) -> NDArray[np.float64]:
    """Return a matrix with NaN in some cells."""
    gaps = np.random.default_rng(seed).random(X.shape) < share
    return np.where(gaps, np.nan, X)


def thresholds(estimator: Any) -> NDArray[np.float64]:
    """Return the thresholds of all trees in an ensemble."""
    if isinstance(estimator, BaseHistGradientBoosting):
        return np.concatenate([t.nodes["num_threshold"] for iteration in estimator._predictors for t in iteration])
    members = np.ravel(getattr(estimator, "estimators_", [estimator]))
    return np.concatenate([member.tree_.threshold for member in members])


def awkward_rows(
    estimator: Any, X: NDArray[np.float64], seed: int, beyond: bool = False, missing: bool = False
) -> NDArray[np.float64]:
    """Return rows of numbers on and beside the thresholds, and at the ends of float32 and float64."""
    random = np.random.default_rng(seed)
    exact = thresholds(estimator)
    single = exact.astype(np.float32)
    neighbours = [np.nextafter(single, np.float32(side)).astype(np.float64) for side in (-np.inf, np.inf)]
    halfway = [(single.astype(np.float64) + neighbour) / 2 for neighbour in neighbours]
    beside = [np.nextafter(numbers, side) for numbers in (exact, *halfway) for side in (-np.inf, np.inf)]
    pool = np.concatenate([exact, single, *neighbours, *halfway, *beside, SPECIAL, BEYOND_FLOAT32 if beyond else ()])
    pool = pool[(np.abs(pool) < BEYOND_FLOAT32[0]) | beyond]  # a threshold between missing and not is infinite
    n_rows = 70
    rows = X[random.integers(len(X), size=n_rows)].copy()
    awkward = random.random(rows.shape) < 0.6
    rows[awkward] = random.choice(pool, size=int(awkward.sum()))
    return with_gaps(rows, seed) if missing else rows


def labels_for(y: NDArray[np.float64], labels: list[Any]) -> NDArray[Any]:
    """Return a label for each number, every label at least once."""
    places = (np.argsort(np.argsort(y)) * len(labels)) // len(y)
    return np.array(labels)[places]


SEEDS = st.integers(0, 2**32 - 1)
LABELS = st.sampled_from(
    [["no", "yes"], [0, 1], [False, True], [-1.0, 2.0], [3, 5, 9], ["a", "b", "c", "d"], list(range(9)), [1]]
)
TREE_OPTIONS = st.fixed_dictionaries(
    {
        "max_depth": st.sampled_from([None, 1, 2, 5]),
        "min_samples_leaf": st.sampled_from([1, 1, 4]),
        "max_features": st.sampled_from([None, "sqrt", 1]),
        "random_state": SEEDS,
    }
)
thoroughly = settings(max_examples=40, deadline=None)


def data_seen(estimator: Any, y: NDArray[np.float64], labels: list[Any]) -> NDArray[Any]:
    """Return the targets that this estimator takes."""
    return labels_for(y, labels) if hasattr(estimator, "predict_proba") or "Classifier" in str(estimator) else y


@thoroughly
@given(
    kind=st.sampled_from([*TREES, *FORESTS]),
    options=TREE_OPTIONS,
    labels=LABELS,
    seed=SEEDS,
    missing=st.booleans(),
    bootstrap=st.booleans(),
)
def test_trees_and_forests(
    kind: Any, options: dict[str, Any], labels: list[Any], seed: int, missing: bool, bootstrap: bool
) -> None:
    """Rows are compared as float32, NaN goes where training sent it, and probabilities add up tree by tree."""
    X, y = training_data(seed)
    if kind in FORESTS:
        options |= {"n_estimators": seed % 11 + 1, "bootstrap": bootstrap}
    estimator = kind(**options)
    estimator.fit(with_gaps(X, seed) if missing else X, data_seen(estimator, y, labels))
    assert_same(estimator, awkward_rows(estimator, X, seed, missing=missing))


@thoroughly
@given(
    options=TREE_OPTIONS,
    labels=LABELS.filter(lambda labels: len(labels) > 1),
    seed=SEEDS,
    loss=st.sampled_from(["log_loss", "exponential", "squared_error", "absolute_error", "huber", "quantile"]),
    boosting=st.fixed_dictionaries(
        {
            "learning_rate": st.sampled_from([0.1, 0.3, 1.0, 7.0]),
            "n_estimators": st.integers(1, 12),
            "subsample": st.sampled_from([1.0, 0.7]),
            "init": st.sampled_from([None, "zero"]),
        }
    ),
)
def test_gradient_boosting(
    options: dict[str, Any], labels: list[Any], seed: int, loss: str, boosting: dict[str, Any]
) -> None:
    """From the start that was fitted, stage by stage, each leaf times the learning rate."""
    X, y = training_data(seed)
    if loss in ("log_loss", "exponential"):
        y = labels_for(y, labels[:2] if loss == "exponential" else labels)
        estimator = ensemble.GradientBoostingClassifier(loss=loss, **options, **boosting).fit(X, y)
    else:
        estimator = ensemble.GradientBoostingRegressor(loss=loss, **options, **boosting).fit(X, y)
    assert_same(estimator, awkward_rows(estimator, X, seed))


HISTOGRAM_OPTIONS = st.fixed_dictionaries(
    {
        "learning_rate": st.sampled_from([0.1, 1.0]),
        "max_iter": st.integers(1, 8),
        "max_depth": st.sampled_from([None, 1, 3]),
        "min_samples_leaf": st.sampled_from([1, 5]),
        "max_bins": st.sampled_from([3, 17, 255]),
        "early_stopping": st.just(False),
    }
)
HISTOGRAM_LOSSES = st.sampled_from(["log_loss", "squared_error", "absolute_error", "quantile", "poisson", "gamma"])


def histogram_boosting(loss: str, y: NDArray[np.float64], labels: list[Any], options: Any) -> tuple[Any, Any]:
    """Return an estimator with this loss, and targets that it takes."""
    if loss == "log_loss":
        return ensemble.HistGradientBoostingClassifier(**options), labels_for(y, labels)
    quantile = {"quantile": 0.3} if loss == "quantile" else {}
    estimator = ensemble.HistGradientBoostingRegressor(loss=loss, **quantile, **options)
    return estimator, np.exp(y) if loss in ("poisson", "gamma") else y


@thoroughly
@given(
    options=HISTOGRAM_OPTIONS,
    loss=HISTOGRAM_LOSSES,
    labels=LABELS.filter(lambda labels: len(labels) > 1),
    seed=SEEDS,
    missing=st.booleans(),
)
def test_histogram_gradient_boosting(
    options: dict[str, Any], loss: str, labels: list[Any], seed: int, missing: bool
) -> None:
    """Rows are compared as float64, infinity and NaN are taken, and the link is the loss's."""
    X, y = training_data(seed)
    estimator, targets = histogram_boosting(loss, y, labels, options)
    estimator.fit(with_gaps(X, seed) if missing else X, targets)
    assert_same(estimator, awkward_rows(estimator, X, seed, beyond=True, missing=True))


@thoroughly
@given(
    options=HISTOGRAM_OPTIONS,
    loss=HISTOGRAM_LOSSES,
    labels=LABELS.filter(lambda labels: len(labels) > 1),
    seed=SEEDS,
    missing=st.booleans(),
    step=st.sampled_from([1.0, 0.5, 1000.0]),
)
def test_histogram_gradient_boosting_on_categories(
    options: dict[str, Any], loss: str, labels: list[Any], seed: int, missing: bool, step: float
) -> None:
    """Categories are known by their value; an unknown or negative one counts as missing."""
    X, y = training_data(seed)
    random = np.random.default_rng(seed)
    categories = random.integers(-2, 12, size=(len(X), 3)) * step
    # Categories stand in the first, in a middle and in the last column.
    X = np.column_stack([categories[:, 0], X[:, :2], categories[:, 1], X[:, 2:], categories[:, 2]])
    y = y + np.sin(categories[:, 0]) * 3
    n_features = X.shape[1]
    places = [0, n_features - 1 - X[:, 3:-1].shape[1] - 1 if n_features > 4 else 0, n_features - 1]
    places = sorted({0, n_features - 1} | {place for place in places if set(X[:, place]) <= set(categories.ravel())})
    options = options | {"max_bins": 255, "categorical_features": places}
    estimator, targets = histogram_boosting(loss, y, labels, options)
    estimator.fit(with_gaps(X, seed) if missing else X, targets)
    rows = awkward_rows(estimator, X, seed, missing=True)
    strange = np.array([-0.0, -1.0, 0.25, 255.0, 256.0, 300.0, 2.0**31, 2.0**32 + 1, 1e300, -1e300, np.nan])
    for place in places:
        known = random.random(len(rows)) < 0.6
        rows[:, place] = np.where(
            known, random.choice(categories.ravel(), len(rows)), random.choice(strange, len(rows))
        )
    assert_same(estimator, rows)


@thoroughly
@given(
    seed=SEEDS,
    n_estimators=st.integers(1, 12),
    max_samples=st.sampled_from([1, 2, 0.5, "auto"]),
    max_features=st.sampled_from([1, 0.6, 1.0]),
    contamination=st.sampled_from(["auto", 0.2]),
    missing=st.booleans(),
)
def test_isolation_forests(
    seed: int, n_estimators: int, max_samples: Any, max_features: float, contamination: Any, missing: bool
) -> None:
    """Path lengths add up, and the score is a power of their mean; infinity is taken as scikit-learn takes it."""
    X, _ = training_data(seed)
    estimator = ensemble.IsolationForest(
        n_estimators=n_estimators,
        max_samples=max_samples,
        max_features=max_features,
        contamination=contamination,
        random_state=seed,
    ).fit(X)
    assert_same(estimator, awkward_rows(estimator, X, seed, beyond=True, missing=missing))


@thoroughly
@given(
    options=TREE_OPTIONS,
    labels=LABELS,
    seed=SEEDS,
    classifier=st.booleans(),
    max_samples=st.sampled_from([4, 1.0]),
    bootstrap_features=st.booleans(),
)
def test_bagged_trees(
    options: dict[str, Any],
    labels: list[Any],
    seed: int,
    classifier: bool,
    max_samples: Any,
    bootstrap_features: bool,
) -> None:
    """A member sees some of the features, and knows every class, also where its sample has none of it."""
    X, y = training_data(seed)
    member = (tree.DecisionTreeClassifier if classifier else tree.DecisionTreeRegressor)(**options)
    kind = ensemble.BaggingClassifier if classifier else ensemble.BaggingRegressor
    estimator = kind(
        member,
        n_estimators=seed % 9 + 2,
        max_samples=max_samples,
        bootstrap_features=bootstrap_features,
        random_state=seed,
    ).fit(X, labels_for(y, labels) if classifier else y)
    if len(np.unique(np.concatenate(estimator.estimators_features_))) < X.shape[1]:
        with pytest.raises(UnsupportedError, match="feature that no member looks at"):
            compile_trees(estimator)
    else:
        assert_same(estimator, awkward_rows(estimator, X, seed))


@pytest.mark.parametrize(
    "kind", [tree.DecisionTreeRegressor, ensemble.RandomForestRegressor, ensemble.ExtraTreesRegressor]
)
def test_regressors_of_several_outputs(kind: Any) -> None:
    """The leaves hold a row of numbers each."""
    X, y = training_data(3)
    estimator = kind(random_state=0).fit(X, np.column_stack([y, -y, y**2]))
    assert_same(estimator, awkward_rows(estimator, X, 3))


def test_a_tree_keeps_the_sign_of_zero() -> None:
    """A single tree answers what its leaf holds; a sum that starts at 0 would lose the sign of -0."""
    X = np.arange(4.0).reshape(-1, 1)
    estimator = tree.DecisionTreeRegressor(criterion="absolute_error").fit(X, np.array([-0.0, -0.0, 1.0, 1.0]))
    assert_same(estimator, X)
    assert np.signbit(compiled(estimator)(X, ["predict"])["predict"]).tolist() == [True, True, False, False]


def test_labels_of_objects_stay_objects() -> None:
    """Frames hold words as objects, and so do the classes and the predictions then."""
    X, y = training_data(5)
    estimator = tree.DecisionTreeClassifier().fit(X, labels_for(y, ["no", "yes"]).astype(object))
    assert_same(estimator, X)


def test_a_chain_as_deep_as_its_rows() -> None:
    """A tree may be hundreds of steps deep on one side and one on the other."""
    X = np.arange(300.0).reshape(-1, 1)
    estimator = tree.DecisionTreeRegressor().fit(X, 3.0 ** np.arange(300))
    assert estimator.get_depth() > 100
    assert_same(estimator, np.concatenate([X, X + 0.5]))


@pytest.mark.parametrize("threshold", [*SPECIAL, *BEYOND_FLOAT32, 0.1, -0.1, 1e-46, -1e-46, 16777217.0])
def test_a_threshold_for_float32_is_moved_to_one_for_float64(threshold: float) -> None:
    """The evaluator spares the conversion of each value: the moved threshold parts float64 values in the same way."""
    moved = float(as_if_rounded(np.array([threshold]))[0])
    with np.errstate(all="ignore"):
        single = np.float32(threshold)
        near = [np.nextafter(single, np.float32(side)) for side in (-np.inf, np.inf)]
        points = np.array([moved, threshold, single, *near, *((np.float64(single) + near) / 2), *BEYOND_FLOAT32])
        values = np.concatenate([points, np.nextafter(points, -np.inf), np.nextafter(points, np.inf)])
        expected = values.astype(np.float32).astype(np.float64) <= threshold
    np.testing.assert_array_equal(values <= moved, expected)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, float.fromhex("0x1.ffffffp127"), -1e300])
@pytest.mark.parametrize(
    "estimator",
    [
        tree.DecisionTreeClassifier(),
        tree.ExtraTreeClassifier(),
        tree.ExtraTreeClassifier(splitter="best"),
        tree.DecisionTreeRegressor(criterion="absolute_error"),
        ensemble.RandomForestClassifier(n_estimators=3),
        ensemble.ExtraTreesRegressor(n_estimators=3),
        ensemble.BaggingClassifier(n_estimators=3, random_state=0),
        ensemble.GradientBoostingClassifier(n_estimators=3),
        ensemble.HistGradientBoostingClassifier(max_iter=3),
        ensemble.HistGradientBoostingClassifier(max_iter=3, categorical_features=[0]),
        ensemble.IsolationForest(n_estimators=3),
    ],
    ids=str,
)
def test_what_the_estimator_refuses_is_refused(estimator: Any, value: float) -> None:
    """An answer for a row that scikit-learn gives none for would be made up."""
    X, y = training_data(1)
    X[:, 0] = np.round(X[:, 0])
    estimator.fit(X, labels_for(y, [0, 1]))
    for column in range(2):
        for n_rows in (1, 20):
            rows = X[:n_rows].copy()
            rows[-1, column] = value
            try:
                with np.errstate(all="ignore"):
                    expected = estimator.predict(rows)
            except ValueError:
                with pytest.raises(ValueError, match="X contains"):
                    compiled(estimator)(rows, ["predict"])
            else:
                assert_same_bits(compiled(estimator)(rows, ["predict"])["predict"], expected)


def test_rows_of_another_width_are_refused() -> None:
    """The evaluator would read beyond the matrix."""
    X, y = training_data(1)
    answer = compiled(tree.DecisionTreeRegressor().fit(X, y))
    for width in (X.shape[1] - 1, X.shape[1] + 1):
        with pytest.raises(ValueError, match=f"X has {width} features"):
            answer(np.zeros((2, width)), ["predict"])


def test_no_rows_have_no_answers() -> None:
    """An empty batch is no reason to fail."""
    X, y = training_data(1)
    estimator = ensemble.HistGradientBoostingClassifier(max_iter=2).fit(X, labels_for(y, ["a", "b", "c"]))
    answers = compiled(estimator)(X[:0], ["predict", "decision_function"])
    assert (answers["predict"].shape, answers["decision_function"].shape) == ((0,), (0, 3))


def test_read_only_rows_of_any_number_are_taken() -> None:
    """Values come straight from a request's body, which is read-only; few are copied, many are not."""
    X, y = training_data(2)
    estimator = ensemble.RandomForestClassifier(n_estimators=5, random_state=0).fit(X, labels_for(y, [1, 2, 3]))
    rows = np.ascontiguousarray(np.resize(X, (5000, X.shape[1])))
    rows.flags.writeable = False
    assert_same(estimator, rows)


@pytest.mark.parametrize("n_columns", [1, 3])
def test_large_margins(n_columns: int) -> None:
    """Exponentials overflow to the probabilities 0 and 1, without a warning."""
    X, y = training_data(4)
    labels = labels_for(y, list(range(max(2, n_columns))))
    estimator = ensemble.GradientBoostingClassifier(n_estimators=2, learning_rate=1e6, init="zero").fit(X, labels)
    assert np.abs(estimator.decision_function(X)).max() > 1e5
    assert_same(estimator, X)


@pytest.mark.parametrize(
    "estimator",
    [ensemble.HistGradientBoostingClassifier(max_iter=5), ensemble.GradientBoostingClassifier(n_estimators=5)],
    ids=["histogram", "plain"],
)
def test_probabilities_of_many_classes(estimator: Any) -> None:
    """From eight classes on, NumPy adds up along a row and across columns in different orders."""
    random = np.random.default_rng(0)
    X = random.normal(size=(400, 4))
    assert_same(estimator.fit(X, labels_for(X.sum(axis=1), list(range(23)))), random.normal(size=(500, 4)))


def test_a_margin_of_zero() -> None:
    """Between two classes, gradient boosting says the second one, and histogram gradient boosting the first."""
    X, y = np.zeros((40, 1)), np.repeat(["first", "second"], 20)
    for estimator, expected in (
        (ensemble.GradientBoostingClassifier(n_estimators=1, init="zero"), "second"),
        (ensemble.HistGradientBoostingClassifier(max_iter=1), "first"),
    ):
        estimator.fit(X, y)
        assert estimator.decision_function(X[:1]) == 0
        assert estimator.predict(X[:1]) == expected
        assert_same(estimator, X)


def test_many_threads_get_their_own_answers() -> None:
    """The evaluator runs without the interpreter's lock, in all threads of the server at once."""
    X, y = training_data(6)
    rows = awkward_rows(ensemble.RandomForestClassifier(5).fit(X, labels_for(y, [0, 1])), X, 6)
    n_features = X.shape[1]
    categorical = ensemble.HistGradientBoostingClassifier(max_iter=5, categorical_features=[n_features - 1])
    X[:, -1], rows[:, -1] = np.arange(len(X)) % 9, np.arange(len(rows)) % 10
    for estimator in (ensemble.RandomForestClassifier(20, random_state=0), categorical):
        estimator.fit(X, labels_for(y, ["a", "b", "c"]))
        answer, expected = compiled(estimator), estimator.predict_proba(rows)
        start, differing = threading.Barrier(12), []

        def ask(number: int, answer: Any = answer, expected: Any = expected, start: Any = start) -> None:
            random = np.random.default_rng(number)
            start.wait()
            for _ in range(200):
                chosen = random.integers(len(rows), size=random.integers(1, 40))
                if (answer(rows[chosen], ["predict_proba"])["predict_proba"] != expected[chosen]).any():
                    differing.append(number)  # noqa: B023 - the threads end before the next turn

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not differing


class OwnForest(ensemble.RandomForestClassifier):
    """A forest that may do anything."""


@pytest.mark.parametrize(
    ("estimator", "reason"),
    [
        (LogisticRegression(), "LogisticRegression cannot be compiled: it is not one of the known ensembles of trees."),
        (OwnForest(n_estimators=2), "OwnForest cannot be compiled: it is not one of the known ensembles of trees."),
        (ensemble.RandomTreesEmbedding(n_estimators=2), "RandomTreesEmbedding cannot be compiled"),
        (ensemble.BaggingClassifier(LogisticRegression(), n_estimators=2), "all its members are single trees"),
        (ensemble.GradientBoostingRegressor(n_estimators=2, init=LinearRegression()), "constant start"),
        (
            ensemble.GradientBoostingClassifier(n_estimators=2, init=DummyClassifier(strategy="stratified")),
            "constant start",
        ),
    ],
    ids=lambda value: type(value).__name__ if hasattr(value, "fit") else "",
)
def test_what_cannot_be_compiled_says_why(estimator: Any, reason: str) -> None:
    """The bake lists the reason and serves with another engine."""
    X, y = training_data(1)
    with pytest.raises(UnsupportedError, match=reason):
        compile_trees(estimator.fit(X, labels_for(y, [0, 1])))


def test_classifiers_of_several_outputs_are_not_compiled() -> None:
    """Their answers are lists of matrices, which no contract describes."""
    X, y = training_data(1)
    estimator = tree.DecisionTreeClassifier().fit(X, np.column_stack([y > 0, y > 1]))
    with pytest.raises(UnsupportedError, match="several outputs cannot be compiled"):
        compile_trees(estimator)


def test_categories_that_are_words_are_not_compiled() -> None:
    """The function takes a matrix of numbers."""
    import pandas as pd

    frame = pd.DataFrame({"word": pd.Categorical(["a", "b", "c", "a"] * 10), "number": np.arange(40.0)})
    estimator = ensemble.HistGradientBoostingRegressor(max_iter=2).fit(frame, np.arange(40.0))
    with pytest.raises(UnsupportedError, match="not numbers cannot be compiled"):
        compile_trees(estimator)


@pytest.mark.parametrize("label", [b"yes", np.datetime64("2020-01-01")])
def test_labels_that_json_cannot_hold_are_not_compiled(label: Any) -> None:
    """The labels are written to the manifest's side."""
    labels = np.array([label] * 5)
    estimator = tree.DecisionTreeClassifier().fit(np.zeros((5, 1)), labels)
    with pytest.raises(UnsupportedError, match="cannot be written as JSON"):
        compile_trees(estimator)


def test_the_same_estimator_compiles_to_the_same_bytes_in_another_place(tmp_path: Path) -> None:
    """The artifact's digest must not depend on the process, the directory or the time."""
    program = (
        "import hashlib\n"
        "from sklearn.datasets import load_iris\n"
        "from sklearn.ensemble import RandomForestClassifier\n"
        "from service.engines.pipeline.models import Pipeline\n"
        "from service.engines.pipeline.serialization import pack\n"
        "from training.engines.compile_trees import compile_trees\n"
        "from training.engines.native_build import compile_library\n"
        "forest = RandomForestClassifier(n_estimators=5, random_state=0)\n"
        "content = pack(Pipeline((), compile_trees(forest.fit(*load_iris(return_X_y=True)))))\n"
        "for each in (content, *compile_library().values()): print(hashlib.sha256(each).hexdigest())\n"
    )
    runs = []
    for number in range(2):
        directory = tmp_path / ("deeper/" * number) / "here"
        directory.mkdir(parents=True)
        environment = {
            "PYTHONPATH": str(ROOT),
            "PATH": "/usr/bin:/bin",
            "HOME": str(directory),
            "TMPDIR": str(directory),
        }
        environment["PYTHONHASHSEED"] = str(number)
        run = subprocess.run(
            [sys.executable, "-c", program], cwd=directory, env=environment, capture_output=True, check=True, text=True
        )
        runs.append(run.stdout)
        assert not list(directory.iterdir())
    assert runs[0] == runs[1]


def test_python_declares_what_the_evaluator_declares() -> None:
    """Constants, and the members of its structs in their order: a difference would be read as other numbers."""
    source = Path(trees.__file__).with_suffix(".c").read_text()
    constants = dict(re.findall(r"\b([A-Z_]+) = (\d+)", source))
    assert len(constants) == 4
    assert {name: str(getattr(trees, name)) for name in constants} == constants
    structs = dict(re.findall(r"struct (\w+) \{\n(.*?)\n\};", source, re.DOTALL))
    code = {name: re.sub(r"/\*.*?\*/", "", body, flags=re.DOTALL) for name, body in structs.items()}
    assert re.findall(r"(\w+)(?=;)", code["model"]) == [name for name, _ in trees._Model._fields_]
    union = {"index": "threshold"}  # the low half of it
    members = [union.get(name, name) for name in re.findall(r"(\w+)(?=;)", code["node"])]
    assert list(dict.fromkeys(members)) == list(trees.NODE.names or ())


def test_the_library_needs_nothing_of_the_system() -> None:
    """It is loaded beside glibc and musl alike, and tells nothing of the machine that compiled it."""
    libraries = compile_library()
    assert list(libraries) == ["engine/trees-x86_64-linux.so", "engine/trees-aarch64-linux.so"]
    machines = {"engine/trees-x86_64-linux.so": 62, "engine/trees-aarch64-linux.so": 183}
    for name, content in libraries.items():
        assert content[:4] == b"\x7fELF"
        assert int.from_bytes(content[18:20], "little") == machines[name]
        assert len(content) < 100_000
        for word in (b"memset", b"memcpy", b"GLIBC", b"libc", b"/tmp", b"/root", b"/home"):
            assert word not in content


@pytest.mark.parametrize(
    ("machine", "name"),
    [
        ("x86_64", "engine/trees-x86_64-linux.so"),
        ("AMD64", "engine/trees-x86_64-linux.so"),
        ("aarch64", "engine/trees-aarch64-linux.so"),
        ("arm64", "engine/trees-aarch64-linux.so"),
        ("riscv64", "engine/trees-riscv64-linux.so"),
    ],
)
def test_the_library_is_named_for_the_processor(machine: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Systems have different words for one processor."""
    monkeypatch.setattr(platform, "machine", lambda: machine)
    assert library_file() == name


def test_what_is_no_library_for_this_machine_is_refused() -> None:
    """The operator reads what to do, not an error of the loader."""
    other = next(content for name, content in compile_library().items() if name != library_file())
    for content in (b"", b"no library", other):
        with pytest.raises(ArtifactError, match="cannot be loaded here"):
            load_library(content)


def test_a_library_of_another_version_is_refused() -> None:
    """Its structures have another layout, and reading them with this one would crash or lie."""
    content = compile_library()[library_file()].replace(b"evaluate_trees_1", b"evaluate_trees_0")
    with pytest.raises(ArtifactError, match="another version of the service"):
        load_library(content)


def test_a_missing_compiler_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The bake goes on with another engine."""
    nothing = tmp_path / "python"
    nothing.write_text("#!/bin/sh\necho No module named ziglang >&2\nexit 1\n")
    nothing.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(nothing))
    with pytest.raises(UnsupportedError, match=r"missing or fails: No module named ziglang\."):
        compile_library.__wrapped__()


def test_serving_imports_no_scikit_learn() -> None:
    """Its import takes longer than all the rest of the start."""
    program = "import sys, service.engines.trees\nassert not {'sklearn', 'scipy', 'pandas'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)
