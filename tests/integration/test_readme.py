"""The README tells the truth: its commands are run, and print what it shows."""

import argparse
import re
import shlex
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LinearRegression

from service.artifact import verify
from tests.support.server import RunningServer
from tools import ROOT
from tools.local_http import predict
from tools.settings import with_table

README = (ROOT / "README.md").read_text()
CONSOLE = re.findall(r"^```console\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
# Each command with the output that is shown under it, by blocks.
BLOCKS = [
    [(command.strip(), output) for command, _, output in (part.partition("\n") for part in block.split("$ ")[1:])]
    for block in CONSOLE
]
COMMANDS = [pair for block in BLOCKS for pair in block]
# What runs these tests cannot run inside them.
RUNNERS = ("make test", "make e2e", ".venv/bin/pytest")
# What needs a container engine is run by tests/image/test_image.py.
BUILDERS = ("make image", "docker ", "printf ")


def comparable(text: str) -> list[str]:
    """Return the lines without what differs between bakes and processors: digests, ids, last digits, times."""
    text = re.sub(r"\b[0-9a-f]{32,64}\b|\b(?=\d*[a-f])[0-9a-f]{12}\b|(?<=version )\w{12}\b", "#", text)
    text = re.sub(r"\d+\.\d{6,}", lambda number: f"{float(number[0]):.5g}", text)
    text = re.sub(r"(: exact|: within) ?[\d.e-]*, [\d.e+-]+, [\d.e+-]+", r"\1, #", text)  # microseconds
    text = re.sub(r"(source commit ).*|(libraries ).*", r"\1\2#", text)
    return [line.rstrip() for line in text.splitlines()]


def curl(command: str, port: int, directory: Path) -> str:
    """Do what a curl command says, on machines without curl too; options that the README does not use are errors."""
    parser = argparse.ArgumentParser()
    parser.add_argument("-s", action="store_true")
    parser.add_argument("-H", dest="headers", action="append")
    parser.add_argument("-d", "--data-binary", dest="data")
    parser.add_argument("url")
    options = parser.parse_args(shlex.split(command)[1:])
    url = "http://" + options.url.replace("localhost:8080", f"127.0.0.1:{port}")
    headers = dict(header.split(": ", 1) for header in options.headers)
    data = options.data
    body = (directory / data[1:]).read_bytes() if data.startswith("@") else data.encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=30) as answer:
            return answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.read().decode()


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder such as a clone, in which commands may write, with the files that the README speaks of."""
    directory = tmp_path_factory.mktemp("clone")
    for name in (".venv", "Makefile", "requirements", "service", "training"):
        (directory / name).symlink_to(ROOT / name)
    code = re.search(r"^```python\n# (\S+)\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
    assert code
    (directory / code[1]).write_text(code[2])
    rows = pd.DataFrame({"area": [1000.0, 1500, 2000, 2500], "age": [1.0, 30, 2, 10]})
    rows.to_csv(directory / "rows.csv", index=False)
    np.save(directory / "rows.npy", [[1500.0, 3.0]])  # as a command there does, which runs after the requests here
    joblib.dump(LinearRegression().fit(rows, [1.0, 2, 3, 4]), directory / "model.joblib")
    return directory


@pytest.fixture(scope="module")
def server(workspace: Path) -> Iterator[RunningServer]:
    """Return the server that the README's first command starts."""
    assert COMMANDS[0][0] == "make serve"
    running = RunningServer(workspace / "artifact", {}, command=("make", "serve"), directory=workspace, terminal=True)
    yield running.wait_until_ready()
    running.kill()


@pytest.mark.parametrize("block", [block for block in BLOCKS if block[-1][0].startswith("curl ")])
def test_requests_are_answered_as_shown(server: RunningServer, workspace: Path, block: list[tuple[str, str]]) -> None:
    """What the README shows under a curl is what the server of make serve answers; one may build on the one before."""
    for command, output in block:
        if command.startswith("curl "):
            assert comparable(curl(command, server.port, workspace)) == comparable(output)


def test_make_serve_prints_the_first_request(server: RunningServer) -> None:
    """The curl that make serve prints is the one in the README, for its port."""
    (first, _), *_ = [pair for pair in COMMANDS if pair[0].startswith("curl ")]
    assert first.replace(":8080", f":{server.port}") in server.errors


def test_other_commands_print_what_is_shown(workspace: Path) -> None:
    """Bakes and inspections run in the order of the README and print what it shows."""
    others = [
        (command, output)
        for command, output in COMMANDS
        if not command.startswith(("curl ", "make serve", *RUNNERS, *BUILDERS))
    ]
    assert len(others) >= 3
    for command, output in others:
        done = subprocess.run(
            [sys.executable, *shlex.split(command)[1:]],
            cwd=workspace,
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
        if output:
            assert comparable(done.stdout) == comparable(output)


@pytest.mark.parametrize("command", [command for command, _ in COMMANDS if command.startswith(RUNNERS)])
def test_the_commands_that_run_tests_exist(command: str) -> None:
    """Make test is a target, and every test file that the README names is there."""
    if command.startswith("make"):
        done = subprocess.run(
            ["make", "--dry-run", *command.split()[1:]], cwd=ROOT, capture_output=True, text=True, check=True
        )
        assert "pytest" in done.stdout
    else:
        assert (ROOT / shlex.split(command)[1]).is_file()


def test_the_join_of_predictions_and_truth_is_exact(
    tmp_path: Path, serve: Callable[..., RunningServer], house_prices: Path
) -> None:
    """The lines of pandas give the error that was made, of requests of any length, and name the model version."""
    code = re.search(r"^```python\n# join.py\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
    assert code
    server = serve(house_prices, BAKEHOUSE_PREDICTION_LOG=str(tmp_path / "predictions.jsonl"))
    truth = []
    for name, n_rows in (("007", 1), ("sale-1042", 200), ("never", 0)):
        rows = [[1000 + 10 * row, row % 90] for row in range(n_rows)]
        y_pred = predict(server.port, {"X": rows}, X_Request_ID=name).json["y_pred"] if rows else [1.0]
        truth += [(name, row, value - 7.5) for row, value in enumerate(y_pred)]
    server.terminate()
    assert server.process.wait(timeout=60) == 0
    pd.DataFrame(truth, columns=["request_id", "row", "y_true"]).to_csv(tmp_path / "truth.csv", index=False)
    done = subprocess.run(
        [sys.executable, "-c", code[1]], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=120
    )
    [line] = [line for line in done.stdout.splitlines() if verify(house_prices).version in line]
    assert float(line.split()[1]) == pytest.approx(7.5)


def test_the_settings_table_is_the_one_of_the_code() -> None:
    """Make docs would change nothing."""
    assert with_table(README) == README


def test_files_that_the_readme_links_to_exist() -> None:
    """No link leads nowhere."""
    links = [link for link in re.findall(r"\]\(([^)]+)\)", README) if "://" not in link]
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_test_files_that_the_readme_names_exist() -> None:
    """Claims of the text lead to tests."""
    named = re.findall(r"tests/\w+/\w+\.py", README)
    assert named
    assert [name for name in named if not (ROOT / name).is_file()] == []
