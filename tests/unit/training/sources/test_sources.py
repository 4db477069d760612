"""Where models come from: what a model file may say, and which files fitted elsewhere are taken."""

import pickle
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
import skops.io
from scipy import sparse
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder

from tests.support.baking import CODES, FRAME, MODEL_FILE, NUMBERS, PRICES, WORDS, write_model_file
from training.errors import BakeError
from training.sources.fitted_file import from_fitted_file
from training.sources.model_file import from_model_file
from training.sources.source import Source

MIXED = FRAME.assign(word=WORDS)


def source(X: Any = NUMBERS, y: Any = PRICES, **said: Any) -> Source:
    """Return a source of numbers and prices, but for what is said."""
    return Source(**{"name": "small", "path": "here.py", "X": X, "y": y, "estimator": LinearRegression(), **said})


def test_a_model_file_needs_no_more_than_two_functions(tmp_path: Path):
    """The name comes from the file, the description from its first line, the columns' names from their places."""
    made = from_model_file(write_model_file(tmp_path))
    assert (made.name, made.description, made.names) == ("line", "A line through four points.", ["x0", "x1"])
    assert (made.fitted, made.min_scores, made.features, made.example) == (False, {}, {}, None)


def test_a_model_file_may_say_more_of_itself(tmp_path: Path):
    """Each constant ends up where the artifact takes it from."""
    said = ["NAME = 'n'", "DESCRIPTION = 'd'", "MIN_SCORES = {'r2': 0.5}", "SOURCE = 's'", "LICENSE = 'l'"]
    made = from_model_file(write_model_file(tmp_path, *said, "FEATURES = {'u': {}, 'v': {}}", "EXAMPLE = [[1, 2]]"))
    assert (made.name, made.description, made.min_scores, made.data_source, made.data_license) == (
        "n", "d", {"r2": 0.5}, "s", "l",
    )  # fmt: skip
    assert (made.names, made.example) == (["u", "v"], [[1, 2]])


def test_a_model_file_with_former_names_keeps_working(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Its author learns the new names, one line for each."""
    path = write_model_file(tmp_path, "BAR = {'r2': 0.5}", "LICENCE = 'l'")
    made = from_model_file(path)
    assert (made.min_scores, made.data_license) == ({"r2": 0.5}, "l")
    assert capsys.readouterr().err.splitlines() == [
        f"BAR in {path} is now called MIN_SCORES: rename it.",
        f"LICENCE in {path} is now called LICENSE: rename it.",
    ]


def test_new_names_cause_no_message(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Nothing is to be done."""
    from_model_file(write_model_file(tmp_path, "MIN_SCORES = {}", "LICENSE = 'CC0-1.0'"))
    assert capsys.readouterr().err == ""


def test_a_module_is_named_by_its_last_part():
    """Of training.models.house_prices the model is called house_prices."""
    assert from_model_file("training.models.house_prices").name == "house_prices"


def test_a_file_may_have_points_in_its_name(tmp_path: Path):
    """Only the suffix .py is left out of the model's name."""
    assert from_model_file(write_model_file(tmp_path, name="line.v2.py")).name == "line.v2"


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ("load = None", r"has no function load\(\)"),
        ("del estimator", r"has no function estimator\(\)"),
        ("def load(): return 1", r"load\(\) in .* must return two things"),
        ("def load(): return [1], 2, 3", r"load\(\) in .* must return two things"),
        ("def load():\n    raise KeyError('gone')", r"load\(\) failed at line 15 with KeyError: 'gone'\."),
        ("def estimator(): return LinearRegression", r"must return a scikit-learn estimator"),
        ("def estimator(): return 5", r"must return a scikit-learn estimator"),
        ("def estimator(): 1 / 0", r"estimator\(\) failed at line 14 with ZeroDivisionError: division by zero\."),
        ("import no_such_package", r"importing it failed at line 14 with ModuleNotFoundError"),
        ("def (", r"importing it failed with SyntaxError: invalid syntax"),
        ("NAME = 'Big Model'", r"The model's name 'Big Model' does not fit: set NAME or --name to lower-case letters"),
        ("NAME = 5", r"NAME in .* must be a str\."),
        ("MIN_SCORES = ['r2']", r"MIN_SCORES in .* must be a dict\."),
        ("MIN_SCORES = {'r2': 'high'}", r"MIN_SCORES\['r2'\] in .* must be a number\."),
        ("MIN_SCORES = {'r2': True}", r"MIN_SCORES\['r2'\] in .* must be a number\."),
        ("BAR = ['r2']", r"BAR in .* must be a dict\."),
        ("BAR = {}\nMIN_SCORES = {}", r"has both MIN_SCORES and BAR, its former name: keep MIN_SCORES only\."),
        ("LICENCE = 'l'\nLICENSE = 'l'", r"has both LICENSE and LICENCE, its former name: keep LICENSE only\."),
        ("FEATURES = ['u', 'v']", r"FEATURES in .* must be a dict\."),
        ("FEATURES = {'u': {'units': 'm'}, 'v': {}}", r"FEATURES\['u'\] in .* takes unit \(str\), description"),
        ("FEATURES = {'u': None, 'v': {}}", r"FEATURES\['u'\] in .* takes unit"),
        ("FEATURES = {'u': {'missing': 'yes'}, 'v': {}}", r"takes unit .* missing \(bool\)"),
        ("FEATURES = {'u': {'unknown': 'drop'}, 'v': {}}", r"unknown is 'reject' or 'encode'"),
        ("FEATURES = {0: {}, 1: {}}", r"FEATURES\[0\] in .* takes unit"),
        ("FEATURES = {'u': {}}", r"FEATURES in .* names 1 columns, the array has 2\."),
    ],
)
def test_a_model_file_that_does_not_fit_is_refused(tmp_path: Path, more: str, sentence: str):
    """The author learns what to change, and at which line code failed."""
    with pytest.raises(BakeError, match=sentence):
        from_model_file(write_model_file(tmp_path, more))


