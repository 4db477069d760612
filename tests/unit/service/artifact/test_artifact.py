"""The artifact format: what is written is read, what was changed is refused before anything is unpickled."""

import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from service.artifact import writer
from service.artifact.manifest import (
    FORMAT,
    GOLDEN,
    MANIFEST,
    MODEL,
    ArtifactError,
    canonical_json,
    installed_version,
    read_manifest,
    sha256,
)
from service.artifact.reader import verify
from service.artifact.writer import write
from service.inference.loading import load_model

FILES = ("MODEL_CARD.md", "bom.cdx.json", "golden.jsonl", "manifest.json", "model.joblib", "reference.json")


class Trap:
    """What creates a file when it is unpickled.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self._path,)


@pytest.fixture
def copy(house_prices: Path, tmp_path: Path) -> Path:
    """Return a copy of the default model's artifact, to be changed."""
    return Path(shutil.copytree(house_prices, tmp_path / "copy"))


def refusal(directory: Path) -> str:
    """Return the sentence with which an artifact is refused."""
    with pytest.raises(ArtifactError) as refused:
        load_model(directory)
    message = str(refused.value)
    assert "\n" not in message
    assert message.endswith(".")
    assert message.count(". ") == 0
    return message


def edit(directory: Path, **members: Any) -> None:
    """Change members of a manifest, and leave its digest as it is unless that is one of them."""
    path = directory / MANIFEST
    path.write_bytes(canonical_json({**json.loads(path.read_bytes()), **members}))


def seal(directory: Path, **members: Any) -> None:
    """Change members of a manifest as somebody would who can write artifacts: with all digests right."""
    path = directory / MANIFEST
    manifest = {**json.loads(path.read_bytes()), "digest": "", "version": "", **members}
    covered = {name: value for name, value in manifest.items() if name != "timings"}
    manifest["digest"] = sha256(canonical_json(covered))
    manifest["version"] = manifest["digest"][:12]
    path.write_bytes(canonical_json(manifest))


def set_trap(directory: Path) -> Path:
    """Replace the model by a trap and return the file that would tell that it was unpickled."""
    sprung = directory.parent / "sprung"
    (directory / MODEL).write_bytes(pickle.dumps(Trap(sprung)))
    return sprung


def digests_of_files(directory: Path) -> dict[str, str]:
    """Return the digests of all files as they are now."""
    names = json.loads((directory / MANIFEST).read_bytes())["files"]
    return {name: sha256((directory / name).read_bytes()) for name in names}


# ---------------------------------------------------------------------------------------------- reading


@pytest.mark.parametrize("model", ["house_prices", "breast_cancer", "digits", "penguins"])
def test_a_shipped_artifact_is_verified(model: str, artifact_of: Callable[[str], Path]) -> None:
    """Name, version and digest are those of the manifest, and the version repeats the digest."""
    artifact = verify(artifact_of(model))
    assert artifact.name == model
    assert len(artifact.digest) == 64
    assert artifact.version == artifact.digest[:12]
    assert set(artifact.manifest["files"]) | {MANIFEST} == set(FILES) | set(artifact.engine["files"])


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("where", [0, 0.5, 1])
def test_a_flipped_bit_in_any_file_is_refused(name: str, where: float, copy: Path) -> None:
    """At its beginning, in its middle and at its end."""
    content = bytearray((copy / name).read_bytes())
    content[int(where * (len(content) - 1))] ^= 1
    (copy / name).write_bytes(content)
    assert f"{copy / name} " in refusal(copy)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_refused(name: str, copy: Path) -> None:
    """The message names it, and says what to do."""
    (copy / name).unlink()
    assert f"{copy / name} cannot be read (No such file or directory): bake the model" in refusal(copy)


def test_a_missing_directory_is_refused(tmp_path: Path) -> None:
    """The message names the setting that leads there."""
    assert "BAKEHOUSE_ARTIFACT" in refusal(tmp_path / "nowhere")


