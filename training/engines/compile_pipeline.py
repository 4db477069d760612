"""From a fitted estimator to a plan: its arithmetic as data, for service.plan to do without scikit-learn.

What a step does is read off its fitted attributes; what an encoder makes of a category is found by asking it. Nothing
here has to be trusted: the bake serves no plan whose answers it did not compare with the estimator's own.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from itertools import combinations, combinations_with_replacement
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import is_classifier, is_regressor

from service.artifact.contract import PREDICT, PREDICT_PROBA, Contract
from service.engines.pipeline import NOTHING
from training.engines.compile_trees import compile_trees
from training.errors import UnsupportedError

UNKNOWN_CATEGORY = "no such category, surely"
LINKS = {"IdentityLink": "scores", "LogLink": "exp"}

Plan = dict[str, Any]


@dataclass(frozen=True)
class Flow:
    """What flows from one step to the next.

    Args:
        kinds: The kind of each column: number, boolean or string.
        matrix: Whether it is one matrix, else a list of columns.
        sparse: Whether scikit-learn has a sparse matrix there, and so adds in another order.
    """

    kinds: tuple[str, ...]
    matrix: bool
    sparse: bool = False

    @property
    def width(self) -> int:
        """How many columns there are."""
        return len(self.kinds)


Compiled = tuple[list[Plan], Flow]


def compile_pipeline(estimator: Any, contract: Contract) -> Plan:
    """Return the plan of a fitted estimator.

    Raises:
        UnsupportedError: If it holds something that has no direct form; says what.
    """
    kinds = tuple(feature.kind for feature in contract.features)
    matrix = set(kinds) == {"number"}
    steps: list[Plan] = [{"step": "column_major"}] if matrix and contract.container == "frame" else []
    more, model = _estimator(estimator, Flow(kinds, matrix), tuple(output.name for output in contract.outputs))
    return {"steps": [*steps, *more], "model": model}


def _estimator(estimator: Any, flow: Flow, outputs: tuple[str, ...]) -> tuple[list[Plan], Plan]:
    """Return the steps before an estimator's model, and the model."""
    kind = type(estimator).__name__
    if hasattr(estimator, "best_estimator_"):
        return _estimator(estimator.best_estimator_, flow, outputs)
    if kind == "FrozenEstimator":
        return _estimator(estimator.estimator, flow, outputs)
    if kind == "Pipeline":
        steps, flow = _chain([step for _, step in estimator.steps[:-1]], flow)
        more, model = _estimator(estimator.steps[-1][1], flow, outputs)
        return [*steps, *more], model
    if PREDICT not in outputs:
        if outputs != ("transform",):
            raise UnsupportedError(f"{outputs[-1]} of {kind} has no direct form.")
        steps, flow = _step(estimator, flow)
        numbers, flow = _numbers(flow)
        return [*steps, *numbers], {"model": "transform"}
    if kind == "TransformedTargetRegressor":
        steps, inner = _estimator(estimator.regressor_, flow, outputs)
        flat = bool(estimator._training_dim == 1)
        return steps, {
            "model": "target", "inner": inner, "inverse": [_inverse(estimator.transformer_)], "flat": flat,
        }  # fmt: skip
    if hasattr(estimator, "intercept_") and hasattr(estimator, "coef_"):
        steps, flow = _numbers(flow)
        return steps, _linear(estimator, flow, outputs)
    return _trees(estimator, flow)


# ------------------------------------------------------------------------------------------- models


def _linear(estimator: Any, flow: Flow, outputs: tuple[str, ...]) -> Plan:
    coefficients = estimator.coef_
    if not isinstance(coefficients, np.ndarray) or coefficients.dtype != np.float64 or coefficients.ndim > 2:
        raise UnsupportedError(f"The coefficients of {type(estimator).__name__} are no matrix of float64.")
    answers = {name: _answer(name, estimator) for name in outputs if name != "transform"}
    model = {
        "model": "linear", "coefficients": coefficients, "intercept": np.asarray(estimator.intercept_, np.float64),
        "sequential": flow.sparse, "flat": is_classifier(estimator), "outputs": answers, "transforms": {},
    }  # fmt: skip
    if "transform" in outputs:
        model["transforms"] = {"transform": _step(estimator, flow)[0]}
    if is_classifier(estimator):
        model["classes"] = estimator.classes_
    return model


