"""Compiled ensembles of trees: scikit-learn's answers, bit by bit, without scikit-learn.

The artifact carries the trees as arrays, and the evaluator that walks them as a small library in machine code. What the
evaluator sums up becomes labels and probabilities here, through the same NumPy calls that scikit-learn makes, since
another order of the same sum, or another exponential, moves the last bits.
"""
# ruff: noqa: D102 - the docstring of a class says what its function does

import ctypes
import functools
import math
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from service.artifact.contract import PREDICT, PREDICT_PROBA
from service.artifact.manifest import ArtifactError
from service.engines.engine_function import Floats, MatrixFunction, Outputs

LoadLibrary = Callable[[], ctypes.CDLL]

# ------------------------------------------------------------------------------------------- what trees.c declares

# The functions of trees.c, beside this file. Their names stand for the layout of NODE and _Model: change one, and you
# have to change the other.
EVALUATE, ENCODE = "evaluate_trees_1", "encode_categories_1"

HAS_MISSING, HAS_TOO_LARGE = 1, 2  # what the evaluator finds in a matrix
MISSING_GOES_RIGHT, IS_CATEGORICAL = 1, 2  # flags of a node

NODE = np.dtype([("threshold", "<f8"), ("left", "<u4"), ("feature", "<u2"), ("flags", "<u2")])

# The arrays of the struct model, fields of CompiledTrees, with their dtypes.
_ARRAYS: Mapping[str, np.dtype[Any]] = {
    "nodes": NODE,
    "values": np.dtype("f8"),
    "roots": np.dtype("u4"),
    "depths": np.dtype("u4"),
    "categories": np.dtype("u4"),
    "base": np.dtype("f8"),
    "encoded_features": np.dtype("u4"),
    "encoded_ends": np.dtype("u4"),
    "encoded_values": np.dtype("f8"),
}


class _Model(ctypes.Structure):
    """The struct model of trees.c."""

    arrays: tuple[NDArray[Any], ...]  # kept alive for the addresses

    _fields_ = (
        *((name, ctypes.c_void_p) for name in _ARRAYS),
        *((name, ctypes.c_double) for name in ("divisor", "too_large")),
        *((name, ctypes.c_int64) for name in ("n_trees", "n_features", "n_columns", "width")),
        *((name, ctypes.c_int64) for name in ("by_column", "refused", "n_sets", "n_encoded")),
    )


TOO_LARGE = float.fromhex("0x1.ffffffp127")  # halfway from the largest float32 to the next, which is infinite

# Copying so many bytes takes less time than asking NumPy for the address of an array.
COPIED_BYTES = 16_384

PROCESSORS = ("x86_64", "aarch64")  # that there is an evaluator for
SYNONYMS = {"amd64": "x86_64", "arm64": "aarch64"}


def library_file(processor: str = "") -> str:
    """Return the artifact's file that holds the evaluator for a processor, by default for that of this machine."""
    machine = processor or platform.machine().lower()
    return f"engine/trees-{SYNONYMS.get(machine, machine)}-linux.so"


@functools.cache  # keeps the file open as well: for the loader, two libraries from one path are the same
def load_library(content: bytes) -> ctypes.CDLL:
    """Return the evaluator, loaded from these very bytes; nothing is written to a disk.

    Raises:
        ArtifactError: If this machine cannot load it, or it fits another version of the service.
    """
    try:
        descriptor = os.memfd_create("trees")
        with os.fdopen(descriptor, "wb", closefd=False) as file:
            file.write(content)
        library = ctypes.CDLL(f"/proc/self/fd/{descriptor}")
    except (OSError, AttributeError) as error:  # only Linux has memfd_create
        raise ArtifactError(
            f"The evaluator of trees cannot be loaded here ({error}): serve on Linux, with the kind of processor that "
            "its file is named for, or bake the model with another engine."
        ) from error
    try:
        evaluate, encode = getattr(library, EVALUATE), getattr(library, ENCODE)
    except AttributeError as error:
        raise ArtifactError(
            "The evaluator of trees fits another version of the service: use the one that baked the model, "
            "or bake the model again with this one."
        ) from error
    evaluate.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p]
    encode.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64]
    evaluate.restype = encode.restype = ctypes.c_int64
    return library


# ------------------------------------------------------------------------------------------- the ensemble


