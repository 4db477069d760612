"""Small models to bake, and the whole way from one to its artifact."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from service.artifact.contract import Contract
from service.artifact.reader import Artifact, verify
from training.bake import bake
from training.contract.derive import derive_contract
from training.contract.frame import as_frame
from training.contract.probe import EstimatorProbe, probe_estimator
from training.sources.source import Source

N_ROWS = 40
RNG = np.random.default_rng(0)
NUMBERS = RNG.normal(size=(N_ROWS, 3))  # shape (n_samples, n_features)
FRAME = pd.DataFrame(NUMBERS, columns=["a", "b", "c"])
PRICES = NUMBERS @ [1.0, 2.0, 3.0] + 10
SIGNS = (NUMBERS[:, 0] > 0).astype(int)
WORDS = np.array(["red", "green", "blue"])[np.arange(N_ROWS) % 3]
CODES = np.arange(N_ROWS) % 3

# A model file that bakes as it is; tests append to it what they want to be otherwise.
MODEL_FILE = '''"""A line through four points.

More about it.
"""
import numpy as np
from sklearn.linear_model import LinearRegression

def load():
    return np.arange(24.0).reshape(12, 2) % 7, np.arange(12.0)

def estimator():
    return LinearRegression()
'''


def write_model_file(directory: Path, *more: str, name: str = "line.py") -> str:
    """Write MODEL_FILE with more lines after it, and return its path."""
    path = directory / name
    path.write_text("\n".join([MODEL_FILE, *more, ""]))
    return str(path)


def derived(
    estimator: Any, X: Any, features: Mapping[str, Any] | None = None, target_names: Sequence[str] = ()
) -> tuple[Contract, pd.DataFrame, EstimatorProbe]:
    """Return a fitted estimator's contract, the training rows as the service gives them, and a way to ask it."""
    names = list(X.columns) if isinstance(X, pd.DataFrame) else [f"x{index}" for index in range(X.shape[1])]
    frame = as_frame(X, names)
    probe = probe_estimator(estimator, X, frame)
    return derive_contract(probe, frame, features or {}, target_names), frame, probe


def bake_whole_way(output: Path, X: Any, y: Any, estimator: Any, **said: Any) -> Artifact:
    """Bake an unfitted estimator, the service's check included, and return the artifact."""
    bake(lambda: Source("small", "here.py", X, y, estimator, **said), output, "", 0, "", lambda _what: None)
    return verify(output)


def contents(directory: Path) -> dict[str, bytes]:
    """Return the bytes of every file under a directory, by its path in there."""
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}
