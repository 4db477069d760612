"""Checks a release after a rollout: it must serve the artifact and give its golden answers."""

import argparse
import json
import time
from collections.abc import Callable
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

from service.artifact.manifest import GOLDEN
from service.artifact.reader import Artifact, verify
from service.commands.http_client import (
    PAUSE_SECONDS,
    ClientError,
    address_of,
    request,
    request_patiently,
    trusting,
)
from service.commands.release import ReleaseError, reporting_to
from service.inference.golden import first_difference, golden_tolerances
from service.settings import Settings

REDIRECTS = (
    HTTPStatus.MOVED_PERMANENTLY,
    HTTPStatus.FOUND,
    HTTPStatus.TEMPORARY_REDIRECT,
    HTTPStatus.PERMANENT_REDIRECT,
)
HTTP_PORT = 80  # where browsers and careless clients go first


def run(settings: Settings, options: argparse.Namespace) -> int:
    """Print a line for each thing that is as it should be, and return the exit code.

    Raises:
        ReleaseError: If something is not, or the release does not answer.
    """
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
    except ClientError as error:
        raise ReleaseError(str(error)) from error
    return 0


def smoke(
    artifact: Artifact,
    url: str,
    say: Callable[[str], None],
    health_url: str | None = None,
    version: str | None = None,
    ca: str | None = None,
    connect_to: str | None = None,
    redirect: bool = False,
    predict_only: bool = False,
    patience_seconds: float = 0,
) -> None:
    """Ask a release what it was baked to answer, and say so after each thing that is as it should be.

    Args:
        artifact: What should be served.
        url: Of the API.
        say: Takes a line for each thing that was checked.
        health_url: Of the health port, if its metrics are to be checked.
        version: What the model version must be.
        ca: A PEM file of certificates to trust in place of the system's.
        connect_to: Where to connect to, if that is not what the URL says.
        redirect: Whether plain HTTP must lead to https.
        predict_only: Whether /predict is all that the URL leads to.
        patience_seconds: How long to ask again, as a rollout may just be ending.

    Raises:
        ClientError: If there is no answer, or none that can be read.
        RolloutError: If an answer is not what it must be.
    """
    options = {"tls": trusting(ca) if url.startswith("https:") else None, "connect_to": connect_to}

    def ask() -> None:
        if not predict_only:
            say(_check_identity(artifact, url, version, options))
        _check_golden(artifact, url, options)
        say(f"{url}/predict gives all {len(artifact.golden())} golden answers.")
        if health_url:
            _check_metrics(artifact, health_url)
            say(f"{health_url}/metrics names {artifact.name} {artifact.version}.")
        if redirect:
            say(f"{_check_redirect(url, connect_to)} leads to https.")

    with reporting_to("smoke", health_url):
        _patiently(ask, say, patience_seconds)


def _patiently(ask: Callable[[], None], say: Callable[[str], None], patience_seconds: float) -> None:
    deadline = time.monotonic() + patience_seconds
    while True:
        try:
            return ask()
        except (ClientError, ReleaseError) as error:
            if time.monotonic() >= deadline:
                raise
            say(f"{error} Asking again.")
            time.sleep(PAUSE_SECONDS)


def _check_identity(artifact: Artifact, url: str, version: str | None, options: dict[str, Any]) -> str:
    """Return a sentence about the model that /version names, once it is the artifact's."""
    answer = request_patiently(f"{url}/version", (HTTPStatus.SERVICE_UNAVAILABLE,), **options).json()
    try:
        name, served, digest = (answer["model"][member] for member in ("name", "version", "digest"))
    except (KeyError, TypeError) as error:
        raise ReleaseError(f"{url}/version does not say which model is served.") from error
    if version and served != version:
        raise ReleaseError(f"{url} serves {name} {served}, not {version}: the rollout is not complete, or was undone.")
    if digest != artifact.digest:
        raise ReleaseError(
            f"{url} serves {name} {served} with another digest than this image's {artifact.name} {artifact.version}: "
            "a rollout is going on; test again when it is complete."
        )
    return f"{url} serves {name} {served}, with the digest of this image."


def _check_golden(artifact: Artifact, url: str, options: dict[str, Any]) -> None:
    identity = {"name": artifact.name, "version": artifact.version}
    tolerances = golden_tolerances(artifact)
    for number, exchange in enumerate(artifact.golden(), start=1):
        answer = request(f"{url}/predict", json.dumps(exchange["request"]).encode(), **options).json()
        if not isinstance(answer, dict) or answer.get("model") != identity:
            raise ReleaseError(f"{url} answers with several models: a rollout is going on; test again after it.")
        if difference := first_difference(answer, exchange["response"], tolerances=tolerances):
            raise ReleaseError(f"{url} does not give its golden answers: {GOLDEN} line {number}, {difference}.")


def _check_metrics(artifact: Artifact, health_url: str) -> None:
    text = request(f"{health_url}/metrics").body.decode(errors="replace")
    infos = [line for line in text.splitlines() if line.startswith("bakehouse_model_info{")]
    if not any(f'version="{artifact.version}"' in info and f'digest="{artifact.digest}"' in info for info in infos):
        raise ReleaseError(f"{health_url}/metrics has no bakehouse_model_info of version {artifact.version}.")


def _check_redirect(url: str, connect_to: str | None) -> str:
    """Return the plain URL, once it redirected to https."""
    parts = urlsplit(url)
    host, _ = address_of(parts, connect_to)
    name = f"[{parts.hostname}]" if ":" in str(parts.hostname) else parts.hostname
    plain = f"http://{name}{parts.path}/predict"
    answer = request(plain, connect_to=f"[{host}]:{HTTP_PORT}" if ":" in host else f"{host}:{HTTP_PORT}")
    if answer.status not in REDIRECTS or not answer.location.startswith("https://"):
        raise ReleaseError(f"{plain} answers {answer.status} instead of a redirect to https.")
    return plain
