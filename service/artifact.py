"""The artifact format, its writer and its reader in one place, so that they cannot drift.

An artifact is a directory. Its manifest names every other file with its SHA-256, and carries its own digest over all
that it says; so one digest stands for every byte. It is written beside its destination and renamed into place, and
nothing in it is unpickled before all of it was verified.
"""

import hashlib
import io
import json
import os
import platform
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from service.contract import Contract

FORMAT = 2
MANIFEST = "manifest.json"
MODEL = "model.joblib"
GOLDEN = "golden.jsonl"
REFERENCE = "reference.json"  # how features and predictions were distributed in training
UNLISTED = "unlisted.json"  # values of training that serving needs and nothing may show, if there are any
SHORT_DIGEST_LENGTH = 12  # hexadecimal digits: 48 bits, as unlikely to clash as an abbreviated commit


class ArtifactError(Exception):
    """The artifact cannot be used; the message is one sentence that says why and what to do."""


@dataclass(frozen=True)
class Artifact:
    """A verified artifact.

    Args:
        directory: Where it was read from.
        manifest: All that its manifest says.
        contract: The contract, from the manifest and the values that it must not list.
    """

    directory: Path
    manifest: Mapping[str, Any]
    contract: Contract

    @property
    def name(self) -> str:
        """The model's name."""
        return str(self.manifest["name"])

    @property
    def version(self) -> str:
        """The model version: the tag it was baked with, else the digest's first digits."""
        return str(self.manifest["version"])

    @property
    def engine(self) -> Mapping[str, Any]:
        """What the manifest says of the engine that serves: name, whether it is exact, bound."""
        name = self.manifest["engine"]
        return next(engine for engine in self.manifest["engines"] if engine["name"] == name)

    @property
    def digest(self) -> str:
        """The SHA-256 that stands for every byte of the artifact, as 64 hexadecimal digits."""
        return str(self.manifest["digest"])

    def read(self, name: str) -> bytes:
        """Return the verified bytes of one of the files, the very bytes that matched the manifest.

        Raises:
            ArtifactError: If the file is missing or is not what the manifest says.
        """
        return _read_verified(self.directory, self.manifest, name)

    def golden(self) -> list[dict[str, Any]]:
        """Return the golden exchanges, each with its "request" body and the "response" members recorded at bake time.

        Raises:
            ArtifactError: If the file is missing or is not what the manifest says.
        """
        return [json.loads(line) for line in self.read(GOLDEN).splitlines()]

    def example(self) -> dict[str, Any] | None:
        """Return the golden exchange to show to clients; None if it holds values that may not be listed.

        Raises:
            ArtifactError: If the file is missing or is not what the manifest says.
        """
        first = self.golden()[0]
        return None if first.get("private") else first

    def load_estimator(self) -> Any:
        """Return the fitted estimator.

        Raises:
            ArtifactError: If the file does not match the manifest, or cannot be loaded.
        """
        # Verify first: unpickling runs whatever the file says. https://scikit-learn.org/stable/model_persistence.html
        content = self.read(MODEL)
        import joblib  # imports NumPy, which reads its thread budget from the environment once

        try:
            return joblib.load(io.BytesIO(content))
        except Exception as error:
            raise ArtifactError(
                f"{self.directory / MODEL} cannot be loaded ({type(error).__name__}: {error}): install the packages "
                "it was trained with; code that lives only in the model's own file cannot be served."
            ) from error


def verify(directory: Path) -> Artifact:
    """Return the artifact in this directory once every byte of it was checked; unpickles nothing.

    Raises:
        ArtifactError: If the format, a digest or a library version does not fit.
    """
    manifest = read_manifest(directory)
    for name, expected in manifest["files"].items():
        with _opened(directory / name) as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != expected:
                raise ArtifactError(f"{directory / name} is not what the manifest says: bake the model again.")
    misfits = _library_misfits(manifest["libraries"])
    if misfits:
        raise ArtifactError(
            f"The artifact {directory} was baked with other library versions ({'; '.join(misfits)}): "
            "install those versions or bake the model again with these."
        )
    unlisted = json.loads(_read_verified(directory, manifest, UNLISTED)) if UNLISTED in manifest["files"] else {}
    try:
        contract = Contract.from_dict(manifest["contract"], unlisted)
    except (KeyError, TypeError) as error:
        raise ArtifactError(f"The contract in {directory / MANIFEST} cannot be read ({error}): bake again.") from error
    return Artifact(directory, manifest, contract)


