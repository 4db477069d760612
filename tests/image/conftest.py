"""What the tests of images share: an engine, a clone in which to build, and the image of the default model."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.cluster import ROOT, run

IMAGE, TAG = "bakehouse-tested", "t1"


def need(tool_works: object, otherwise: str) -> None:
    """Skip a test whose tool is missing; in CI, fail it."""
    if not tool_works:
        pytest.fail(otherwise) if os.environ.get("CI") == "true" else pytest.skip(otherwise)


def base_image() -> str:
    """Return the base image that the Dockerfile names."""
    found = re.search(r"^ARG PYTHON_IMAGE=(\S+)", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert found
    return found[1]


@pytest.fixture(scope="session", autouse=True)
def _engine() -> None:
    """Need a container engine."""
    works = shutil.which("docker") and run("docker", "info", check=False).returncode == 0
    need(works, "docker info fails: these tests need a container engine")


@pytest.fixture(scope="session")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a repository of the files as they are now, in which builds may find further files."""
    directory = tmp_path_factory.mktemp("clone")
    listed = run("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard").stdout
    for name in listed.split("\0"):
        if name and (ROOT / name).is_file():
            (directory / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, directory / name)
    for words in (
        ["init", "--quiet"],
        ["add", "."],
        ["-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "t"],
    ):
        subprocess.run(["git", *words], cwd=directory, check=True)
    return directory


@pytest.fixture(scope="session")
def image(clone: Path) -> str:
    """Return the image of the default model, as make image builds it."""
    run("make", "-C", str(clone), "image", f"IMAGE={IMAGE}", f"TAG={TAG}")
    return f"{IMAGE}:{TAG}"