def test_the_lines_that_refusals_name_are_those_of_the_file():
    """The first line that a test appends is line 14."""
    assert len(MODEL_FILE.splitlines()) == 12


@pytest.mark.parametrize(
    ("model", "sentence"),
    [
        ("no_such_file.py", r"There is no file no_such_file\.py"),
        ("no_such_module", r"no_such_module: importing it failed with ModuleNotFoundError: No module named"),
        ("", r": importing it failed.* with ValueError: Empty"),
    ],
)
def test_a_model_that_is_not_there_is_refused(model: str, sentence: str):
    """A file and a module are told apart by the suffix .py."""
    with pytest.raises(BakeError, match=sentence):
        from_model_file(model)


@pytest.mark.parametrize(
    ("X", "y", "sentence"),
    [
        (sparse.csr_matrix(NUMBERS), PRICES, "The features of here.py are a sparse matrix: return a DataFrame"),
        (NUMBERS, sparse.csr_matrix(NUMBERS), "The targets of here.py are a sparse matrix"),
        ([[1.0, 2.0], [3.0]], [1, 2], "The features of here.py are no array"),
        (PRICES, PRICES, r"The features of here.py have shape \(40,\): they must be rows of columns"),
        (NUMBERS[:0], PRICES[:0], r"have shape \(0, 3\)"),
        (FRAME[[]], PRICES, r"have shape \(40, 0\)"),
        (FRAME.set_axis(["a", "b", "a"], axis=1), PRICES, "must have names that are text, each once"),
        (FRAME.set_axis([0, 1, 2], axis=1), PRICES, "must have names that are text, each once"),
        (FRAME.set_axis(["a", "b", ""], axis=1), PRICES, "must have names that are text, each once"),
        (NUMBERS, PRICES[:-1], "gives 40 rows and 39 targets: they must be as many"),
        (NUMBERS, 5.0, "gives 40 rows and 0 targets"),
        (NUMBERS, [[1], [2, 3]], "The targets of here.py are no array"),
        (NUMBERS, [None, float("nan"), *PRICES[2:]], "2 targets of here.py are missing: leave those rows out"),
    ],
)
def test_data_that_are_no_table_are_refused(X: Any, y: Any, sentence: str):
    """What cannot be fitted on is said before anything is fitted."""
    with pytest.raises(BakeError, match=sentence):
        source(X, y)


def test_what_is_said_of_a_column_that_is_not_there_is_refused():
    """A misspelt name in FEATURES would silently say nothing."""
    with pytest.raises(BakeError, match=r"FEATURES in here\.py names aa, zz, which load"):
        source(FRAME, features={"zz": {}, "a": {}, "aa": {}})


def save_joblib(estimator: Any, path: Path) -> None:
    """Save the usual way."""
    joblib.dump(estimator, path)


def save_compressed(estimator: Any, path: Path) -> None:
    """Save in joblib's compressed form."""
    joblib.dump(estimator, path, compress=3)


def save_pickle(estimator: Any, path: Path) -> None:
    """Save with the standard library."""
    path.write_bytes(pickle.dumps(estimator))


def save_skops(estimator: Any, path: Path) -> None:
    """Save in the format that runs no code."""
    skops.io.dump(estimator, path)


