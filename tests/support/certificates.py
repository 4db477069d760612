"""Certificates for the tests: an authority, and what it signs, made with the openssl command."""

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


class Authority:
    """An authority of the test's own; what it signs is trusted by who trusts its file.

    Args:
        directory: Where its files are kept.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.file, self._key = directory / "ca.pem", directory / "ca.key"
        _openssl(
            "req", "-x509", *KEY, "-keyout", self._key, "-out", self.file, "-subj", "/CN=Test authority", "-days", "2",
            "-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign",
        )  # fmt: skip

    def issue(
        self, name: str, directory: str = "tls", days: int = 2, key_type: Sequence[str] = KEY
    ) -> tuple[Path, Path]:
        """Return the files of a new certificate for a DNS name and of its key; they take the place of older ones."""
        folder = self.directory / directory
        folder.mkdir(exist_ok=True)
        certificate, key, request, extensions = (folder / f"tls.{end}" for end in ("crt", "key", "csr", "cnf"))
        extensions.write_text(f"subjectAltName=DNS:{name}\n")
        _openssl("req", *key_type, "-keyout", key, "-out", request, "-subj", f"/CN={name}")
        _openssl(
            "x509", "-req", "-in", request, "-CA", self.file, "-CAkey", self._key, "-CAcreateserial",
            "-days", str(days), "-extfile", extensions, "-out", certificate,
        )  # fmt: skip
        return certificate, key


def _openssl(*arguments: str | Path) -> None:
    if not shutil.which("openssl") and not os.environ.get("CI"):
        pytest.skip("openssl is not installed")
    subprocess.run(["openssl", *map(str, arguments)], capture_output=True, check=True)
