"""python -m training: bake a model into an artifact, or inspect one."""

import argparse
import json
import re
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from service.artifact.manifest import ArtifactError, read_manifest
from service.artifact.reader import verify
from training.bake import bake
from training.documents.image_labels import image_labels
from training.engines.selection import CHOICES, EXACT, FASTEST
from training.errors import BakeError
from training.inspect import describe
from training.sources.fitted_file import from_fitted_file
from training.sources.model_file import from_model_file

EXIT_REFUSED = 1
EXIT_INTERRUPTED = 130  # as a shell has it for SIGINT
MAX_SHOWN_FEATURES = 3
MAX_SEED = 2**32  # NumPy takes no more
MODEL_VERSION = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")  # what can be the tag of an image


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit code; refusals are one sentence on standard error."""
    options = _parser().parse_args(arguments)
    try:
        return int(options.run(options))
    except (BakeError, ArtifactError) as error:
        sys.stderr.write(f"{error}\n")
        return EXIT_REFUSED
    except KeyboardInterrupt:
        sys.stderr.write("Interrupted: nothing was written.\n")
        return EXIT_INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m training", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="bake | inspect")
    baking = commands.add_parser("bake", help="fit, evaluate and prove a model, and write its artifact")
    baking.add_argument("model", nargs="?", help="a Python file or module with load() and estimator()")
    fitted = "an estimator fitted elsewhere: joblib, pickle (both run what the file says: only your own) or skops"
    baking.add_argument("--from", dest="fitted", type=Path, metavar="FILE", help=fitted)
    baking.add_argument("--sample", type=Path, metavar="CSV", help="with --from: rows such as it was fitted on")
    baking.add_argument("--target", metavar="COLUMN", help="with --from: the sample's column of true values")
    baking.add_argument("--name", help="with --from: the model's name; default the file's")
    baking.add_argument("--output", type=Path, required=True, metavar="DIR", help="where the artifact goes")
    baking.add_argument("--model-version", default="", help="default: the digest's first digits")
    baking.add_argument("--seed", type=int, default=0, help="for splits and unseeded estimators; default 0")
    baking.add_argument("--source-commit", help="default: what git says of the model's file")
    named = ", ".join(choice for choice in CHOICES if choice not in (FASTEST, EXACT))
    served = f"{FASTEST} (default), {EXACT} (the fastest of those that give the estimator's bits), or one of {named}"
    baking.add_argument("--engine", choices=CHOICES, default=FASTEST, metavar="NAME", help=served)
    baking.set_defaults(run=_bake)
    inspecting = commands.add_parser("inspect", help="print an artifact's contract, scores, versions and digest")
    inspecting.add_argument("artifact", type=Path, metavar="DIR")
    form = inspecting.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="for programs")
    form.add_argument("--labels", action="store_true", help="the labels of its image, name=value, one a line")
    inspecting.set_defaults(run=_inspect)
    return parser


def _bake(options: argparse.Namespace) -> int:
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
    """Return what tells on standard error what is going on, and after how many seconds."""
    started = time.monotonic()

    def report(what: str) -> None:
        sys.stderr.write(f"{time.monotonic() - started:6.1f} s  {what}\n")

    return report


def _inspect(options: argparse.Namespace) -> int:
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


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # clean up after it as after Ctrl-C
    sys.exit(main())
