"""From a source to an artifact: fit, evaluate, compare with the bar, derive the contract, prove, write."""

import os
import random
import re
import subprocess
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import clone
from threadpoolctl import threadpool_limits

import service
from service.artifact import writer
from service.artifact.contract import Contract
from service.artifact.manifest import (
    GOLDEN,
    MODEL,
    REFERENCE,
    SHORT_DIGEST_LENGTH,
    UNLISTED,
    canonical_json,
    sha256,
)
from training.contract.derive import derive_contract
from training.documents.model_card import model_card
from training.documents.sbom import bill_of_materials
from training.engines.selection import FASTEST, select_engine
from training.errors import BakeError
from training.estimator_file import dump_estimator, force_single_thread, libraries_of
from training.evaluation import Evaluation, check_bar, evaluate, fit, score_sample, task_of
from training.golden import golden_lines
from training.importance import feature_importance
from training.provenance import created, data_digest, source_commit
from training.reference import reference_bins
from training.sources.source import Source

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
        digest = writer.write(output, manifest, files, accept=_check_as_service)
    except OSError as error:
        raise BakeError(f"{output} cannot be written ({error.strerror}): choose another --output.") from error
    return Baked(digest, version or digest[:SHORT_DIGEST_LENGTH], evaluation)


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
    raced = select_engine(estimator, contract, frame, engine, seed)
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
    model_sha256 = sha256(estimator_bytes)
    unlisted = contract.unlisted()
    files = {
        MODEL: estimator_bytes,
        GOLDEN: golden_lines(contract, frame, asker, model.example),
        REFERENCE: canonical_json(reference),
        **({UNLISTED: canonical_json(unlisted)} if unlisted else {}),
        "MODEL_CARD.md": model_card(manifest).encode(),
        "bom.cdx.json": canonical_json(bill_of_materials(manifest, model_sha256)),
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
