"""The estimator's file: the same bytes for equal estimators, and nothing in it that the service has no package for."""

import io
import sys
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import (
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    IsolationForest,
    RandomForestClassifier,
    VotingClassifier,
)
from sklearn.gaussian_process import GaussianProcessClassifier
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KernelDensity, KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.svm import SVC

from service.artifact.manifest import installed_version
from tests.support.baking import NUMBERS, SIGNS, write_model_file
from training.errors import BakeError
from training.estimator_file import MODEL_FILE_MODULE, dump_estimator, force_single_thread, libraries_of
from training.sources.model_file import from_model_file

ALWAYS = {"python", "scikit-learn", "numpy", "scipy", "joblib"}
PADDED = np.dtype([("flag", np.int8), ("value", np.float64)], align=True)  # seven bytes between the two


def records(junk: int) -> np.ndarray[Any, Any]:
    """Return two records whose bytes between the fields are junk."""
    made = np.full(2 * PADDED.itemsize, junk, dtype=np.uint8).view(PADDED)
    made["flag"], made["value"] = [1, 2], [0.5, 1.5]
    return made


def test_bytes_between_fields_do_not_matter():
    """They are whatever was in memory, so equal trees would differ by them."""
    assert records(0).tobytes() != records(255).tobytes()
    assert dump_estimator([records(0)])[0] == dump_estimator([records(255)])[0]


def test_the_trees_of_a_loaded_forest_are_written_as_those_of_the_fitted_one():
    """Joblib leaves the bytes between the fields of a tree's nodes as it finds them."""
    fitted = RandomForestClassifier(3, random_state=0).fit(NUMBERS, SIGNS)
    saved = io.BytesIO()
    joblib.dump(fitted, saved)
    loaded = joblib.load(io.BytesIO(saved.getvalue()))
    nodes_of_both = ([tree.tree_.__getstate__()["nodes"] for tree in forest.estimators_] for forest in (fitted, loaded))
    first, second = (dump_estimator(nodes)[0] for nodes in nodes_of_both)
    assert first == second


def test_records_keep_their_values_and_shape():
    """Only what is between the fields is lost."""
    made = joblib.load(io.BytesIO(dump_estimator(records(255).reshape(1, 2))[0]))
    assert (made.tolist(), made.dtype, made.shape) == ([[(1, 0.5), (2, 1.5)]], PADDED, (1, 2))


@pytest.mark.parametrize(
    "estimator",
    [
        RandomForestClassifier(3, random_state=0),
        GradientBoostingClassifier(n_estimators=3, random_state=0),
        HistGradientBoostingClassifier(max_iter=3, random_state=0),
        IsolationForest(n_estimators=3, random_state=0),
        KNeighborsClassifier(algorithm="kd_tree"),
        KNeighborsClassifier(algorithm="ball_tree"),
        KernelDensity(),
        GaussianProcessClassifier(random_state=np.random.RandomState(0)),
        SGDClassifier(random_state=0),
        SVC(),
        CalibratedClassifierCV(SVC(), cv=2),
        make_pipeline(FunctionTransformer(np.arctan), FunctionTransformer(np.nan_to_num), LogisticRegression()),
    ],
    ids=lambda estimator: type(estimator).__name__,
)
def test_the_estimators_of_scikit_learn_need_no_more_than_it_does(estimator: Any):
    """Their files load again, answer the same, and refer to the packages that are always there."""
    estimator.fit(NUMBERS, SIGNS)
    content, roots = dump_estimator(estimator)
    again = joblib.load(io.BytesIO(content))
    method = "predict" if hasattr(estimator, "predict") else "score_samples"
    assert np.array_equal(getattr(again, method)(NUMBERS), getattr(estimator, method)(NUMBERS))
    assert set(libraries_of(roots, "float64")) == ALWAYS
    assert {"sklearn", "numpy"} <= roots


def test_the_versions_are_those_installed():
    """By the names that package indexes know."""
    assert libraries_of({"sklearn", "skops"}, "frame") == {
        name: installed_version(name) for name in {*ALWAYS, "pandas", "skops"}
    }


