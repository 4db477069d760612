"""A line in two hundred dimensions: of models with that many features the one that answers soonest."""

from typing import Any

from sklearn.datasets import make_regression
from sklearn.linear_model import LinearRegression

NAME = "wide"
N_FEATURES = 200  # four times what is watched for drift


def load() -> Any:
    """Return made-up features and target."""
    return make_regression(n_samples=1000, n_features=N_FEATURES, noise=1.0, random_state=0)


def estimator() -> LinearRegression:
    """Return the unfitted estimator."""
    return LinearRegression()
