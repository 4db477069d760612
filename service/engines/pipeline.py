"""The direct form of an estimator: the same arithmetic as scikit-learn's in the same order, without its checks.

A plan is nested JSON data with arrays: the steps that make numbers of a request's columns, and the model after them. It
is turned into closures once, when the artifact is loaded; then a step costs a few NumPy calls. Each function here says
which bits it owes to whom: `training.compile` writes plans, and the bake compares their answers with the estimator's.
"""

import io
import json
from collections.abc import Callable, Mapping, Sequence
from math import isfinite, isnan
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Value = Any  # a matrix of shape (n_samples, n_columns), or a list of columns as a request has them
Step = Callable[[Value], Value]
Answers = Callable[[Value, Sequence[str]], dict[str, NDArray[Any]]]

TRANSFORM = "transform"  # the only output of a plan without a model
NOTHING = -1  # the place of a category that sets no column of a one-hot code


# ------------------------------------------------------------------------------------------- as a file


def pack(plan: Mapping[str, Any]) -> bytes:
    """Return the file of a plan: an .npz with its JSON and its arrays by number; the same bytes for the same plan."""
    arrays: dict[str, NDArray[Any]] = {}

    def plain(node: Any) -> Any:
        if isinstance(node, np.ndarray):
            if node.dtype == object:
                return {"objects": node.tolist()}
            arrays[str(len(arrays))] = node
            return {"array": str(len(arrays) - 1)}
        if isinstance(node, np.generic):
            return node.item()
        if isinstance(node, Mapping):
            return {key: plain(value) for key, value in node.items()}
        return [plain(item) for item in node] if isinstance(node, list | tuple) else node

    text = json.dumps(plain(plan), sort_keys=True).encode()
    file = io.BytesIO()
    np.savez(file, plan=np.frombuffer(text, np.uint8), **arrays)  # type: ignore[arg-type]
    return file.getvalue()


def unpack(content: bytes) -> dict[str, Any]:
    """Return the plan that pack wrote; nothing in it is unpickled."""
    with np.load(io.BytesIO(content), allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}

    def with_arrays(node: dict[str, Any]) -> Any:
        if "array" in node:
            return arrays[node["array"]]
        return np.array(node["objects"], dtype=object) if "objects" in node else node

    plan: dict[str, Any] = json.loads(arrays.pop("plan").tobytes(), object_hook=with_arrays)
    return plan


# ------------------------------------------------------------------------------------------- steps


def chain(steps: Sequence[Mapping[str, Any]]) -> Step:
    """Return one function for steps that follow each other."""
    functions = [STEPS[step["step"]](step) for step in steps]

    def run(value: Value) -> Value:
        for function in functions:
            value = function(value)
        return value

    return functions[0] if len(functions) == 1 else run


def _matrix(_step: Mapping[str, Any]) -> Step:
    # Columns one after the other in memory, as pandas has them: the order of sums follows from it.
    return lambda columns: np.array(columns, dtype=np.float64).T


def _column_major(_step: Mapping[str, Any]) -> Step:
    return np.asfortranarray


def _take(step: Mapping[str, Any]) -> Step:
    places = step["columns"]
    if not step["matrix"]:
        return lambda columns: [columns[place] for place in places]
    chosen = slice(*step["slice"]) if "slice" in step else np.array(places)
    return lambda X: X[:, chosen]  # the memory layout that scikit-learn's own selection has


def _stack(step: Mapping[str, Any]) -> Step:
    parts = [chain(part) for part in step["parts"]]
    return lambda value: np.concatenate([part(value) for part in parts], axis=1)


def _join(step: Mapping[str, Any]) -> Step:
    """Put parts side by side of which some are no matrix."""
    parts = [chain(part) for part in step["parts"]]

    def join(value: Value) -> Value:
        results = (part(value) for part in parts)
        return [column for result in results for column in (result.T if isinstance(result, np.ndarray) else result)]

    return join


def _arithmetic(step: Mapping[str, Any]) -> Step:
    (first, operand), *more = [(getattr(np, name), values) for name, values in step["operations"]]

    def calculate(X: Floats) -> Floats:
        result: Floats = first(X, operand)  # the request's own array is not written to
        for function, values in more:
            function(result, values, out=result)
        return result

    return calculate


def _function(step: Mapping[str, Any]) -> Step:
    return getattr(np, step["name"])  # type: ignore[no-any-return]


