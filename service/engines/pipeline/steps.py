"""Steps of a compiled pipeline that choose columns, put them side by side and calculate.

Each step is a frozen dataclass. Its method `function` returns the function that takes what the step before returned.
"""
# ruff: noqa: D102 - the docstring of a class says what its function does

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from service.artifact.manifest import ArtifactError
from service.engines.engine_function import Floats

# From a matrix of shape (n_samples, n_columns), or a list of columns as a request has them, to one or the other. Which
# of them a step takes is settled when the pipeline is compiled.
StepFunction = Callable[[Any], Any]


class Step(Protocol):
    """A step of a compiled pipeline."""

    def function(self) -> StepFunction:
        """Return the function that does the step; what does not change from call to call is done here."""


Steps = tuple[Step, ...]


def chain(steps: Steps) -> StepFunction:
    """Return one function for steps that follow each other."""
    functions = [step.function() for step in steps]

    def run(value: Any) -> Any:
        for function in functions:
            value = function(value)
        return value

    return functions[0] if len(functions) == 1 else run


# ------------------------------------------------------------------------------------------- columns


@dataclass(frozen=True)
class ToMatrix:
    """Makes one matrix of a list of columns of numbers."""

    def function(self) -> StepFunction:
        # Columns one after the other in memory, as pandas has them: the order of sums follows from it.
        return lambda columns: np.array(columns, dtype=np.float64).T


@dataclass(frozen=True)
class ToColumnMajor:
    """Lays a matrix out column by column, as scikit-learn has one that was a frame."""

    def function(self) -> StepFunction:
        return np.asfortranarray


@dataclass(frozen=True)
class TakeColumns:
    """Takes some of a list of columns, by their places."""

    places: tuple[int, ...]

    def function(self) -> StepFunction:
        places = self.places
        return lambda columns: [columns[place] for place in places]


@dataclass(frozen=True)
class TakeFromMatrix:
    """Takes some columns of a matrix, by their places; in the memory layout that scikit-learn's own selection has."""

    places: tuple[int, ...]

    def function(self) -> StepFunction:
        places = np.array(self.places, np.intp)
        return lambda X: X[:, places]


@dataclass(frozen=True)
class SliceMatrix:
    """Takes the columns of a matrix from start up to stop; in the memory layout that scikit-learn's own slice has."""

    start: int
    stop: int

    def function(self) -> StepFunction:
        piece = slice(self.start, self.stop)
        return lambda X: X[:, piece]


@dataclass(frozen=True)
class Stack:
    """Does several branches with the same input, and puts their matrices side by side."""

    branches: tuple[Steps, ...]

    def function(self) -> StepFunction:
        functions = [chain(branch) for branch in self.branches]
        return lambda value: np.concatenate([function(value) for function in functions], axis=1)


@dataclass(frozen=True)
class Join:
    """Does several branches with the same input, and lists their columns, because some are not numbers."""

    branches: tuple[Steps, ...]

    def function(self) -> StepFunction:
        functions = [chain(branch) for branch in self.branches]

        def join(value: Any) -> list[Any]:
            results = (function(value) for function in functions)
            return [column for result in results for column in (result.T if isinstance(result, np.ndarray) else result)]

        return join


# ------------------------------------------------------------------------------------------- arithmetic


@dataclass(frozen=True)
class Operation:
    """One operation on each column.

    Args:
        ufunc: Which of NumPy's functions of two arrays.
        operand: The second array, of shape (n_columns,) or (1, n_columns), or one number for all.
    """

    ufunc: Literal["add", "subtract", "multiply", "divide"]
    operand: Floats | float


@dataclass(frozen=True)
class Arithmetic:
    """Does at least one operation on each column, in this order."""

    operations: tuple[Operation, ...]

    def function(self) -> StepFunction:
        (first, operand), *more = [(_ufunc(each.ufunc, 2), each.operand) for each in self.operations]

        def calculate(X: Floats) -> Floats:
            result: Floats = first(X, operand)  # the request's own array is not written to
            for function, values in more:
                function(result, values, out=result)
            return result

        return calculate


@dataclass(frozen=True)
class Ufunc:
    """Applies one of NumPy's functions of one array."""

    name: str

    def function(self) -> StepFunction:
        return _ufunc(self.name, 1)


def _ufunc(name: str, n_inputs: int) -> "np.ufunc":
    ufunc = getattr(np, name, None)
    if not isinstance(ufunc, np.ufunc) or (ufunc.nin, ufunc.nout) != (n_inputs, 1):
        raise ArtifactError(f"NumPy has no function {name} of {n_inputs} arrays: bake the model again.")
    return ufunc


@dataclass(frozen=True)
class Clip:
    """Limits numbers to a range."""

    low: float
    high: float

    def function(self) -> StepFunction:
        low, high = self.low, self.high
        return lambda X: np.clip(X, low, high)


