"""Important features are told from others, of whatever type, without the target, and the same ones each time."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import make_column_transformer
from sklearn.decomposition import PCA
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder
from sklearn.tree import DecisionTreeClassifier

from training import importance
from training.contract.probe import EstimatorProbe
from training.importance import feature_importance

RNG = np.random.default_rng(0)
N_ROWS = 60
NUMBERS = pd.DataFrame(RNG.normal(size=(N_ROWS, 2)), columns=["much", "little"])


def importance_of(estimator: Any, frame: pd.DataFrame, y: Any, output: str = "predict", seed: int = 0) -> Any:
    """Fit an estimator and return the importance of its features."""
    container = "float64" if all(dtype.kind == "f" for dtype in frame.dtypes) else "frame"
    fitted = estimator.fit(frame.to_numpy() if container == "float64" else frame, y)
    return feature_importance(EstimatorProbe(fitted, container, [output]), frame, seed)


@pytest.mark.parametrize(
    ("estimator", "y"),
    [
        (LinearRegression(), 3 * NUMBERS["much"] + 0.1 * NUMBERS["little"]),
        (LinearRegression(), np.column_stack([3 * NUMBERS["much"] + 0.1 * NUMBERS["little"], NUMBERS["much"]])),
        (RandomForestClassifier(n_estimators=10, random_state=0), NUMBERS["much"] > 0),
        (DecisionTreeClassifier(random_state=0), np.where(NUMBERS["much"] > 0, 1.0, 2.0)),
    ],
)
def test_the_important_one_of_two_features_wins(estimator: Any, y: Any):
    """For numbers, several numbers, labels, and labels that are numbers."""
    found = importance_of(estimator, NUMBERS, y)
    assert list(found) == ["much", "little"]
    assert found["much"] > 2 * found["little"] >= 0


def test_probabilities_tell_apart_what_changes_no_label():
    """Of many features alike, none changes a label alone; the one that does not matter is still told from them."""
    frame = pd.DataFrame(np.repeat(NUMBERS[["much"]].to_numpy(), 3, axis=1), columns=["a", "b", "c"]).assign(noise=0.0)
    forest = RandomForestClassifier(n_estimators=20, max_features=1, random_state=0).fit(frame.to_numpy(), frame.a > 0)
    found = feature_importance(EstimatorProbe(forest, "float64", ["predict", "predict_proba"]), frame, 0)
    assert min(found["a"], found["b"], found["c"]) > found["noise"] == 0.0


def test_numbers_are_compared_in_standard_deviations():
    """A model of prices and one of thousandths of them lean on their features alike."""
    y = NUMBERS["much"] + NUMBERS["little"]
    assert importance_of(LinearRegression(), NUMBERS, y) == pytest.approx(
        importance_of(LinearRegression(), NUMBERS, 1000 * y), rel=1e-4
    )


def test_a_feature_that_is_not_used_has_none():
    """Zero, and not the rounding of another sum."""
    found = importance_of(LinearRegression(), NUMBERS.assign(little=1.0), NUMBERS["much"])
    assert found["little"] == 0.0


def test_text_is_mixed_up_as_well():
    """The estimator is given the frame that it was fitted on, columns of every type in their places."""
    frame = NUMBERS.assign(word=np.resize(["red", "green"], N_ROWS))
    pipeline = make_pipeline(
        make_column_transformer((OneHotEncoder(), ["word"]), remainder="passthrough"), LinearRegression()
    )
    found = importance_of(pipeline, frame, np.where(frame["word"] == "red", 5, -5) + frame["much"])
    assert found["word"] > found["much"] > found["little"]


def test_what_predicts_nothing_is_judged_by_its_first_output():
    """A transformer leans on its features, too."""
    found = importance_of(PCA(1), NUMBERS.assign(much=10 * NUMBERS["much"]), None, output="transform")
    assert found["much"] > found["little"]


def test_an_estimator_that_refuses_mixed_rows_tells_no_importance():
    """The bake goes on: features are then watched in the contract's order."""

    def refuse_mixed(X: Any) -> Any:
        if (X[:, 1] != 2 * X[:, 0]).any():
            raise ValueError("the second column is twice the first")
        return X

    frame = NUMBERS.assign(little=2 * NUMBERS["much"])
    assert importance_of(make_pipeline(FunctionTransformer(refuse_mixed), LinearRegression()), frame, NUMBERS) == {}


def test_the_order_of_chance_is_that_of_the_seed():
    """Bakes are reproducible."""
    y = NUMBERS.sum(axis=1)
    first, again = (importance_of(LinearRegression(), NUMBERS, y, seed=3) for _ in range(2))
    assert first == again
    few = pd.concat([NUMBERS] * 10, ignore_index=True)  # more rows than are looked at
    assert importance_of(LinearRegression(), few, few.sum(axis=1), seed=4) != importance_of(
        LinearRegression(), few, few.sum(axis=1), seed=3
    )


def test_a_wide_model_is_asked_with_few_rows_and_in_parts(monkeypatch: pytest.MonkeyPatch):
    """Thousands of features take seconds and little memory, and are told apart all the same."""
    frame = pd.DataFrame(RNG.normal(size=(N_ROWS, 300)), columns=[f"x{number}" for number in range(300)])
    y = 100 * frame["x250"] + frame["x7"]
    monkeypatch.setattr(importance, "MOST_PREDICTIONS", 3000)
    monkeypatch.setattr(importance, "MOST_CELLS_AT_ONCE", 30_000)  # 10 features of 10 rows each
    asked: list[int] = []

    class Counted(LinearRegression):
        def predict(self, X: Any) -> Any:
            asked.append(len(X))
            return super().predict(X)

    found = importance_of(Counted(), frame, y)
    assert max(found, key=found.__getitem__) == "x250"
    assert asked == [10, *[100] * 30]
