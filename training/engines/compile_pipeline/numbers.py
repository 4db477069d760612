"""Compiles the transformers that take numbers only; what flows into them is a matrix already."""

from collections.abc import Callable, Mapping
from itertools import combinations, combinations_with_replacement

import numpy as np
from sklearn import decomposition, preprocessing
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from service.engines.engine_function import Floats
from service.engines.pipeline.steps import (
    Arithmetic,
    Clip,
    Discretize,
    Normalize,
    Operation,
    Polynomial,
    Products,
    Project,
    RefuseInfinity,
    Steps,
    Threshold,
    Ufunc,
)
from training.engines.compile_pipeline.cells import one_hot
from training.engines.compile_pipeline.flow import Compiled, Flow, check_float64, matrix, take
from training.engines.scikit_learn_private import Fitted, n_discriminants, one_hot_encoder, polynomial_degrees
from training.errors import UnsupportedError


def compile_numbers(transformer: Fitted, flow: Flow) -> Compiled:
    """Return the steps of a transformer of numbers, and what flows out of them.

    Raises:
        UnsupportedError: If it cannot be compiled; says why.
    """
    if hasattr(transformer, "get_support"):
        taken, flow = take(np.flatnonzero(transformer.get_support()).tolist(), flow)
        return (RefuseInfinity(), *taken), flow
    if type(transformer) not in COMPILERS:
        raise UnsupportedError(f"{type(transformer).__name__} cannot be compiled.")
    return COMPILERS[type(transformer)](transformer, flow)


def ufunc(function: object) -> Ufunc:
    """Return the step of one of NumPy's functions of one array.

    Raises:
        UnsupportedError: If it is anything else.
    """
    name = getattr(function, "__name__", "")
    one_to_one = isinstance(function, np.ufunc) and (function.nin, function.nout) == (1, 1)
    if not one_to_one or getattr(np, name, None) is not function:
        shown = name or "an unknown name"
        raise UnsupportedError(f"A function of {shown} is not one of NumPy's from one array to one array.")
    return Ufunc(name)


# ------------------------------------------------------------------------------------------- scalers


def _standard_scaler(scaler: Fitted, flow: Flow) -> Compiled:
    mean = [Operation("subtract", scaler.mean_)] if scaler.with_mean else []
    scale = [_divide(scaler.scale_, flow)] if scaler.with_std else []
    return _arithmetic(*mean, *scale), flow


def _robust_scaler(scaler: Fitted, flow: Flow) -> Compiled:
    center = [Operation("subtract", scaler.center_)] if scaler.with_centering else []
    scale = [_divide(scaler.scale_, flow)] if scaler.with_scaling else []
    return _arithmetic(*center, *scale), flow


def _max_abs_scaler(scaler: Fitted, flow: Flow) -> Compiled:
    scaled = _arithmetic(_divide(scaler.scale_, flow))
    return (_clipped(scaled, -1.0, 1.0) if getattr(scaler, "clip", False) else scaled), flow


def _min_max_scaler(scaler: Fitted, flow: Flow) -> Compiled:
    low, high = map(float, scaler.feature_range)
    scaled = _arithmetic(Operation("multiply", scaler.scale_), Operation("add", scaler.min_))
    return (_clipped(scaled, low, high) if scaler.clip else scaled), flow


def _divide(scale: Floats, flow: Flow) -> Operation:
    # scikit-learn multiplies a sparse matrix by the inverse
    return Operation("multiply", 1.0 / scale) if flow.is_sparse else Operation("divide", scale)


def _arithmetic(*operations: Operation) -> Steps:
    return (Arithmetic(operations),) if operations else ()


def _clipped(scaled: Steps, low: float, high: float) -> Steps:
    return (RefuseInfinity(), *scaled, Clip(low, high))


def _normalizer(normalizer: Fitted, flow: Flow) -> Compiled:
    return (Normalize(normalizer.norm),), flow


