"""A model that takes as long as a test wants: as long as there is a file that its variable names."""

import io
import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import joblib
import numpy as np
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from service.artifact.manifest import read_manifest
from service.artifact.writer import write
from tests.support.baking import NUMBERS, PRICES, bake_whole_way

VARIABLE = "HELD_BY_FILE"
BODY = json.dumps({"X": [[1.0, 2.0, 3.0]]}).encode()
REQUEST = (
    b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(BODY)
) + BODY


def hold(X: Any) -> Any:
    """Return the features as they are, once they may go on."""
    while (name := os.environ.get(VARIABLE)) and Path(name).exists():
        time.sleep(0.01)
    return X


def bake_held(directory: Path) -> Path:
    """Return the artifact of such a model."""
    return bake_around(directory, hold)


def bake_around(directory: Path, function: Callable[[Any], Any]) -> Path:
    """Return the artifact of a model of three features that go through a function first.

    A bake refuses code that no installed package has, so it is put in later.
    """
    baked = directory / "baked"
    bake_whole_way(baked, NUMBERS, PRICES, make_pipeline(FunctionTransformer(np.asarray), LinearRegression()))
    manifest = read_manifest(baked)
    files = {name: (baked / name).read_bytes() for name in manifest["files"]}
    pipeline = joblib.load(io.BytesIO(files["model.joblib"]))
    pipeline[0].func = function
    changed = io.BytesIO()
    joblib.dump(pipeline, changed)
    output = directory / function.__name__
    write(output, manifest, {**files, "model.joblib": changed.getvalue()}, lambda _staging: None)
    return output


@contextmanager
def held_requests(port: int, file: Path, n_requests: int) -> Iterator[list[socket.socket]]:
    """Have this many requests worked on, or wait for a thread, until the end of the block.

    Args:
        port: Of a server of the held model, started with VARIABLE naming the file.
        file: By which it is held.
        n_requests: How many, each on a connection of its own.
    """
    file.touch()
    with ExitStack() as stack:
        stack.callback(file.unlink, missing_ok=True)
        connections = [
            stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=30)) for _ in range(n_requests)
        ]
        for connection in connections:
            connection.sendall(REQUEST)
        yield connections
