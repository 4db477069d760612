"""Selects an engine: what passes the equivalence check is timed, one serves, and the rest is listed with its reason."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn import ensemble, linear_model, neighbors
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from service.artifact.contract import Contract, Output
from service.artifact.reader import Artifact, verify
from service.engines.registry import COMPILED_TREES, NUMPY, ONNXRUNTIME, SCIKIT_LEARN, TREELITE, load_engine
from service.inference.golden import GOLDEN_ABSOLUTE_TOLERANCE, golden_tolerances
from service.inference.loading import load_model
from tests.conftest import ArtifactOf
from tests.support.baking import FRAME, NUMBERS, PRICES, SIGNS, contents
from training.bake import bake
from training.engines import selection, timing
from training.engines.selection import EXACT, FASTEST, NAMES
from training.errors import BakeError
from training.inspect import describe
from training.sources.source import Source


def baked(output: Path, estimator: Any, y: Any = PRICES, engine: str = FASTEST, X: Any = FRAME) -> Artifact:
    """Bake an estimator with an engine, and return the artifact."""
    bake(lambda: Source("small", "here.py", X, y, estimator), output, "", 0, "", lambda _what: None, engine)
    return verify(output)


def entry(artifact: Artifact, name: str) -> dict[str, Any]:
    """Return what the manifest says of an engine."""
    (found,) = (engine for engine in artifact.manifest["engines"] if engine["name"] == name)
    return found


@pytest.mark.parametrize(
    ("name", "engine"),
    [("house_prices", NUMPY), ("breast_cancer", NUMPY), ("digits", COMPILED_TREES), ("penguins", COMPILED_TREES)],
)
def test_each_shipped_model_is_served_by_its_compiled_form(artifact_of: ArtifactOf, name: str, engine: str):
    """With the estimator's bits, and the estimator still beside it."""
    artifact = verify(artifact_of(name))
    assert artifact.engine["name"] == artifact.manifest["engine"] == engine
    assert artifact.engine["exact"]
    assert artifact.engine["difference"] == 0
    assert {"model.joblib", *artifact.engine["files"]} <= set(artifact.manifest["files"])
    assert entry(artifact, SCIKIT_LEARN)["exact"]
    assert not artifact.manifest["batching"]
    assert set(artifact.manifest["timings"][engine]) == {"1", "10", "100", "1000"}


@pytest.mark.parametrize("engine", [COMPILED_TREES, TREELITE, ONNXRUNTIME, SCIKIT_LEARN])
def test_any_engine_that_passed_can_serve(tmp_path: Path, engine: str):
    """Each loads from the artifact's files in the service, and gives the golden answers."""
    forest = ensemble.RandomForestClassifier(5, random_state=0)
    artifact = baked(tmp_path / "artifact", forest, SIGNS, engine)
    model = load_model(artifact.directory)
    assert model.artifact.engine["name"] == engine
    answers = model.predict(NUMBERS, ["predict", "predict_proba"])
    expected = artifact.load_estimator()
    assert answers["predict"].tolist() == expected.predict(NUMBERS).tolist()
    np.testing.assert_allclose(answers["predict_proba"], expected.predict_proba(NUMBERS), atol=1e-5)
    assert (engine in artifact.manifest["libraries"]) == (engine not in (COMPILED_TREES,))


def test_an_engine_that_was_refused_cannot_be_asked_for(tmp_path: Path):
    """The sentence says why, and nothing is written."""
    with pytest.raises(BakeError, match="treelite cannot serve this model: It takes ensembles of trees alone"):
        baked(tmp_path / "artifact", linear_model.LinearRegression(), engine=TREELITE)
    with pytest.raises(BakeError, match="compiled-trees cannot serve this model: This model has no such form"):
        baked(tmp_path / "artifact", linear_model.LinearRegression(), engine=COMPILED_TREES)
    assert not (tmp_path / "artifact").exists()


def test_what_has_no_other_form_is_served_by_scikit_learn(tmp_path: Path):
    """Each other engine is listed with its reason, a sentence."""
    artifact = baked(tmp_path / "artifact", neighbors.KNeighborsRegressor(weights="distance"))
    assert artifact.engine["name"] == SCIKIT_LEARN
    assert not any(name.startswith("engine/") for name in artifact.manifest["files"])
    reasons = [engine["refused"] for engine in artifact.manifest["engines"] if "refused" in engine]
    assert len(reasons) >= 2
    assert all(re.fullmatch(r"[^\n]{20,}\.", reason) for reason in reasons)
    assert "KNeighborsRegressor cannot be compiled." in reasons
    assert load_engine(artifact)(NUMBERS, ["predict"])["predict"].shape == (len(NUMBERS),)


def test_exact_engines_only(tmp_path: Path):
    """What rounds differently does not serve, and requests are merged only where that changes no bit."""
    artifact = baked(tmp_path / "artifact", make_pipeline(StandardScaler(), linear_model.Ridge()), engine=EXACT)
    assert artifact.engine["exact"]
    assert not artifact.manifest["batching"] or artifact.engine["batch_invariant"]


