"""The same inputs give the same artifacts, byte for byte, whatever process they are baked in."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from service.artifact.manifest import read_manifest
from tests.conftest import MODELS, ROOT
from tests.support.baking import contents

pytestmark = pytest.mark.slow

CODE = """
import sys
from training.__main__ import main
folder, *names = sys.argv[1:]
for name in names:
    assert main(["bake", f"training/models/{name}.py", "--output", f"{folder}/{name}", "--source-commit", "c"]) == 0
"""


@pytest.fixture(scope="module")
def baked_twice(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return two folders, each with every model, from processes that differ in whatever should not matter."""
    folders = []
    for number, seed in enumerate(["1", "2"], start=1):
        folder = tmp_path_factory.mktemp("folder" * number)
        # Python hashes text differently, memory is filled with other bytes before its use, threads are more.
        chance = {"PYTHONHASHSEED": seed, "MALLOC_PERTURB_": seed, "OMP_NUM_THREADS": seed}
        environ = {**os.environ, **chance, "SOURCE_DATE_EPOCH": "1700000000"}
        subprocess.run([sys.executable, "-c", CODE, str(folder), *MODELS], cwd=ROOT, env=environ, check=True)
        folders.append(folder)
    return folders[0], folders[1]


@pytest.mark.parametrize("name", MODELS)
def test_a_model_bakes_to_the_same_bytes(baked_twice: tuple[Path, Path], name: str):
    """Every file of the artifact, the compiled engine's too, and so the digest that stands for all of them."""
    first, second = (contents(folder / name) for folder in baked_twice)
    assert sorted(first) == sorted(second)
    assert [path for path in first if first[path] != second[path]] == []
    n_libraries = 2 if name in ("digits", "penguins") else 0  # one for each kind of processor
    assert len(first) == 7 + n_libraries


def test_the_time_is_that_of_the_source(baked_twice: tuple[Path, Path]):
    """No clock on the wall is read."""
    assert read_manifest(baked_twice[0] / "house_prices")["created"] == "2023-11-14T22:13:20Z"
