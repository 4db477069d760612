"""From a source to an artifact: fit, evaluate, compare with the bar, derive the contract, prove, write."""

import json
import os
import random
import re
import subprocess
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import clone
from threadpoolctl import threadpool_limits

import service
from service import artifact
from service.contract import Contract
from training.derive import derive_contract
from training.documents import bill_of_materials, data_digest, model_card, reference_bins
from training.errors import BakeError
from training.estimator_file import dump_estimator, force_single_thread, libraries_of
from training.evaluate import Evaluation, check_bar, evaluate, fit, score_sample, task_of
from training.golden import golden_lines
from training.importance import feature_importance
from training.race import FASTEST, race
from training.source import Source

Report = Callable[[str], None]

MEMORY_ADDRESS = re.compile(" at 0x[0-9a-fA-F]+")  # of a function among the parameters: another in each process

PARAMETERS_OF_VALUES = ("categories", "vocabulary")  # of encoders; authors often take them from the training rows


@dataclass(frozen=True)
class Baked:
    """What a bake made.

    Args:
        digest: The artifact's digest.
        version: The model version.
        evaluation: The scores.
    """

    digest: str
    version: str
    evaluation: Evaluation


def bake(
    source: Callable[[], Source],
    output: Path,
    version: str,
    seed: int,
    commit: str | None,
    report: Report,
    engine: str = FASTEST,
) -> Baked:
    """Write the artifact of a model; nothing is written unless everything holds.

    Args:
        source: Gives the model; called once the random number generators were seeded.
        output: The artifact's directory.
        version: The model version; empty to take it from the digest.
        seed: For splits, and for estimators without a random_state of their own.
        commit: The source commit, or None to ask git.
        report: Is told what is going on.
        engine: Which engine is to serve, one of training.race.CHOICES.

    Raises:
        BakeError: If the model cannot be read, fitted, served or written, or does not clear its bar.
        ArtifactError: If the output holds something that is no artifact.
    """
    random.seed(seed)
    np.random.seed(seed)
    # The number of threads, of BLAS and OpenMP alike, changes the order of sums, and so the last bits of a fit.
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="X (does not have valid|has) feature names", category=UserWarning)
        report("loading")
        model = source()
        estimator, evaluation = _fitted(model, seed, report)
        force_single_thread(estimator)
        files, manifest = _contents(model, estimator, evaluation, version, seed, commit, engine, report)
    report("checking the artifact in a fresh process")
    try:
        digest = artifact.write(output, manifest, files, accept=_check_as_service)
    except OSError as error:
        raise BakeError(f"{output} cannot be written ({error.strerror}): choose another --output.") from error
    return Baked(digest, version or digest[: artifact.SHORT_DIGEST_LENGTH], evaluation)


def _fitted(model: Source, seed: int, report: Report) -> tuple[Any, Evaluation]:
    if model.fitted:
        return model.estimator, score_sample(model.estimator, model.X, model.y)
    evaluation = evaluate(model.estimator, model.X, model.y, model.bar, seed, report)
    check_bar(evaluation, model.bar)
    report(f"fitting on all {len(model.X)} rows")
    return fit(model.estimator, model.X, model.y), evaluation


def _contents(
    model: Source,
    estimator: Any,
    evaluation: Evaluation,
    version: str,
    seed: int,
    commit: str | None,
    engine: str,
    report: Report,
) -> tuple[dict[str, bytes], dict[str, Any]]:
    """Return the artifact's files and manifest."""
    report("deriving the contract")
    target_names = list(map(str, model.y.columns)) if isinstance(model.y, pd.DataFrame) else []
    contract, frame, asker = derive_contract(estimator, model.X, model.names, model.features, target_names)
    estimator_bytes, roots = dump_estimator(estimator)
    report("comparing engines with the estimator, and their speed")
    raced = race(estimator, contract, frame, engine, seed)
    manifest = {
        "name": model.name,
        "version": version,
        "description": model.description,
        "task": task_of(estimator),
        "estimator": _described(estimator, contract),
        "contract": contract.to_dict(),
        "scores": {
            "held_out": evaluation.held_out,
            "cross_validation": evaluation.cross_validation,
            "bar": dict(model.bar),
            "refitted": not model.fitted,
        },
        "libraries": dict(sorted({**libraries_of(roots, contract.container), **raced.libraries}.items())),
        "source_commit": source_commit(model.path) if commit is None else commit,
        "data": {
            "digest": data_digest(frame, model.y),
            "rows": len(frame),
            "source": model.data_source,
            "licence": model.data_licence,
        },
        "seed": seed,
        "created": created(),
        "engine": raced.engine,
        "engines": raced.table,
        "batching": raced.batching,
    }
    bins = reference_bins(contract, frame, asker.answers(frame))
    reference = {**bins, "importance": feature_importance(asker, frame, seed)}
    model_sha256 = artifact.sha256(estimator_bytes)
    unlisted = contract.unlisted()
    files = {
        artifact.MODEL: estimator_bytes,
        artifact.GOLDEN: golden_lines(contract, frame, asker, model.example),
        artifact.REFERENCE: artifact.canonical_json(reference),
        **({artifact.UNLISTED: artifact.canonical_json(unlisted)} if unlisted else {}),
        "MODEL_CARD.md": model_card(manifest).encode(),
        "bom.cdx.json": artifact.canonical_json(bill_of_materials(manifest, model_sha256)),
        **raced.files,
    }
    if not manifest["created"]:  # who sets SOURCE_DATE_EPOCH asks for the same bytes, and no clock gives those
        manifest["timings"] = raced.timings
    return files, manifest


