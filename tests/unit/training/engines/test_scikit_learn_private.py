"""What the compilers read of scikit-learn's private attributes is there, and means what they take it for."""

import ast
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn import ensemble, linear_model, preprocessing
from sklearn.compose import TransformedTargetRegressor, make_column_transformer
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from training import engines
from training.engines import scikit_learn_private as private

X = np.random.default_rng(0).normal(size=(60, 3))
Y = X @ [1.0, 2.0, 3.0]
CLASSES = np.digitize(Y, [-1, 1])
FRAME = pd.DataFrame(X, columns=["a", "b", "c"]).assign(word=pd.Categorical(["x", "y", "z"] * 20))


def test_a_part_of_a_column_transformer_has_its_places():
    """However its columns are named, and those that are not named as well."""
    parts = make_column_transformer(("passthrough", ["c", "a"]), ("passthrough", slice(3, 4)), remainder="passthrough")
    parts.fit(FRAME)
    places = [private.input_places(parts, name) for name, _, _ in parts.transformers_]
    assert places == [[2, 0], [3], [1]]


@pytest.mark.parametrize(("degree", "expected"), [(3, (0, 3)), ((2, 3), (2, 3))])
def test_polynomials_have_degrees(degree: int | tuple[int, int], expected: tuple[int, int]):
    """From the constant on, or between two degrees."""
    assert private.polynomial_degrees(preprocessing.PolynomialFeatures(degree).fit(X)) == expected


def test_bins_are_encoded_by_an_encoder():
    """One column for each bin."""
    bins = preprocessing.KBinsDiscretizer(4, quantile_method="averaged_inverted_cdf").fit(X)
    encoder = private.one_hot_encoder(bins)
    assert type(encoder) is preprocessing.OneHotEncoder
    assert private.one_hot_widths(encoder) == [4, 4, 4]


def test_a_one_hot_encoder_has_widths():
    """Without the categories that it drops."""
    encoder = preprocessing.OneHotEncoder(drop="first").fit(np.array([["a", "x"], ["b", "y"], ["c", "y"]]))
    assert private.one_hot_widths(encoder) == [2, 1]


def test_a_discriminant_analysis_has_components():
    """As many columns as its transform returns."""
    analysis = LinearDiscriminantAnalysis(n_components=1).fit(X, CLASSES)
    assert private.n_discriminants(analysis) == analysis.transform(X).shape[1] == 1


def test_a_target_is_a_column_or_a_matrix():
    """A matrix of one column stays a matrix."""
    regressor = TransformedTargetRegressor(linear_model.Ridge())
    assert private.is_flat_target(regressor.fit(X, Y))
    assert not private.is_flat_target(regressor.fit(X, Y.reshape(-1, 1)))


@pytest.mark.parametrize(
    ("estimator", "link"),
    [
        (linear_model.PoissonRegressor(), "LogLink"),
        (linear_model.GammaRegressor(), "LogLink"),
        (linear_model.TweedieRegressor(power=0), "IdentityLink"),
        (linear_model.Ridge(), ""),
    ],
    ids=str,
)
def test_a_generalized_linear_model_has_a_link(estimator: object, link: str):
    """Other models have none."""
    assert private.link_name(estimator.fit(X, np.exp(Y))) == link  # type: ignore[attr-defined]


def test_gradient_boosting_starts_from_the_mean():
    """One number for each row."""
    boosting = ensemble.GradientBoostingRegressor(n_estimators=2).fit(X, Y)
    start = private.starts(boosting, np.zeros((4, 3), np.float32))
    assert start.shape == (4, 1)
    np.testing.assert_allclose(start, Y.mean())


def test_histogram_gradient_boosting_has_a_start_and_trees():
    """One number and one tree for each class in each iteration."""
    boosting = ensemble.HistGradientBoostingClassifier(max_iter=4).fit(X, CLASSES)
    assert private.histogram_start(boosting).shape == (3,)
    members = private.histogram_trees(boosting)
    assert len(members) == 4 * 3
    fields = {
        "is_leaf",
        "is_categorical",
        "left",
        "right",
        "feature_idx",
        "num_threshold",
        "missing_go_to_left",
        "value",
    }
    assert fields | {"bitset_idx"} <= set(members[0].nodes.dtype.names)
    assert members[0].raw_left_cat_bitsets.shape == (0, 8)
    assert private.category_encoder(boosting) is None


def test_histogram_gradient_boosting_encodes_categories():
    """In a column transformer, after which the categories come first; without it the trees take that matrix."""
    boosting = ensemble.HistGradientBoostingRegressor(max_iter=9, min_samples_leaf=2).fit(FRAME, Y)
    encoder = private.category_encoder(boosting)
    assert encoder is not None
    encoded = encoder.transform(FRAME)
    np.testing.assert_array_equal(encoded[:, 0], FRAME["word"].cat.codes)
    np.testing.assert_array_equal(encoded[:, 1:], X)
    assert encoder.named_transformers_["encoder"].categories_[0].tolist() == ["x", "y", "z"]
    without = private.without_category_encoder(boosting)
    assert private.category_encoder(without) is None
    assert private.category_encoder(boosting) is encoder


def test_an_isolation_forest_has_path_lengths():
    """The sums of what its leaves hold make its scores."""
    forest = ensemble.IsolationForest(n_estimators=3, random_state=0).fit(X)
    lengths = [
        (steps + rest - 1.0)[member.apply(X.astype(np.float32))]
        for member, (steps, rest) in zip(forest.estimators_, private.path_lengths(forest), strict=True)
    ]
    depths = np.sum(lengths, axis=0)
    expected = -(2 ** -(depths / (3 * private.usual_path_length(forest))))
    np.testing.assert_allclose(forest.score_samples(X), expected)
    assert private.takes_all_features(forest)
    assert not private.takes_all_features(ensemble.IsolationForest(max_features=2, n_estimators=3).fit(X))


def private_names(path: Path) -> set[str]:
    """Return the private attributes that a file reads of anything but self, and the private modules it imports."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute) and not (isinstance(node.value, ast.Name) and node.value.id == "self"):
            names.add(node.attr)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("sklearn"):
            names.update([*(node.module or "").split("."), *(alias.name for alias in node.names)])
    return {name for name in names if name.startswith("_") and not name.startswith("__")}


def test_no_other_module_reads_private_attributes():
    """So a new version of scikit-learn is checked in one place."""
    folder = Path(engines.__file__).parent
    readers = {path.name for path in folder.rglob("*.py") if private_names(path)}
    assert readers == {"scikit_learn_private.py"}