def _binarizer(binarizer: Fitted, flow: Flow) -> Compiled:
    return (Threshold(float(binarizer.threshold)),), flow


# ------------------------------------------------------------------------------------------- new features


def _polynomial(features: Fitted, flow: Flow) -> Compiled:
    """Compile products of features: each is made of a factor and a product of one factor less."""
    least, greatest = polynomial_degrees(features)
    if flow.is_sparse:
        raise UnsupportedError("PolynomialFeatures of a sparse matrix cannot be compiled.")
    if greatest < 1:
        raise UnsupportedError("PolynomialFeatures of degree 0 cannot be compiled.")
    choose = combinations if features.interaction_only else combinations_with_replacement
    bias = int(features.include_bias)
    places: dict[tuple[int, ...], int] = {(index,): bias + index for index in range(flow.width)}
    degrees = []
    for degree in range(2, greatest + 1):
        start = bias + len(places)
        chosen = list(choose(range(flow.width), degree))
        factors, products = [each[0] for each in chosen], [places[each[1:]] for each in chosen]
        places.update({each: start + index for index, each in enumerate(chosen)})
        degrees.append(Products(start, np.array(factors, np.intp), np.array(products, np.intp)))
    width = bias + len(places)
    kept = [*range(bias), *(place for factors, place in places.items() if len(factors) >= least)]
    all_kept = len(kept) == width
    step = Polynomial(bool(bias), tuple(degrees), width, None if all_kept else np.array(kept, np.intp))
    return (step,), matrix(len(kept))


def _pca(pca: Fitted, flow: Flow) -> Compiled:
    components = pca.components_
    operations = [Operation("subtract", pca.mean_.reshape(1, -1) @ components.T)]
    if pca.whiten:
        scale = np.sqrt(pca.explained_variance_)
        operations.append(Operation("divide", np.maximum(scale, np.finfo(scale.dtype).eps)))
    projected, flow = _projected(components, flow)
    return (*projected, *_arithmetic(*operations)), flow


def _svd(svd: Fitted, flow: Flow) -> Compiled:
    return _projected(svd.components_, flow)


def _discriminant(analysis: Fitted, flow: Flow) -> Compiled:
    if analysis.solver == "lsqr":
        raise UnsupportedError("LinearDiscriminantAnalysis with solver lsqr cannot transform.")
    centered = _arithmetic(Operation("subtract", analysis.xbar_)) if analysis.solver == "svd" else ()
    projected, flow = _projected(analysis.scalings_.T, flow)
    kept, flow = take(list(range(n_discriminants(analysis))), flow, is_slice=True)
    return (*centered, *projected, *kept), flow


def _projected(components: Floats, flow: Flow) -> Compiled:
    return (Project(components, flow.is_sparse),), matrix(len(components))


def _bins(bins: Fitted, flow: Flow) -> Compiled:
    check_float64(bins.dtype or np.float64, bins)
    step = Discretize(tuple(np.asarray(edges[1:-1], np.float64) for edges in bins.bin_edges_))
    if bins.encode == "ordinal":
        return (step,), flow
    encoded, flow = one_hot(one_hot_encoder(bins), flow)
    return (step, *encoded), matrix(flow.width, is_sparse=bins.encode == "onehot")


COMPILERS: Mapping[type, Callable[[Fitted, Flow], Compiled]] = {
    preprocessing.StandardScaler: _standard_scaler,
    preprocessing.RobustScaler: _robust_scaler,
    preprocessing.MaxAbsScaler: _max_abs_scaler,
    preprocessing.MinMaxScaler: _min_max_scaler,
    preprocessing.Normalizer: _normalizer,
    preprocessing.Binarizer: _binarizer,
    preprocessing.PolynomialFeatures: _polynomial,
    preprocessing.KBinsDiscretizer: _bins,
    decomposition.PCA: _pca,
    decomposition.TruncatedSVD: _svd,
    LinearDiscriminantAnalysis: _discriminant,
}
