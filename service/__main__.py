"""python -m service: serve an artifact, or look after a release of one; --help lists every command and setting."""

import argparse
import math
import os
import sys
from pathlib import Path

from service.artifact.manifest import ArtifactError
from service.artifact.reader import verify
from service.commands.drain import DrainError, drain
from service.commands.healthcheck import healthcheck
from service.commands.http_client import ClientError, base_url
from service.host.cpu import compute_threads
from service.host.malloc import tune_malloc
from service.settings import Settings, SettingsError, settings_table

EXIT_FAILED = 1
EXIT_ROLLOUT_REFUSED = 4
# sysexits.h: 65 is wrong input data, 78 is wrong configuration.
EXIT_ARTIFACT_REFUSED = 65
EXIT_SETTINGS_REFUSED = 78
LARGEST_PID = 2**31 - 1
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS")
EXIT_CODES = """\
Exit codes:
  0   all is well; for serve: stopped by SIGTERM
  1   drain found no process, or healthcheck no live server
  2   the command line is wrong
  3   serve: the model does not load, or does not give its golden answers
  4   check refuses model version, latency or contract; smoke refuses the release
  65  the artifact is refused before anything in it is loaded; for check also: as 3
  78  the settings are wrong
"""


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit code; problems become one sentence on standard error."""
    options = _parser().parse_args(arguments)
    try:
        settings = Settings.from_env()
        return COMMANDS[options.command or "serve"](settings, options)
    except SettingsError as error:
        return _refuse(error, EXIT_SETTINGS_REFUSED)
    except ArtifactError as error:
        return _refuse(error, EXIT_ARTIFACT_REFUSED)
    except (ClientError, DrainError) as error:
        return _refuse(error, EXIT_FAILED)


def _refuse(error: Exception, code: int) -> int:
    sys.stderr.write(f"{error}\n")
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m service",
        description="Serve an artifact over HTTP. Settings come from the environment:\n\n" + settings_table(),
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    commands.add_parser("serve", help="serve the artifact (the default)")

    check = commands.add_parser("check", help="verify and load an artifact and replay its golden requests, then exit")
    check.add_argument("artifact", type=Path, nargs="?", help="the artifact's directory; default BAKEHOUSE_ARTIFACT")
    check.add_argument("--version", metavar="TAG", help="what the model version must be")
    check.add_argument(
        "--latency-budget",
        metavar="MILLISECONDS",
        type=_milliseconds,
        help="the most that one row may take, in the median of a few dozen",
    )
    check.add_argument(
        "--live",
        metavar="URL",
        type=_url,
        help="the health port of the release that serves now, whose clients must be able to go on; one that is down is "
        "not compared with",
    )
    check.add_argument("--live-must-answer", action="store_true", help="refuse where the live release does not answer")
    check.add_argument("--allow-contract-change", action="store_true", help="only print what would break clients")

    drain_command = commands.add_parser("drain", help="begin the drain of a running server and wait until it is over")
    drain_command.add_argument("--pid", type=_pid, default=1, help="the server's process id; default 1")

    commands.add_parser("healthcheck", help="ask the server on this machine whether it is live")

    smoke = commands.add_parser("smoke", help="ask a release for the golden answers of the artifact here")
    smoke.add_argument("url", metavar="URL", type=_url, help="the API")
    smoke.add_argument("--redirect", action="store_true", help="plain HTTP on port 80 must lead to https")
    smoke.add_argument("--health-url", metavar="URL", type=_url, help="the health port, to see its metrics")
    smoke.add_argument("--version", metavar="TAG", help="what the model version must be")
    smoke.add_argument("--predict-only", action="store_true", help="the URL leads to /predict and to nothing else")
    smoke.add_argument(
        "--patience",
        metavar="SECONDS",
        type=_seconds,
        default=0,
        help="ask again for so long, as a rollout may just be ending; default 0",
    )
    smoke.add_argument("--ca", metavar="FILE", help="certificates to trust in place of the system's (PEM)")
    smoke.add_argument(
        "--connect-to",
        metavar="ADDRESS",
        help="connect to this address, or address:port; Host, SNI and certificate are still those of URL",
    )
    return parser


def _url(text: str) -> str:
    try:
        return base_url(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error  # argparse has no ear for the reason of others


def _seconds(text: str) -> float:
    value = float(text)
    if not (math.isfinite(value) and value >= 0):
        raise argparse.ArgumentTypeError("must be 0 seconds or more")
    return value


def _milliseconds(text: str) -> float:
    value = float(text)
    if not (math.isfinite(value) and value > 0):
        raise argparse.ArgumentTypeError("must be more than 0 milliseconds")
    return value


def _pid(text: str) -> int:
    value = int(text)
    if not 0 < value <= LARGEST_PID:  # 0 and less would tell whole groups of processes
        raise argparse.ArgumentTypeError("must be the id of a process")
    return value


def _set_thread_budget(settings: Settings) -> None:
    """Tell OpenMP and the BLAS libraries, which read this when they are imported, and never again."""
    n_threads = compute_threads(settings.compute_threads, settings.workers)
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, str(n_threads)))


def _serve(settings: Settings, _options: argparse.Namespace) -> int:
    _set_thread_budget(settings)
    tune_malloc()
    artifact = verify(settings.artifact)
    os.environ.pop("PROMETHEUS_MULTIPROC_DIR", None)  # somebody else's; ours is set where processes share series
    from service.observability.logging import begin as begin_log
    from service.server.application import Server  # imports NumPy, which must find the thread budget

    server = Server(settings, artifact)
    begin_log(settings.log_level)  # until here, what goes wrong is one sentence for people
    server.run()
    return 0


def _check(settings: Settings, options: argparse.Namespace) -> int:
    _set_thread_budget(settings)
    from service.commands.check import check
    from service.commands.release import ReleaseError
    from service.observability.prediction_log import redacted_names  # imports NumPy, which must find the thread budget

    directory = options.artifact or settings.artifact
    if settings.prediction_log:
        redacted_names(settings, verify(directory).contract)
    try:
        sentence = check(
            directory,
            options.version,
            options.latency_budget,
            options.live,
            options.allow_contract_change,
            options.live_must_answer,
        )
    except ReleaseError as error:
        return _refuse(error, EXIT_ROLLOUT_REFUSED)
    sys.stdout.write(f"{sentence}\n")
    return 0


def _drain(settings: Settings, options: argparse.Namespace) -> int:
    drain(options.pid, settings.drain_seconds)
    return 0


def _healthcheck(settings: Settings, _options: argparse.Namespace) -> int:
    healthcheck(settings)
    sys.stdout.write("The server is live.\n")
    return 0


def _smoke(settings: Settings, options: argparse.Namespace) -> int:
    from service.commands.release import ReleaseError
    from service.commands.smoke import smoke  # imports NumPy, which a drain need not wait for

    try:
        smoke(
            verify(settings.artifact),
            options.url,
            lambda line: print(line, flush=True),  # noqa: T201 - a line for each thing checked, as it is checked
            options.health_url,
            options.version,
            options.ca,
            options.connect_to,
            options.redirect,
            options.predict_only,
            options.patience,
        )
    except (ClientError, ReleaseError) as error:
        return _refuse(error, EXIT_ROLLOUT_REFUSED)
    return 0


COMMANDS = {"serve": _serve, "check": _check, "drain": _drain, "healthcheck": _healthcheck, "smoke": _smoke}

if __name__ == "__main__":
    sys.exit(main())
