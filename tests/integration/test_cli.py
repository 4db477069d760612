"""python -m service as a command: exit codes, one sentence a refusal, and what it does to the process."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from service.artifact.manifest import MANIFEST, MODEL, read_manifest
from service.artifact.writer import write
from service.settings import settings_table
from tests.support.server import RunningServer
from tools import ROOT
from tools.local_http import free_port

EXIT_ARTIFACT, EXIT_SETTINGS, EXIT_MODEL = 65, 78, 3


def service(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    command = [sys.executable, "-m", "service", *arguments]
    return subprocess.run(
        command, cwd=ROOT, env={**os.environ, **variables}, capture_output=True, text=True, timeout=120, check=False
    )


def copy_of(artifact: Path, tmp_path: Path) -> Path:
    """Return a copy that a test may break."""
    return Path(shutil.copytree(artifact, tmp_path / "copy"))


def flip_byte(path: Path, place: int = 100) -> None:
    """Change one byte of a file."""
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def assert_one_sentence(text: str) -> None:
    """Hold a refusal to its form: one line, no trace."""
    lines = text.strip().splitlines()
    assert len(lines) == 1, text
    assert lines[0].endswith(".")


def test_help_prints_every_setting() -> None:
    """--help holds the table that the README shows."""
    done = service("--help")
    assert done.returncode == 0
    assert settings_table() in done.stdout


def test_all_wrong_settings_stop_the_start_at_once() -> None:
    """Every problem is in one message, before anything listens."""
    done = service(BAKEHOUSE_HTTP_PORT="many", BAKEHOUSE_MAX_ROWS="0", BAKEHOUSE_NONSENSE="1")
    assert done.returncode == EXIT_SETTINGS
    assert_one_sentence(done.stderr)
    for name in ("BAKEHOUSE_HTTP_PORT", "BAKEHOUSE_MAX_ROWS", "BAKEHOUSE_NONSENSE"):
        assert name in done.stderr


def test_a_missing_artifact_is_refused_with_its_own_code(tmp_path: Path) -> None:
    """Where there is no artifact, one sentence says to bake one."""
    done = service(BAKEHOUSE_ARTIFACT=str(tmp_path / "none"))
    assert done.returncode == EXIT_ARTIFACT
    assert_one_sentence(done.stderr)
    assert "bake the model" in done.stderr


@pytest.mark.parametrize("command", [[], ["check"]])
@pytest.mark.parametrize("name", [MANIFEST, MODEL, "golden.jsonl", "reference.json", "MODEL_CARD.md", "bom.cdx.json"])
def test_a_flipped_byte_anywhere_is_refused(house_prices: Path, tmp_path: Path, name: str, command: list[str]) -> None:
    """Every byte of an artifact is covered by its digest, and nothing of a changed one is loaded."""
    artifact = copy_of(house_prices, tmp_path)
    flip_byte(artifact / name)
    done = service(*command, BAKEHOUSE_ARTIFACT=str(artifact))
    assert done.returncode == EXIT_ARTIFACT
    assert_one_sentence(done.stderr)
    assert name in done.stderr


def rebaked(artifact: Path, tmp_path: Path, **changed: bytes) -> Path:
    """Return a copy with other files but with digests that match, as a bake gone wrong would write it."""
    manifest = read_manifest(artifact)
    files = {name: (artifact / name).read_bytes() for name in manifest["files"]}
    output = tmp_path / "rebaked"
    write(output, manifest, {**files, **{name.replace("_", "."): content for name, content in changed.items()}}, print)
    return output


@pytest.mark.parametrize(("command", "code"), [([], EXIT_MODEL), (["check"], EXIT_ARTIFACT)])
@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ([1500, 3], "golden.jsonl line 1, /y_pred/0 is"),
        ([1500, None], "golden.jsonl line 1, at /X/0/1: age must not be null"),
    ],
    ids=["another answer", "a refusal"],
)
def test_a_model_that_answers_otherwise_never_serves(
    house_prices: Path, tmp_path: Path, row: list[int | None], sentence: str, command: list[str], code: int
) -> None:
    """A golden answer that differs ends the server, and the sentence shows the first difference."""
    golden = json.dumps({"request": {"X": [row]}, "response": {"y_pred": [1.0]}}).encode()
    done = service(*command, BAKEHOUSE_ARTIFACT=str(rebaked(house_prices, tmp_path, golden_jsonl=golden)))
    assert done.returncode == code
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr


def test_a_model_that_cannot_be_loaded_ends_the_server(house_prices: Path, tmp_path: Path) -> None:
    """Where the engine's file is broken although its digest fits, the server ends instead of trying for ever."""
    done = service(BAKEHOUSE_ARTIFACT=str(rebaked(house_prices, tmp_path, **{"engine/pipeline.npz": b"no pipeline"})))
    assert done.returncode == EXIT_MODEL
    assert "The engine numpy cannot be loaded" in done.stderr
    assert "Traceback" not in done.stderr


