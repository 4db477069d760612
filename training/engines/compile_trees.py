"""Compiles fitted ensembles of trees to the arrays that the service evaluates, bit by bit as scikit-learn does.

All ensembles become one thing: trees whose leaves hold what they add to some of a row's sums, from a base on, in the
order in which scikit-learn adds. Thresholds move such that float64 values compare as scikit-learn's float32 ones do.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn import ensemble, tree
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.utils import get_tags

from service.engines.trees import (
    HAS_MISSING,
    HAS_TOO_LARGE,
    IS_CATEGORICAL,
    MISSING_GOES_RIGHT,
    NODE,
    CompiledTrees,
    IsolationOutputs,
    MarginOutputs,
    ProbabilityOutputs,
    RegressionOutputs,
    ScoreOutputs,
    TreeOutputs,
)
from training.engines.scikit_learn_private import (
    Fitted,
    category_encoder,
    histogram_start,
    histogram_trees,
    path_lengths,
    starts,
    takes_all_features,
    usual_path_length,
)
from training.errors import UnsupportedError

TREES = (tree.DecisionTreeClassifier, tree.DecisionTreeRegressor, tree.ExtraTreeClassifier, tree.ExtraTreeRegressor)
FORESTS = (
    ensemble.RandomForestClassifier,
    ensemble.RandomForestRegressor,
    ensemble.ExtraTreesClassifier,
    ensemble.ExtraTreesRegressor,
)
BAGGING = (ensemble.BaggingClassifier, ensemble.BaggingRegressor)
BOOSTING = (ensemble.GradientBoostingClassifier, ensemble.GradientBoostingRegressor)
HISTOGRAM_BOOSTING = (ensemble.HistGradientBoostingClassifier, ensemble.HistGradientBoostingRegressor)
# Those of the initial estimators of gradient boosting that say the same of every row.
CONSTANT_STRATEGIES = ("prior", "most_frequent", "constant", "mean", "median", "quantile")
# Losses of histogram gradient boosting, by their link.
IDENTITY_LOSSES, LOGARITHMIC_LOSSES = ("squared_error", "absolute_error", "quantile"), ("gamma", "poisson")


@dataclass(frozen=True)
class Tree:
    """A tree as arrays with one item for each node, the root's first.

    Args:
        left: The left child, -1 for leaves.
        right: The right child.
        feature: The feature that the node looks at; anything for leaves.
        threshold: The greatest value that goes left, as float64 values are compared.
        missing_goes_right: Whether NaN goes right.
        values: What leaves add, of shape (n_nodes, width); anything for other nodes.
        categories: For each node its row in lefts, -1 if it compares with its threshold.
        lefts: Of shape (n_sets, 8) and uint32: bit c of a row is set if the category with the code c goes left.
    """

    left: NDArray[np.int64]
    right: NDArray[np.int64]
    feature: NDArray[np.int64]
    threshold: NDArray[np.float64]
    missing_goes_right: NDArray[np.bool_]
    values: NDArray[np.float64]
    categories: NDArray[np.int64]
    lefts: NDArray[np.uint32]


def ends_in_trees(estimator: Fitted) -> bool:
    """Say whether the last step of an estimator is a tree or an ensemble."""
    while hasattr(estimator, "best_estimator_") or hasattr(estimator, "steps"):
        estimator = estimator.best_estimator_ if hasattr(estimator, "best_estimator_") else estimator.steps[-1][1]
    return type(estimator).__module__.startswith(("sklearn.tree", "sklearn.ensemble"))


def compile_trees(estimator: Fitted) -> CompiledTrees:
    """Return what the service needs to answer as a fitted estimator does.

    Raises:
        UnsupportedError: If it is not an ensemble of trees, or was fitted in a way that the evaluator cannot follow.
    """
    kind = type(estimator)  # a subclass may do anything
    for kinds, compiler in (
        (TREES, _single),
        (FORESTS, _forest),
        (BAGGING, _bagging),
        (BOOSTING, _boosting),
        (HISTOGRAM_BOOSTING, _histogram_boosting),
        ((ensemble.IsolationForest,), _isolation_forest),
    ):
        if kind in kinds:
            return compiler(estimator)
    raise UnsupportedError(f"{kind.__name__} cannot be compiled: it is not one of the known ensembles of trees.")


def _single(estimator: Fitted) -> CompiledTrees:
    # A tree does not add, and -0 is the number that changes no other one, not even -0.
    return _averaged(estimator, [_tree(estimator)], base=-0.0, allow_missing=_takes_missing(estimator))


def _forest(estimator: Fitted) -> CompiledTrees:
    trees = [_tree(member) for member in estimator.estimators_]
    return _averaged(estimator, trees, base=0.0, allow_missing=_takes_missing(estimator.estimators_[0]))


def _bagging(estimator: Fitted) -> CompiledTrees:
    if not all(type(member) in TREES for member in estimator.estimators_):
        raise UnsupportedError(f"{type(estimator).__name__} is compiled only if all its members are single trees.")
    if len(np.unique(np.concatenate(estimator.estimators_features_))) < estimator.n_features_in_:
        raise UnsupportedError("A feature that no member looks at may hold what the other features may not.")
    trees = [
        _of_features(_tree(member), features)
        for member, features in zip(estimator.estimators_, estimator.estimators_features_, strict=True)
    ]
    missing = all(_takes_missing(member) for member in estimator.estimators_)
    return _averaged(estimator, trees, base=0.0, allow_missing=missing)


def _averaged(estimator: Fitted, trees: Sequence[Tree], base: float, allow_missing: bool) -> CompiledTrees:
    width = trees[0].values.shape[1]
    outputs: TreeOutputs
    if hasattr(estimator, "classes_"):
        outputs = ProbabilityOutputs(_classes(estimator))
    else:
        outputs = RegressionOutputs(flat=width == 1, exponential=False)
    refused = HAS_TOO_LARGE | (0 if allow_missing else HAS_MISSING)
    compiled = _compiled(trees, np.full(width, base), estimator.n_features_in_, refused, outputs)
    return replace(compiled, divisor=float(len(trees)))


def _boosting(estimator: Fitted) -> CompiledTrees:
    init = estimator.init_
    if init != "zero" and not (
        type(init) in (DummyClassifier, DummyRegressor) and init.strategy in CONSTANT_STRATEGIES
    ):
        raise UnsupportedError("Gradient boosting is compiled only from a constant start: init None or zero.")
    # The same start for every row and every number of rows is seen rather than believed.
    blank = np.zeros((9, estimator.n_features_in_), dtype=np.float32)
    start = np.concatenate([starts(estimator, rows) for rows in (blank[:1], blank)])
    if (start != start[0]).any():
        raise UnsupportedError("The start of gradient boosting differs from row to row.")
    trees = [_tree(member, scale=estimator.learning_rate) for member in estimator.estimators_.flat]
    outputs: TreeOutputs
    if hasattr(estimator, "classes_"):
        scale = 2 if estimator.loss == "exponential" else 1
        outputs = _boosted_classes(estimator, zero_is_second=True, scale=scale)
    else:
        outputs = RegressionOutputs(flat=True, exponential=False)
    return _compiled(trees, start[0], estimator.n_features_in_, HAS_TOO_LARGE | HAS_MISSING, outputs)


def _boosted_classes(estimator: Fitted, zero_is_second: bool, scale: int) -> TreeOutputs:
    """Return how to read the sums of a boosted classifier."""
    if len(estimator.classes_) < 2:
        raise UnsupportedError("A boosted classifier of one class has no answers.")
    classes = _classes(estimator)
    if estimator.n_trees_per_iteration_ == 1:
        return MarginOutputs(classes, zero_is_second, scale)
    return ScoreOutputs(classes)


def _histogram_boosting(estimator: Fitted) -> CompiledTrees:
    base = histogram_start(estimator)
    if base.dtype != np.float64:
        raise UnsupportedError(f"The start of gradient boosting is of {base.dtype}, not of float64.")
    originals = _original_features(estimator)
    trees = [_of_features(_histogram_tree(member), originals) for member in histogram_trees(estimator)]
    outputs = _histogram_outputs(estimator, flat=len(base) == 1)
    compiled = _compiled(trees, base + 0.0, estimator.n_features_in_, refused=0, outputs=outputs)
    compiled = replace(compiled, by_column=True)
    return _with_encoding(compiled, estimator) if np.any(estimator.is_categorical_) else compiled


def _histogram_outputs(estimator: Fitted, flat: bool) -> TreeOutputs:
    is_classifier = hasattr(estimator, "classes_")
    if estimator.loss not in (("log_loss",) if is_classifier else (*IDENTITY_LOSSES, *LOGARITHMIC_LOSSES)):
        raise UnsupportedError("Histogram gradient boosting with a custom loss cannot be compiled.")
    if is_classifier:
        return _boosted_classes(estimator, zero_is_second=False, scale=1)
    return RegressionOutputs(flat, exponential=estimator.loss in LOGARITHMIC_LOSSES)


def _isolation_forest(estimator: Fitted) -> CompiledTrees:
    trees = []
    for member, features, (steps, rest) in zip(
        estimator.estimators_, estimator.estimators_features_, path_lengths(estimator), strict=True
    ):
        compiled = replace(_tree(member), values=(steps + rest - 1.0).reshape(-1, 1))
        trees.append(compiled if takes_all_features(estimator) else _of_features(compiled, features))
    outputs = IsolationOutputs(len(trees) * usual_path_length(estimator), float(estimator.offset_))
    return _compiled(trees, np.zeros(1), estimator.n_features_in_, refused=0, outputs=outputs)


def _takes_missing(member: Fitted) -> bool:
    return bool(get_tags(member).input_tags.allow_nan)


def _classes(estimator: Fitted) -> NDArray[Any]:
    """Return a classifier's labels, which a file without pickle can hold."""
    classes = estimator.classes_
    if not isinstance(classes, np.ndarray) or classes.dtype.kind not in "biufUO":
        raise UnsupportedError(f"Labels of {getattr(classes, 'dtype', type(classes))} cannot be written as JSON.")
    if not all(type(label) in (bool, int, float, str) for label in classes.tolist()):
        raise UnsupportedError("Labels of this kind cannot be written as JSON.")
    return classes


