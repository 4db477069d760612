"""Models of a compiled pipeline: what makes the outputs of the matrix that the steps return."""
# ruff: noqa: D102 - the docstring of a class says what its function does

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from service.artifact.contract import PREDICT
from service.engines.engine_function import EngineFunction, Floats, MatrixFunction, Outputs
from service.engines.pipeline.steps import Steps, chain, finite, product
from service.engines.trees import LoadLibrary

TRANSFORM = "transform"  # the only output of a pipeline without a model, and one that few models have


class Model(Protocol):
    """The end of a compiled pipeline."""

    def function(self, load_library: LoadLibrary) -> MatrixFunction:
        """Return the function from a matrix, and names of outputs, to these outputs.

        Args:
            load_library: Loads the evaluator of trees; only called by a model that has some.
        """


@dataclass(frozen=True)
class Pipeline:
    """A compiled pipeline.

    Args:
        steps: From the columns of a request to a matrix; none if the columns are the model's matrix.
        model: What makes the outputs of it.
    """

    steps: Steps
    model: Model

    def function(self, load_library: LoadLibrary) -> EngineFunction:
        answer = self.model.function(load_library)
        if not self.steps:
            return cast("EngineFunction", answer)
        prepare = chain(self.steps)
        return lambda columns, outputs: answer(prepare(columns), outputs)


@dataclass(frozen=True)
class Transform:
    """Returns the matrix itself."""

    def function(self, load_library: LoadLibrary) -> MatrixFunction:  # noqa: ARG002 - as every model
        return lambda X, _outputs: {TRANSFORM: X}


@dataclass(frozen=True)
class Target:
    """Transforms predictions back, as TransformedTargetRegressor does.

    Args:
        model: Predicts transformed targets.
        inverse: The steps that transform them back.
        flat: Whether the targets of training were a column, not a matrix.
    """

    model: Model
    inverse: Steps
    flat: bool

    def function(self, load_library: LoadLibrary) -> MatrixFunction:
        inner, inverse, flat = self.model.function(load_library), chain(self.inverse), self.flat

        def answer(X: Floats, outputs: Sequence[str]) -> Outputs:
            predicted = inner(X, outputs)[PREDICT]
            targets = inverse(predicted.reshape(-1, 1) if predicted.ndim == 1 else predicted)
            return {PREDICT: targets[:, 0] if flat and targets.shape[1] == 1 else targets}

        return answer


@dataclass(frozen=True)
class Linear:
    """Multiplies with coefficients, adds an intercept, and makes the outputs of these scores.

    Args:
        coefficients: Of shape (n_columns,) or (n_scores, n_columns).
        intercept: Of shape () or (n_scores,).
        sequential: Whether to add from left to right, as `product` describes.
        flat: Whether the scores of one row of coefficients are a column, not a matrix.
        outputs: The name of each output of the scores, and how it is made.
        transform: The steps from the matrix to the output `transform`, or None if there is none.
    """

    coefficients: Floats
    intercept: Floats
    sequential: bool
    flat: bool
    outputs: tuple[tuple[str, "ScoreOutput"], ...]
    transform: Steps | None = None

    def function(self, load_library: LoadLibrary) -> MatrixFunction:  # noqa: ARG002 - as every model
        multiply, intercept = product(self.coefficients, self.sequential), self.intercept
        one_column = self.flat and self.coefficients.ndim > 1 and len(self.coefficients) == 1
        of_scores = {name: output.function() for name, output in self.outputs}
        of_matrix = {} if self.transform is None else {TRANSFORM: chain(self.transform)}

        def answer(X: Floats, outputs: Sequence[str]) -> Outputs:
            scores: Floats = multiply(X)
            scores = scores + intercept
            # What is not finite in a row is so in one of its scores, or in the sum of their squares: cheap to see.
            if not isfinite(np.vdot(scores, scores)):
                finite(X)
            if one_column:
                scores = scores.reshape(-1)
            return {name: of_scores[name](scores) if name in of_scores else of_matrix[name](X) for name in outputs}

        return answer


# ------------------------------------------------------------------------------------------- of scores


class ScoreOutput(Protocol):
    """An output of a linear model's scores.

    The scores are of shape (n_samples,) for a single target and for two classes, else of shape (n_samples, n_scores).
    """

    def function(self) -> Callable[[Floats], NDArray[Any]]:
        """Return the function from scores to the output."""


@dataclass(frozen=True)
class Scores:
    """Returns the scores themselves."""

    def function(self) -> Callable[[Floats], NDArray[Any]]:
        return lambda scores: scores


@dataclass(frozen=True)
class ExpScores:
    """Returns the exponential of the scores, as models with a logarithmic link do."""

    def function(self) -> Callable[[Floats], NDArray[Any]]:
        return np.exp


@dataclass(frozen=True)
class Labels:
    """Returns the class with the highest score; of two classes the second one where the score is above 0.

    Args:
        classes: The labels, of shape (n_classes,).
    """

    classes: NDArray[Any]

    def function(self) -> Callable[[Floats], NDArray[Any]]:
        take = self.classes.take
        return lambda scores: take((scores > 0).astype(np.intp) if scores.ndim == 1 else scores.argmax(axis=1))


@dataclass(frozen=True)
class LogisticProbabilities:
    """Returns the probabilities of two classes."""

    def function(self) -> Callable[[Floats], NDArray[Any]]:
        return lambda scores: _with_complement(_logistic_of_array(scores))


@dataclass(frozen=True)
class OneVsRestProbabilities:
    """Returns the probabilities of several classes, each of which was told from all others."""

    def function(self) -> Callable[[Floats], NDArray[Any]]:
        return lambda scores: _shares(_logistic_of_array(scores))


@dataclass(frozen=True)
class SoftmaxProbabilities:
    """Returns the probabilities of several classes."""

    def function(self) -> Callable[[Floats], NDArray[Any]]:
        return _softmax_like_linear_models


@dataclass(frozen=True)
class HuberProbabilities:
    """Returns the probabilities of the modified Huber loss."""

    def function(self) -> Callable[[Floats], NDArray[Any]]:
        def probabilities(scores: Floats) -> Floats:
            positive = (np.clip(scores, -1, 1) + 1.0) / 2.0
            return _with_complement(positive) if scores.ndim == 1 else _shares(positive)

        return probabilities


def _logistic_of_array(scores: Floats) -> Floats:
    # SciPy's logistic function uses the C library's exp, NumPy's exp another one, unless the number is complex.
    # The last bits may differ only for scores from -709.8 to -709.0, whose probabilities are below 2e-308.
    result: Floats = 1.0 / (1.0 + np.exp(-scores.astype(np.complex128)).real)
    return result


def _softmax_like_linear_models(scores: Floats) -> Floats:
    """Return what linear models do; `softmax_like_extmath` of trees has other bits."""
    exponentials: Floats = np.exp(scores - scores.max(axis=1).reshape(-1, 1))
    exponentials /= exponentials.sum(axis=1).reshape(-1, 1)
    return exponentials


def _with_complement(positive: Floats) -> Floats:
    """Return the probabilities of two classes from those of the second one."""
    probabilities = np.empty((len(positive), 2))
    np.subtract(1, positive, out=probabilities[:, 0])
    probabilities[:, 1] = positive
    return probabilities


def _shares(positive: Floats) -> Floats:
    """Return scores of classes as shares of their sum; where it is 0, all classes are as probable."""
    sums = positive.sum(axis=1)
    nothing = sums == 0
    if nothing.any():
        positive[nothing, :] = 1
        sums[nothing] = positive.shape[1]
    shares: Floats = positive / sums.reshape(-1, 1)
    return shares
