"""Writes an artifact: a directory beside its destination, synchronized, then renamed into place."""

import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from service.artifact.manifest import FORMAT, MANIFEST, MODEL, ArtifactError, canonical_json, seal, sha256


def write(
    directory: Path, manifest: Mapping[str, Any], files: Mapping[str, bytes], accept: Callable[[Path], None]
) -> str:
    """Write an artifact. A reader of the directory finds the old one or the new one, never a part.

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
    sealed = seal({**manifest, "format": FORMAT, "files": digests})
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
