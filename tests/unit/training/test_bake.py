"""python -m training bake: an artifact, or one sentence that says why there is none."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
import skops.io
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from service.artifact.manifest import read_manifest
from service.artifact.reader import verify
from tests.conftest import ArtifactOf
from tests.support.baking import FRAME, NUMBERS, PRICES, SIGNS, WORDS, contents, write_model_file
from training.__main__ import main
from training.commands import MAX_SHOWN_FEATURES
from training.provenance import source_commit

MIXED = FRAME.assign(word=WORDS)
FUNCTIONS = "from sklearn.preprocessing import FunctionTransformer"
PIPELINES = "from sklearn.pipeline import make_pipeline\nfrom sklearn.impute import SimpleImputer"


def test_a_model_file_is_fitted_and_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Progress goes to standard error, what was made to standard output."""
    model = write_model_file(tmp_path, "MIN_SCORES = {'r2': -9}", "SOURCE = 'Made up.'", "LICENSE = 'CC0-1.0'")
    assert main(["bake", model, "--output", str(tmp_path / "new" / "artifact"), "--model-version", "v1"]) == 0
    said = capsys.readouterr()
    assert "Written to" in said.out.splitlines()[-1]
    assert said.out.startswith("line v1: A line through four points.\n")
    for what in ("loading", "scoring 3 held-out rows", "fold 5 of 5", "fitting on all 12 rows", "in a fresh process"):
        assert what in said.err
    artifact = verify(tmp_path / "new" / "artifact")
    assert (artifact.name, artifact.version) == ("line", "v1")
    assert set(contents(artifact.directory)) == {*artifact.manifest["files"], "manifest.json"}
    assert artifact.manifest["scores"]["bar"] == {"r2": -9}
    assert artifact.manifest["scores"]["refitted"]
    assert artifact.load_estimator().predict([[1, 2]]).shape == (1,)


def test_the_version_is_the_digests_unless_it_is_given(house_prices: Path):
    """So two artifacts that differ never have the same one by accident."""
    manifest = read_manifest(house_prices)
    assert manifest["version"] == manifest["digest"][:12]


def test_only_the_first_features_are_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """A wide model does not fill the screen."""
    wide = "def load(): return np.eye(12), np.arange(12.0)"
    assert main(["bake", write_model_file(tmp_path, wide), "--output", str(tmp_path / "artifact")]) == 0
    said = capsys.readouterr().out
    shown = [f"    x{index}: number, 0 to 1" for index in range(MAX_SHOWN_FEATURES)]
    assert "\n".join([*shown, f"    and {12 - MAX_SHOWN_FEATURES} more\n"]) in said


def test_an_artifact_is_replaced_by_the_next(tmp_path: Path, house_prices: Path):
    """Nothing of the one before is left."""
    shutil.copytree(house_prices, tmp_path / "artifact")
    (tmp_path / "artifact" / "left over").write_text("from before")
    assert main(["bake", write_model_file(tmp_path), "--output", str(tmp_path / "artifact"), "--seed", "7"]) == 0
    manifest = verify(tmp_path / "artifact").manifest
    assert (manifest["name"], manifest["seed"]) == ("line", 7)
    assert not (tmp_path / "artifact" / "left over").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["artifact", "line.py"]


