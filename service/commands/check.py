"""Checks an artifact before a rollout: golden requests, version, latency, contract."""

import argparse
import json
import statistics
import sys
import time
from http import HTTPStatus
from pathlib import Path
from typing import Any

from service.artifact.contract_diff import differences
from service.artifact.reader import Artifact, verify
from service.commands.http_client import (
    ClientError,
    request_patiently,
)
from service.commands.release import ReleaseError, reporting_to
from service.inference.loading import load_model
from service.inference.model import Model
from service.observability.prediction_log import redacted_names
from service.settings import Settings

N_WARM_UP, N_TIMED = 10, 50
# What says that there is no release to compare with, or one without the path, rather than that something is wrong.
ABSENT = (HTTPStatus.NOT_FOUND, HTTPStatus.SERVICE_UNAVAILABLE)


def run(settings: Settings, options: argparse.Namespace) -> int:
    """Print a sentence about the artifact once it passed, and return the exit code.

    Raises:
        ArtifactError, ReleaseError: As check does.
        SettingsError: If the settings do not fit the artifact.
    """
    directory = options.artifact or settings.artifact
    if settings.prediction_log:
        redacted_names(settings, verify(directory).contract)
    sentence = check(
        directory,
        options.version,
        options.latency_budget,
        options.live,
        options.allow_contract_change,
        options.live_must_answer,
    )
    sys.stdout.write(f"{sentence}\n")
    return 0


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
    with reporting_to("gate", live):
        model = load_model(directory)
        artifact = model.artifact
        if version and version != artifact.version:
            raise ReleaseError(
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
        raise ReleaseError(
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
        raise ReleaseError(f"{sentence} {advice}, or allow the change with gate.allowContractChange=true.")
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
