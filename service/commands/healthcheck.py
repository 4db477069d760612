"""Asks the server on this machine whether it is live, for Docker."""

import argparse
import sys
from http import HTTPStatus

from service.commands.http_client import WILDCARDS, ClientError, request
from service.settings import Settings


def run(settings: Settings, _options: argparse.Namespace) -> int:
    """Say that the server is live, and return the exit code.

    Raises:
        ClientError: If it is not.
    """
    healthcheck(settings)
    sys.stdout.write("The server is live.\n")
    return 0


def healthcheck(settings: Settings) -> None:
    """Ask the server on this machine whether it is live.

    Raises:
        ClientError: If it is not.
    """
    host = WILDCARDS.get(settings.host, settings.host)
    answer = request(f"http://{f'[{host}]' if ':' in host else host}:{settings.health_port}/healthz")
    if answer.status != HTTPStatus.OK:
        raise ClientError(f"{answer.url} answers {answer.status}: the server is not live.")