def test_an_estimator_without_a_random_state_has_the_bakes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The seed is set before load() and estimator() run, so that what they draw is the same again."""
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")  # else the manifest tells how long answers took
    drawing = "def load(): return np.random.rand(12, 2), np.random.rand(12)"
    model = write_model_file(tmp_path, drawing)
    for output in ("first", "second"):
        assert main(["bake", model, "--output", str(tmp_path / output)]) == 0
    assert contents(tmp_path / "first") == contents(tmp_path / "second")


def test_what_the_manifest_says_of_the_estimator_is_the_same_each_time(tmp_path: Path):
    """The address of a function in memory is not, so it is left out."""
    function = f"{FUNCTIONS}\ndef estimator(): return FunctionTransformer(np.nan_to_num)"
    assert main(["bake", write_model_file(tmp_path, function), "--output", str(tmp_path / "artifact")]) == 0
    assert read_manifest(tmp_path / "artifact")["estimator"] == "FunctionTransformer(func=<function nan_to_num>)"


def joblib_of_names(path: Path) -> None:
    """Save a line through columns with names."""
    joblib.dump(LinearRegression().fit(FRAME, PRICES), path)


def skops_of_places(path: Path) -> None:
    """Save a line through columns without names."""
    skops.io.dump(LinearRegression().fit(NUMBERS, PRICES), path)


@pytest.mark.parametrize("save", [joblib_of_names, skops_of_places])
def test_an_estimator_fitted_elsewhere_is_baked_as_it_is(tmp_path: Path, save: Any):
    """It is scored on the sample when that has the true values, and never fitted again."""
    save(tmp_path / "line")
    FRAME.assign(price=PRICES).to_csv(tmp_path / "rows.csv", index=False)
    arguments = ["--from", str(tmp_path / "line"), "--sample", str(tmp_path / "rows.csv"), "--target", "price"]
    assert main(["bake", *arguments, "--output", str(tmp_path / "artifact")]) == 0
    artifact = verify(tmp_path / "artifact")
    assert artifact.contract.names == ("a", "b", "c")
    assert artifact.manifest["scores"]["held_out"]["r2"] > 0.999
    assert not artifact.manifest["scores"]["refitted"]
    assert artifact.manifest["description"] == "LinearRegression, fitted elsewhere."
    assert np.allclose(artifact.load_estimator().coef_, [1, 2, 3])


def test_an_estimator_of_mixed_columns_needs_no_target(tmp_path: Path):
    """There are no scores then, and the contract is there all the same."""
    encoder = make_column_transformer((OneHotEncoder(), ["word"]), remainder="passthrough")
    joblib.dump(make_pipeline(encoder, LogisticRegression()).fit(MIXED, SIGNS), tmp_path / "mixed.pickle")
    MIXED.to_csv(tmp_path / "rows.csv", index=False)
    arguments = ["--from", str(tmp_path / "mixed.pickle"), "--sample", str(tmp_path / "rows.csv"), "--name", "m-1"]
    assert main(["bake", *arguments, "--output", str(tmp_path / "artifact")]) == 0
    artifact = verify(tmp_path / "artifact")
    assert (artifact.name, artifact.manifest["scores"]["held_out"]) == ("m-1", {})
    assert [feature.kind for feature in artifact.contract.features] == ["number"] * 3 + ["string"]
    assert artifact.contract.features[3].categories == ("blue", "green", "red")


@pytest.fixture
def standing(tmp_path: Path, house_prices: Path) -> Path:
    """Return an artifact that stands where the next is to go."""
    return Path(shutil.copytree(house_prices, tmp_path / "standing"))


def refused(arguments: list[str], standing: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """Return the sentence with which a bake is refused; the standing artifact and its folder stay as they are."""
    before, around = contents(standing), sorted(standing.parent.iterdir())
    assert main(["bake", *arguments]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert "Traceback" not in said.err
    assert contents(standing) == before
    assert sorted(standing.parent.iterdir()) == around
    return said.err.splitlines()[-1]


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ("MIN_SCORES = {'r2': 0.999}", r"The held-out r2 is -?[0-9.]+, under the minimum score of 0\.999: nothing was"),
        ("def load(): 1 / 0", r"line\.py: load\(\) failed at line 14 with ZeroDivisionError: division by zero\."),
        ("def load(): return np.eye(3) * 1j, [1, 2, 3]", r"The estimator cannot be fitted on what load\(\) gives"),
        ("def load(): return np.zeros((8, 2)), None\nMIN_SCORES = {'r2': 0}", "MIN_SCORES names r2, but load"),
        (f"{FUNCTIONS}\ndef double(X): return 2 * X\ndef estimator(): return FunctionTransformer(double)",
         "The estimator uses code of the model file, which the service does not have"),
        (f"{FUNCTIONS}\nclass Own(FunctionTransformer): pass\ndef estimator(): return Own()",
         "The estimator uses code of the model file, which the service does not have"),
        (f"{FUNCTIONS}\ndef estimator(): return FunctionTransformer(lambda X: X)",
         "The fitted estimator cannot be saved, it must hold no lambda, generator or open file"),
        ("EXAMPLE = [['a', 'b']]", r"EXAMPLE must be a list of rows such as those of load\(\)"),
        ("FEATURES = {'u': {'missing': True}, 'v': {}}", "FEATURES says that u may be missing, but the estimator"),
        # The imputer takes null, but training saw none: the service refuses what the contract does not allow.
        (f"{PIPELINES}\ndef estimator(): return make_pipeline(SimpleImputer(), LinearRegression())\n"
         "EXAMPLE = [[None, 1]]", "The service refuses the artifact, nothing was written: .*must not be null"),
    ],
)  # fmt: skip
def test_a_model_that_cannot_be_served_is_refused(
    tmp_path: Path, standing: Path, capsys: pytest.CaptureFixture[str], more: str, sentence: str
):
    """With one sentence, no traceback, and the artifact that is there untouched."""
    model = write_model_file(tmp_path, more)
    said = refused([model, "--output", str(standing)], standing, capsys)
    assert re.search(sentence, said), said


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "Name either a model file to fit, or an estimator fitted elsewhere with --from."),
        (["line.py", "--from", "x"], "Name either a model file to fit, or an estimator fitted elsewhere with --from."),
        (["line.py", "--sample", "x"], "--sample, --target and --name belong to --from: a model file says these"),
        (["line.py", "--target", "x"], "--sample, --target and --name belong to --from"),
        (["line.py", "--name", "x"], "--sample, --target and --name belong to --from"),
        (["--from", "x"], "--from needs --sample: a CSV file with a header and rows such as it was fitted on."),
        (["line.py", "--model-version", "a b"], "--model-version must be letters, digits, _ . and -, at most 128"),
        (["line.py", "--seed", "-1"], "--seed must be a whole number from 0 to 4294967295."),
        (["line.py", "--seed", "4294967296"], "--seed must be a whole number from 0 to 4294967295."),
        (["gone.py"], "There is no file gone.py: name a Python file or module"),
        (["--from", "gone.joblib", "--sample", "x"], "gone.joblib cannot be read (No such file or directory)."),
    ],
)
def test_arguments_that_do_not_fit_are_refused(
    standing: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], sentence: str
):
    """Before anything is read or fitted."""
    assert sentence in refused([*arguments, "--output", str(standing)], standing, capsys)


def test_an_output_that_holds_something_else_is_refused(
    tmp_path: Path, standing: Path, capsys: pytest.CaptureFixture[str]
):
    """A slip of the pen must not delete a folder."""
    model = write_model_file(tmp_path)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "one.jpg").touch()
    for output in (tmp_path / "photos", tmp_path / "line.py"):
        said = refused([model, "--output", str(output)], standing, capsys)
        assert "exists and holds no artifact: choose another directory for the output." in said


def test_an_output_that_cannot_be_written_is_refused(
    tmp_path: Path, standing: Path, capsys: pytest.CaptureFixture[str]
):
    """A path through a file leads nowhere."""
    model = write_model_file(tmp_path)
    said = refused([model, "--output", f"{model}/deep/artifact"], standing, capsys)
    assert "line.py/deep/artifact cannot be written (Not a directory): choose another --output." in said


@pytest.mark.parametrize("epoch", ["yesterday", "1.5", "9" * 30])
def test_a_time_that_is_no_time_is_refused(
    tmp_path: Path, standing: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, epoch: str
):
    """It would be written into the manifest."""
    monkeypatch.setenv("SOURCE_DATE_EPOCH", epoch)
    said = refused([write_model_file(tmp_path), "--output", str(standing)], standing, capsys)
    assert said == "SOURCE_DATE_EPOCH must be whole seconds since 1970."


@pytest.mark.parametrize("arguments", [[], ["bake"], ["bake", "line.py"], ["cook"], ["bake", "--seed", "x"]])
def test_a_command_that_is_none_shows_how_to_call_it(arguments: list[str], capsys: pytest.CaptureFixture[str]):
    """With the exit code that says so."""
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    assert "usage: python -m training" in capsys.readouterr().err


def git(directory: Path, *arguments: str) -> None:
    """Run git with an author of its own."""
    author = ["-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", "-C", str(directory), *author, *arguments], check=True, capture_output=True)


def test_the_source_commit_is_that_of_the_model_file(tmp_path: Path):
    """With -dirty where a file of the repository was changed since; empty where there is no commit."""
    model = write_model_file(tmp_path)
    git(tmp_path, "init")
    assert source_commit(model) == ""
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--message", "one")
    clean = source_commit(model)
    assert len(clean) == 40
    Path(model).write_text("changed")
    assert source_commit(model) == f"{clean}-dirty"


def test_there_may_be_no_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The commit is unknown then, and the bake goes on."""
    monkeypatch.setenv("PATH", str(tmp_path))
    assert source_commit(str(tmp_path / "line.py")) == ""


