"""Scores are of rows the estimator has not seen, and are compared with the lowest accepted ones."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.ensemble import IsolationForest
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.multioutput import MultiOutputClassifier
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor

from tests.support.baking import CODES, FRAME, NUMBERS, PRICES, SIGNS, WORDS
from training.errors import BakeError
from training.evaluation import SMALL, Evaluation, check_min_scores, evaluate, fit, score_sample, task_of

REGRESSION = ["r2", "neg_mean_absolute_error", "neg_root_mean_squared_error"]
CLASSIFICATION = ["accuracy", "balanced_accuracy", "f1_macro"]


def scored(estimator: Any, X: Any, y: Any, min_scores: Any = None, seed: int = 0) -> Evaluation:
    """Return the scores of an unfitted estimator, told to nobody."""
    return evaluate(estimator, X, y, min_scores or {}, seed, lambda _what: None)


@pytest.mark.parametrize(
    ("estimator", "task"),
    [
        (LinearRegression(), "regression"),
        (LogisticRegression(), "classification"),
        (KMeans(), "clustering"),
        (IsolationForest(), "outlier_detector"),
        (PCA(), "transformation"),
    ],
)
def test_the_task_is_the_estimators_type(estimator: Any, task: str):
    """In words that people use for it."""
    assert task_of(estimator) == task


@pytest.mark.parametrize(
    ("estimator", "y", "names"),
    [
        (LinearRegression(), PRICES, REGRESSION),
        (LinearRegression(), np.column_stack([PRICES, -PRICES]), REGRESSION),
        (LogisticRegression(), WORDS, CLASSIFICATION),
        (LogisticRegression(), pd.Series(SIGNS == 1), CLASSIFICATION),
        (KNeighborsClassifier(), np.column_stack([SIGNS, 1 - SIGNS]), ["accuracy", "f1_macro"]),
        (MultiOutputClassifier(LogisticRegression()), np.column_stack([SIGNS, CODES]), []),
        (KMeans(2), SIGNS, []),
        (LinearRegression(), None, []),
    ],
)
def test_the_scores_fit_the_task(estimator: Any, y: Any, names: list[str]):
    """And the target: what scikit-learn cannot score with is not scored, rather than refused."""
    evaluation = scored(estimator, NUMBERS, y)
    assert list(evaluation.held_out) == names
    assert list(evaluation.cross_validation.get("mean", {})) == names


def test_scores_are_of_rows_that_were_held_out():
    """One neighbour remembers every row it was fitted on; noise it has not seen it cannot know."""
    evaluation = scored(KNeighborsRegressor(1), NUMBERS, np.random.default_rng(1).normal(size=len(NUMBERS)))
    assert evaluation.held_out["r2"] < 0.5
    assert evaluation.cross_validation["mean"]["r2"] < 0.5


def test_minimum_scores_add_scores():
    """Those that MIN_SCORES names are computed too, once each."""
    assert list(scored(LinearRegression(), FRAME, PRICES, {"neg_max_error": -9, "r2": 0}).held_out) == [
        *REGRESSION,
        "neg_max_error",
    ]


def test_mean_and_deviation_are_over_the_folds():
    """A constant has the same accuracy on folds of equal classes."""
    evaluation = scored(DummyClassifier(), NUMBERS[:20], np.arange(20) % 2)
    assert evaluation.cross_validation["mean"]["accuracy"] == 0.5
    assert evaluation.cross_validation["std"]["accuracy"] == 0.0


@pytest.mark.parametrize(
    ("X", "y", "validated"),
    [
        (np.zeros((SMALL, 1)), np.arange(SMALL), True),
        (np.zeros((SMALL + 1, 1)), np.arange(SMALL + 1), False),
        (np.zeros((10, 1)), np.arange(10), True),
        (np.zeros((9, 1)), np.arange(9), False),
    ],
)
def test_small_data_are_cross_validated(X: Any, y: Any, validated: bool):
    """Many rows need it no more, very few do not suffice for it."""
    assert bool(scored(DummyRegressor(), X, y).cross_validation) is validated


@pytest.mark.parametrize(("n_of_rarest", "validated"), [(5, True), (4, False)])
def test_each_fold_holds_every_class(n_of_rarest: int, validated: bool):
    """Classes with fewer rows than folds are scored on the held-out rows alone."""
    y = np.where(np.arange(40) < n_of_rarest, "rare", "usual")
    assert bool(scored(DummyClassifier(), NUMBERS, y).cross_validation) is validated


@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true:UserWarning")
@pytest.mark.filterwarnings("ignore:A single label was found in 'y_true':UserWarning")
def test_a_class_of_one_row_can_be_scored():
    """It cannot be on both sides of the split, so the split is not by classes then."""
    assert scored(DummyClassifier(), NUMBERS, np.where(np.arange(40) < 1, "one", "many")).held_out


def test_the_seed_decides_the_split():
    """The same one gives the same scores, another one others."""
    first, again, other = (scored(LinearRegression(), FRAME, PRICES**2, seed=seed) for seed in (0, 0, 1))
    assert first == again
    assert first.held_out != other.held_out


@pytest.mark.parametrize(
    ("estimator", "X", "y", "min_scores", "sentence"),
    [
        (LinearRegression(), NUMBERS, PRICES, {"beauty": 1}, "MIN_SCORES names beauty, which is not a score"),
        (LinearRegression(), NUMBERS, PRICES, {"accuracy": 1}, "The score accuracy does not fit this model, name"),
        (LinearRegression(), NUMBERS[:1], PRICES[:1], {}, "1 rows are too few to hold some out: "),
        (LogisticRegression(), NUMBERS[:6], CODES[:6], {}, "6 rows are too few to hold some out: .* classes"),
        (LinearRegression(), FRAME.assign(a="x"), PRICES, {}, r"cannot be fitted on what load\(\) gives: ValueError: "),
        (LogisticRegression(), NUMBERS, PRICES, {}, r"cannot be fitted .*: ValueError: Unknown label type"),
    ],
)  # fmt: skip
def test_what_cannot_be_scored_is_refused(estimator: Any, X: Any, y: Any, min_scores: Any, sentence: str):
    """Whether the minimum score, the number of rows or the data are at fault is said."""
    with pytest.raises(BakeError, match=sentence):
        scored(estimator, X, y, min_scores)


@pytest.mark.filterwarnings("ignore:R.2 score is not well-defined:sklearn.exceptions.UndefinedMetricWarning")
def test_a_score_that_is_no_number_is_refused():
    """Of one held-out row there is no R2, and NaN would be neither over nor under the minimum."""
    with pytest.raises(BakeError, match="The score r2 is not defined on 1 rows such as these"):
        scored(LinearRegression(), NUMBERS[:3], PRICES[:3])


def test_a_sample_is_scored_as_it_is():
    """An estimator that was fitted elsewhere is not fitted again."""
    estimator = LinearRegression().fit(FRAME, PRICES)
    evaluation = score_sample(estimator, FRAME, PRICES)
    assert list(evaluation.held_out) == REGRESSION
    assert evaluation.held_out["r2"] == estimator.score(FRAME, PRICES)
    assert evaluation.cross_validation == {}
    assert score_sample(estimator, FRAME, None) == Evaluation()


@pytest.mark.parametrize(
    ("held_out", "mean", "sentence"),
    [
        ({"r2": 0.4}, {}, "The held-out r2 is 0.4, under the minimum score of 0.5: nothing was written"),
        ({"r2": 0.6}, {"r2": 0.4999}, "The cross-validated r2 is 0.4999, under the minimum score of 0.5"),
        ({"r2": float("nan")}, {}, "The held-out r2 is nan, under the minimum score"),
        ({}, {}, "MIN_SCORES names r2, but load\\(\\) gives no target to score with: give one"),
    ],
)
def test_a_score_under_the_minimum_is_refused(held_out: Any, mean: Any, sentence: str):
    """With both numbers."""
    with pytest.raises(BakeError, match=sentence):
        check_min_scores(Evaluation(held_out, {"mean": mean} if mean else {}), {"r2": 0.5})


def test_a_score_at_the_minimum_is_accepted():
    """The minimum itself is good enough."""
    check_min_scores(Evaluation({"r2": 0.5}, {"mean": {"r2": 0.5}}), {"r2": 0.5})


def test_an_estimator_without_a_target_is_fitted_without_one():
    """Clusters have none."""
    assert fit(KMeans(2, n_init=1), NUMBERS, None).n_clusters == 2
