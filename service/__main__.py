"""python -m service: serve an artifact, or check one; --help lists every setting."""

import argparse
import os
import sys
from pathlib import Path

from service.artifact import ArtifactError, verify
from service.config import Settings, SettingsError, settings_table
from service.cpu import compute_threads

# sysexits.h: 65 is wrong input data, 78 is wrong configuration.
EXIT_ARTIFACT_REFUSED = 65
EXIT_SETTINGS_REFUSED = 78
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS")
EXIT_CODES = """\
Exit codes: 65 the artifact is refused before anything in it is loaded; 78 the settings are wrong; 3 the model does not
load or does not give its golden answers; 0 after a stop by SIGTERM.
"""


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit code; problems become one sentence on standard error."""
    options = _parser().parse_args(arguments)
    try:
        settings = Settings.from_env()
        _set_thread_budget(compute_threads(settings.compute_threads, settings.workers))
        return _check(options.artifact or settings.artifact) if options.command == "check" else _serve(settings)
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        return EXIT_SETTINGS_REFUSED
    except ArtifactError as error:
        sys.stderr.write(f"{error}\n")
        return EXIT_ARTIFACT_REFUSED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m service",
        description="Serve an artifact over HTTP. Settings come from the environment:\n\n" + settings_table(),
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", metavar="serve | check")
    commands.add_parser("serve", help="serve the artifact (the default)")
    check = commands.add_parser("check", help="verify and load an artifact and replay its golden requests, then exit")
    check.add_argument("artifact", type=Path, nargs="?", help="the artifact's directory; default BAKEHOUSE_ARTIFACT")
    return parser


def _set_thread_budget(n_threads: int) -> None:
    """Tell OpenMP and the BLAS libraries, which read this when they are imported, and never again."""
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, str(n_threads)))


def _check(directory: Path) -> int:
    from service.model import load_model  # imports NumPy, which must find the thread budget

    model = load_model(directory)
    artifact = model.artifact
    n_golden = len(artifact.golden())
    sys.stdout.write(f"{artifact.name} {artifact.version}: digest, versions and {n_golden} golden requests match.\n")
    return 0


def _serve(settings: Settings) -> int:
    artifact = verify(settings.artifact)
    os.environ.pop("PROMETHEUS_MULTIPROC_DIR", None)  # somebody else's; ours is set where processes share series
    from service.server import Server  # imports NumPy, which must find the thread budget

    Server(settings, artifact.digest).run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