def _answer(name: str, estimator: Any) -> str:
    """Return which function of the scores an output of a linear model is."""
    kind = type(estimator).__name__
    if name == PREDICT and is_regressor(estimator):
        link = type(getattr(getattr(estimator, "_base_loss", None), "link", None)).__name__
        return "scores" if link == "NoneType" else LINKS.get(link, "scores")
    if name == PREDICT and is_classifier(estimator):
        return "label"
    if name == "decision_function":
        return "scores"
    if name == PREDICT_PROBA:
        binary = len(estimator.classes_) == 2
        loss = getattr(estimator, "loss", None)
        if kind in ("LogisticRegression", "LogisticRegressionCV", "LinearDiscriminantAnalysis"):
            return "logistic" if binary else "softmax"
        if kind == "SGDClassifier" and loss == "log_loss":
            return "logistic" if binary else "one_against_rest"
        if kind == "SGDClassifier" and loss == "modified_huber":
            return "clipped"
    raise UnsupportedError(f"{name} of {kind} has no direct form.")


def _trees(estimator: Any, flow: Flow) -> tuple[list[Plan], Plan]:
    if not type(estimator).__module__.startswith(("sklearn.tree", "sklearn.ensemble")):
        raise UnsupportedError(f"{type(estimator).__name__} has no direct form.")
    steps: list[Plan] = []
    if "string" in flow.kinds and getattr(estimator, "_preprocessor", None) is not None:
        # Gradient boosting codes categories by itself: a step before it does that for text.
        steps, flow = _columns(estimator._preprocessor, flow)
        estimator = copy(estimator)
        estimator._preprocessor = estimator.is_categorical_ = None
    numbers, _ = _numbers(flow)
    return [*steps, *numbers], {"model": "trees", "trees": compile_trees(estimator)}


def _inverse(transformer: Any) -> Plan:
    kind = type(transformer).__name__
    if kind == "FunctionTransformer" and not transformer.inv_kw_args:
        return _ufunc(transformer.inverse_func)
    if kind == "StandardScaler":
        scale = [["multiply", transformer.scale_]] if transformer.with_std else []
        mean = [["add", transformer.mean_]] if transformer.with_mean else []
        return _arithmetic([*scale, *mean])
    if kind == "MinMaxScaler":
        return _arithmetic([["subtract", transformer.min_], ["divide", transformer.scale_]])
    raise UnsupportedError(f"The inverse of {kind} has no direct form.")


# ------------------------------------------------------------------------------------------- steps


def _chain(parts: Sequence[Any], flow: Flow) -> Compiled:
    steps: list[Plan] = []
    for part in parts:
        more, flow = _step(part, flow)
        steps += more
    return steps, flow


def _step(transformer: Any, flow: Flow) -> Compiled:
    """Return the steps of a transformer, and what flows out of them."""
    if transformer is None or transformer == "passthrough":
        return [], flow
    kind = type(transformer).__name__
    if not type(transformer).__module__.startswith("sklearn."):
        raise UnsupportedError(f"{kind} is not scikit-learn's.")
    if kind in OF_ANY_COLUMNS:
        return OF_ANY_COLUMNS[kind](transformer, flow)
    numbers, flow = _numbers(flow)
    if hasattr(transformer, "get_support"):
        taken, flow = _take(np.flatnonzero(transformer.get_support()).tolist(), flow)
        steps = [{"step": "no_infinity"}, *taken]
    elif kind in OF_NUMBERS:
        steps, flow = OF_NUMBERS[kind](transformer, flow)
    else:
        raise UnsupportedError(f"{kind} has no direct form.")
    return [*numbers, *steps], flow