@pytest.mark.parametrize("name", FILES)
def test_a_cut_off_file_is_refused(name: str, copy: Path) -> None:
    """An interrupted copy is no artifact."""
    os.truncate(copy / name, (copy / name).stat().st_size - 1)
    assert f"{copy / name} " in refusal(copy)


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("digest", "0" * 64),
        ("digest", ""),
        ("digest", None),
        ("digest", 1),
        ("version", "v2"),
        ("version", ""),
        ("version", None),
        ("name", "other"),
        ("seed", 1),
        ("libraries", {}),
        ("files", {}),
        ("contract", {}),
        ("extra", 1),
    ],
)
def test_an_edited_manifest_is_refused(member: str, value: Any, copy: Path) -> None:
    """One digest stands for all that the manifest says, itself included."""
    edit(copy, **{member: value})
    assert refusal(copy) == f"{copy / MANIFEST} does not match its own digest: bake the model again."


def test_a_manifest_in_another_layout_is_refused(copy: Path) -> None:
    """The digest stands for bytes, not for what they mean."""
    manifest = json.loads((copy / MANIFEST).read_bytes())
    (copy / MANIFEST).write_text(json.dumps(manifest))
    assert "does not match its own digest" in refusal(copy)


@pytest.mark.parametrize("written_with", [FORMAT + 1, 0, "1", None, [FORMAT], "x" * 100])
def test_another_format_is_refused_with_both_numbers(written_with: Any, copy: Path) -> None:
    """The message says which format the service reads, and is short whatever stands there."""
    edit(copy, format=written_with)
    message = refusal(copy)
    assert f"this service reads format {FORMAT}" in message
    assert len(message) < len(str(copy)) + 200


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"null", b"1", b"{}", b"\xff\xfe\x00", b"[" * 100_000, b'{"format": NaN}'],
    ids=["empty", "cut off", "list", "null", "number", "no format", "no text", "deep", "nan"],
)
def test_another_file_of_that_name_is_no_manifest(content: bytes, copy: Path) -> None:
    """Whatever it holds, the refusal is one sentence."""
    (copy / MANIFEST).write_bytes(content)
    assert str(copy / MANIFEST) in refusal(copy)


@pytest.mark.parametrize(
    ("libraries", "misfit"),
    [
        ({"scikit-learn": "0.1"}, f"scikit-learn 0.1, here {installed_version('scikit-learn')}"),
        ({"no-such-library": "1"}, "no-such-library 1, here not installed"),
        ({"python": "2.7"}, f"python 2.7, here {installed_version('python')}"),
        ({"numpy": "1", "joblib": "0"}, f"joblib 0, here {installed_version('joblib')}; numpy 1, here "),
    ],
)
def test_other_library_versions_are_refused_with_both(libraries: dict[str, str], misfit: str, copy: Path) -> None:
    """All that differ are named at once, each with the version it was baked with and the one that is here."""
    seal(copy, libraries=libraries)
    assert misfit in refusal(copy)


@pytest.mark.parametrize("contract", [{}, {"features": [{"shade": 1}], "container": "float64", "outputs": []}, []])
def test_a_contract_that_cannot_be_read_is_refused(contract: Any, copy: Path) -> None:
    """Even when all digests are right."""
    seal(copy, contract=contract)
    assert "The contract in" in refusal(copy)


def test_the_trap_works(copy: Path) -> None:
    """With all digests right the model is unpickled, and the trap tells; so where it does not, nothing was."""
    sprung = set_trap(copy)
    seal(copy, files=digests_of_files(copy))
    assert verify(copy).load_estimator() is None
    assert sprung.exists()


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda _copy: None, "is not what the manifest says"),
        (lambda copy: edit(copy, files=digests_of_files(copy)), "does not match its own digest"),
        (
            lambda copy: seal(copy, files=digests_of_files(copy), libraries={"numpy": "0"}),
            "other library versions",
        ),
        (lambda copy: seal(copy, files=digests_of_files(copy), format=FORMAT + 1), "has format"),
        (lambda copy: seal(copy, files=digests_of_files(copy), contract={}), "The contract in"),
    ],
    ids=["sha", "digest", "libraries", "format", "contract"],
)
def test_nothing_is_unpickled_before_everything_fits(spoil: Callable[[Path], None], reason: str, copy: Path) -> None:
    """Unpickling runs what the file says; an artifact that does not fit never gets that far."""
    sprung = set_trap(copy)
    spoil(copy)
    assert reason in refusal(copy)
    assert not sprung.exists()


