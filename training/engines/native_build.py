"""Compiles the evaluator of trees, trees.c, for every processor that images run on."""

import functools
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from service.engines import trees
from training.errors import UnsupportedError, one_line

SOURCE = Path(trees.__file__).with_suffix(".c")


@functools.cache
def compile_library() -> dict[str, bytes]:
    """Return the evaluator for each processor, as the artifact's files; the bytes are the same on every machine.

    Raises:
        UnsupportedError: If the compiler, the package ziglang, is missing or fails.
    """
    return {trees.library_file(processor): _compiled(processor) for processor in trees.PROCESSORS}


def _compiled(processor: str) -> bytes:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        (directory / SOURCE.name).write_bytes(SOURCE.read_bytes())  # no path of this machine in what is compiled
        command = [sys.executable, "-m", "ziglang", "cc", *_options(processor), "-o", "trees.so", SOURCE.name]
        caches = {"ZIG_GLOBAL_CACHE_DIR": name, "ZIG_LOCAL_CACHE_DIR": name}
        run = subprocess.run(command, cwd=name, env=os.environ | caches, capture_output=True, text=True)  # noqa: S603
        if run.returncode:
            reason = one_line(Exception(run.stderr))
            raise UnsupportedError(f"The package ziglang, a C compiler, is missing or fails: {reason}")
        return (directory / "trees.so").read_bytes()


def _options(processor: str) -> Iterable[str]:
    """Return the compiler's options for a library that needs nothing of the system it is loaded on."""
    yield from ("-target", f"{processor}-linux-musl", "-std=c11", "-O3", "-Wall", "-Wextra", "-Werror")
    yield from ("-shared", "-fPIC", "-ffreestanding", "-nostdlib", "-fvisibility=hidden", "-s", "-Wl,--build-id=none")
    yield "-ffp-contract=off"  # a product and a sum in one step round once, and scikit-learn rounds twice
