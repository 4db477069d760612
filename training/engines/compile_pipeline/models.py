"""Compiles an estimator: the steps before its model, and the model."""

import numpy as np
from sklearn import linear_model, preprocessing
from sklearn.base import is_classifier, is_regressor
from sklearn.compose import TransformedTargetRegressor
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline as SklearnPipeline

from service.artifact.contract import PREDICT, PREDICT_PROBA, Contract
from service.engines.pipeline.models import (
    TRANSFORM,
    ExpScores,
    HuberProbabilities,
    Labels,
    Linear,
    LogisticProbabilities,
    Model,
    OneVsRestProbabilities,
    Pipeline,
    ScoreOutput,
    Scores,
    SoftmaxProbabilities,
    Target,
    Transform,
)
from service.engines.pipeline.steps import Arithmetic, Operation, Step, Steps, ToColumnMajor
from training.engines.compile_pipeline.composition import column_transformer, compile_chain, compile_transformer
from training.engines.compile_pipeline.flow import Flow, to_matrix
from training.engines.compile_pipeline.numbers import ufunc
from training.engines.compile_trees import compile_trees, ends_in_trees
from training.engines.scikit_learn_private import (
    Fitted,
    category_encoder,
    is_flat_target,
    link_name,
    without_category_encoder,
)
from training.errors import UnsupportedError

SOFTMAX = (linear_model.LogisticRegression, linear_model.LogisticRegressionCV, LinearDiscriminantAnalysis)


def compile_pipeline(estimator: Fitted, contract: Contract) -> Pipeline:
    """Return a fitted estimator as a pipeline of the service.

    Raises:
        UnsupportedError: If it holds something that cannot be compiled; says what.
    """
    kinds = tuple(feature.kind for feature in contract.features)
    flow = Flow(kinds, is_matrix=set(kinds) == {"number"})
    first: Steps = (ToColumnMajor(),) if flow.is_matrix and contract.container == "frame" else ()
    steps, model = _estimator(estimator, flow, tuple(output.name for output in contract.outputs))
    return Pipeline((*first, *steps), model)


def _estimator(estimator: Fitted, flow: Flow, outputs: tuple[str, ...]) -> tuple[Steps, Model]:
    """Return the steps before an estimator's model, and the model."""
    kind = type(estimator)
    if hasattr(estimator, "best_estimator_"):
        return _estimator(estimator.best_estimator_, flow, outputs)
    if kind is FrozenEstimator:
        return _estimator(estimator.estimator, flow, outputs)
    if kind is SklearnPipeline:
        steps, flow = compile_chain([step for _, step in estimator.steps[:-1]], flow)
        more, model = _estimator(estimator.steps[-1][1], flow, outputs)
        return (*steps, *more), model
    if PREDICT not in outputs:
        if outputs != (TRANSFORM,):
            raise UnsupportedError(f"{outputs[-1]} of {kind.__name__} cannot be compiled.")
        steps, flow = compile_transformer(estimator, flow)
        return (*steps, *to_matrix(flow)[0]), Transform()
    if kind is TransformedTargetRegressor:
        steps, inner = _estimator(estimator.regressor_, flow, outputs)
        return steps, Target(inner, (_inverse(estimator.transformer_),), is_flat_target(estimator))
    if hasattr(estimator, "intercept_") and hasattr(estimator, "coef_"):
        steps, flow = to_matrix(flow)
        return steps, _linear(estimator, flow, outputs)
    return _trees(estimator, flow)


def _inverse(transformer: Fitted) -> Step:
    """Return the step that undoes a transformer of targets."""
    kind = type(transformer)
    if kind is preprocessing.FunctionTransformer and not transformer.inv_kw_args:
        return ufunc(transformer.inverse_func)
    if kind is preprocessing.StandardScaler:
        scale = [Operation("multiply", transformer.scale_)] if transformer.with_std else []
        mean = [Operation("add", transformer.mean_)] if transformer.with_mean else []
        return Arithmetic((*scale, *mean))
    if kind is preprocessing.MinMaxScaler:
        return Arithmetic((Operation("subtract", transformer.min_), Operation("divide", transformer.scale_)))
    raise UnsupportedError(f"The inverse of {kind.__name__} cannot be compiled.")


def _trees(estimator: Fitted, flow: Flow) -> tuple[Steps, Model]:
    if not ends_in_trees(estimator):
        raise UnsupportedError(f"{type(estimator).__name__} cannot be compiled.")
    steps: Steps = ()
    encoder = category_encoder(estimator)
    if "string" in flow.kinds and encoder is not None:
        # Gradient boosting encodes categories by itself: a step before it does that for text.
        steps, flow = column_transformer(encoder, flow)
        estimator = without_category_encoder(estimator)
    return (*steps, *to_matrix(flow)[0]), compile_trees(estimator)


# ------------------------------------------------------------------------------------------- linear models


def _linear(estimator: Fitted, flow: Flow, outputs: tuple[str, ...]) -> Linear:
    coefficients = estimator.coef_
    if not isinstance(coefficients, np.ndarray) or coefficients.dtype != np.float64 or coefficients.ndim > 2:
        raise UnsupportedError(f"The coefficients of {type(estimator).__name__} are not a matrix of float64.")
    return Linear(
        coefficients,
        np.asarray(estimator.intercept_, np.float64),
        sequential=flow.is_sparse,
        flat=is_classifier(estimator),
        outputs=tuple((name, _score_output(name, estimator)) for name in outputs if name != TRANSFORM),
        transform=compile_transformer(estimator, flow)[0] if TRANSFORM in outputs else None,
    )


def _score_output(name: str, estimator: Fitted) -> ScoreOutput:
    """Return how an output of a linear model is made of its scores."""
    if name == PREDICT and is_regressor(estimator):
        return ExpScores() if link_name(estimator) == "LogLink" else Scores()
    if name == PREDICT and is_classifier(estimator):
        return Labels(estimator.classes_)
    if name == "decision_function":
        return Scores()
    if name == PREDICT_PROBA and (output := _probabilities(estimator)) is not None:
        return output
    raise UnsupportedError(f"{name} of {type(estimator).__name__} cannot be compiled.")


def _probabilities(estimator: Fitted) -> ScoreOutput | None:
    """Return how a classifier's probabilities are made of its scores, None if that is not known."""
    is_binary = len(estimator.classes_) == 2
    if type(estimator) in SOFTMAX:
        return LogisticProbabilities() if is_binary else SoftmaxProbabilities()
    if type(estimator) is linear_model.SGDClassifier and estimator.loss == "log_loss":
        return LogisticProbabilities() if is_binary else OneVsRestProbabilities()
    if type(estimator) is linear_model.SGDClassifier and estimator.loss == "modified_huber":
        return HuberProbabilities()
    return None
