"""Real parts for the tests: baked artifacts, loaded models, a Flask client and running servers."""

import os
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from filelock import FileLock
from hypothesis import settings

from tests.support.server import RunningServer
from tools import ROOT

# The fixtures import what they use. The controller of pytest-xdist loads this file as well, before it starts the
# workers, and scikit-learn and pandas take it seconds.
if TYPE_CHECKING:
    from flask.testing import FlaskClient

    from service.inference.model import Model

MODELS = ("house_prices", "breast_cancer", "digits", "penguins")

ArtifactOf = Callable[[str], Path]

# Generated cases per test: few on a laptop, many in CI, and any number by hand.
CASES = int(os.environ.get("BAKEHOUSE_TEST_CASES") or (100 if os.environ.get("CI") else 25))
settings.register_profile("bakehouse", max_examples=CASES, deadline=None)
settings.load_profile("bakehouse")


@pytest.fixture(scope="session", autouse=True)
def _no_bytecode() -> None:
    """Keep Python's cache out of the folders that tests look into; the test modules are imported and cached before."""
    sys.dont_write_bytecode = True


@pytest.fixture(autouse=True)
def _same_environment() -> Iterator[None]:
    """Fail a test that leaves a changed environment behind; the next one would start from it."""
    before = _environment()
    yield
    assert _environment() == before


def _environment() -> dict[str, str]:
    # pytest names the running test there, and scikit-learn sets OpenMP's variables when it is imported.
    return {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "KMP_"))}


@pytest.fixture(scope="session")
def artifact_of(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> ArtifactOf:
    """Return a function that gives the artifact of a shipped model. Tests must not change it, only copy it.

    Each is baked once for all workers of pytest-xdist: by the one that asks for it first, while the others wait.
    """
    own = tmp_path_factory.getbasetemp()
    directory = (own if worker_id == "master" else own.parent) / "artifacts"
    directory.mkdir(exist_ok=True)

    def bake_once(name: str) -> Path:
        from training.__main__ import main as training

        output = directory / name
        with FileLock(directory / f"{name}.lock"):
            if not output.exists():
                assert training(["bake", str(ROOT / f"training/models/{name}.py"), "--output", str(output)]) == 0
        return output

    return bake_once


@pytest.fixture(scope="session")
def model_of(artifact_of: ArtifactOf) -> "Callable[[str], Model]":
    """Return a function that gives a shipped model, loaded once."""
    from service.inference.loading import load_model

    return cache(lambda name: load_model(artifact_of(name)))


@pytest.fixture(scope="session")
def house_prices(artifact_of: ArtifactOf) -> Path:
    """Return the artifact of the default model."""
    return artifact_of("house_prices")


@pytest.fixture(scope="session")
def held(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the artifact of a model that answers when a test lets it."""
    from tests.support.holding import bake_held

    return bake_held(tmp_path_factory.mktemp("held"))


@pytest.fixture
def client_of(model_of: "Callable[[str], Model]") -> "Callable[..., FlaskClient]":
    """Return a function that gives a Flask client of a shipped model, with settings by their variables."""
    from flask import Flask

    from service.api.readiness import Lifecycle
    from service.observability.metrics import Metrics
    from service.server.composition import compose
    from service.settings import Settings

    def make(name: str = "house_prices", **variables: str) -> "FlaskClient":
        lifecycle = Lifecycle()
        lifecycle.served = model_of(name).artifact
        app = compose(Settings.from_env(variables), model_of(name), Metrics(os.getpid()), lifecycle).app
        assert isinstance(app, Flask)
        return app.test_client()

    return make


@pytest.fixture
def serve() -> Iterator[Callable[..., RunningServer]]:
    """Return a function that starts a real server on free ports; after the test it is stopped, and its log checked."""
    from tests.support.log import check_lines

    running: list[RunningServer] = []

    def start(artifact: Path, **variables: str) -> RunningServer:
        server = RunningServer(artifact, variables)
        running.append(server)
        return server.wait_until_ready()

    yield start
    for server in running:
        server.kill()
    for server in running:
        check_lines(server.output)
        check_lines(server.errors)
