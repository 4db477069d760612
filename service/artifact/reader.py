"""Reads an artifact: every byte is verified before anything is unpickled."""

import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from service.artifact.contract import Contract
from service.artifact.manifest import (
    GOLDEN,
    MANIFEST,
    MODEL,
    UNLISTED,
    ArtifactError,
    installed_version,
    open_file,
    read_file,
    read_manifest,
    sha256,
)


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
        with open_file(directory / name) as file:
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


def _library_misfits(libraries: Mapping[str, str]) -> list[str]:
    installed = {name: installed_version(name) for name in libraries}
    return [
        f"{name} {libraries[name]}, here {installed[name] or 'not installed'}"
        for name in sorted(libraries)
        if installed[name] != libraries[name]
    ]


def _read_verified(directory: Path, manifest: Mapping[str, Any], name: str) -> bytes:
    content = read_file(directory / name)
    if sha256(content) != manifest["files"].get(name):
        raise ArtifactError(f"{directory / name} is not what the manifest says: bake the model again.")
    return content