def _tree(member: Fitted, scale: float = 1.0) -> Tree:
    """Return one of the trees of scikit-learn's module tree, with its leaves' values multiplied."""
    if np.ndim(getattr(member, "n_classes_", 1)):
        raise UnsupportedError("Classifiers of several outputs cannot be compiled.")
    fitted = member.tree_
    state = fitted.__getstate__()["nodes"]
    n_nodes = fitted.node_count
    return Tree(
        left=fitted.children_left.astype(np.int64),
        right=fitted.children_right.astype(np.int64),
        feature=fitted.feature.astype(np.int64),
        threshold=as_if_rounded(fitted.threshold),
        missing_goes_right=state["missing_go_to_left"] == 0,
        values=fitted.value.reshape(n_nodes, -1) * scale,
        categories=np.full(n_nodes, -1),
        lefts=np.zeros((0, 8), dtype=np.uint32),
    )


def as_if_rounded(threshold: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return t for each threshold such that x <= t for float64 x just if np.float32(x) <= threshold."""
    with np.errstate(over="ignore"):  # the greatest float32 is followed by infinity
        below = threshold.astype(np.float32)
        below = np.where(below > threshold, np.nextafter(below, np.float32(-np.inf)), below)
        above = np.nextafter(below, np.float32(np.inf))
    ends = [np.clip(end.astype(np.float64), -(2.0**128), 2.0**128) for end in (below, above)]
    middle = (ends[0] + ends[1]) / 2
    goes_down = below.view(np.int32) & 1 == 0  # halfway values are rounded to the even neighbour
    moved = np.where(goes_down, middle, np.nextafter(middle, -np.inf))
    return np.where(np.isposinf(below), np.inf, moved)


def _of_features(compiled: Tree, features: NDArray[Any]) -> Tree:
    """Return a tree that looks at these features of the whole matrix in the place of its own ones."""
    inner = compiled.left >= 0
    feature = compiled.feature.copy()
    feature[inner] = np.asarray(features)[feature[inner]]
    return replace(compiled, feature=feature)


def _histogram_tree(member: Fitted) -> Tree:
    """Return one of the trees of histogram gradient boosting.

    It sees the codes of known categories only: what encodes them makes all others missing.
    """
    nodes = member.nodes
    leaf = nodes["is_leaf"] == 1
    categorical = (nodes["is_categorical"] == 1) & ~leaf
    return Tree(
        left=np.where(leaf, -1, nodes["left"].astype(np.int64)),
        right=nodes["right"].astype(np.int64),
        feature=nodes["feature_idx"].astype(np.int64),
        threshold=nodes["num_threshold"].astype(np.float64),
        missing_goes_right=nodes["missing_go_to_left"] == 0,
        values=nodes["value"].astype(np.float64).reshape(-1, 1),
        categories=np.where(categorical, nodes["bitset_idx"].astype(np.int64), -1),
        lefts=member.raw_left_cat_bitsets,
    )


def _original_features(estimator: Fitted) -> NDArray[np.int64]:
    """Return the feature of the input for each one that the trees look at: categorical ones come first there."""
    if category_encoder(estimator) is None:
        return np.arange(estimator.n_features_in_)
    is_categorical = np.asarray(estimator.is_categorical_)
    return np.concatenate([np.flatnonzero(is_categorical), np.flatnonzero(~is_categorical)])


def _with_encoding(compiled: CompiledTrees, estimator: Fitted) -> CompiledTrees:
    """Return trees that encode features: the places of categories, ascending, are the codes that the trees know."""
    encoder: Fitted = category_encoder(estimator)
    categories = [_numbers(values) for values in encoder.named_transformers_["encoder"].categories_]
    return replace(
        compiled,
        encoded_features=np.flatnonzero(estimator.is_categorical_).astype(np.uint32),
        encoded_ends=np.cumsum([len(values) for values in categories]).astype(np.uint32),
        encoded_values=np.concatenate(categories),
    )


def _numbers(categories: NDArray[Any]) -> NDArray[np.float64]:
    """Return the values of categories, without the missing one.

    Raises:
        UnsupportedError: If they are not numbers, or change as float64.
    """
    if categories.dtype.kind not in "biuf":
        raise UnsupportedError("Gradient boosting on categories that are not numbers cannot be compiled.")
    numbers = categories.astype(np.float64)
    if (numbers.astype(categories.dtype)[~np.isnan(numbers)] != categories[~np.isnan(numbers)]).any():
        raise UnsupportedError("Gradient boosting on categories that float64 cannot hold cannot be compiled.")
    return numbers[~np.isnan(numbers)]


def _compiled(
    trees: Sequence[Tree], base: NDArray[np.float64], n_features: int, refused: int, outputs: TreeOutputs
) -> CompiledTrees:
    """Return an ensemble as the evaluator reads it, whose sums are not divided and whose features are not encoded.

    Args:
        trees: The trees, in the order of their sums; the t-th adds to the columns from t * width modulo n_columns on.
        base: What the sums start from, of shape (n_columns,).
        n_features: How many values a row has.
        refused: What a row must not hold.
        outputs: How the outputs are made of the sums.

    Raises:
        UnsupportedError: If there is more of something than the evaluator can count.
    """
    if len({compiled.values.shape[1] for compiled in trees}) > 1:
        raise UnsupportedError("The trees do not all answer for the same classes or outputs.")
    n_nodes = sum(len(compiled.left) for compiled in trees)
    if n_nodes >= 2**31 or n_features > 2**16:
        raise UnsupportedError(f"{n_nodes} nodes over {n_features} features are more than can be compiled.")
    values, rows = _distinct(np.concatenate([compiled.values[compiled.left < 0] for compiled in trees]))
    nodes = np.zeros(n_nodes, dtype=NODE)
    roots, depths, lefts, n_leaves, n_sets = [], [], [], 0, 0
    start = 0
    for compiled in trees:
        part = nodes[start : start + len(compiled.left)]
        leaf = compiled.left < 0
        indices = np.zeros(len(leaf), dtype=np.int64)
        indices[leaf] = rows[n_leaves : n_leaves + leaf.sum()]
        categorical = (compiled.categories >= 0) & ~leaf
        indices[categorical] = compiled.categories[categorical] + n_sets
        depths.append(_fill(part, compiled, indices, start))
        roots.append(start)
        lefts.append(compiled.lefts)
        start, n_leaves, n_sets = start + len(leaf), n_leaves + int(leaf.sum()), n_sets + len(compiled.lefts)
    if (nodes["feature"] >= n_features).any():
        raise UnsupportedError("A tree looks at a feature that the estimator does not have.")
    return CompiledTrees(
        nodes=nodes,
        values=values,
        roots=np.array(roots, dtype=np.uint32),
        depths=np.array(depths, dtype=np.uint32),
        categories=np.concatenate(lefts),
        base=np.array(base, dtype=np.float64),
        encoded_features=np.zeros(0, dtype=np.uint32),
        encoded_ends=np.zeros(0, dtype=np.uint32),
        encoded_values=np.zeros(0),
        divisor=1.0,
        n_features=int(n_features),
        refused=refused,
        by_column=False,
        outputs=outputs,
    )


def _fill(nodes: NDArray[Any], compiled: Tree, indices: NDArray[np.int64], start: int) -> int:
    """Write a tree's nodes level by level, siblings side by side, and return its depth in steps."""
    order, levels = [], 0
    level = np.zeros(1, dtype=np.int64)
    while len(level):
        order.append(level)
        inner = level[compiled.left[level] >= 0]
        level = np.column_stack([compiled.left[inner], compiled.right[inner]]).ravel()
        levels += 1
    old = np.concatenate(order)
    if len(old) != len(nodes) or len(np.unique(old)) != len(old):
        raise UnsupportedError("A tree has nodes that its root does not lead to.")
    new = np.empty_like(old)
    new[old] = np.arange(len(old))
    leaf = compiled.left[old] < 0
    categorical = (compiled.categories[old] >= 0) & ~leaf
    threshold = np.where(leaf, np.nan, compiled.threshold[old])
    bits = threshold.view(np.uint64)
    # Nothing is greater than NaN, whatever its low bits say: in a leaf, where its values are.
    quiet_nan = np.uint64(0x7FF8_0000_0000_0000)
    indexed = leaf | categorical
    bits[indexed] = quiet_nan | indices[old][indexed].astype(np.uint64)
    nodes["threshold"] = threshold
    nodes["left"] = start + np.where(leaf, new[old], new[compiled.left[old]])
    nodes["feature"] = np.where(leaf, 0, compiled.feature[old])
    nodes["flags"] = np.where(leaf, 0, compiled.missing_goes_right[old] * MISSING_GOES_RIGHT)
    nodes["flags"] |= (categorical * IS_CATEGORICAL).astype(np.uint16)
    return levels - 1


def _distinct(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return the distinct rows in the order of their first appearance, and for each row its place among them.

    Most leaves of a classifier hold one class only, so a few rows, which stay in the cache, serve thousands of leaves.
    """
    n_bytes = values.shape[1] * values.itemsize
    keys = np.ascontiguousarray(values).view(np.dtype((np.void, n_bytes))).ravel()
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    order = np.argsort(first)
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    return values[first[order]], place[inverse]