def _numbers(flow: Flow) -> Compiled:
    """Return the steps that make one matrix of what flows."""
    if "string" in flow.kinds:
        raise UnsupportedError("A column of text goes into a step that takes numbers.")
    if flow.matrix:
        return [], flow
    return [{"step": "matrix"}], replace(flow, kinds=("number",) * flow.width, matrix=True)


def _take(places: list[int], flow: Flow, piece: slice | None = None) -> Compiled:
    kinds = tuple(flow.kinds[place] for place in places)
    taken = replace(flow, kinds=kinds)
    if places == list(range(flow.width)):
        return [], taken
    step: Plan = {"step": "take", "columns": places, "matrix": flow.matrix}
    if flow.matrix and piece is not None:
        step["slice"] = [places[0], places[-1] + 1, 1]
    if flow.matrix or set(kinds) != {"number"}:
        return [step], taken
    return [step, {"step": "matrix"}], replace(taken, matrix=True)


def _pipeline(pipeline: Any, flow: Flow) -> Compiled:
    return _chain([step for _, step in pipeline.steps], flow)


def _columns(transformer: Any, flow: Flow) -> Compiled:
    """Compile a column transformer."""
    parts = []
    weights = transformer.transformer_weights or {}
    for name, part, columns in transformer.transformers_:
        places = list(transformer._transformer_to_input_indices[name])
        if part == "drop" or not places:
            continue
        piece = columns if isinstance(columns, slice) and (columns.step or 1) == 1 else None
        taken, inside = _take(places, flow, piece)
        if _is_check(part):
            part = "passthrough"
        steps, out = _weighted(*_step(part, inside), weights.get(name))
        parts.append(([*taken, *steps], out))
    return _side_by_side(parts, transformer.sparse_output_)


def _is_check(part: Any) -> bool:
    """Say whether a part is what gradient boosting checks its numbers with."""
    function = getattr(part, "func", None)
    return getattr(getattr(function, "func", None), "__name__", "") == "check_array"


def _union(union: Any, flow: Flow) -> Compiled:
    weights = union.transformer_weights or {}
    parts = [
        _weighted(*_step(part, flow), weights.get(name)) for name, part in union.transformer_list if part != "drop"
    ]
    return _side_by_side(parts, any(out.sparse for _, out in parts))


def _weighted(steps: list[Plan], flow: Flow, weight: float | None) -> Compiled:
    if weight is None:
        return steps, flow
    numbers, flow = _numbers(flow)
    return [*steps, *numbers, _arithmetic([["multiply", float(weight)]])], flow


def _side_by_side(parts: list[Compiled], sparse: bool) -> Compiled:
    if not parts:
        raise UnsupportedError("No column is left.")
    kinds = tuple(kind for _, flow in parts for kind in flow.kinds)
    matrix = "string" not in kinds
    flow = Flow(kinds, matrix, sparse)
    if not matrix:
        return [{"step": "join", "parts": [steps for steps, _ in parts]}], flow
    complete = [[*steps, *_numbers(out)[0]] for steps, out in parts]
    flow = replace(flow, kinds=("number",) * flow.width)
    return (complete[0] if len(parts) == 1 else [{"step": "stack", "parts": complete}]), flow


def _arithmetic(operations: list[list[Any]]) -> Plan:
    return {"step": "arithmetic", "operations": operations}


def _scaled(operations: list[list[Any]], flow: Flow) -> list[Plan]:
    if flow.sparse:  # scikit-learn multiplies a sparse matrix by the inverse
        operations = [["multiply", 1.0 / values] if name == "divide" else [name, values] for name, values in operations]
    return [_arithmetic(operations)] if operations else []


def _standard_scaler(scaler: Any, flow: Flow) -> Compiled:
    mean = [["subtract", scaler.mean_]] if scaler.with_mean else []
    scale = [["divide", scaler.scale_]] if scaler.with_std else []
    return _scaled([*mean, *scale], flow), flow