def _clip(step: Mapping[str, Any]) -> Step:
    low, high = step["low"], step["high"]
    return lambda X: np.clip(X, low, high)


def _no_infinity(_step: Mapping[str, Any]) -> Step:
    return _without_infinity


def _threshold(step: Mapping[str, Any]) -> Step:
    threshold = step["threshold"]
    return lambda X: (_finite(X) > threshold).astype(np.float64)


def _normalize(step: Mapping[str, Any]) -> Step:
    norm_of: Mapping[str, Callable[[Floats], Floats]] = {
        "l1": lambda X: np.sum(np.abs(X), axis=1),
        "l2": lambda X: np.sqrt(np.einsum("ij,ij->i", X, X)),
        "max": lambda X: np.max(np.abs(X), axis=1),
    }
    norm = norm_of[step["norm"]]
    smallest = 10 * np.finfo(np.float64).eps

    def normalize(X: Floats) -> Floats:
        norms = norm(_finite(X))
        norms[norms < smallest] = 1.0
        return X / norms[:, None]

    return normalize


def _products(step: Mapping[str, Any]) -> Step:
    """Make polynomial features: each is one input times a feature that was made before, and so has its rounding."""
    bias, levels, width, kept = step["bias"], step["levels"], step["width"], step["kept"]

    def multiply(X: Floats) -> Floats:
        made = np.empty((len(X), width))
        if bias:
            made[:, 0] = 1.0
        start = int(bias)
        made[:, start : start + X.shape[1]] = X
        for begin, end, heads, tails in levels:
            made[:, begin:end] = X[:, heads] * made[:, tails]
        return made if kept is None else made.take(kept, axis=1)

    return multiply


def _project(step: Mapping[str, Any]) -> Step:
    return _product(step["components"], step["sequential"])


def _bins(step: Mapping[str, Any]) -> Step:
    edges = step["edges"]

    def bins(X: Floats) -> Floats:
        _finite(X)
        made = np.empty_like(X)
        for index, inner in enumerate(edges):
            made[:, index] = np.searchsorted(inner, X[:, index], side="right")
        return made

    return bins


def _fill_numbers(step: Mapping[str, Any]) -> Step:
    fill, marker, kept, indicators = step["fill"], step["marker"], step["kept"], step["indicators"]

    def fill_gaps(X: Floats) -> Floats:
        # The sum of squares is NaN only if a cell is: for a few cells far cheaper than to look at each.
        if marker is None and indicators is None and kept is None and not isnan(np.vdot(X, X)):
            return X
        gaps = np.isnan(X) if marker is None else marker == X
        filled = np.where(gaps, fill, X)
        if kept is not None:
            filled = filled[:, kept]
        if indicators is None:
            return filled
        added = gaps if len(indicators) == gaps.shape[1] else gaps[:, indicators]  # two memory layouts
        return np.concatenate([filled, added], axis=1)

    return fill_gaps


def _fill_cells(step: Mapping[str, Any]) -> Step:
    """Fill the gaps of columns of which some are no numbers; a column without a value to fill in is dropped."""
    fills, indicators = step["fill"], step["indicators"]

    def fill_gaps(columns: list[Any]) -> list[Any]:
        filled = [_filled(columns[place], value) for place, value in fills]
        return [*filled, *(_gaps(columns[place]).astype(np.float64) for place in indicators)]

    return fill_gaps


def _filled(column: Any, value: Any) -> Any:
    if isinstance(column, np.ndarray):
        return np.where(np.isnan(column), value, column)
    return [value if cell is None else cell for cell in column] if None in column else column


def _gaps(column: Any) -> NDArray[np.bool_]:
    if isinstance(column, np.ndarray):
        return np.isnan(column)
    return np.fromiter((cell is None for cell in column), bool, len(column))


def _missing(step: Mapping[str, Any]) -> Step:
    places, refused = step["columns"], step["refused"]

    def indicate(value: Value) -> Floats:
        columns = value.T if isinstance(value, np.ndarray) else value
        if any(_gaps(columns[place]).any() for place in refused):
            raise ValueError("A value is missing in a column that had them all in training.")
        return np.array([_gaps(columns[place]) for place in places], dtype=np.float64).T

    return indicate


