"""Compiled ensembles of trees: scikit-learn's answers, bit by bit, without scikit-learn.

The artifact carries the trees as arrays, and the evaluator that walks them as a small library in machine code. What the
evaluator sums up becomes labels and probabilities here, through the same NumPy calls that scikit-learn makes, since
another order of the same sum, or another exponential, moves the last bits.
"""

import ctypes
import functools
import math
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.artifact.manifest import ArtifactError

Floats = NDArray[np.float64]
Answer = Callable[[Floats], NDArray[Any]]  # of the sums of n_samples rows

# The functions of trees.c, beside this file. Their names stand for the layout of NODE and _Model: change one, and you
# have to change the other.
EVALUATE, ENCODE = "evaluate_trees_1", "encode_categories_1"

NODE = np.dtype([("threshold", "<f8"), ("left", "<u4"), ("feature", "<u2"), ("flags", "<u2")])

_ARRAYS: dict[str, Any] = {
    "nodes": NODE,
    "values": "f8",
    "roots": "u4",
    "depths": "u4",
    "categories": "u4",
    "base": "f8",
    "encoded_features": "u4",
    "encoded_ends": "u4",
    "encoded_values": "f8",
}

# Copying so many bytes takes less time than asking NumPy for the address of an array.
COPIED_BYTES = 16_384


class _Model(ctypes.Structure):
    """The struct model of trees.c; its arrays are those of a compiled ensemble, of the same names."""

    arrays: tuple[NDArray[Any], ...]  # kept alive for the addresses

    _fields_ = (
        *((name, ctypes.c_void_p) for name in _ARRAYS),
        *((name, ctypes.c_double) for name in ("divisor", "too_large")),
        *((name, ctypes.c_int64) for name in ("n_trees", "n_features", "n_columns", "width")),
        *((name, ctypes.c_int64) for name in ("by_column", "refused", "n_sets", "n_encoded")),
    )


def library_name() -> str:
    """Return the name of the file that holds the evaluator for this machine's processor."""
    machine = platform.machine().lower()
    processor = {"amd64": "x86_64", "arm64": "aarch64"}.get(machine, machine)
    return f"trees-{processor}-linux.so"


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


def trees_function(
    model: Mapping[str, Any], library: ctypes.CDLL
) -> Callable[[Floats, Sequence[str]], dict[str, NDArray[Any]]]:
    """Return the function that gives an estimator's answers for a matrix.

    Args:
        model: The compiled ensemble, as training.trees.compile_trees returned it.
        library: The evaluator.

    Returns:
        A function of C-contiguous float64 values of shape (n_samples, n_features), and names of outputs that the
        estimator offers. Its answers have the dtype, the shape and the bits of scikit-learn's. Several threads may call
        it at once. It raises ValueError for the values that the estimator refuses.
    """
    sums = _sums_function(model, library)
    answers = _ANSWERS[model["kind"]](model)

    def answer(X: Floats, outputs: Sequence[str]) -> dict[str, NDArray[Any]]:
        summed = sums(X)
        return {name: answers[name](summed) for name in outputs}

    return answer


def _sums_function(model: Mapping[str, Any], library: ctypes.CDLL) -> Callable[[Floats], Floats]:
    """Return the function that sums up each row's leaves, of shape (n_samples, n_columns)."""
    structure = _structure(model)
    evaluate, encode, reference = getattr(library, EVALUATE), getattr(library, ENCODE), ctypes.byref(structure)
    has_categories = structure.n_encoded > 0
    n_features, n_columns, by_column = model["n_features"], len(model["base"]), model["by_column"]

    def sums(X: Floats) -> Floats:
        n_samples = len(X)
        if X.shape[1] != n_features:
            raise ValueError(f"X has {X.shape[1]} features, the estimator expects {n_features}.")
        summed = np.empty((n_samples, n_columns))
        if n_samples:
            if has_categories:
                X = X.copy()
                if encode(reference, _writable(X), n_samples):
                    raise ValueError("X contains infinity in a categorical feature, which the estimator refuses.")
            values = X.tobytes() if X.nbytes <= COPIED_BYTES else X.ctypes.data
            if evaluate(reference, values, n_samples, _writable(summed)):
                raise ValueError("X contains NaN, infinity or a value too large for float32, which these trees refuse.")
        # scikit-learn's sums over columns depend on the layout.
        return summed.reshape(n_columns, n_samples).T if by_column else summed

    return sums


