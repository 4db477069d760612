"""How good an estimator is on rows it has not seen, and whether that is good enough."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import clone
from sklearn.metrics import get_scorer
from sklearn.model_selection import KFold, StratifiedKFold, train_test_split
from sklearn.utils import get_tags
from sklearn.utils.multiclass import type_of_target

from service.artifact.contract import CLASSIFICATION, REGRESSION
from training.errors import BakeError, one_line

HELD_OUT_SHARE = 0.25
N_FOLDS = 5
SMALL = 5000  # rows; below, one held-out split is a lottery, and five more fits are cheap
SCORES_OF_TASK: dict[str, tuple[str, ...]] = {
    REGRESSION: ("r2", "neg_mean_absolute_error", "neg_root_mean_squared_error"),
    CLASSIFICATION: ("accuracy", "balanced_accuracy", "f1_macro"),
}
SCORES_OF_TARGETS: dict[str, tuple[str, ...]] = {  # of classifiers with several, by scikit-learn's type_of_target
    "multilabel-indicator": ("accuracy", "f1_macro"),
    "multiclass-multioutput": (),
}
TASK_OF_TYPE = {"regressor": REGRESSION, "classifier": CLASSIFICATION, "clusterer": "clustering"}

Report = Callable[[str], None]


@dataclass
class Evaluation:
    """The scores of an estimator, by scikit-learn's names; greater is better.

    Args:
        held_out: On rows that it was not fitted on, or on the sample of an estimator fitted elsewhere.
        cross_validation: The "mean" and "std" of each score over the folds, where the data are small.
    """

    held_out: dict[str, float] = field(default_factory=dict)
    cross_validation: dict[str, dict[str, float]] = field(default_factory=dict)


def task_of(estimator: Any) -> str:
    """Return regression, classification, clustering, or what scikit-learn calls the estimator's type."""
    kind = get_tags(estimator).estimator_type
    return TASK_OF_TYPE.get(kind or "", kind or "transformation")


def evaluate(estimator: Any, X: Any, y: Any, min_scores: Mapping[str, float], seed: int, report: Report) -> Evaluation:
    """Return the scores of an unfitted estimator.

    Args:
        estimator: Is cloned for each fit.
        X: Features, of shape (n_samples, n_features).
        y: The target, of shape (n_samples,) or (n_samples, n_targets).
        min_scores: Further scores to compute, by scikit-learn's names.
        seed: For the splits.
        report: Is told what is going on.

    Raises:
        BakeError: If the estimator cannot be fitted or scored on these data.
    """
    task = task_of(estimator)
    scores = _score_names(task, y, min_scores)
    if y is None or not scores:
        return Evaluation()
    classes = np.asarray(y) if task == CLASSIFICATION and np.ndim(y) == 1 else None
    rarest = pd.Series(classes).value_counts().min() if classes is not None else 0
    try:
        train, test = train_test_split(
            np.arange(len(X)), test_size=HELD_OUT_SHARE, random_state=seed, stratify=classes if rarest > 1 else None
        )
    except ValueError as error:
        raise BakeError(f"{len(X)} rows are too few to hold some out: {one_line(error)}") from error
    report(f"fitting on {len(train)} rows, scoring {len(test)} held-out rows")
    evaluation = Evaluation(_fit_and_score(estimator, X, y, train, test, scores))
    if len(X) <= SMALL and (classes is None or rarest >= N_FOLDS) and len(X) >= 2 * N_FOLDS:
        splitter = (KFold if classes is None else StratifiedKFold)(N_FOLDS, shuffle=True, random_state=seed)
        folds = []
        for number, (train, test) in enumerate(splitter.split(X, classes), start=1):
            report(f"cross-validating, fold {number} of {N_FOLDS}")
            folds.append(_fit_and_score(estimator, X, y, train, test, scores))
        by_score = {name: [fold[name] for fold in folds] for name in scores}
        evaluation.cross_validation = {
            "mean": {name: float(np.mean(values)) for name, values in by_score.items()},
            "std": {name: float(np.std(values)) for name, values in by_score.items()},
        }
    return evaluation


def score_sample(estimator: Any, X: Any, y: Any) -> Evaluation:
    """Return the scores of a fitted estimator on a sample with its true values."""
    names = _score_names(task_of(estimator), y, {})
    return Evaluation({name: _score(name, estimator, X, y) for name in names}) if y is not None else Evaluation()


def check_min_scores(evaluation: Evaluation, min_scores: Mapping[str, float]) -> None:
    """Compare the scores with the lowest accepted ones; where cross-validation ran, its mean must reach them as well.

    Raises:
        BakeError: If a score is under its minimum, or was not computed.
    """
    means = evaluation.cross_validation.get("mean", {})
    for name, minimum in min_scores.items():
        for kind, scores in (("held-out", evaluation.held_out), ("cross-validated", means)):
            if not evaluation.held_out:
                raise BakeError(f"MIN_SCORES names {name}, but load() gives no target to score with: give one.")
            if name in scores and not scores[name] >= minimum:
                raise BakeError(
                    f"The {kind} {name} is {scores[name]!r}, under the minimum score of {minimum!r}: nothing was "
                    "written. Improve the model, or lower MIN_SCORES."
                )


def _score_names(task: str, y: Any, min_scores: Mapping[str, float]) -> list[str]:
    for name in min_scores:
        try:
            get_scorer(name)
        except ValueError as error:
            raise BakeError(
                f"MIN_SCORES names {name}, which is not a score of scikit-learn: see sklearn.metrics."
            ) from error
    usual = SCORES_OF_TASK.get(task, ())
    if task == CLASSIFICATION and np.ndim(y) > 1:
        usual = SCORES_OF_TARGETS.get(type_of_target(y), usual)
    return list(dict.fromkeys([*usual, *min_scores]))


def _fit_and_score(estimator: Any, X: Any, y: Any, train: Any, test: Any, scores: list[str]) -> dict[str, float]:
    fitted = fit(clone(estimator), _rows(X, train), _rows(y, train))
    return {name: _score(name, fitted, _rows(X, test), _rows(y, test)) for name in scores}


def fit(estimator: Any, X: Any, y: Any) -> Any:
    """Return the estimator, fitted.

    Raises:
        BakeError: If it cannot be fitted on these data.
    """
    try:
        return estimator.fit(X) if y is None else estimator.fit(X, y)
    except Exception as error:
        raise BakeError(
            f"The estimator cannot be fitted on what load() gives: {type(error).__name__}: {one_line(error)}"
        ) from error


def _score(name: str, estimator: Any, X: Any, y: Any) -> float:
    try:
        score = float(get_scorer(name)(estimator, X, y))
    except Exception as error:
        raise BakeError(
            f"The score {name} does not fit this model, name others in MIN_SCORES: {one_line(error)}"
        ) from error
    if not math.isfinite(score):
        raise BakeError(f"The score {name} is not defined on {len(X)} rows such as these: give more, or other ones.")
    return score


def _rows(data: Any, index: Any) -> Any:
    return data.iloc[index] if hasattr(data, "iloc") else np.asarray(data)[index]
