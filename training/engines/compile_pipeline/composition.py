"""Compiles a transformer of any kind, and what puts transformers together: pipelines, column transformers, unions."""

from collections.abc import Callable, Iterable, Mapping

from sklearn import impute, preprocessing
from sklearn.compose import ColumnTransformer
from sklearn.pipeline import FeatureUnion, Pipeline
from sklearn.utils import check_array

from service.engines.pipeline.steps import Arithmetic, Join, Operation, Stack, Steps
from training.engines.compile_pipeline.cells import imputer, missing_indicator, one_hot, ordinal
from training.engines.compile_pipeline.flow import Compiled, Flow, matrix, take, to_matrix
from training.engines.compile_pipeline.numbers import compile_numbers, ufunc
from training.engines.scikit_learn_private import Fitted, input_places
from training.errors import UnsupportedError


def compile_transformer(transformer: Fitted, flow: Flow) -> Compiled:
    """Return the steps of a fitted transformer, and what flows out of them.

    Raises:
        UnsupportedError: If it, or a part of it, cannot be compiled; says why.
    """
    if transformer is None or transformer == "passthrough":
        return (), flow
    kind = type(transformer)
    if not kind.__module__.startswith("sklearn."):
        raise UnsupportedError(f"{kind.__name__} cannot be compiled, because it is not part of scikit-learn.")
    if kind in COMPILERS:
        return COMPILERS[kind](transformer, flow)
    numbers, flow = to_matrix(flow)
    steps, flow = compile_numbers(transformer, flow)
    return (*numbers, *steps), flow


def compile_chain(transformers: Iterable[Fitted], flow: Flow) -> Compiled:
    """Return the steps of transformers that follow each other, and what flows out of them."""
    steps: Steps = ()
    for transformer in transformers:
        more, flow = compile_transformer(transformer, flow)
        steps += more
    return steps, flow


def _pipeline(pipeline: Fitted, flow: Flow) -> Compiled:
    return compile_chain([step for _, step in pipeline.steps], flow)


def column_transformer(transformer: Fitted, flow: Flow) -> Compiled:
    """Compile a ColumnTransformer."""
    branches = []
    weights = transformer.transformer_weights or {}
    for name, part, columns in transformer.transformers_:
        places = input_places(transformer, name)
        if part == "drop" or not places:
            continue
        taken, inside = take(places, flow, is_slice=isinstance(columns, slice) and (columns.step or 1) == 1)
        compiled = compile_transformer("passthrough" if _checks_numbers(part) else part, inside)
        steps, out = _weighted(compiled, weights.get(name))
        branches.append(((*taken, *steps), out))
    return _side_by_side(branches, transformer.sparse_output_)


def _checks_numbers(part: Fitted) -> bool:
    """Say whether a part is what gradient boosting checks its numbers with."""
    return getattr(getattr(part, "func", None), "func", None) is check_array


def _union(union: Fitted, flow: Flow) -> Compiled:
    weights = union.transformer_weights or {}
    branches = [
        _weighted(compile_transformer(part, flow), weights.get(name))
        for name, part in union.transformer_list
        if part != "drop"
    ]
    return _side_by_side(branches, any(out.is_sparse for _, out in branches))


def _weighted(compiled: Compiled, weight: float | None) -> Compiled:
    if weight is None:
        return compiled
    steps, flow = compiled
    numbers, flow = to_matrix(flow)
    return (*steps, *numbers, Arithmetic((Operation("multiply", float(weight)),))), flow


def _side_by_side(branches: list[Compiled], is_sparse: bool) -> Compiled:
    if not branches:
        raise UnsupportedError("No column is left.")
    kinds = tuple(kind for _, out in branches for kind in out.kinds)
    if "string" in kinds:
        return (Join(tuple(steps for steps, _ in branches)),), Flow(kinds, is_matrix=False, is_sparse=is_sparse)
    matrices = tuple((*steps, *to_matrix(out)[0]) for steps, out in branches)
    return matrices[0] if len(matrices) == 1 else (Stack(matrices),), matrix(len(kinds), is_sparse)


def _function(transformer: Fitted, flow: Flow) -> Compiled:
    if transformer.func is None:
        return (), flow
    if transformer.kw_args:
        raise UnsupportedError("A FunctionTransformer with arguments cannot be compiled.")
    numbers, flow = to_matrix(flow)
    return (*numbers, ufunc(transformer.func)), flow


# Those that take any columns; all others take a matrix.
COMPILERS: Mapping[type, Callable[[Fitted, Flow], Compiled]] = {
    Pipeline: _pipeline,
    ColumnTransformer: column_transformer,
    FeatureUnion: _union,
    preprocessing.FunctionTransformer: _function,
    impute.SimpleImputer: imputer,
    impute.MissingIndicator: missing_indicator,
    preprocessing.OneHotEncoder: one_hot,
    preprocessing.OrdinalEncoder: ordinal,
}