@dataclass(frozen=True)
class CompiledTrees:
    """A compiled ensemble of trees, a model of a compiled pipeline.

    Args:
        nodes: Of all trees, of dtype NODE; a tree's first one is its root.
        values: What leaves add, of shape (n_values, width).
        roots: The place of each tree's root in nodes, of shape (n_trees,).
        depths: Steps from each root to the deepest leaf, of shape (n_trees,).
        categories: Of shape (n_sets, 8): bit c of a row is set if the category with code c goes left.
        base: What the sums start from, of shape (n_columns,).
        encoded_features: The features that hold categories, of shape (n_encoded,).
        encoded_ends: Where the categories of each one end in encoded_values, of shape (n_encoded,).
        encoded_values: The categories, ascending for each feature: their places are their codes.
        divisor: What the sums are divided by.
        n_features: How many values a row has.
        refused: What a row must not hold: HAS_MISSING, HAS_TOO_LARGE, both or 0.
        by_column: Whether the sums lie column by column, as in Fortran.
        outputs: How the outputs are made of the sums.
    """

    nodes: NDArray[np.void]
    values: Floats
    roots: NDArray[np.uint32]
    depths: NDArray[np.uint32]
    categories: NDArray[np.uint32]
    base: Floats
    encoded_features: NDArray[np.uint32]
    encoded_ends: NDArray[np.uint32]
    encoded_values: Floats
    divisor: float
    n_features: int
    refused: int
    by_column: bool
    outputs: "TreeOutputs"

    def function(self, load_library: LoadLibrary) -> MatrixFunction:
        """Return the function that gives the estimator's answers for a matrix.

        Its answers have the dtype, the shape and the bits of scikit-learn's. Several threads may call it at once. It
        raises ValueError for the values that the estimator refuses.
        """
        add_up = _sums_function(self, load_library())
        of_sums = self.outputs.functions()

        def answer(X: Floats, outputs: Sequence[str]) -> Outputs:
            sums = add_up(np.ascontiguousarray(X))
            return {name: of_sums[name](sums) for name in outputs}

        return answer


def _sums_function(trees: CompiledTrees, library: ctypes.CDLL) -> Callable[[Floats], Floats]:
    """Return the function that sums up each row's leaves, of shape (n_samples, n_columns)."""
    structure = _structure(trees)
    evaluate, encode, reference = getattr(library, EVALUATE), getattr(library, ENCODE), ctypes.byref(structure)
    has_categories = structure.n_encoded > 0
    n_features, n_columns, by_column = trees.n_features, len(trees.base), trees.by_column

    def add_up(X: Floats) -> Floats:
        n_samples = len(X)
        if X.shape[1] != n_features:
            raise ValueError(f"X has {X.shape[1]} features, the estimator expects {n_features}.")
        sums = np.empty((n_samples, n_columns))
        if n_samples:
            if has_categories:
                X = X.copy()
                if encode(reference, _writable(X), n_samples):
                    raise ValueError("X contains infinity in a categorical feature, which the estimator refuses.")
            values = X.tobytes() if X.nbytes <= COPIED_BYTES else X.ctypes.data
            if evaluate(reference, values, n_samples, _writable(sums)):
                raise ValueError("X contains NaN, infinity or a value too large for float32, which these trees refuse.")
        # scikit-learn's sums over columns depend on the layout.
        return sums.reshape(n_columns, n_samples).T if by_column else sums

    return add_up


def _structure(trees: CompiledTrees) -> _Model:
    """Return what the evaluator reads; it keeps the arrays alive."""
    arrays = {name: np.ascontiguousarray(getattr(trees, name), dtype=dtype) for name, dtype in _ARRAYS.items()}
    structure = _Model(
        **{name: array.ctypes.data for name, array in arrays.items()},
        divisor=trees.divisor,
        too_large=TOO_LARGE,
        n_trees=len(arrays["roots"]),
        n_features=trees.n_features,
        n_columns=len(arrays["base"]),
        width=arrays["values"].shape[1],
        by_column=trees.by_column,
        refused=trees.refused,
        n_sets=len(arrays["categories"]),
        n_encoded=len(arrays["encoded_features"]),
    )
    structure.arrays = tuple(arrays.values())
    return structure


def _writable(array: Floats) -> Any:
    """Return the address of an array's values, in a third of the time that array.ctypes takes."""
    return ctypes.byref(ctypes.c_char.from_buffer(array.data))


# ------------------------------------------------------------------------------------------- of sums

