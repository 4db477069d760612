"""A real Prometheus, which scrapes real servers under load, has an answer to every query of every panel."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.support.certificates import Authority
from tests.support.prometheus import NAMESPACE, Pod, RunningPrometheus, prometheus_command
from tests.support.server import RunningServer
from tests.support.truth import clients, connect_to
from tools import ROOT
from tools.dashboards import texts
from tools.helm import one, render
from tools.panels import Answer, Prometheus
from tools.pictures import picture
from training.__main__ import main as training
from training.models import house_prices, penguins

DASHBOARDS = {name.removesuffix(".json"): json.loads(text) for name, text in texts().items()}
HOUSE, PENGUINS = "house", "penguins"  # releases: of two versions, the second in batches; of categories, with TLS
RANGE_SECONDS, DEADLINE_SECONDS = 60, 120
# A server outside of a container may have no limit.
OF_CONTAINERS = ("bakehouse_cpu_limit_cores", "bakehouse_cpu_throttled_periods_total", "bakehouse_memory_limit_bytes")
FOREST = """
from sklearn.ensemble import RandomForestRegressor
from training.models.house_prices import load

def estimator():
    return RandomForestRegressor(n_estimators=60, random_state=0)
"""
pytestmark = pytest.mark.slow


def rules_of(release: str) -> list[dict[str, Any]]:
    """Return the groups of rules that the chart makes for a release."""
    values = {"image": {"tag": "v1"}, "metrics": {"monitor": {"kind": "PodMonitor"}, "rules": {"enabled": True}}}
    groups = one(render(values, name=release, namespace=NAMESPACE), "PrometheusRule")["spec"]["groups"]
    return [{**group, "name": f"{release}-{group['name']}"} for group in groups]


def cells(frame: pd.DataFrame) -> list[list[Any]]:
    """Return rows as JSON has them, a gap as null."""
    return json.loads(frame.to_json(orient="values"))


def bake(model: Path, output: Path, version: str, *options: str) -> Path:
    """Return the new artifact of a model."""
    assert training(["bake", str(model), "--output", str(output), "--model-version", version, *options]) == 0
    return output


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Return the address of a Prometheus that watches two releases under load, one of them with two versions."""
    command = prometheus_command()
    folder = tmp_path_factory.mktemp("watched")
    authority = Authority(folder)
    certificate, key = authority.issue("localhost")
    (folder / "forest.py").write_text(FOREST)
    first = bake(ROOT / "training/models/house_prices.py", folder / "first", "v1")
    second = bake(folder / "forest.py", folder / "second", "v2", "--engine", "scikit-learn")
    assert json.loads((second / "manifest.json").read_text())["batching"], "two forests at once cost less than two"
    species = bake(ROOT / "training/models/penguins.py", folder / "species", "v1")
    houses, prices = house_prices.load()
    birds, names = penguins.load()
    birds.loc[birds.index[::9], "island"] = "Atlantis"

    with ExitStack() as cleaning:

        def serve(artifact: Path, **variables: str) -> RunningServer:
            server = RunningServer(artifact, variables)
            cleaning.callback(server.kill)
            return server

        old, new = serve(first), serve(second)
        secured = serve(species, BAKEHOUSE_TLS_CERTIFICATE=str(certificate), BAKEHOUSE_TLS_KEY=str(key))
        for server in (old, new, secured):
            server.wait_until_ready()
        pods = [
            Pod(HOUSE, "house-1", old.health_port),
            Pod(HOUSE, "house-2", new.health_port),
            Pod(PENGUINS, "penguins-1", secured.health_port),
        ]
        watching = RunningPrometheus(command, folder, pods, [*rules_of(HOUSE), *rules_of(PENGUINS)])
        cleaning.callback(watching.stop)
        watching.wait_until_ready()
        troubles = [
            cleaning.enter_context(clients(connect_to(old.port), cells(houses), prices.tolist())),
            cleaning.enter_context(clients(connect_to(new.port), cells(houses), prices.tolist(), n_clients=6)),
            cleaning.enter_context(
                clients(connect_to(secured.port, str(authority.file)), cells(birds), names.tolist())
            ),
        ]
        for command in (
            ("check", str(second), "--live", old.health_url),
            ("smoke", old.url, "--health-url", old.health_url),
        ):
            own = {**os.environ, "BAKEHOUSE_ARTIFACT": str(first)}
            subprocess.run([sys.executable, "-m", "service", *command], cwd=ROOT, env=own, check=True)
        yield watching.url
        assert troubles == [[], [], []]


def answered(url: str, name: str, release: str) -> list[Answer]:
    """Return the answers for one release."""
    asked = Prometheus(url, RANGE_SECONDS, rate_interval="5s")
    return asked.answers(DASHBOARDS[name], {"namespace": NAMESPACE, "release": release})


def wait_for(url: str, name: str, missing: Callable[[list[Answer], list[Answer]], list[str]]) -> None:
    """Return once nothing is missing in the answers for both releases.

    Raises:
        AssertionError: If something still is after a while.
    """
    deadline = time.monotonic() + DEADLINE_SECONDS
    lacking = ["no variable had a value yet"]
    while lacking and time.monotonic() < deadline:
        try:
            lacking = missing(answered(url, name, HOUSE), answered(url, name, PENGUINS))
        except AssertionError as error:
            lacking = [str(error)]
        time.sleep(1)
    assert lacking == []


@pytest.mark.parametrize("name", DASHBOARDS)
def test_every_query_has_an_answer(prometheus: str, name: str) -> None:
    """For one of two releases, of which one is a regression and one a classification; nothing shown is out of reach."""

    def missing(house: list[Answer], birds: list[Answer]) -> list[str]:
        return [
            f"{one_answer.query.panel}: {one_answer.query.expr}"
            for one_answer, other in zip(house, birds, strict=True)
            if not (one_answer.series or other.series)
            and not any(series in one_answer.query.expr for series in OF_CONTAINERS)
        ]

    wait_for(prometheus, name, missing)


@pytest.mark.parametrize("name", DASHBOARDS)
def test_a_panel_that_may_be_empty_says_why(prometheus: str, name: str) -> None:
    """Every other one has an answer for whatever release, so that an empty panel is never a riddle."""

    def missing(*answers: list[Answer]) -> list[str]:
        return [
            f"{answer.query.panel}: {answer.query.expr}"
            for of_release in answers
            for answer in of_release
            if not (answer.series or answer.query.may_be_empty)
            and not any(series in answer.query.expr for series in OF_CONTAINERS)
        ]

    wait_for(prometheus, name, missing)


@pytest.mark.parametrize("name", DASHBOARDS)
def test_the_answers_can_be_drawn(prometheus: str, name: str) -> None:
    """The pictures of docs are made of such answers; the same ones give the same bytes."""
    board = DASHBOARDS[name]
    answers = answered(prometheus, name, HOUSE)
    drawn = picture(board, answers, "house in models", RANGE_SECONDS)
    assert drawn == picture(board, answers, "house in models", RANGE_SECONDS)
    for panel in board["panels"]:
        assert panel["title"].replace("$feature", "age") in drawn
