"""The species of a penguin of the Palmer Archipelago, from where it was met and how it measures."""

from pathlib import Path

import pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

SOURCE = (
    "A. M. Horst, A. P. Hill, K. B. Gorman (2020), palmerpenguins: Palmer Archipelago (Antarctica) penguin data, "
    "https://doi.org/10.5281/zenodo.3960218; as in the PyPI package palmerpenguins 0.1.6; all 344 penguins."
)
LICENSE = "CC0-1.0"
MIN_SCORES = {"balanced_accuracy": 0.95}
FEATURES = {
    "island": {"description": "The island of the nest."},
    "bill_length_mm": {"unit": "millimetres"},
    "bill_depth_mm": {"unit": "millimetres"},
    "flipper_length_mm": {"unit": "millimetres"},
    "body_mass_g": {"unit": "grams"},
    "sex": {"description": "As determined from blood; null where it was not."},
}
MEASURES = ["bill_length_mm", "bill_depth_mm", "flipper_length_mm", "body_mass_g"]

DATA = Path(__file__).parents[1] / "data" / "penguins.csv"


def load() -> tuple[pd.DataFrame, "pd.Series[str]"]:
    """Return island, measures and sex, with gaps, and the species."""
    penguins = pd.read_csv(DATA)
    return penguins[list(FEATURES)], penguins["species"]


def estimator() -> Pipeline:
    """Return gradient boosting on scaled measures and one column for each island and sex."""
    numbers = make_pipeline(SimpleImputer(strategy="median"), StandardScaler())
    words = make_pipeline(
        SimpleImputer(strategy="most_frequent"), OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    )
    columns = ColumnTransformer([("numbers", numbers, MEASURES), ("words", words, ["island", "sex"])])
    return make_pipeline(columns, HistGradientBoostingClassifier(random_state=0))