def _robust_scaler(scaler: Any, flow: Flow) -> Compiled:
    center = [["subtract", scaler.center_]] if scaler.with_centering else []
    scale = [["divide", scaler.scale_]] if scaler.with_scaling else []
    return _scaled([*center, *scale], flow), flow


def _max_abs_scaler(scaler: Any, flow: Flow) -> Compiled:
    steps = _scaled([["divide", scaler.scale_]], flow)
    return (_clipped(steps, -1.0, 1.0) if getattr(scaler, "clip", False) else steps), flow


def _min_max_scaler(scaler: Any, flow: Flow) -> Compiled:
    low, high = map(float, scaler.feature_range)
    steps = [_arithmetic([["multiply", scaler.scale_], ["add", scaler.min_]])]
    return (_clipped(steps, low, high) if scaler.clip else steps), flow


def _clipped(steps: list[Plan], low: float, high: float) -> list[Plan]:
    return [{"step": "no_infinity"}, *steps, {"step": "clip", "low": low, "high": high}]


def _normalizer(normalizer: Any, flow: Flow) -> Compiled:
    return [{"step": "normalize", "norm": normalizer.norm}], flow


def _binarizer(binarizer: Any, flow: Flow) -> Compiled:
    return [{"step": "threshold", "threshold": float(binarizer.threshold)}], flow


def _function(transformer: Any, flow: Flow) -> Compiled:
    if transformer.func is None:
        return [], flow
    if transformer.kw_args:
        raise UnsupportedError("A FunctionTransformer with arguments has no direct form.")
    numbers, flow = _numbers(flow)
    return [*numbers, _ufunc(transformer.func)], flow


def _ufunc(function: Any) -> Plan:
    name = getattr(function, "__name__", "")
    if not isinstance(function, np.ufunc) or function.nin != 1 or getattr(np, name, None) is not function:
        raise UnsupportedError(f"A function of {name or 'an unknown name'} is none of NumPy's for one array.")
    return {"step": "function", "name": name}


def _polynomial(features: Any, flow: Flow) -> Compiled:
    """Compile products of features: each is made of a factor and a product of one factor less."""
    if flow.sparse:
        raise UnsupportedError("Polynomial features of a sparse matrix have no direct form.")
    choose = combinations if features.interaction_only else combinations_with_replacement
    bias = int(features.include_bias)
    places: dict[tuple[int, ...], int] = {(index,): bias + index for index in range(flow.width)}
    levels = []
    for degree in range(2, features._max_degree + 1):
        begin = bias + len(places)
        made = list(choose(range(flow.width), degree))
        heads, tails = [factors[0] for factors in made], [places[factors[1:]] for factors in made]
        places.update({factors: begin + index for index, factors in enumerate(made)})
        levels.append([begin, begin + len(made), np.array(heads, np.intp), np.array(tails, np.intp)])
    width = bias + len(places)
    if features._max_degree < 1:
        raise UnsupportedError("Polynomial features of degree 0 have no direct form.")
    kept = [*range(bias), *(place for factors, place in places.items() if len(factors) >= features._min_degree)]
    step = {
        "step": "products", "bias": bool(bias), "levels": levels, "width": width,
        "kept": None if len(kept) == width else np.array(kept, np.intp),
    }  # fmt: skip
    return [step], Flow(("number",) * len(kept), True)


def _pca(pca: Any, flow: Flow) -> Compiled:
    components = pca.components_
    operations = [["subtract", pca.mean_.reshape(1, -1) @ components.T]]
    if pca.whiten:
        scale = np.sqrt(pca.explained_variance_)
        operations.append(["divide", np.maximum(scale, np.finfo(scale.dtype).eps)])
    steps, flow = _projected(components, flow)
    return [*steps, _arithmetic(operations)], flow


def _svd(svd: Any, flow: Flow) -> Compiled:
    return _projected(svd.components_, flow)