def test_a_model_that_is_exchanged_after_the_check_is_not_unpickled(copy: Path) -> None:
    """The bytes that are loaded are the very ones that are compared."""
    artifact = verify(copy)
    sprung = set_trap(copy)
    with pytest.raises(ArtifactError, match="is not what the manifest says"):
        artifact.load_estimator()
    assert not sprung.exists()


def test_a_model_that_the_manifest_does_not_name_is_not_unpickled(copy: Path) -> None:
    """A file without a digest is nobody's."""
    sprung = set_trap(copy)
    seal(copy, files={name: digest for name, digest in digests_of_files(copy).items() if name != MODEL})
    with pytest.raises(ArtifactError, match="is not what the manifest says"):
        verify(copy).load_estimator()
    assert not sprung.exists()


@pytest.mark.parametrize("content", [b"no pickle", pickle.dumps(1)[:-1], b"cno_such_module\nThing\n."])
def test_a_model_that_cannot_be_loaded_is_refused(content: bytes, copy: Path) -> None:
    """The message says which packages are needed, instead of a traceback."""
    (copy / MODEL).write_bytes(content)
    seal(copy, files=digests_of_files(copy))
    seal(copy, engine="scikit-learn")
    assert f"{copy / MODEL} cannot be loaded" in refusal(copy)


def test_an_engine_that_cannot_be_loaded_is_refused(copy: Path) -> None:
    """Of a compiled model as of a pickled one."""
    (copy / "engine/pipeline.npz").write_bytes(b"no pipeline")
    seal(copy, files=digests_of_files(copy))
    assert "The engine numpy cannot be loaded" in refusal(copy)


def test_golden_exchanges_are_requests_with_responses(house_prices: Path) -> None:
    """The first one is what the documentation sends."""
    exchanges = verify(house_prices).golden()
    assert exchanges[0]["request"] == {"X": [[1500, 3]]}
    assert all(exchange.keys() == {"request", "response"} for exchange in exchanges)


# ---------------------------------------------------------------------------------------------- writing


CONTENT = {"golden.jsonl": b"", "model.joblib": b"model", "engine/exact": b"tree"}


def write_to(directory: Path, accept: Callable[[Path], None] = lambda _staging: None, **members: Any) -> str:
    """Write a small artifact and return its digest."""
    manifest = {"name": "small", "version": "", "libraries": {}, "contract": {}, **members}
    return write(directory, manifest, CONTENT, accept)


def refuse(_staging: Path) -> None:
    """Accept nothing."""
    raise RuntimeError("under the bar")


def test_what_is_written_is_read(tmp_path: Path) -> None:
    """Manifest and files come back, and the digest that was returned is the manifest's."""
    digest = write_to(tmp_path / "new/artifact")
    manifest = read_manifest(tmp_path / "new/artifact")
    assert (manifest["digest"], manifest["version"], manifest["name"]) == (digest, digest[:12], "small")
    assert {name: (tmp_path / "new/artifact" / name).read_bytes() for name in manifest["files"]} == CONTENT
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["artifact"]


def test_the_same_content_has_the_same_digest(tmp_path: Path) -> None:
    """Wherever it is written; any other content has another one, and so has a version of one's own."""
    first = write_to(tmp_path / "a")
    assert write_to(tmp_path / "b") == first
    assert len({first, write_to(tmp_path / "c", seed=1), write_to(tmp_path / "d", version="v1")}) == 3