SumsFunctions = dict[str, Callable[[Floats], NDArray[Any]]]  # of sums of shape (n_samples, n_columns), by output


class TreeOutputs(Protocol):
    """The outputs of an ensemble."""

    def functions(self) -> SumsFunctions:
        """Return for each output the function that makes it of the sums."""


@dataclass(frozen=True)
class RegressionOutputs:
    """The outputs of a regressor.

    Args:
        flat: Whether they are a column, not a matrix.
        exponential: Whether the link is the logarithm.
    """

    flat: bool
    exponential: bool

    def functions(self) -> SumsFunctions:
        flat, link = self.flat, np.exp if self.exponential else np.asarray
        return {PREDICT: lambda sums: link(sums.reshape(-1) if flat else sums)}


@dataclass(frozen=True)
class ProbabilityOutputs:
    """The outputs of a classifier whose trees hold probabilities.

    Args:
        classes: The labels, of shape (n_classes,).
    """

    classes: NDArray[Any]

    def functions(self) -> SumsFunctions:
        return {PREDICT: _most_probable(self.classes), PREDICT_PROBA: np.asarray}


@dataclass(frozen=True)
class MarginOutputs:
    """The outputs of a boosted classifier of two classes.

    Args:
        classes: The labels, of shape (2,).
        zero_is_second: Whether a sum of 0 means the second class.
        scale: What sums are multiplied by before they become probabilities.
    """

    classes: NDArray[Any]
    zero_is_second: bool
    scale: int

    def functions(self) -> SumsFunctions:
        classes, scale = self.classes, self.scale
        second = np.greater_equal if self.zero_is_second else np.greater

        def predict(sums: Floats) -> NDArray[Any]:
            return classes.take(second(sums.reshape(-1), 0).astype(int), axis=0)

        def predict_proba(sums: Floats) -> Floats:
            probabilities = np.empty((len(sums), 2))
            probabilities[:, 1] = [_logistic_of_float(scale * margin) for margin in sums.reshape(-1).tolist()]
            probabilities[:, 0] = 1 - probabilities[:, 1]
            return probabilities

        return {PREDICT: predict, PREDICT_PROBA: predict_proba, "decision_function": lambda sums: sums.reshape(-1)}


def _logistic_of_float(x: float) -> float:
    """Return what scipy.special.expit does: it uses the C library's exponential, as Python does and NumPy does not."""
    try:
        return 1 / (1 + math.exp(-x))
    except OverflowError:
        return 0.0


@dataclass(frozen=True)
class ScoreOutputs:
    """The outputs of a boosted classifier of more than two classes.

    Args:
        classes: The labels, of shape (n_classes,).
    """

    classes: NDArray[Any]

    def functions(self) -> SumsFunctions:
        return {
            PREDICT: _most_probable(self.classes),
            PREDICT_PROBA: _softmax_like_extmath,
            "decision_function": np.asarray,
        }


def _softmax_like_extmath(scores: Floats) -> Floats:
    """Return what sklearn.utils.extmath.softmax does; the scores stay."""
    exponentials = scores.copy(order="K")
    exponentials -= np.maximum.reduce(scores, axis=1, keepdims=True)
    np.exp(exponentials, out=exponentials)
    exponentials /= np.add.reduce(exponentials, axis=1, keepdims=True)
    return exponentials


def _most_probable(classes: NDArray[Any]) -> Callable[[Floats], NDArray[Any]]:
    return lambda sums: classes.take(sums.argmax(axis=1), axis=0)


@dataclass(frozen=True)
class IsolationOutputs:
    """The outputs of an isolation forest, whose trees hold path lengths.

    Args:
        usual_depth: What a sum of lengths is divided by; 0 if each forest is a single leaf.
        offset: The score from which on a row is usual.
    """

    usual_depth: float
    offset: float

    def functions(self) -> SumsFunctions:
        usual_depth, offset = self.usual_depth, self.offset

        def score_samples(sums: Floats) -> Floats:
            depths = sums.reshape(-1)
            relative = np.divide(depths, usual_depth) if usual_depth else np.ones_like(depths)
            scores: Floats = -(2 ** (-relative))
            return scores

        return {
            PREDICT: lambda sums: np.where(score_samples(sums) - offset < 0, -1, 1),
            "decision_function": lambda sums: score_samples(sums) - offset,
            "score_samples": score_samples,
        }