def _ordinal(step: Mapping[str, Any]) -> Step:
    lookups = [_lookup(column, np.float64) for column in step["columns"]]

    def encode(value: Value) -> Floats:
        columns = value.T if isinstance(value, np.ndarray) else value
        coded = np.empty((len(columns[0]), len(lookups)))
        for index, (look_up, column) in enumerate(zip(lookups, columns, strict=True)):
            coded[:, index] = look_up(column)
        return coded

    return encode


def _one_hot(step: Mapping[str, Any]) -> Step:
    lookups, width = [_lookup(column, np.intp) for column in step["columns"]], step["width"]

    def encode(value: Value) -> Floats:
        columns = value.T if isinstance(value, np.ndarray) else value
        n_samples = len(columns[0])
        places = [look_up(column) for look_up, column in zip(lookups, columns, strict=True)]
        coded = np.zeros((n_samples, width))
        if n_samples == 1:
            for (place,) in places:
                if place != NOTHING:
                    coded[0, place] = 1.0
            return coded
        for column in places:
            in_row = np.asarray(column)
            rows = np.flatnonzero(in_row != NOTHING)
            coded[rows, in_row[rows]] = 1.0
        return coded

    return encode


def _lookup(column: Mapping[str, Any], dtype: type[np.generic]) -> Callable[[Any], Any]:
    """Return a function from a column's cells to their codes; a category without a code is refused."""
    known, codes, missing, unknown = column["known"], column["codes"], column["missing"], column["unknown"]
    if column["numbers"]:
        return _number_lookup(np.array(known, np.float64), np.array(codes, dtype), missing, unknown)
    table = {**dict(zip(known, codes, strict=True)), None: missing}

    def look_up(cells: Sequence[Any]) -> list[Any]:
        found = [table.get(cell, unknown) for cell in cells]
        if None in found:
            raise ValueError("A cell holds a category that the encoder refuses.")
        return found

    return look_up


def _number_lookup(known: Floats, codes: NDArray[Any], missing: Any, unknown: Any) -> Callable[[Floats], NDArray[Any]]:
    order = np.argsort(known)
    known, codes = known[order], codes[order]
    last = len(known) - 1

    def look_up(cells: Floats) -> NDArray[Any]:
        places = np.minimum(np.searchsorted(known, cells), last)
        found, gaps = known[places] == cells, np.isnan(cells)
        if (unknown is None and not (found | gaps).all()) or (missing is None and gaps.any()):
            raise ValueError("A cell holds a category that the encoder refuses.")
        coded: NDArray[Any] = np.where(found, codes[places], codes.dtype.type(0 if unknown is None else unknown))
        if missing is not None:
            coded[gaps] = missing
        return coded

    return look_up


def _finite(X: Floats) -> Floats:
    """Return the matrix, where it holds numbers only; scikit-learn looks in the same places.

    Raises:
        ValueError: If it holds NaN or infinity.
    """
    if not isfinite(np.vdot(X, X)) and not np.isfinite(X).all():
        raise ValueError("A number is missing or too large for the model.")
    return X


def _without_infinity(X: Floats) -> Floats:
    """Return the matrix; what overflowed before must not be clipped to a number that looks right, or left out."""
    if not isfinite(np.vdot(X, X)) and np.isinf(X).any():
        raise ValueError("A number is too large for the model.")
    return X