def test_check_says_what_it_checked(house_prices: Path) -> None:
    """A good artifact passes, and the command tells how many golden requests it replayed."""
    done = service("check", str(house_prices))
    assert done.returncode == 0
    assert "golden requests match" in done.stdout


@pytest.mark.parametrize("name", ["BAKEHOUSE_HTTP_PORT", "BAKEHOUSE_HEALTH_PORT"])
def test_a_taken_port_is_a_wrong_setting(serve: Callable[..., RunningServer], house_prices: Path, name: str) -> None:
    """Two servers cannot have one port, and the second says so at once."""
    first = serve(house_prices)
    ports = {"BAKEHOUSE_HTTP_PORT": str(free_port()), "BAKEHOUSE_HEALTH_PORT": str(free_port())}
    done = service(BAKEHOUSE_ARTIFACT=str(house_prices), **{**ports, name: str(first.port)})
    assert done.returncode == EXIT_SETTINGS
    assert_one_sentence(done.stderr)


def test_a_folder_for_series_of_somebody_else_is_let_alone(
    serve: Callable[..., RunningServer], house_prices: Path, tmp_path: Path
) -> None:
    """A variable of another program's metrics does not keep the server from starting."""
    server = serve(house_prices, PROMETHEUS_MULTIPROC_DIR=str(tmp_path / "none"))
    assert server.workers()


def test_an_artifact_that_was_replaced_is_not_served_by_half(
    serve: Callable[..., RunningServer], house_prices: Path, tmp_path: Path
) -> None:
    """All processes of a server serve the artifact that was verified at its start."""
    artifact = copy_of(house_prices, tmp_path)
    server = serve(artifact)
    shutil.rmtree(artifact)
    rebaked(house_prices, tmp_path, README_md=b"another digest").rename(artifact)
    os.kill(server.workers()[0], signal.SIGKILL)
    assert server.process.wait(timeout=60) == EXIT_MODEL
    assert "replaced while the server ran" in server.errors


@pytest.mark.parametrize("n_threads", ["1", "2"])
def test_a_prediction_uses_the_threads_it_was_given(house_prices: Path, n_threads: str) -> None:
    """BLAS and OpenMP are told their thread budget before they are imported; never more than there are processors."""
    code = (
        "import sys; from service.__main__ import main; main(['check']); "
        "from threadpoolctl import threadpool_info; print({pool['num_threads'] for pool in threadpool_info()})"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120, check=True,
        env={**os.environ, "BAKEHOUSE_ARTIFACT": str(house_prices), "BAKEHOUSE_COMPUTE_THREADS": n_threads},
    )  # fmt: skip
    expected = min(int(n_threads), len(os.sched_getaffinity(0)))
    assert done.stdout.splitlines()[-1] == f"{{{expected}}}"
