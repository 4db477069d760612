"""The shipped models, baked, with the bodies to send and the answers to expect of them."""

import importlib
import io
import subprocess
import sys
import warnings
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import orjson
import pandas as pd

from service.artifact.reader import verify
from tools import ROOT

LINEAR, LOGISTIC, FOREST, MIXED = "house_prices", "breast_cancer", "digits", "penguins"
DESCRIPTIONS = {
    LINEAR: "linear model",
    LOGISTIC: "logistic pipeline",
    FOREST: "forest of 100 trees",
    MIXED: "mixed columns, gradient boosting",
}
WIDE = "wide"  # of 200 features; not shipped
FILES = {WIDE: "tools/bench/apps/wide.py", **{name: f"training/models/{name}.py" for name in DESCRIPTIONS}}
JSON, NPY = "application/json", "application/x-npy"
NO_SUCH_OPTION = 2  # argparse


class BenchError(Exception):
    """The bench cannot go on; the message is one sentence that says why."""


@dataclass(frozen=True)
class Request:
    """What is sent to /predict, and what the estimator answers for it.

    Args:
        body: The bytes.
        content_type: Their type.
        answer: What "y_pred" must be, one value for each row.
    """

    body: bytes
    content_type: str
    answer: list[Any]


@dataclass(frozen=True)
class Model:
    """A baked model, and rows of the data that it was trained on.

    Args:
        name: Its name, one of FILES.
        artifact: Its artifact.
    """

    name: str
    artifact: Path

    @cached_property
    def estimator(self) -> Any:
        """The fitted estimator of the artifact."""
        return joblib.load(self.model_file)

    @property
    def model_file(self) -> Path:
        """The estimator's file."""
        return self.artifact / "model.joblib"

    @cached_property
    def takes_frame(self) -> bool:
        """Whether the estimator needs a pandas DataFrame."""
        return verify(self.artifact).contract.container == "frame"

    @cached_property
    def _data(self) -> pd.DataFrame:
        X, _ = importlib.import_module(FILES[self.name].removesuffix(".py").replace("/", ".")).load()
        return pd.DataFrame(X)

    def rows(self, n_rows: int, first: int = 0) -> Any:
        """Return rows of the data, from the start again where there are too few, as the estimator takes them."""
        frame = self._data.iloc[np.arange(first, first + n_rows) % len(self._data)].reset_index(drop=True)
        return frame if self.takes_frame else frame.to_numpy(dtype=np.float64)

    def json_request(self, n_rows: int, first: int = 0) -> Request:
        """Return a request of lists of values, of so many rows from one on."""
        rows = self.rows(n_rows, first)
        values = rows.astype(object).where(rows.notna(), None).to_numpy() if self.takes_frame else rows
        return Request(orjson.dumps({"X": values.tolist()}), JSON, self._answer(rows))

    def npy_request(self, n_rows: int) -> Request:
        """Return a request of one float64 matrix, as np.save writes it."""
        rows = self.rows(n_rows)
        file = io.BytesIO()
        np.save(file, rows)
        return Request(file.getvalue(), NPY, self._answer(rows))

    def _answer(self, rows: Any) -> list[Any]:
        with warnings.catch_warnings():  # a matrix is as good as the frame of numbers that it was fitted on
            warnings.filterwarnings("ignore", message="X does not have valid feature names")
            return self.estimator.predict(rows).tolist()  # type: ignore[no-any-return]

    def constant_answer(self) -> bytes:
        """Return an answer for one row, as the service writes it."""
        artifact = verify(self.artifact)
        model = {"name": artifact.name, "version": artifact.version}
        return orjson.dumps({"y_pred": self.json_request(1).answer, "model": model})


def bake(name: str, folder: Path, engine: str = "") -> Model:
    """Bake a model into a folder, unless it is there already.

    Args:
        name: The model's.
        folder: Where artifacts are.
        engine: The engine that is to serve it; by default, and where the bake takes no such wish, the bake chooses.

    Raises:
        BenchError: If the bake fails.
    """
    output = folder / "-".join(filter(None, (name, engine)))
    if output.exists():
        return Model(name, output)
    command = [sys.executable, "-m", "training", "bake", FILES[name], "--output", str(output)]
    command += ["--engine", engine] if engine else []
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if engine and done.returncode == NO_SUCH_OPTION:
        return bake(name, folder)
    if done.returncode:
        raise BenchError(f"The bake of {name} failed: {done.stderr.strip()}")
    return Model(name, output)