def _structure(model: Mapping[str, Any]) -> _Model:
    """Return what the evaluator reads; it keeps the arrays alive."""
    arrays = {name: np.ascontiguousarray(model[name], dtype=dtype) for name, dtype in _ARRAYS.items()}
    structure = _Model(
        **{name: array.ctypes.data for name, array in arrays.items()},
        **{name: model[name] for name in ("divisor", "too_large", "n_features", "by_column", "refused")},
        n_trees=len(arrays["roots"]),
        n_columns=len(arrays["base"]),
        width=arrays["values"].shape[1],
        n_sets=len(arrays["categories"]),
        n_encoded=len(arrays["encoded_features"]),
    )
    structure.arrays = tuple(arrays.values())
    return structure


def _writable(array: Floats) -> Any:
    """Return the address of an array's values, in a third of the time that array.ctypes takes."""
    return ctypes.byref(ctypes.c_char.from_buffer(array.data))


def _values(model: Mapping[str, Any]) -> dict[str, Answer]:
    """Return what a regressor answers."""
    one = len(model["base"]) == 1
    predict = np.exp if model["link"] == "exp" else np.asarray
    return {"predict": lambda sums: predict(sums.reshape(-1) if one else sums)}


def _probabilities(model: Mapping[str, Any]) -> dict[str, Answer]:
    """Return what a classifier answers whose trees hold probabilities."""
    classes = _classes(model)
    return {"predict": lambda sums: classes.take(sums.argmax(axis=1), axis=0), "predict_proba": np.asarray}


def _margin(model: Mapping[str, Any]) -> dict[str, Answer]:
    """Return what a boosted classifier of two classes answers."""
    classes, zero, scale = _classes(model), model["zero"], model["scale"]
    second = np.greater_equal if zero == "second" else np.greater

    def predict(sums: Floats) -> NDArray[Any]:
        return classes.take(second(sums.reshape(-1), 0).astype(int), axis=0)

    def predict_proba(sums: Floats) -> Floats:
        probabilities = np.empty((len(sums), 2))
        probabilities[:, 1] = [_expit(scale * margin) for margin in sums.reshape(-1).tolist()]
        probabilities[:, 0] = 1 - probabilities[:, 1]
        return probabilities

    return {"predict": predict, "predict_proba": predict_proba, "decision_function": lambda sums: sums.reshape(-1)}


def _expit(x: float) -> float:
    """Return what scipy.special.expit does: it takes the C library's exponential, as Python does and NumPy does not."""
    try:
        return 1 / (1 + math.exp(-x))
    except OverflowError:
        return 0.0


def _scores(model: Mapping[str, Any]) -> dict[str, Answer]:
    """Return what a boosted classifier of more than two classes answers."""
    classes = _classes(model)
    return {
        "predict": lambda sums: classes.take(sums.argmax(axis=1), axis=0),
        "predict_proba": _softmax,
        "decision_function": np.asarray,
    }


def _softmax(scores: Floats) -> Floats:
    """Return what sklearn.utils.extmath.softmax does; the scores stay."""
    exponentials = scores.copy(order="K")
    exponentials -= np.maximum.reduce(scores, axis=1, keepdims=True)
    np.exp(exponentials, out=exponentials)
    exponentials /= np.add.reduce(exponentials, axis=1, keepdims=True)
    return exponentials


def _isolation(model: Mapping[str, Any]) -> dict[str, Answer]:
    """Return what an isolation forest answers, whose trees hold path lengths."""
    usual_depth, offset = model["usual_depth"], model["offset"]

    def score_samples(sums: Floats) -> Floats:
        depths = sums.reshape(-1)
        relative = np.divide(depths, usual_depth) if usual_depth else np.ones_like(depths)
        scores: Floats = -(2 ** (-relative))
        return scores

    return {
        "predict": lambda sums: np.where(score_samples(sums) - offset < 0, -1, 1),
        "decision_function": lambda sums: score_samples(sums) - offset,
        "score_samples": score_samples,
    }


_ANSWERS: dict[str, Callable[[Mapping[str, Any]], dict[str, Answer]]] = {
    "values": _values,
    "probabilities": _probabilities,
    "margin": _margin,
    "scores": _scores,
    "isolation": _isolation,
}


def _classes(model: Mapping[str, Any]) -> NDArray[Any]:
    return np.array(model["classes"], dtype=model["classes_dtype"])