def _discriminant(analysis: Any, flow: Flow) -> Compiled:
    if analysis.solver == "lsqr":
        raise UnsupportedError("LinearDiscriminantAnalysis with solver lsqr cannot transform.")
    centred = [_arithmetic([["subtract", analysis.xbar_]])] if analysis.solver == "svd" else []
    n_components = analysis._max_components
    steps, flow = _projected(analysis.scalings_.T, flow)
    kept, flow = _take(list(range(n_components)), flow, slice(n_components))
    return [*centred, *steps, *kept], flow


def _projected(components: Any, flow: Flow) -> Compiled:
    step = {"step": "project", "components": components, "sequential": flow.sparse}
    return [step], Flow(("number",) * len(components), True)


def _bins(bins: Any, flow: Flow) -> Compiled:
    _check_float64(bins.dtype or np.float64, bins)
    step = {"step": "bins", "edges": [np.asarray(edges[1:-1], np.float64) for edges in bins.bin_edges_]}
    if bins.encode == "ordinal":
        return [step], flow
    more, flow = _one_hot(bins._encoder, flow)
    return [step, *more], replace(flow, sparse=bins.encode == "onehot")


# ------------------------------------------------------------------------------------------- gaps


def _imputer(imputer: Any, flow: Flow) -> Compiled:
    """Compile an imputer: what it fills in, the columns it drops, the indicators it adds."""
    marker = None if pd.isna(imputer.missing_values) else imputer.missing_values
    statistics = list(imputer.statistics_)
    dropped = [not imputer.keep_empty_features and bool(pd.isna(value)) for value in statistics]
    kept = [place for place, drop in enumerate(dropped) if not drop]
    indicators = list(map(int, imputer.indicator_.features_)) if imputer.add_indicator else []
    kinds = (*(flow.kinds[place] for place in kept), *["number"] * len(indicators))
    if "string" not in flow.kinds:
        numbers, flow = _numbers(flow)
        step: Plan = {
            "step": "fill_numbers", "fill": np.array(statistics, np.float64),
            "marker": None if marker is None else float(marker),
            "kept": None if len(kept) == len(statistics) else np.array(kept), "indicators": indicators or None,
        }  # fmt: skip
        return [*numbers, step], Flow(("number",) * len(kinds), True)
    if marker is not None:
        raise UnsupportedError("An imputer of text that stands for a missing value has no direct form.")
    fill = [[place, _plain(statistics[place])] for place in kept]
    return [{"step": "fill_cells", "fill": fill, "indicators": indicators}], Flow(kinds, False)


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _missing_indicator(indicator: Any, flow: Flow) -> Compiled:
    if not pd.isna(indicator.missing_values):
        raise UnsupportedError("An indicator of other values than missing ones has no direct form.")
    places = list(map(int, indicator.features_))
    refuses = indicator.features == "missing-only" and indicator.error_on_new
    refused = [place for place in range(flow.width) if place not in places] if refuses else []
    return [{"step": "missing", "columns": places, "refused": refused}], Flow(("number",) * len(places), True)


# ------------------------------------------------------------------------------------------- categories


def _ordinal(encoder: Any, flow: Flow) -> Compiled:
    _check_float64(encoder.dtype, encoder)
    coded, unknown = _asked(encoder, flow)
    columns = [
        _codes(categories, coded[: len(categories), index].tolist(), unknown and float(unknown[index]), flow, index)
        for index, categories in enumerate(encoder.categories_)
    ]
    return [{"step": "ordinal", "columns": columns}], Flow(("number",) * flow.width, True)


def _one_hot(encoder: Any, flow: Flow) -> Compiled:
    _check_float64(encoder.dtype, encoder)
    coded, unknown = _asked(encoder, flow)
    ends = np.cumsum(encoder._n_features_outs).tolist()
    columns = []
    for index, categories in enumerate(encoder.categories_):
        begin, end = ends[index] - encoder._n_features_outs[index], ends[index]
        places = [_place(row, begin) for row in coded[: len(categories), begin:end]]
        other = None if unknown is None else _place(np.array(unknown[begin:end]), begin)
        columns.append(_codes(categories, places, other, flow, index))
    step = {"step": "one_hot", "columns": columns, "width": ends[-1]}
    return [step], Flow(("number",) * ends[-1], True, sparse=bool(encoder.sparse_output))