def test_the_source_commit_may_be_given(tmp_path: Path):
    """A build without the repository knows it otherwise."""
    arguments = ["bake", write_model_file(tmp_path), "--output", str(tmp_path / "artifact"), "--source-commit", "abc"]
    assert main(arguments) == 0
    assert json.loads((tmp_path / "artifact" / "manifest.json").read_bytes())["source_commit"] == "abc"


def test_no_golden_answer_of_a_shipped_model_is_empty(artifact_of: ArtifactOf):
    """The replay before traffic compares something."""
    for exchange in verify(artifact_of("penguins")).golden():
        assert len(exchange["response"]["y_pred"]) == len(exchange["request"]["X"]) > 0


@pytest.mark.parametrize(
    ("more", "code", "sentence"),
    [
        ("import sys; sys.exit()", 1, "failed at line .* with SystemExit"),
        ("raise KeyboardInterrupt", 130, "Interrupted: nothing was written"),
    ],
)
def test_a_bake_that_is_cut_short_is_no_success(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], more: str, code: int, sentence: str
):
    """Whatever ends it, the exit code says so, and nothing is left behind."""
    model = write_model_file(tmp_path, more)
    assert main(["bake", model, "--output", str(tmp_path / "artifact")]) == code
    assert re.search(sentence, capsys.readouterr().err)
    assert [path.name for path in tmp_path.iterdir()] == ["line.py"]