def read_manifest(directory: Path) -> dict[str, Any]:
    """Return what an artifact's manifest says, once it matched its own digest; the other files are not looked at.

    Raises:
        ArtifactError: If there is no manifest, it has another format, or it was changed.
    """
    path = directory / MANIFEST
    content = _read(path)
    try:
        manifest = json.loads(content)
        written_with = manifest["format"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ArtifactError(f"{path} is no manifest of an artifact: bake the model again.") from error
    if written_with != FORMAT:
        raise ArtifactError(
            f"{path} has format {written_with!r:.20}, this service reads format {FORMAT}: "
            "use the service version that baked it, or bake the model again."
        )
    try:
        intact = content == canonical_json(_sealed(manifest))
    except (ValueError, KeyError, TypeError):
        intact = False
    if not intact:
        raise ArtifactError(f"{path} does not match its own digest: bake the model again.")
    return dict(manifest)


def _sealed(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return the manifest with its digest, and with the digest's first digits as version where it has none.

    The digest covers the version that the user gave; one that repeats the digest cannot be part of it. Nor are timings:
    they tell about the machine of the bake, and the same model is to have the same digest.
    """
    derived = manifest["version"] == manifest.get("digest", "")[:SHORT_DIGEST_LENGTH]
    version = "" if derived else manifest["version"]
    covered = {name: value for name, value in manifest.items() if name != "timings"}
    digest = sha256(canonical_json({**covered, "digest": "", "version": version}))
    return {**manifest, "digest": digest, "version": version or digest[:SHORT_DIGEST_LENGTH]}


def _library_misfits(libraries: Mapping[str, str]) -> list[str]:
    found = {name: installed_version(name) for name in libraries}
    return [
        f"{name} {libraries[name]}, here {found[name] or 'not installed'}"
        for name in sorted(libraries)
        if found[name] != libraries[name]
    ]


def installed_version(name: str) -> str:
    """Return the version of an installed distribution, or of Python itself as 3.13; empty if it is not installed."""
    if name == "python":
        return ".".join(platform.python_version_tuple()[:2])
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def sha256(content: bytes) -> str:
    """Return the SHA-256 of these bytes as 64 hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def canonical_json(data: Mapping[str, Any]) -> bytes:
    """Return JSON that is the same bytes for the same data, and pleasant to read."""
    return (json.dumps(data, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n").encode()


def write(
    directory: Path, manifest: Mapping[str, Any], files: Mapping[str, bytes], accept: Callable[[Path], None]
) -> str:
    """Write an artifact; whoever looks at the directory finds the old one or the new one, never a part.

    Args:
        directory: The destination; an artifact that stands there is replaced.
        manifest: What the manifest says, except for "format", "files" and "digest"; "version" may be empty.
        files: The content of each file by its name; a name may lead into a folder.
        accept: Is given the complete artifact before it takes its place, and raises to stop that.

    Returns:
        The artifact's digest.

    Raises:
        ArtifactError: If the directory holds something that is no artifact.
    """
    if not _may_be_replaced(directory):
        raise ArtifactError(f"{directory} exists and holds no artifact: choose another directory for the output.")
    digests = {name: sha256(content) for name, content in files.items()}
    sealed = _sealed({**manifest, "format": FORMAT, "files": digests})
    directory.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{directory.name}.", dir=directory.parent))
    try:
        staging.chmod(0o755)  # mkdtemp makes it private; the service may run as another user
        for name, content in {**files, MANIFEST: canonical_json(sealed)}.items():
            _write_file(staging / name, content)
        _sync(staging)
        accept(staging)
        _replace(directory, staging)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return str(sealed["digest"])


def _may_be_replaced(directory: Path) -> bool:
    """Say whether a directory is free: not there, empty, or an artifact, whole or broken."""
    if not directory.is_dir():
        return not directory.exists()
    names = {path.name for path in directory.iterdir()}
    return not names or {MANIFEST, MODEL} <= names


def _write_file(path: Path, content: bytes) -> None:
    path.parent.mkdir(exist_ok=True)
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _replace(directory: Path, staging: Path) -> None:
    """Put staging in the directory's place; a directory cannot be renamed over one that holds files."""
    aside = Path(tempfile.mkdtemp(prefix=f".{directory.name}.old.", dir=directory.parent))
    try:
        replaces = directory.exists()
        if replaces:
            directory.rename(aside / directory.name)
        try:
            staging.rename(directory)
        except OSError:
            if replaces:
                (aside / directory.name).rename(directory)
            raise
        _sync(directory.parent)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _sync(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _read_verified(directory: Path, manifest: Mapping[str, Any], name: str) -> bytes:
    content = _read(directory / name)
    if sha256(content) != manifest["files"].get(name):
        raise ArtifactError(f"{directory / name} is not what the manifest says: bake the model again.")
    return content


def _read(path: Path) -> bytes:
    with _opened(path) as file:
        return file.read()


def _opened(path: Path) -> io.BufferedReader:
    try:
        return path.open("rb")
    except OSError as error:
        raise ArtifactError(
            f"{path} cannot be read ({error.strerror}): bake the model, or point BAKEHOUSE_ARTIFACT at an artifact."
        ) from error