def _place(row: Any, begin: int) -> int:
    """Return the place of the one column of a row that is set."""
    return begin + int(np.argmax(row)) if row.any() else NOTHING


def _asked(encoder: Any, flow: Flow) -> tuple[Any, list[float] | None]:
    """Return what an encoder makes of its categories, one row for each, and of unknown ones, None if it refuses."""
    known = [list(categories) for categories in encoder.categories_]
    longest = max(map(len, known))
    columns = [[*categories, *categories[:1] * (longest - len(categories))] for categories in known]
    strange = [
        [max((cell for cell in cells if cell == cell), default=0) + 1] if kind == "number" else [UNKNOWN_CATEGORY]
        for cells, kind in zip(known, flow.kinds, strict=True)
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a category is unknown
        coded = _dense(encoder.transform(_as_fitted(encoder, columns)))
        try:
            unknown = _dense(encoder.transform(_as_fitted(encoder, strange)))[0].tolist()
        except ValueError:
            unknown = None
    return coded, unknown


def _as_fitted(encoder: Any, columns: list[list[Any]]) -> Any:
    if not hasattr(encoder, "feature_names_in_"):
        numbers = all(isinstance(cell, float | int | np.number) for column in columns for cell in column)
        return np.array(columns, dtype=np.float64 if numbers else object).T
    named = zip(encoder.feature_names_in_, columns, strict=True)
    return pd.DataFrame({name: pd.Series(column, dtype=object) for name, column in named})


def _dense(answer: Any) -> Any:
    return answer.toarray() if hasattr(answer, "toarray") else np.asarray(answer)


def _codes(categories: Any, codes: list[Any], unknown: Any, flow: Flow, index: int) -> Plan:
    cells = [_plain(cell) for cell in categories]
    numbers = flow.kinds[index] == "number"
    missing = next((code for cell, code in zip(cells, codes, strict=True) if cell != cell), unknown)
    pairs = [(cell, code) for cell, code in zip(cells, codes, strict=True) if cell is not None and cell == cell]
    if not pairs:
        raise UnsupportedError("An encoder that knows no category has no direct form.")
    known = [float(cell) if numbers else cell for cell, _ in pairs]
    return {"numbers": numbers, "known": known, "codes": [code for _, code in pairs], "missing": missing,
            "unknown": unknown}  # fmt: skip


def _check_float64(dtype: Any, encoder: Any) -> None:
    if np.dtype(dtype) != np.float64:
        raise UnsupportedError(f"{type(encoder).__name__} to {np.dtype(dtype)} has no direct form.")


OF_ANY_COLUMNS: Mapping[str, Callable[[Any, Flow], Compiled]] = {
    "Pipeline": _pipeline,
    "ColumnTransformer": _columns,
    "FeatureUnion": _union,
    "FunctionTransformer": _function,
    "SimpleImputer": _imputer,
    "MissingIndicator": _missing_indicator,
    "OneHotEncoder": _one_hot,
    "OrdinalEncoder": _ordinal,
}
OF_NUMBERS: Mapping[str, Callable[[Any, Flow], Compiled]] = {
    "StandardScaler": _standard_scaler,
    "RobustScaler": _robust_scaler,
    "MaxAbsScaler": _max_abs_scaler,
    "MinMaxScaler": _min_max_scaler,
    "Normalizer": _normalizer,
    "Binarizer": _binarizer,
    "PolynomialFeatures": _polynomial,
    "KBinsDiscretizer": _bins,
    "PCA": _pca,
    "TruncatedSVD": _svd,
    "LinearDiscriminantAnalysis": _discriminant,
}
