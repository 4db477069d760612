"""The digit that a person wrote, from the 8 by 8 pixels of its image."""

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier

SOURCE = (
    "E. Alpaydin, C. Kaynak (1998), Optical Recognition of Handwritten Digits, UCI Machine Learning Repository, "
    "https://doi.org/10.24432/C50P49; as bundled with scikit-learn: the test set of 1797 images."
)
LICENSE = "CC-BY-4.0 AND BSD-3-Clause"  # the data at UCI; the copy in scikit-learn
MIN_SCORES = {"accuracy": 0.95}
FEATURES = {
    f"pixel_{row}_{column}": {"unit": "ink, 0 to 16", "description": f"Row {row}, column {column} from the top left."}
    for row in range(8)
    for column in range(8)
}


def load() -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return the 64 pixels of each image, row by row, and the digit."""
    return load_digits(return_X_y=True)  # type: ignore[no-any-return]


def estimator() -> RandomForestClassifier:
    """Return a forest of 100 trees."""
    return RandomForestClassifier(n_estimators=100, random_state=0)