def _described(estimator: Any, contract: Contract) -> str:
    """Return the estimator as code would make it, without addresses and without values that may not be listed."""
    if any(feature.is_unlisted for feature in contract.features):
        parameters = estimator.get_params() if hasattr(estimator, "get_params") else {}
        named = [name for name in parameters if name.rpartition("__")[2] in PARAMETERS_OF_VALUES]
        given = {name: "..." for name in named if not isinstance(parameters[name], str | None)}
        estimator = clone(estimator).set_params(**given) if given else estimator
    return " ".join(MEMORY_ADDRESS.sub("", repr(estimator)).split())


def _check_as_service(staging: Path) -> None:
    """Have the service load the artifact and replay its golden requests, in a process that never saw the training.

    Raises:
        BakeError: If the service refuses it; says why in the service's words.
    """
    home = Path(service.__file__).resolve().parents[1]
    environ = {name: value for name, value in os.environ.items() if not name.startswith("BAKEHOUSE_")}
    command = [sys.executable, "-m", "service", "check", str(staging.resolve())]
    done = subprocess.run(command, cwd=home, env=environ, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode != 0:
        said = " ".join((done.stderr.strip() or f"exit code {done.returncode}").splitlines()[-1:])
        raise BakeError(f"The service refuses the artifact, nothing was written: {said}")


def source_commit(path: str) -> str:
    """Return the commit of a file's repository, with -dirty if anything was changed; empty where there is none."""
    describe_head = ["describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    command = ["git", "-C", str(Path(path).resolve().parent), *describe_head]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def created() -> str:
    """Return the time of SOURCE_DATE_EPOCH (reproducible-builds.org), or nothing: the clock on the wall is no input."""
    epoch = os.environ.get("SOURCE_DATE_EPOCH", "")
    if not epoch:
        return ""
    try:
        return datetime.fromtimestamp(int(epoch), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError) as error:
        raise BakeError("SOURCE_DATE_EPOCH must be whole seconds since 1970.") from error


def describe(manifest: dict[str, Any], verdict: str, max_features: int | None = None) -> str:
    """Return what an artifact says of itself, for people; of its features no more than max_features."""
    features = manifest["contract"]["features"]
    n_left_out = len(features[max_features:]) if max_features else 0
    lines = [
        f"{manifest['name']} {manifest['version']}"
        + (f": {manifest['description']}" if manifest["description"] else ""),
        f"  digest     {manifest['digest']}",
        f"  verified   {verdict}",
        f"  task       {manifest['task']}, {manifest['estimator']}",
        f"  trained    on {manifest['data']['rows']} rows, source commit {manifest['source_commit'] or 'unknown'}",
        "  libraries  " + ", ".join(f"{name} {version}" for name, version in manifest["libraries"].items()),
        f"  features   {len(features)}, given to the estimator as {manifest['contract']['container']}",
        *(f"    {_feature_line(feature)}" for feature in features[:max_features]),
        *([f"    and {n_left_out} more"] if n_left_out else []),
        "  outputs    " + ", ".join(output["name"] for output in manifest["contract"]["outputs"]),
        *([f"  classes    {json.dumps(manifest['contract']['classes'])}"] if "classes" in manifest["contract"] else []),
        *_score_lines(manifest["scores"]),
        *_engine_lines(manifest),
    ]
    return "\n".join(lines) + "\n"


def _feature_line(feature: dict[str, Any]) -> str:
    parts = [f"{feature['name']}: {feature['kind']}"]
    if "minimum" in feature:
        parts.append(f"{feature['minimum']:.6g} to {feature['maximum']:.6g} {feature.get('unit', '')}".strip())
    if "categories" in feature:
        parts.append(f"{'only' if feature.get('closed') else 'known'} {json.dumps(feature['categories'])}")
    elif feature.get("closed"):
        parts.append("only known values, which are not listed")
    if feature.get("missing"):
        parts.append("null allowed")
    return ", ".join(parts)


def _engine_lines(manifest: dict[str, Any]) -> list[str]:
    """Return the table of engines; that of times only where the bake measured them."""
    lines = ["  engines    answers, microseconds of CPU for 1 and 1000 rows"]
    for engine in manifest["engines"]:
        name = engine["name"]
        if "refused" in engine:
            lines.append(f"    {name}: no, {engine['refused']}")
            continue
        answers = "exact" if engine["exact"] else f"within {engine['difference']:.1e}"
        seconds = manifest.get("timings", {}).get(name, {})
        times = [f"{seconds[n_rows] * 1e6:.3g}" if n_rows in seconds else "-" for n_rows in ("1", "1000")]
        serves = (
            [", serves", ", joining requests that wait" * manifest["batching"]] if name == manifest["engine"] else []
        )
        lines.append(f"    {name}: {', '.join([answers, *times])}{''.join(serves)}")
    return lines


def _score_lines(scores: dict[str, Any]) -> list[str]:
    mean, std = (scores["cross_validation"].get(key, {}) for key in ("mean", "std"))
    lines = ["  scores     held out, cross-validated mean and deviation, bar"] if scores["held_out"] else []
    for name, value in scores["held_out"].items():
        folds = f"{mean[name]:.4g} ± {std[name]:.2g}" if name in mean else "-"
        lines.append(f"    {name}: {value:.4g}, {folds}, {scores['bar'].get(name, '-')}")
    return lines
