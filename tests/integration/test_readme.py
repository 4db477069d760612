"""The pages tell the truth: their commands are run, in their order, and print what is shown under them.

A command that is not run here stands in NOT_RUN, with the reason.
"""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import joblib
import pandas as pd
import pytest
from sklearn.linear_model import LinearRegression

from service.artifact.reader import verify
from tests.support.documents import PAGES, Command, blocks, commands, files
from tests.support.server import RunningServer
from tools import ROOT
from tools.local_http import predict

README, FEEDBACK = ROOT / "README.md", ROOT / "docs/how-to/feedback.md"
ENGINE = "needs a container engine: tests/image builds images, and runs the commands of docs/how-to/image.md"
ONE_SERVER = "needs Compose and root: tests/image/test_one_server.py runs the same files"
CLUSTER = "needs a cluster: tests/e2e installs, upgrades and tests releases"
TOOLS = "needs the whole development environment, and minutes: CI runs it"
# By the beginning of the command.
NOT_RUN = {
    "make image": ENGINE,
    "docker ": ENGINE,
    "printf 'FROM ": ENGINE,
    "deploy/compose/roll": ONE_SERVER,
    "curl https://house.example.com": ONE_SERVER,
    "sudo ": ONE_SERVER,
    "cd /opt/bakehouse": ONE_SERVER,
    "helm ": CLUSTER,
    "kubectl ": CLUSTER,
    "promtool ": CLUSTER,
    ".venv/bin/python -m tools.pictures": "needs a Prometheus that watched a release: tests/e2e/test_monitoring.py",
    ".venv/bin/python -m tools.bench": TOOLS,
    "make ": TOOLS,
    ".venv/bin/pytest": "is a test itself",
    "jq ": "needs a log: tests/unit runs the questions of docs/reference/logs.md",
    "cosign ": "needs a published image: the workflow image verifies what it published",
    "git ": "changes a repository",
    "API_KEY=": "starts a server: tests/integration/test_extend.py runs the same module",
}
SERVERS = re.compile(r"(?P<variables>(?:\w+=\S+ )*)(?P<command>make serve|\.venv/bin/python -m service)")
# The commands that take longest; what one printed is good for all pages.
BAKES = (".venv/bin/python -m training bake",)


def is_run(command: Command) -> bool:
    """Return whether the tests here run a command."""
    return bool(SERVERS.fullmatch(command.text)) or not command.text.startswith(tuple(NOT_RUN))


RUN = [page for page in PAGES if any(map(is_run, commands(page)))]


def comparable(text: str) -> list[str]:
    """Return the lines without what differs between bakes and processors: digests, ids, last digits, times, commits."""
    text = re.sub(r'("service_version"|"source_commit"):"[^"]*"', r"\1:#", text)
    text = re.sub(r"\b[0-9a-f]{32,64}\b|\b(?=\d*[a-f])[0-9a-f]{12}\b|(?<=version )\w{12}\b", "#", text)
    text = re.sub(r"\d+\.\d{6,}", lambda number: f"{float(number[0]):.5g}", text)
    text = re.sub(r"(: exact|: within) ?[\d.e-]*, [\d.e+-]+, [\d.e+-]+", r"\1, #", text)  # microseconds
    text = re.sub(r"(source commit ).*|(libraries ).*", r"\1\2#", text)
    return [line.rstrip() for line in text.splitlines()]


def shows(shown: str, printed: str) -> bool:
    """Return whether a page shows what was printed; a line of three dots stands for any number of lines."""
    pattern = "\n".join(".*" if line == "..." else re.escape(line) for line in comparable(shown))
    return bool(re.fullmatch(pattern.replace("\n.*\n", "\n(?:.*\n)*"), "\n".join(comparable(printed)), re.DOTALL))


