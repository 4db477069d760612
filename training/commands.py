"""The commands of python -m training: bake and inspect."""

import argparse
import json
import re
import sys
import time
from collections.abc import Callable

from service.artifact.manifest import ArtifactError, read_manifest
from service.artifact.reader import verify
from training.bake import bake
from training.documents.image_labels import image_labels
from training.errors import BakeError
from training.inspect import describe
from training.sources.fitted_file import from_fitted_file
from training.sources.model_file import from_model_file

EXIT_REFUSED = 1
EXIT_INTERRUPTED = 130  # as a shell has it for SIGINT
MAX_SHOWN_FEATURES = 3
MAX_SEED = 2**32  # NumPy takes no more
MODEL_VERSION = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")  # what can be the tag of an image


def run_bake(options: argparse.Namespace) -> int:
    """Bake a model, describe its artifact on standard output, and return the exit code.

    Raises:
        BakeError: If the options do not fit each other, or as bake does.
        ArtifactError: As bake does.
    """
    if (options.model is None) == (options.fitted is None):
        raise BakeError("Name either a model file to fit, or an estimator fitted elsewhere with --from.")
    if options.fitted is None and (options.sample or options.target or options.name):
        raise BakeError("--sample, --target and --name belong to --from: a model file says these itself.")
    if options.fitted is not None and options.sample is None:
        raise BakeError("--from needs --sample: a CSV file with a header and rows such as it was fitted on.")
    if options.model_version and not MODEL_VERSION.fullmatch(options.model_version):
        raise BakeError("--model-version must be letters, digits, _ . and -, at most 128: it becomes an image's tag.")
    if not 0 <= options.seed < MAX_SEED:
        raise BakeError(f"--seed must be a whole number from 0 to {MAX_SEED - 1}.")
    baked = bake(
        lambda: from_model_file(options.model) if options.fitted is None
        else from_fitted_file(options.fitted, options.sample, options.target, options.name),
        options.output.resolve(), options.model_version, options.seed, options.source_commit, _reporter(),
        options.engine,
    )  # fmt: skip
    manifest = read_manifest(options.output.resolve())
    sys.stdout.write(describe(manifest, "digest, library versions and golden requests match", MAX_SHOWN_FEATURES))
    sys.stdout.write(f"Written to {options.output}: model version {baked.version}.\n")
    return 0


def _reporter() -> Callable[[str], None]:
    """Return a function that writes each step to standard error, with the seconds since the start."""
    started = time.monotonic()

    def report(step: str) -> None:
        sys.stderr.write(f"{time.monotonic() - started:6.1f} s  {step}\n")

    return report


def run_inspect(options: argparse.Namespace) -> int:
    """Describe an artifact on standard output, and return the exit code: EXIT_REFUSED if it cannot be served here.

    Raises:
        ArtifactError: If there is no manifest to describe.
    """
    manifest = read_manifest(options.artifact)
    problem = ""
    try:
        verify(options.artifact)
    except ArtifactError as error:
        problem = str(error)
    if options.json:
        sys.stdout.write(json.dumps({**manifest, "problem": problem}, indent=2, sort_keys=True) + "\n")
    elif options.labels:
        sys.stdout.writelines(f"{name}={value}\n" for name, value in image_labels(manifest).items())
    else:
        sys.stdout.write(describe(manifest, problem or "digest and library versions match"))
    return EXIT_REFUSED if problem else 0