def test_a_package_that_is_not_installed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Engines of other projects are optional."""
    monkeypatch.setattr("training.engines.candidates.find_spec", lambda _name: None)
    artifact = baked(tmp_path / "artifact", linear_model.LinearRegression())
    assert entry(artifact, ONNXRUNTIME)["refused"] == "onnxruntime and skl2onnx are not installed."
    assert entry(artifact, TREELITE)["refused"] == "treelite is not installed."


PASSED = {name: {"name": name, "exact": name != ONNXRUNTIME} for name in (NUMPY, ONNXRUNTIME, SCIKIT_LEARN)}


@pytest.mark.parametrize(
    ("seconds", "choice", "serves"),
    [
        ((10, 9, 8), FASTEST, NUMPY),  # a little faster is not worth what noise decides
        ((10, 4, 8), FASTEST, ONNXRUNTIME),
        ((10, 4, 8), EXACT, NUMPY),
        ((10, 4, 1), FASTEST, SCIKIT_LEARN),
        ((10, 4, 3), FASTEST, ONNXRUNTIME),  # not half of what the one before it needs
        ((10, 4, 3), EXACT, SCIKIT_LEARN),
        ((10, 4, 3), NUMPY, NUMPY),
    ],
)
def test_a_later_engine_takes_over_with_less_than_half_the_time(seconds: Any, choice: str, serves: str):
    """So the same model bakes to the same artifact, whatever else the machine does."""
    timings = {name: {"1": value, "1000": value} for name, value in zip(PASSED, seconds, strict=True)}
    assert selection._chosen(choice, PASSED, timings) == serves


@pytest.mark.parametrize(
    ("estimator", "joins"),
    [(ensemble.RandomForestRegressor(9, random_state=0), True), (linear_model.Ridge(), False)],
    ids=["forest", "line"],
)
def test_requests_are_joined_only_if_an_exact_answer_stays_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, estimator: Any, joins: bool
):
    """The last bits of a line's answer depend on how many rows are asked for at once, those of a forest's do not."""
    monkeypatch.setattr("training.engines.selection.batching_pays", lambda *_: True)
    wide = np.random.default_rng(0).normal(size=(len(PRICES), 30))
    artifact = baked(tmp_path / "artifact", estimator, engine=SCIKIT_LEARN, X=wide)
    assert entry(artifact, SCIKIT_LEARN)["batch_invariant"] == artifact.manifest["batching"] == joins


def test_timings_are_no_part_of_the_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """They tell about a machine; and where the same bytes are asked for, there are none."""
    first = baked(tmp_path / "first", linear_model.LinearRegression())
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    second = baked(tmp_path / "second", linear_model.LinearRegression())
    again = baked(tmp_path / "again", linear_model.LinearRegression())
    assert "timings" not in second.manifest
    assert contents(second.directory) == contents(again.directory)
    path = first.directory / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["timings"][NUMPY]["1"] *= 2
    path.write_text(json.dumps(manifest, indent=2, sort_keys=True, ensure_ascii=False) + "\n")
    assert verify(first.directory).digest == first.digest


def test_the_table_is_shown(tmp_path: Path):
    """Who bakes sees which engine serves, what the others need, and why some cannot."""
    shown = describe(dict(baked(tmp_path / "artifact", linear_model.LinearRegression()).manifest), "yes")
    assert re.search(r"    numpy: exact, [0-9.e+]+, [0-9.e+]+, serves\n", shown)
    assert re.search(r"    scikit-learn: exact, [0-9.e+]+, [0-9.e+]+\n", shown)
    assert "    treelite: no, It takes ensembles of trees alone.\n" in shown


def test_golden_answers_may_differ_by_what_the_engine_may(tmp_path: Path):
    """An engine of float32 rounds more; the others keep to rounding of float64."""
    forest = ensemble.RandomForestRegressor(5, random_state=0)
    rounding = golden_tolerances(baked(tmp_path / "onnx", forest, engine=ONNXRUNTIME))
    assert 1e-5 < rounding["y_pred"] < 1e-2
    plain = golden_tolerances(baked(tmp_path / "plain", forest, engine=SCIKIT_LEARN))
    assert plain["y_pred"] == GOLDEN_ABSOLUTE_TOLERANCE


def test_batching_pays_where_a_call_costs_much_and_rows_little():
    """Measured with an engine that only waits busily."""
    contract = Contract((), "float64", (Output("predict", "number"),))

    def busy(n_steps: int, by_row: bool) -> Any:
        return lambda columns, _outputs: sum(range(n_steps * (len(columns) if by_row else 1)))

    table = [np.arange(9.0)]
    assert timing.batching_pays(busy(100_000, by_row=False), contract, table)
    assert not timing.batching_pays(busy(100_000, by_row=True), contract, table)
    assert not timing.batching_pays(busy(1, by_row=False), contract, table)


def test_every_engine_has_its_place():
    """The order of preference names each once."""
    assert sorted(NAMES) == sorted({NUMPY, COMPILED_TREES, TREELITE, ONNXRUNTIME, SCIKIT_LEARN})
