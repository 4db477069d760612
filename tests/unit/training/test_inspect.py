"""python -m training inspect: what an artifact says of itself, and whether it fits."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from service.artifact.manifest import canonical_json, read_manifest, sha256
from tests.conftest import MODELS, ROOT, ArtifactOf
from training.__main__ import main


def test_people_read_what_matters(artifact_of: ArtifactOf, capsys: pytest.CaptureFixture[str]):
    """Contract, scores, versions and digest, a line each."""
    artifact_of("penguins")
    capsys.readouterr()
    manifest = read_manifest(artifact_of("penguins"))
    assert main(["inspect", str(artifact_of("penguins"))]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"penguins {manifest['version']}: {manifest['description']}"
    for line in (
        f"  digest     {manifest['digest']}",
        "  verified   digest and library versions match",
        '    island: string, known ["Biscoe", "Dream", "Torgersen"]',
        "    bill_length_mm: number, 32.1 to 59.6 millimetres, null allowed",
        '    sex: string, known ["female", "male"], null allowed',
        "  outputs    predict, predict_proba, decision_function",
        '  classes    ["Adelie", "Chinstrap", "Gentoo"]',
        "  scores     held out, cross-validated mean and deviation, minimum",
    ):
        assert line in lines
    assert any(line.startswith("    balanced_accuracy: 0.9") and line.endswith(", 0.95") for line in lines)
    assert any(line.startswith("  libraries  ") and "scikit-learn 1." in line for line in lines)


def test_all_features_are_shown(artifact_of: ArtifactOf, capsys: pytest.CaptureFixture[str]):
    """Who inspects wants to see them."""
    artifact_of("digits")
    capsys.readouterr()
    main(["inspect", str(artifact_of("digits"))])
    said = capsys.readouterr().out
    assert "    pixel_7_7: number, 0 to 16 ink, 0 to 16\n" in said
    assert "more\n" not in said


@pytest.mark.parametrize("name", MODELS)
def test_programs_read_the_manifest(artifact_of: ArtifactOf, capsys: pytest.CaptureFixture[str], name: str):
    """As JSON, with a member more that says what does not fit: nothing."""
    artifact_of(name)
    capsys.readouterr()
    assert main(["inspect", "--json", str(artifact_of(name))]) == 0
    assert json.loads(capsys.readouterr().out) == {**read_manifest(artifact_of(name)), "problem": ""}


@pytest.fixture
def copy(tmp_path: Path, house_prices: Path) -> Path:
    """Return a copy of the default artifact, to be broken."""
    return Path(shutil.copytree(house_prices, tmp_path / "artifact"))


def flip_a_byte(artifact: Path) -> None:
    """Change one byte of the estimator's file."""
    content = bytearray((artifact / "model.joblib").read_bytes())
    content[len(content) // 2] ^= 1
    (artifact / "model.joblib").write_bytes(content)


def lose_a_file(artifact: Path) -> None:
    """Remove a file that the manifest names."""
    (artifact / "golden.jsonl").unlink()


def change_a_library(artifact: Path) -> None:
    """Have it baked with another scikit-learn, and seal that."""
    manifest = {**read_manifest(artifact), "version": "v1"}
    manifest["libraries"]["scikit-learn"] = "0.1"
    covered = {name: value for name, value in manifest.items() if name != "timings"}
    manifest["digest"] = sha256(canonical_json({**covered, "digest": ""}))
    (artifact / "manifest.json").write_bytes(canonical_json(manifest))


@pytest.mark.parametrize(
    ("break_it", "problem"),
    [
        (flip_a_byte, "model.joblib is not what the manifest says: bake the model again."),
        (lose_a_file, "golden.jsonl cannot be read (No such file or directory)"),
        (change_a_library, "was baked with other library versions (scikit-learn 0.1, here 1."),
    ],
)
def test_what_does_not_fit_is_said(
    copy: Path, capsys: pytest.CaptureFixture[str], break_it: Callable[[Path], None], problem: str
):
    """To people and programs alike, and by the exit code."""
    break_it(copy)
    assert main(["inspect", str(copy)]) == 1
    assert f"{problem}" in next(line for line in capsys.readouterr().out.splitlines() if "  verified   " in line)
    assert main(["inspect", "--json", str(copy)]) == 1
    assert problem in json.loads(capsys.readouterr().out)["problem"]


@pytest.mark.parametrize("content", [None, b"", b"[]", b'{"format": 99}', b'{"format": 1}'])
@pytest.mark.parametrize("option", [[], ["--json"]])
def test_what_is_no_artifact_is_refused(
    copy: Path, capsys: pytest.CaptureFixture[str], content: bytes | None, option: list[str]
):
    """With a sentence on standard error, and nothing on standard output."""
    (copy / "manifest.json").unlink()
    if content is not None:
        (copy / "manifest.json").write_bytes(content)
    assert main(["inspect", *option, str(copy)]) == 1
    said = capsys.readouterr()
    assert (said.out, len(said.err.splitlines())) == ("", 1)
    assert str(copy / "manifest.json") in said.err


def test_the_command_is_a_program(house_prices: Path):
    """Its exit code is the process's."""
    command = [sys.executable, "-m", "training", "inspect", "--json"]
    good = subprocess.run([*command, str(house_prices)], cwd=ROOT, capture_output=True, text=True, check=False)
    bad = subprocess.run([*command, "no such folder"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (good.returncode, json.loads(good.stdout)["name"]) == (0, "house_prices")
    assert (bad.returncode, bad.stdout) == (1, "")


def test_an_image_is_labelled_with_what_is_in_it(artifact_of: ArtifactOf, capsys: pytest.CaptureFixture[str]):
    """Version and revision under OCI's names, the model's name and digest under ours; for docker build --label."""
    manifest = read_manifest(artifact_of("digits"))
    capsys.readouterr()
    assert main(["inspect", "--labels", str(artifact_of("digits"))]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"org.opencontainers.image.version={manifest['version']}",
        f"org.opencontainers.image.revision={manifest['source_commit']}",
        "bakehouse.model.name=digits",
        f"bakehouse.model.digest={manifest['digest']}",
    ]
