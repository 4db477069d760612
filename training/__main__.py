"""python -m training: bake a model into an artifact, or inspect one."""

import argparse
import signal
import sys
from pathlib import Path

from service.artifact.manifest import ArtifactError
from training.commands import EXIT_INTERRUPTED, EXIT_REFUSED, run_bake, run_inspect
from training.engines.selection import CHOICES, EXACT, FASTEST
from training.errors import BakeError


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
    baking.set_defaults(run=run_bake)
    inspecting = commands.add_parser("inspect", help="print an artifact's contract, scores, versions and digest")
    inspecting.add_argument("artifact", type=Path, metavar="DIR")
    form = inspecting.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="for programs")
    form.add_argument("--labels", action="store_true", help="the labels of its image, name=value, one a line")
    inspecting.set_defaults(run=run_inspect)
    return parser


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # clean up after it as after Ctrl-C
    sys.exit(main())