class Clone:
    """A folder such as a clone of the repository, in which commands are run.

    Args:
        directory: The folder; artifacts and servers of one page are there for the next.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._printed: dict[str, str] = {}
        self._servers: dict[str, RunningServer] = {}
        self.server: RunningServer | None = None

    def run(self, command: str) -> str:
        """Run a command and return what it printed; curl asks the server that was started last."""
        if SERVERS.fullmatch(command):
            return self._serve(command)
        if command.startswith(BAKES) and command in self._printed:
            return self._printed[command]
        if "localhost:" in command:
            server = self.server or self._start("make serve")
            command = command.replace("localhost:8080", f"127.0.0.1:{server.port}")
            command = command.replace("localhost:8081", f"127.0.0.1:{server.health_port}")
        curl = f'curl() {{ {shlex.quote(sys.executable)} {shlex.quote(str(ROOT / "tests/support/curl.py"))} "$@"; }}'
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", f"{curl}\n{command}"],
            cwd=self.directory,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        self._printed[command] = done.stdout
        return done.stdout

    def _serve(self, command: str) -> str:
        server = self._start(command)
        printed = server.output + server.errors
        return printed.replace(f"localhost:{server.port}", "localhost:8080").strip() + "\n"

    def _start(self, command: str) -> RunningServer:
        found = SERVERS.fullmatch(command)
        assert found
        if command not in self._servers:
            variables = dict(pair.split("=", 1) for pair in shlex.split(found["variables"]))
            running = RunningServer(
                self.directory / variables.get("BAKEHOUSE_ARTIFACT", "artifact"),
                {name: value for name, value in variables.items() if name != "BAKEHOUSE_ARTIFACT"},
                command=shlex.split(found["command"]),
                directory=self.directory,
                terminal=True,
            )
            self._servers[command] = running
            running.wait_until_ready()
        self.server = self._servers[command]
        return self.server

    def stop(self) -> None:
        """Stop all servers."""
        for server in self._servers.values():
            server.kill()


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clone]:
    """Return a clone, with the files that the pages show or speak of."""
    directory = tmp_path_factory.mktemp("clone")
    for name in (".venv", "Makefile", "requirements", "service", "training"):
        (directory / name).symlink_to(ROOT / name)
    for page in RUN:
        for name, text in files(page).items():
            assert not (directory / name).exists() or (directory / name).read_text() == text, f"{name} is two files"
            (directory / name).write_text(text)
    rows = pd.DataFrame({"area": [1000.0, 1500, 2000, 2500], "age": [1.0, 30, 2, 10]})
    rows.to_csv(directory / "rows.csv", index=False)
    joblib.dump(LinearRegression().fit(rows, [1.0, 2, 3, 4]), directory / "model.joblib")
    clone = Clone(directory)
    yield clone
    clone.stop()


@pytest.mark.parametrize("page", RUN, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_print_what_is_shown(clone: Clone, page: Path) -> None:
    """Each command of a page is run after the one before, and fails nowhere."""
    clone.server = None
    for command in filter(is_run, commands(page)):
        printed = clone.run(command.text)
        if command.output:
            assert shows(command.output, printed), f"{command.text} printed:\n{printed}"


def test_the_readme_serves_and_bakes() -> None:
    """The commands that a newcomer begins with are among those that are run."""
    run = [command.text.partition(" '")[0] for command in commands(README) if is_run(command)]
    assert run[0] == "make serve"
    assert sum(text.startswith("curl ") for text in run) >= 1
    assert sum(text.startswith(BAKES) for text in run) == 1


@pytest.mark.parametrize("beginning", NOT_RUN)
def test_every_reason_not_to_run_is_needed(beginning: str) -> None:
    """Some page has a command for it."""
    texts = [command.text for page in PAGES for command in commands(page) if not is_run(command)]
    assert any(text.startswith(beginning) for text in texts)


@pytest.mark.parametrize("kind", ["bash", "shell", ""])
def test_no_command_escapes(kind: str) -> None:
    """Commands stand in blocks of the kinds console and sh, and other blocks have a kind."""
    assert [page for page in PAGES for found, _ in blocks(page) if found == kind] == []


@pytest.mark.parametrize(
    "text", sorted({command.text for page in PAGES for command in commands(page) if "pytest" in command.text})
)
def test_the_tests_that_the_pages_name_exist(text: str) -> None:
    """So that a command which is a test itself can be run."""
    named = [word for word in shlex.split(text) if word.startswith("tests/")]
    assert named
    assert [name for name in named if not (ROOT / name).exists()] == []


def targets() -> set[str]:
    """Return the targets of make that the pages name."""
    texts = [command.text for page in PAGES for command in commands(page)]
    return {word for text in texts if text.startswith("make ") for word in text.split()[1:] if "=" not in word}


@pytest.mark.parametrize("target", sorted(targets()))
def test_the_targets_that_the_pages_name_exist(target: str) -> None:
    """Make knows what to do for each."""
    environ = {name: value for name, value in os.environ.items() if name != "MAKEFLAGS"}
    subprocess.run(["make", "--dry-run", target], cwd=ROOT, env=environ, capture_output=True, text=True, check=True)


def test_the_join_of_predictions_and_truth_is_exact(
    tmp_path: Path, serve: Callable[..., RunningServer], house_prices: Path
) -> None:
    """The lines of pandas give the error that was made, of requests of any length, and name the model version."""
    server = serve(house_prices, BAKEHOUSE_PREDICTION_LOG=str(tmp_path / "predictions.jsonl"))
    truth = []
    for name, n_rows in (("007", 1), ("sale-1042", 200), ("never", 0)):
        rows = [[1000 + 10 * row, row % 90] for row in range(n_rows)]
        y_pred = predict(server.port, {"X": rows}, X_Request_ID=name).json["y_pred"] if rows else [1.0]
        truth += [(name, row, value - 7.5) for row, value in enumerate(y_pred)]
    server.terminate()
    assert server.process.wait(timeout=60) == 0
    pd.DataFrame(truth, columns=["request_id", "row", "y_true"]).to_csv(tmp_path / "truth.csv", index=False)
    code = files(FEEDBACK)["join.py"]
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    [line] = [line for line in done.stdout.splitlines() if verify(house_prices).version in line]
    assert float(line.split()[1]) == pytest.approx(7.5)