def fitted_on_names() -> Pipeline:
    """Return a classifier of mixed columns that knows their names."""
    columns = make_column_transformer((OneHotEncoder(), ["word"]), remainder="passthrough")
    return make_pipeline(columns, LogisticRegression()).fit(MIXED, CODES)


@pytest.mark.parametrize("save", [save_joblib, save_compressed, save_pickle, save_skops])
def test_an_estimator_with_names_takes_the_columns_by_them(tmp_path: Path, save: Any):
    """The sample's columns may come in any order."""
    save(fitted_on_names(), tmp_path / "mixed.bin")
    MIXED[["word", "c", "a", "b"]].assign(code=CODES).to_csv(tmp_path / "rows.csv", index=False)
    made = from_fitted_file(tmp_path / "mixed.bin", tmp_path / "rows.csv", "code", None)
    assert (made.name, made.fitted, made.names) == ("mixed", True, ["a", "b", "c", "word"])
    assert made.estimator.predict(made.X).tolist() == fitted_on_names().predict(MIXED).tolist()
    assert list(made.y) == list(CODES)


@pytest.mark.parametrize("save", [save_joblib, save_pickle, save_skops])
def test_an_estimator_without_names_takes_the_columns_by_place(tmp_path: Path, save: Any):
    """Their names are the sample's, the estimator is given an array as it was fitted on."""
    save(LinearRegression().fit(NUMBERS, PRICES), tmp_path / "line")
    FRAME.to_csv(tmp_path / "rows.csv", index=False)
    made = from_fitted_file(tmp_path / "line", tmp_path / "rows.csv", None, "named")
    assert (made.name, made.names, made.y) == ("named", ["a", "b", "c"], None)
    assert np.allclose(made.X, NUMBERS)


@pytest.fixture
def line(tmp_path: Path) -> Path:
    """Return the file of a line through three named columns."""
    joblib.dump(LinearRegression().fit(FRAME, PRICES), tmp_path / "line.joblib")
    return tmp_path / "line.joblib"


@pytest.mark.parametrize(
    ("sample", "target", "sentence"),
    [
        (FRAME[["a", "c"]], None, r"rows\.csv lacks the columns b, which the estimator was fitted on"),
        (FRAME.assign(price=1), None, r"has the columns price too: name the true values with --target"),
        (FRAME, "price", r"rows\.csv has no column price: name the one that holds the true values"),
        (FRAME[:0], None, r"have shape \(0, 3\)"),
    ],
)
def test_a_sample_that_does_not_fit_is_refused(
    tmp_path: Path, line: Path, sample: pd.DataFrame, target: str | None, sentence: str
):
    """The refusal names the columns."""
    sample.to_csv(tmp_path / "rows.csv", index=False)
    with pytest.raises(BakeError, match=sentence):
        from_fitted_file(line, tmp_path / "rows.csv", target, None)


def test_a_sample_with_too_few_columns_is_refused(tmp_path: Path):
    """Without names, all that can be compared is how many there are."""
    joblib.dump(LinearRegression().fit(NUMBERS, PRICES), tmp_path / "line")
    FRAME[["a", "b"]].to_csv(tmp_path / "rows.csv", index=False)
    with pytest.raises(BakeError, match=r"rows\.csv has 2 columns, the estimator was fitted on 3\."):
        from_fitted_file(tmp_path / "line", tmp_path / "rows.csv", None, None)


@pytest.mark.parametrize("content", [None, b"", b"\xff\xfe\x00\x80\x81", b'a,b\n1,"2'])
def test_a_sample_that_is_no_csv_is_refused(tmp_path: Path, line: Path, content: bytes | None):
    """Missing, empty, binary and broken files have the same cure."""
    if content is not None:
        (tmp_path / "rows.csv").write_bytes(content)
    with pytest.raises(BakeError, match=r"rows\.csv cannot be read as CSV with a header: "):
        from_fitted_file(line, tmp_path / "rows.csv", None, None)


def load_alone(path: Path) -> None:
    """Load a file that must be refused before the sample is looked at."""
    from_fitted_file(path, path.parent / "no sample", None, None)


@pytest.mark.parametrize("name", ["gone.joblib", "."])
def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path, name: str):
    """A missing file and a directory are told by the system's own words."""
    with pytest.raises(BakeError, match=r"cannot be read \((No such file|Is a directory)"):
        load_alone(tmp_path / name)


