"""The manifest of an artifact: its format, its digest, and how it is read.

An artifact is a directory. Its manifest lists every other file with its SHA-256, and carries a digest over everything
that it lists, so one digest stands for every byte.
"""

import hashlib
import io
import json
import platform
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

FORMAT = 2
MANIFEST = "manifest.json"
MODEL = "model.joblib"
GOLDEN = "golden.jsonl"
REFERENCE = "reference.json"  # how features and predictions were distributed in training
UNLISTED = "unlisted.json"  # values of training that serving needs and nothing may show, if there are any
SHORT_DIGEST_LENGTH = 12  # hexadecimal digits: 48 bits, as unlikely to clash as an abbreviated commit


class ArtifactError(Exception):
    """The artifact cannot be used; the message is one sentence that says why and what to do."""


def read_manifest(directory: Path) -> dict[str, Any]:
    """Return what an artifact's manifest says, once it matched its own digest; the other files are not looked at.

    Raises:
        ArtifactError: If there is no manifest, it has another format, or it was changed.
    """
    path = directory / MANIFEST
    content = read_file(path)
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
        intact = content == canonical_json(seal(manifest))
    except (ValueError, KeyError, TypeError):
        intact = False
    if not intact:
        raise ArtifactError(f"{path} does not match its own digest: bake the model again.")
    return dict(manifest)


def seal(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return the manifest with its digest, and with the digest's first digits as version where it has none.

    The digest covers the version that the user gave; one that repeats the digest cannot be part of it. Nor are timings:
    they tell about the machine of the bake, and the same model is to have the same digest.
    """
    derived = manifest["version"] == manifest.get("digest", "")[:SHORT_DIGEST_LENGTH]
    version = "" if derived else manifest["version"]
    covered = {name: value for name, value in manifest.items() if name != "timings"}
    digest = sha256(canonical_json({**covered, "digest": "", "version": version}))
    return {**manifest, "digest": digest, "version": version or digest[:SHORT_DIGEST_LENGTH]}


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


def read_file(path: Path) -> bytes:
    """Return the bytes of one of an artifact's files.

    Raises:
        ArtifactError: If it cannot be read.
    """
    with open_file(path) as file:
        return file.read()


def open_file(path: Path) -> io.BufferedReader:
    """Return one of an artifact's files, open for reading.

    Raises:
        ArtifactError: If it cannot be opened.
    """
    try:
        return path.open("rb")
    except OSError as error:
        raise ArtifactError(
            f"{path} cannot be read ({error.strerror}): bake the model, or point BAKEHOUSE_ARTIFACT at an artifact."
        ) from error