def test_a_version_of_ones_own_is_kept(tmp_path: Path) -> None:
    """The digest covers it."""
    write_to(tmp_path / "a", version="2026.1")
    assert read_manifest(tmp_path / "a")["version"] == "2026.1"
    edit(tmp_path / "a", version="2026.2")
    with pytest.raises(ArtifactError, match="does not match its own digest"):
        read_manifest(tmp_path / "a")


def test_another_user_can_read_the_artifact(tmp_path: Path) -> None:
    """The service runs as somebody else than who baked it."""
    write_to(tmp_path / "a")
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o755


def test_what_is_accepted_is_complete(tmp_path: Path) -> None:
    """The check sees all that will be there, before it is there."""
    seen: list[dict[str, Any]] = []

    def accept(staging: Path) -> None:
        assert not (tmp_path / "a").exists()
        seen.append(read_manifest(staging))

    digest = write_to(tmp_path / "a", accept)
    assert [manifest["digest"] for manifest in seen] == [digest]


def test_an_old_artifact_is_replaced_as_a_whole(tmp_path: Path) -> None:
    """Nothing of it stays behind."""
    write_to(tmp_path / "a")
    (tmp_path / "a/leftover").touch()
    digest = write_to(tmp_path / "a", seed=1)
    assert read_manifest(tmp_path / "a")["digest"] == digest
    assert not (tmp_path / "a/leftover").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize("there", [False, True], ids=["nothing there", "an artifact there"])
@pytest.mark.parametrize("fails", ["accept", "write", "manifest", "rename"])
def test_a_failure_leaves_what_was_there(
    there: bool, fails: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever fails, the directory holds the old artifact or nothing, and no rubbish lies beside it."""
    old = write_to(tmp_path / "a") if there else ""
    accept = refuse if fails == "accept" else lambda _staging: None
    if fails == "write":
        monkeypatch.setattr(os, "fsync", _full)
    if fails == "manifest":
        monkeypatch.setattr(writer, "canonical_json", _full)
    if fails == "rename":
        monkeypatch.setattr(Path, "rename", _no_rename_of_staging(Path.rename))
    with pytest.raises((RuntimeError, OSError), match=r"under the bar|No space|Permission denied"):
        write_to(tmp_path / "a", accept, seed=1)
    monkeypatch.undo()
    assert [path.name for path in tmp_path.iterdir()] == (["a"] if there else [])
    assert not there or read_manifest(tmp_path / "a")["digest"] == old


def _full(*_: Any) -> None:
    raise OSError("No space left on device")


def _no_rename_of_staging(rename: Callable[[Path, Path], Path]) -> Callable[[Path, Path], Path]:
    def fail(source: Path, target: Path) -> Path:
        if source.name.startswith(".a.") and (source / MANIFEST).exists():
            raise OSError("Permission denied")
        return rename(source, target)

    return fail


@pytest.mark.parametrize("name", ["data.csv", "model.joblib", "manifest.json", ".git"])
def test_a_directory_of_something_else_is_not_touched(name: str, tmp_path: Path) -> None:
    """A mistyped output directory costs nothing."""
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / name).write_text("precious")
    with pytest.raises(ArtifactError, match="exists and holds no artifact: choose another directory"):
        write_to(tmp_path / "a")
    assert (tmp_path / "a" / name).read_text() == "precious"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_file_is_not_replaced(tmp_path: Path) -> None:
    """The output is a directory."""
    (tmp_path / "a").write_text("precious")
    with pytest.raises(ArtifactError, match="holds no artifact"):
        write_to(tmp_path / "a")
    assert (tmp_path / "a").read_text() == "precious"


def test_an_empty_directory_may_be_used(tmp_path: Path) -> None:
    """A volume that was just mounted or made is as good as none."""
    (tmp_path / "a").mkdir()
    write_to(tmp_path / "a")
    assert (tmp_path / "a" / MANIFEST).exists()


def test_golden_and_model_have_the_names_that_readers_look_for() -> None:
    """Writer and reader meet in these names, which are part of the format."""
    assert {GOLDEN, MODEL, MANIFEST} <= set(FILES)
