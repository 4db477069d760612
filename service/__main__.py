"""python -m service: serve an artifact, or look after a release of one; --help lists every command and setting."""

import argparse
import math
import sys
from importlib import import_module
from pathlib import Path

from service.artifact.manifest import ArtifactError
from service.commands.drain import DrainError
from service.commands.exit_codes import (
    EXIT_ARTIFACT_REFUSED,
    EXIT_FAILED,
    EXIT_RELEASE_REFUSED,
    EXIT_SETTINGS_REFUSED,
    exit_code_table,
)
from service.commands.http_client import ClientError, base_url
from service.commands.release import ReleaseError
from service.host.cpu import compute_threads, set_thread_budget
from service.settings import Settings, SettingsError, settings_table

LARGEST_PID = 2**31 - 1


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit code; problems become one sentence on standard error."""
    options = _parser().parse_args(arguments)
    try:
        return _run(options.command or "serve", Settings.from_env(), options)
    except SettingsError as error:
        return _refuse(error, EXIT_SETTINGS_REFUSED)
    except ArtifactError as error:
        return _refuse(error, EXIT_ARTIFACT_REFUSED)
    except ReleaseError as error:
        return _refuse(error, EXIT_RELEASE_REFUSED)
    except (ClientError, DrainError) as error:
        return _refuse(error, EXIT_FAILED)


def _run(command: str, settings: Settings, options: argparse.Namespace) -> int:
    """Run the function run(settings, options) of the command's module, which is imported now.

    Modules of commands may import NumPy, which must find the thread budget, and which a drain need not wait for. serve
    sets its budget itself, because extensions call it without this module.
    """
    if command == "check":
        set_thread_budget(compute_threads(settings.compute_threads, settings.workers))
    return int(import_module(f"service.commands.{command}").run(settings, options))


def _refuse(error: Exception, code: int) -> int:
    sys.stderr.write(f"{error}\n")
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m service",
        description="Serve an artifact over HTTP. Settings come from the environment:\n\n" + settings_table(),
        epilog="Exit codes:\n" + exit_code_table(),
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


if __name__ == "__main__":
    sys.exit(main())