@dataclass(frozen=True)
class RefuseInfinity:
    """Refuses infinity: what overflowed before must not be clipped to a number that looks right, or left out."""

    def function(self) -> StepFunction:
        return _without_infinity


@dataclass(frozen=True)
class Threshold:
    """Returns 1 for numbers above a threshold, and 0 for others."""

    threshold: float

    def function(self) -> StepFunction:
        threshold = self.threshold
        return lambda X: (finite(X) > threshold).astype(np.float64)


@dataclass(frozen=True)
class Normalize:
    """Divides each row by its norm."""

    norm: Literal["l1", "l2", "max"]

    def function(self) -> StepFunction:
        norm_of: Mapping[str, Callable[[Floats], Floats]] = {
            "l1": lambda X: np.sum(np.abs(X), axis=1),
            "l2": lambda X: np.sqrt(np.einsum("ij,ij->i", X, X)),
            "max": lambda X: np.max(np.abs(X), axis=1),
        }
        norm = norm_of[self.norm]
        smallest = 10 * np.finfo(np.float64).eps

        def normalize(X: Floats) -> Floats:
            norms = norm(finite(X))
            norms[norms < smallest] = 1.0
            return X / norms[:, None]

        return normalize


@dataclass(frozen=True)
class Products:
    """Products of one degree: each is one input times a product of one degree less, and so has its rounding.

    Args:
        start: Where they start among all products.
        factors: For each the input, of shape (n_products,).
        products: For each the place of the other product among all, of shape (n_products,).
    """

    start: int
    factors: NDArray[np.intp]
    products: NDArray[np.intp]


@dataclass(frozen=True)
class Polynomial:
    """Makes products of the columns: 1 if there is a bias, the columns themselves, and then degree by degree.

    Args:
        bias: Whether the first product is 1.
        degrees: The products of degree 2, 3 and so on.
        width: How many products are made.
        kept: The places of the products to return, or None for all.
    """

    bias: bool
    degrees: tuple[Products, ...]
    width: int
    kept: NDArray[np.intp] | None

    def function(self) -> StepFunction:
        bias, first, width, kept = self.bias, int(self.bias), self.width, self.kept
        degrees = [(each.start, each.start + len(each.factors), each.factors, each.products) for each in self.degrees]

        def multiply(X: Floats) -> Floats:
            features = np.empty((len(X), width))
            if bias:
                features[:, 0] = 1.0
            features[:, first : first + X.shape[1]] = X
            for start, stop, factors, products in degrees:
                features[:, start:stop] = X[:, factors] * features[:, products]
            return features if kept is None else features.take(kept, axis=1)

        return multiply


@dataclass(frozen=True)
class Project:
    """Multiplies with components.

    Args:
        components: Of shape (n_components, n_columns).
        sequential: Whether to add from left to right, as `product` describes.
    """

    components: Floats
    sequential: bool

    def function(self) -> StepFunction:
        return product(self.components, self.sequential)


@dataclass(frozen=True)
class Discretize:
    """Returns the number of the bin that each value falls in.

    Args:
        edges: For each column the edges between its bins, ascending.
    """

    edges: tuple[Floats, ...]

    def function(self) -> StepFunction:
        edges = self.edges

        def discretize(X: Floats) -> Floats:
            finite(X)
            bins = np.empty_like(X)
            for index, inner in enumerate(edges):
                bins[:, index] = np.searchsorted(inner, X[:, index], side="right")
            return bins

        return discretize


def finite(X: Floats) -> Floats:
    """Return the matrix, where it holds numbers only; scikit-learn looks in the same places.

    Raises:
        ValueError: If it holds NaN or infinity.
    """
    if not isfinite(np.vdot(X, X)) and not np.isfinite(X).all():
        raise ValueError("A number is missing or too large for the model.")
    return X


def _without_infinity(X: Floats) -> Floats:
    if not isfinite(np.vdot(X, X)) and np.isinf(X).any():
        raise ValueError("A number is too large for the model.")
    return X


def product(coefficients: Floats, sequential: bool) -> Callable[[Floats], Floats]:
    """Return the function that multiplies a matrix with coefficients of shape (n_columns,) or (n_results, n_columns).

    Args:
        coefficients: In the memory layout that the estimator has them in, because BLAS' order of sums depends on it.
        sequential: Whether to add from left to right, as SciPy does with a sparse matrix.
    """
    if not sequential:
        transposed = coefficients.T
        return lambda X: X @ transposed
    rows = np.atleast_2d(coefficients)

    def add_up(X: Floats) -> Floats:
        sums = np.empty((len(X), len(rows)))
        for index, row in enumerate(rows):
            sums[:, index] = np.add.accumulate(X * row, axis=1)[:, -1]
        return sums if coefficients.ndim > 1 else sums[:, 0]

    return add_up