def test_a_function_of_another_package_makes_it_a_requirement():
    """Pandas is no part of scikit-learn, yet this estimator cannot be loaded without it."""
    _, roots = dump_estimator(FunctionTransformer(pd.to_numeric))
    assert set(libraries_of(roots, "float64")) == {*ALWAYS, "pandas"}


@pytest.mark.parametrize(
    "code",
    [
        "def double(X): return 2 * X\ndef estimator(): return FunctionTransformer(double)",
        "class Mine(FunctionTransformer): pass\ndef estimator(): return Mine()",
    ],
)
def test_code_of_the_model_file_is_refused(tmp_path: Path, code: str):
    """The image holds no model file: a class or function of it could not be loaded there."""
    made = from_model_file(write_model_file(tmp_path, "from sklearn.preprocessing import FunctionTransformer", code))
    _, roots = dump_estimator(made.estimator)
    with pytest.raises(BakeError, match=r"The estimator uses code of the model file, which the service does not have"):
        libraries_of(roots, "float64")


@pytest.mark.parametrize("root", ["training", "no_such_module", "__main__"])
def test_code_of_no_installed_package_is_refused(root: str):
    """The refusal names the module."""
    with pytest.raises(BakeError, match=f"The estimator uses code of the module {root}, which the service does not"):
        libraries_of({root}, "float64")


@pytest.mark.parametrize("thing", [lambda X: X, (number for number in (1, 2)), sys.stdout])
def test_what_cannot_be_pickled_is_refused(thing: Any):
    """Lambdas, generators and open files are the usual ones."""
    with pytest.raises(BakeError, match="The fitted estimator cannot be saved, it must hold no lambda, generator or"):
        dump_estimator(FunctionTransformer(thing))


def test_the_model_files_name_is_one_that_nobody_has():
    """It must not be found among installed packages."""
    with pytest.raises(BakeError, match="code of the model file"):
        libraries_of({MODEL_FILE_MODULE}, "float64")


def forest() -> RandomForestClassifier:
    """Return a forest that would use two threads."""
    return RandomForestClassifier(3, n_jobs=2, random_state=0)


@pytest.mark.parametrize(
    "estimator",
    [
        forest(),
        make_pipeline(StandardScaler(), forest()),
        VotingClassifier([("forest", forest())], n_jobs=-1),
        CalibratedClassifierCV(forest(), cv=2, n_jobs=2),
        GridSearchCV(forest(), {"max_depth": [1, 2]}, cv=2),
        GradientBoostingClassifier(n_estimators=3, init=forest()),
    ],
    ids=lambda estimator: type(estimator).__name__,
)
def test_no_part_of_an_estimator_starts_threads(estimator: Any):
    """However deep it sits: requests are served side by side already."""
    estimator.fit(NUMBERS, SIGNS)
    answers = estimator.predict(NUMBERS)
    force_single_thread(estimator)
    assert n_jobs_in(estimator) == {1}
    assert np.array_equal(estimator.predict(NUMBERS), answers)


def n_jobs_in(estimator: Any) -> set[Any]:
    """Return what n_jobs is set to anywhere in an estimator, as its pickle would carry it."""
    found: set[Any] = set()

    class Finder(joblib.numpy_pickle.NumpyPickler):
        def save(self, obj: Any) -> Any:
            found.add(getattr(obj, "__dict__", {}).get("n_jobs"))
            return super().save(obj)

    Finder(io.BytesIO()).dump(estimator)
    return found - {None}


def test_an_estimator_that_is_part_of_itself_is_walked_once():
    """Circles end."""
    estimator = forest()
    estimator.itself_ = [estimator, {"again": estimator}]
    force_single_thread(estimator)
    assert estimator.n_jobs == 1


def test_an_unset_n_jobs_stays_unset():
    """None means one thread unless a context says otherwise; the service has none."""
    estimator = RandomForestClassifier(3)
    force_single_thread(estimator)
    assert estimator.n_jobs is None
