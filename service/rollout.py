"""What a rollout asks: before it, whether an image may follow the live release; after it, what the release answers.

Both leave one sentence behind where they refuse, because that is what the log of a failed Job or test ends with.
"""

import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from service.artifact import GOLDEN, Artifact, ArtifactError
from service.client import PAUSE_SECONDS, ClientError, address_of, request, request_patiently, tell, trusting
from service.compatibility import differences
from service.model import Model, first_difference, golden_tolerances, load_model

N_WARM_UP, N_TIMED = 10, 50
# What says that there is no release to compare with, or one without the path, rather than that something is wrong.
ABSENT = (HTTPStatus.NOT_FOUND, HTTPStatus.SERVICE_UNAVAILABLE)
REDIRECTS = (
    HTTPStatus.MOVED_PERMANENTLY,
    HTTPStatus.FOUND,
    HTTPStatus.TEMPORARY_REDIRECT,
    HTTPStatus.PERMANENT_REDIRECT,
)
HTTP_PORT = 80  # where browsers and careless clients go first


class RolloutError(Exception):
    """The image, or the release, is not what was asked for; the message is one sentence."""


@contextmanager
def _telling(check: str, health_url: str | None) -> Iterator[None]:
    """Have the release at this health port, if it is known, count how the check in this block ends."""

    def tell_result(result: str) -> None:
        if health_url:
            tell(f"{health_url}/checks", {"check": check, "result": result})

    try:
        yield
    except (ArtifactError, ClientError, RolloutError):
        tell_result("refused")
        raise
    tell_result("passed")


def check(
    directory: Path,
    version: str | None = None,
    budget_milliseconds: float | None = None,
    live: str | None = None,
    allow_contract_change: bool = False,
    live_must_answer: bool = False,
) -> str:
    """Return a sentence about the artifact once it passed; what is not told is not checked.

    Args:
        directory: The artifact.
        version: What its model version must be.
        budget_milliseconds: The most that one row may take.
        live: The URL of the live release's health port.
        allow_contract_change: Whether differences from the live contract are only printed.
        live_must_answer: Whether a live release that does not answer is refused like one with another contract.

    Raises:
        ArtifactError: If the artifact is refused, or does not give its golden answers.
        RolloutError: If the version, the latency or the contract is not as it must be.
    """
    with _telling("gate", live):
        model = load_model(directory)
        artifact = model.artifact
        if version and version != artifact.version:
            raise RolloutError(
                f"The image's model version is {artifact.version}, not {version}: "
                f"its tag must be the version it was baked with (make image TAG={version})."
            )
        passed = [f"digest, versions and {len(artifact.golden())} golden requests match"]
        if budget_milliseconds:
            passed.append(_check_latency(model, budget_milliseconds))
        if live:
            passed.append(_check_contract(artifact, live, allow_contract_change, live_must_answer))
    return f"{artifact.name} {artifact.version}: {'; '.join(passed)}."


def _check_latency(model: Model, budget_milliseconds: float) -> str:
    first = model.artifact.golden()[0]["request"]
    median = _median_milliseconds(model, json.dumps({**first, "X": first["X"][:1]}).encode())
    if median > budget_milliseconds:
        raise RolloutError(
            f"One row takes {median:.3g} ms (median of {N_TIMED}), the budget is {budget_milliseconds:g} ms: "
            "bake a smaller model, give it more CPU, or raise the budget."
        )
    return f"one row takes {median:.3g} ms (median of {N_TIMED}) of {budget_milliseconds:g} ms"


def _median_milliseconds(model: Model, body: bytes) -> float:
    def seconds() -> float:
        started = time.perf_counter()
        model.answer(body, max_rows=1)
        return time.perf_counter() - started

    return 1000 * statistics.median([seconds() for _ in range(N_WARM_UP + N_TIMED)][N_WARM_UP:])


def _check_contract(artifact: Artifact, live: str, allow_change: bool, must_answer: bool) -> str:
    try:
        answer = _live_contract(live)
        if answer is None and must_answer:
            raise ClientError(f"{live}/contract does not answer, though the live release has ready pods.")
        if answer is None:
            return "no live release to compare with"
        identity = f"{answer['model']['name']} {answer['model']['version']}"
        found = differences(answer["contract"], artifact.manifest["contract"], artifact.contract.unlisted())
    except (ClientError, KeyError, TypeError, AttributeError, IndexError) as error:
        reason = str(error) if isinstance(error, ClientError) else f"{live}/contract does not answer with a contract."
        return _allowed(reason, "See that the check reaches a live release's health port", allow_change)
    if not found:
        return f"clients of the live release ({identity}) can go on"
    sentence = f"The contract differs from the live release's ({identity}): {'; '.join(found)}."
    return _allowed(sentence, "Clients would break: keep the contract", allow_change)


def _allowed(sentence: str, advice: str, allow_change: bool) -> str:
    if not allow_change:
        raise RolloutError(f"{sentence} {advice}, or allow the change with gate.allowContractChange=true.")
    sys.stderr.write(f"{sentence}\n")
    return "the contract may change"


def _live_contract(live: str) -> Any:
    """Return what the live release answers; None where there is none, because what is down must be replaceable.

    Raises:
        ClientError: If something answers, but not as a release does.
    """
    try:
        answer = request_patiently(f"{live}/contract", again=(HTTPStatus.SERVICE_UNAVAILABLE,))
        reason = f"{answer.url} answers {answer.status}" if answer.status in ABSENT else ""
    except ClientError as error:
        reason = str(error).removesuffix(".")
    if reason:
        sys.stderr.write(f"{reason}: the contract is not compared.\n")
        return None
    return answer.json()


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

    with _telling("smoke", health_url):
        _patiently(ask, say, patience_seconds)


def _patiently(ask: Callable[[], None], say: Callable[[str], None], patience_seconds: float) -> None:
    deadline = time.monotonic() + patience_seconds
    while True:
        try:
            return ask()
        except (ClientError, RolloutError) as error:
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
        raise RolloutError(f"{url}/version does not say which model is served.") from error
    if version and served != version:
        raise RolloutError(f"{url} serves {name} {served}, not {version}: the rollout is not complete, or was undone.")
    if digest != artifact.digest:
        raise RolloutError(
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
            raise RolloutError(f"{url} answers with several models: a rollout is going on; test again after it.")
        if difference := first_difference(answer, exchange["response"], tolerances=tolerances):
            raise RolloutError(f"{url} does not give its golden answers: {GOLDEN} line {number}, {difference}.")


def _check_metrics(artifact: Artifact, health_url: str) -> None:
    text = request(f"{health_url}/metrics").body.decode(errors="replace")
    infos = [line for line in text.splitlines() if line.startswith("bakehouse_model_info{")]
    if not any(f'version="{artifact.version}"' in info and f'digest="{artifact.digest}"' in info for info in infos):
        raise RolloutError(f"{health_url}/metrics has no bakehouse_model_info of version {artifact.version}.")


def _check_redirect(url: str, connect_to: str | None) -> str:
    """Return the plain URL, once it redirected to https."""
    parts = urlsplit(url)
    host, _ = address_of(parts, connect_to)
    name = f"[{parts.hostname}]" if ":" in str(parts.hostname) else parts.hostname
    plain = f"http://{name}{parts.path}/predict"
    answer = request(plain, connect_to=f"[{host}]:{HTTP_PORT}" if ":" in host else f"{host}:{HTTP_PORT}")
    if answer.status not in REDIRECTS or not answer.location.startswith("https://"):
        raise RolloutError(f"{plain} answers {answer.status} instead of a redirect to https.")
    return plain
