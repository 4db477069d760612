"""Where an artifact comes from: commit, time and digest of the data."""

import hashlib
import os
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from training.errors import BakeError


def data_digest(frame: pd.DataFrame, y: Any) -> str:
    """Return the SHA-256 of features and target, with names, types and order."""
    digest = hashlib.sha256()
    for name in frame:
        digest.update(f"{name}\0{frame[name].dtype}\0".encode())
        digest.update(pd.util.hash_pandas_object(frame[name], index=False).to_numpy().tobytes())
    if y is not None:
        digest.update(pd.util.hash_array(np.asarray(y).ravel()).tobytes())
    return digest.hexdigest()


def source_commit(path: str) -> str:
    """Return the commit of a file's repository, with -dirty if anything was changed; empty where there is none."""
    describe_head = ["describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    command = ["git", "-C", str(Path(path).resolve().parent), *describe_head]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def created() -> str:
    """Return the time of SOURCE_DATE_EPOCH (reproducible-builds.org), or nothing: the clock on the wall is no input."""
    epoch = os.environ.get("SOURCE_DATE_EPOCH", "")
    if not epoch:
        return ""
    try:
        return datetime.fromtimestamp(int(epoch), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError) as error:
        raise BakeError("SOURCE_DATE_EPOCH must be whole seconds since 1970.") from error