@pytest.mark.parametrize("content", [b"", b"no pickle at all", b"PK\x03\x04 and no zip", b"cno_such_package\nThing\n."])
def test_a_file_that_cannot_be_loaded_is_refused(tmp_path: Path, content: bytes):
    """Whatever a file holds, the refusal is one sentence."""
    (tmp_path / "model").write_bytes(content)
    with pytest.raises(BakeError, match=r"model cannot be loaded as joblib, pickle or skops \(\w+: .*\): install"):
        load_alone(tmp_path / "model")


@pytest.mark.parametrize("thing", [LinearRegression(), {"model": "no"}, LinearRegression, [1, 2]])
def test_what_is_no_fitted_estimator_is_refused(tmp_path: Path, thing: Any):
    """An unfitted estimator is no better than a dictionary."""
    joblib.dump(thing, tmp_path / "model")
    with pytest.raises(BakeError, match=r"model holds no fitted scikit-learn estimator: save it after fit\(\)\."):
        load_alone(tmp_path / "model")


def test_an_estimator_of_another_scikit_learn_is_refused(tmp_path: Path):
    """scikit-learn only warns of it, and answers may be wrong."""
    estimator = LinearRegression().fit(NUMBERS, PRICES)
    state = estimator.__getstate__()
    here = state["_sklearn_version"].encode()
    content = pickle.dumps(estimator).replace(here, b"0.9.9"[: len(here)])
    (tmp_path / "old.pickle").write_bytes(content)
    with pytest.raises(BakeError, match=r"old\.pickle was fitted with scikit-learn 0\.9\.9, here is .*: bake with"):
        load_alone(tmp_path / "old.pickle")


def test_a_skops_file_with_other_types_is_refused(tmp_path: Path):
    """The point of the format is that nothing unknown is run."""
    fitted = make_pipeline(FunctionTransformer(pd.DataFrame.abs), LinearRegression()).fit(FRAME, PRICES)
    skops.io.dump(fitted, tmp_path / "model.skops")
    with pytest.raises(BakeError, match=r"holds types that are not scikit-learn's \(pandas.*\): save it with"):
        load_alone(tmp_path / "model.skops")


def test_a_sample_has_the_types_that_the_encoders_know(tmp_path: Path):
    """Digits may be words, and NA the name of a category; only the estimator knows."""
    frame = pd.DataFrame({"zip": ["01234", "98765"] * 5, "kind": ["NA", "B", "NA", "B", "C"] * 2, "n": range(10)})
    encoder = make_column_transformer((OneHotEncoder(), ["zip", "kind"]), remainder="passthrough")
    joblib.dump(make_pipeline(encoder, LogisticRegression()).fit(frame, ["01", "02"] * 5), tmp_path / "m.joblib")
    frame.assign(y=["01", "02"] * 5).to_csv(tmp_path / "rows.csv", index=False)
    source = from_fitted_file(tmp_path / "m.joblib", tmp_path / "rows.csv", "y", None)
    assert source.X["zip"].tolist() == frame["zip"].tolist()
    assert source.X["kind"].tolist() == frame["kind"].tolist()
    assert source.X["n"].dtype.kind == "i"
    assert list(source.y) == ["01", "02"] * 5


def test_a_sample_has_the_types_that_its_cells_look_like(tmp_path: Path):
    """Where the estimator knows no values, numbers, booleans and gaps are read as usual."""
    rows = "whole,part,gap,flag,maybe,word,empty\n1,1.5,,True,,NA,\n2,2.5,NaN,False,True,a,NA\n3,3,7,True,False,,\n"
    (tmp_path / "rows.csv").write_text(rows)
    names = ["whole", "part", "gap", "flag", "maybe", "word", "empty"]
    fitted = FunctionTransformer(validate=False).fit(pd.read_csv(tmp_path / "rows.csv"))
    joblib.dump(fitted, tmp_path / "m.joblib")
    frame = from_fitted_file(tmp_path / "m.joblib", tmp_path / "rows.csv", None, None).X
    assert list(frame.columns) == names
    assert [frame[name].dtype.kind for name in ("whole", "part", "gap")] == ["i", "f", "f"]
    assert frame["gap"].isna().tolist() == [True, True, False]
    assert frame["flag"].dtype == bool
    assert frame["maybe"].isna().tolist() == [True, False, False]
    assert frame["word"].isna().tolist() == [False, False, True]
    assert frame["empty"].dtype == float  # no cell says that it is anything else
    assert frame["empty"].isna().all()


def test_a_sample_without_a_header_is_refused(tmp_path: Path, line: Path):
    """Its first row would be taken for the names."""
    (tmp_path / "rows.csv").write_text("1.5,2\n3,4\n")
    with pytest.raises(BakeError, match="has no header"):
        from_fitted_file(line, tmp_path / "rows.csv", None, None)