def _product(coefficients: Floats, sequential: bool) -> Callable[[Floats], Floats]:
    """Return the function that multiplies a matrix with coefficients of shape (n_columns,) or (n_answers, n_columns).

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


STEPS: Mapping[str, Callable[[Mapping[str, Any]], Step]] = {
    "matrix": _matrix,
    "column_major": _column_major,
    "take": _take,
    "stack": _stack,
    "join": _join,
    "arithmetic": _arithmetic,
    "function": _function,
    "clip": _clip,
    "no_infinity": _no_infinity,
    "threshold": _threshold,
    "normalize": _normalize,
    "products": _products,
    "project": _project,
    "bins": _bins,
    "fill_numbers": _fill_numbers,
    "fill_cells": _fill_cells,
    "missing": _missing,
    "ordinal": _ordinal,
    "one_hot": _one_hot,
}


# ------------------------------------------------------------------------------------------- models


def pipeline_function(plan: Mapping[str, Any], trees: Callable[[Mapping[str, Any]], Answers]) -> Answers:
    """Return the function that a plan stands for, from columns and names of outputs to the outputs.

    Args:
        plan: As training.compile writes it.
        trees: Makes such a function, of a matrix, from the trees in a plan.
    """
    answers = _model(plan["model"], trees)
    if not plan["steps"]:
        return answers
    prepare = chain(plan["steps"])
    return lambda columns, outputs: answers(prepare(columns), outputs)


def _model(model: Mapping[str, Any], trees: Callable[[Mapping[str, Any]], Answers]) -> Answers:
    kind = model["model"]
    if kind == "transform":
        return lambda X, _outputs: {TRANSFORM: X}
    if kind == "target":
        return _target(model, _model(model["inner"], trees))
    if kind == "trees":
        forest = trees(model["trees"])
        return lambda X, outputs: forest(np.ascontiguousarray(X), outputs)
    return _linear(model)


def _target(model: Mapping[str, Any], inner: Answers) -> Answers:
    """Transform the predictions back, as TransformedTargetRegressor does."""
    inverse, flat = chain(model["inverse"]), model["flat"]

    def answer(X: Floats, outputs: Sequence[str]) -> dict[str, NDArray[Any]]:
        predicted = inner(X, outputs)["predict"]
        result = inverse(predicted.reshape(-1, 1) if predicted.ndim == 1 else predicted)
        return {"predict": result[:, 0] if flat and result.shape[1] == 1 else result}

    return answer


def _linear(model: Mapping[str, Any]) -> Answers:
    multiply, intercept = _product(model["coefficients"], model["sequential"]), model["intercept"]
    one_column = model["flat"] and model["coefficients"].ndim > 1 and len(model["coefficients"]) == 1
    of_scores = {name: _of_scores(how, model.get("classes")) for name, how in model["outputs"].items()}
    of_matrix = {name: chain(steps) for name, steps in model["transforms"].items()}

    def answer(X: Floats, outputs: Sequence[str]) -> dict[str, NDArray[Any]]:
        scores: Floats = multiply(X)
        scores = scores + intercept
        # What is not finite in a row is so in one of its scores, or in the sum of their squares; that is cheap to see.
        if not isfinite(np.vdot(scores, scores)):
            _finite(X)
        if one_column:
            scores = scores.reshape(-1)
        return {name: of_scores[name](scores) if name in of_scores else of_matrix[name](X) for name in outputs}

    return answer


def _of_scores(how: str, classes: NDArray[Any] | None) -> Callable[[Floats], NDArray[Any]]:
    if how == "label":
        assert classes is not None  # noqa: S101 - the compiler writes them for each classifier
        take = classes.take
        return lambda scores: take((scores > 0).astype(np.intp) if scores.ndim == 1 else scores.argmax(axis=1))
    functions: Mapping[str, Callable[[Floats], NDArray[Any]]] = {
        "scores": lambda scores: scores,
        "exp": np.exp,
        "logistic": lambda scores: _both(_expit(scores)),
        "one_against_rest": lambda scores: _shares(_expit(scores)),
        "softmax": _softmax,
        "clipped": _clipped,
    }
    return functions[how]


def _expit(scores: Floats) -> Floats:
    # SciPy's logistic function uses the C library's exp, NumPy's exp another one, unless the number is complex.
    result: Floats = 1.0 / (1.0 + np.exp(-scores.astype(np.complex128)).real)
    return result


def _both(positive: Floats) -> Floats:
    answer = np.empty((len(positive), 2))
    np.subtract(1, positive, out=answer[:, 0])
    answer[:, 1] = positive
    return answer


def _softmax(scores: Floats) -> Floats:
    answer: Floats = np.exp(scores - scores.max(axis=1).reshape(-1, 1))
    answer /= answer.sum(axis=1).reshape(-1, 1)
    return answer


def _clipped(scores: Floats) -> Floats:
    """Return the probabilities of the modified Huber loss."""
    positive = (np.clip(scores, -1, 1) + 1.0) / 2.0
    return _both(positive) if scores.ndim == 1 else _shares(positive)


def _shares(positive: Floats) -> Floats:
    """Return scores of classes as shares of their sum; where it is 0, all classes are as probable."""
    sums = positive.sum(axis=1)
    nothing = sums == 0
    if nothing.any():
        positive[nothing, :] = 1
        sums[nothing] = positive.shape[1]
    shares: Floats = positive / sums.reshape(-1, 1)
    return shares
