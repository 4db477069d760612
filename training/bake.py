"""From a source to an artifact: fit, evaluate, derive the contract, select the engine, write, check."""

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
from training.contract.frame import as_frame
from training.contract.probe import EstimatorProbe, probe_estimator
from training.documents.model_card import model_card
from training.documents.sbom import bill_of_materials
from training.engines.selection import FASTEST, EngineSelection, select_engine
from training.errors import BakeError
from training.estimator_file import dump_estimator, force_single_thread, libraries_of
from training.evaluation import Evaluation, check_min_scores, evaluate, fit, score_sample, task_of
from training.golden import golden_lines
from training.importance import feature_importance
from training.provenance import created, data_digest, source_commit
from training.reference import measure_reference
from training.sources.source import Source

Report = Callable[[str], None]

MEMORY_ADDRESS = re.compile(" at 0x[0-9a-fA-F]+")  # of a function among the parameters: another in each process

PARAMETERS_OF_VALUES = ("categories", "vocabulary")  # of encoders; authors often take them from the training rows


@dataclass(frozen=True)
class Baked:
    """The result of a bake.

    Args:
        digest: The artifact's digest.
        version: The model version.
        evaluation: The scores.
    """

    digest: str
    version: str
    evaluation: Evaluation


@dataclass(frozen=True)
class FittedModel:
    """A fitted estimator, and what was found out about it.

    Args:
        source: Where it comes from.
        estimator: What is served.
        evaluation: Its scores, or those of the recipe.
        contract: What it takes and answers.
        frame: The training rows, as the service gives them to the estimator.
        probe: Asks the estimator.
    """

    source: Source
    estimator: Any
    evaluation: Evaluation
    contract: Contract
    frame: pd.DataFrame
    probe: EstimatorProbe


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
        engine: Which engine is to serve, one of training.engines.selection.CHOICES.

    Raises:
        BakeError: If the model cannot be read, fitted, served or written, or a score is under its minimum.
        ArtifactError: If the output holds something that is no artifact.
    """
    random.seed(seed)
    np.random.seed(seed)
    # The number of threads, of BLAS and OpenMP alike, changes the order of sums, and so the last bits of a fit.
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="X (does not have valid|has) feature names", category=UserWarning)
        report("loading")
        model = _fitted_model(source(), seed, report)
        estimator_file, modules = dump_estimator(model.estimator)
        report("comparing engines with the estimator, and their speed")
        selection = select_engine(model.estimator, model.contract, model.frame, engine, seed)
        manifest = {
            **_model_members(model),
            **_engine_members(selection),
            "version": version,
            "libraries": _libraries(modules, model.contract, selection),
            "source_commit": source_commit(model.source.path) if commit is None else commit,
            "seed": seed,
            "created": created(),
        }
        files = {
            MODEL: estimator_file,
            REFERENCE: _reference_file(model, seed),
            GOLDEN: golden_lines(model.contract, model.frame, model.probe, model.source.example),
            **_unlisted_file(model.contract),
            "MODEL_CARD.md": model_card(manifest).encode(),
            "bom.cdx.json": canonical_json(bill_of_materials(manifest, sha256(estimator_file))),
            **selection.files,
        }
    if not manifest["created"]:  # who sets SOURCE_DATE_EPOCH asks for the same bytes, and no clock gives those
        manifest["timings"] = selection.timings
    report("checking the artifact in a fresh process")
    try:
        digest = writer.write(output, manifest, files, accept=_check_as_service)
    except OSError as error:
        raise BakeError(f"{output} cannot be written ({error.strerror}): choose another --output.") from error
    return Baked(digest, version or digest[:SHORT_DIGEST_LENGTH], model.evaluation)


def _fitted_model(source: Source, seed: int, report: Report) -> FittedModel:
    """Return the model once it is fitted, and once it has the scores that its author asks for."""
    estimator, evaluation = _fitted(source, seed, report)
    force_single_thread(estimator)
    report("deriving the contract")
    frame = as_frame(source.X, source.names)
    probe = probe_estimator(estimator, source.X, frame)
    target_names = list(map(str, source.y.columns)) if isinstance(source.y, pd.DataFrame) else []
    contract = derive_contract(probe, frame, source.features, target_names)
    return FittedModel(source, estimator, evaluation, contract, frame, probe)


def _fitted(source: Source, seed: int, report: Report) -> tuple[Any, Evaluation]:
    if source.fitted:
        return source.estimator, score_sample(source.estimator, source.X, source.y)
    evaluation = evaluate(source.estimator, source.X, source.y, source.min_scores, seed, report)
    check_min_scores(evaluation, source.min_scores)
    report(f"fitting on all {len(source.X)} rows")
    return fit(source.estimator, source.X, source.y), evaluation


def _model_members(model: FittedModel) -> dict[str, Any]:
    """Return the manifest's members about the model.

    "bar" and "licence" keep their names: programs read the manifest, and so does a server of an earlier version.
    """
    source, evaluation = model.source, model.evaluation
    return {
        "name": source.name,
        "description": source.description,
        "task": task_of(model.estimator),
        "estimator": _described(model.estimator, model.contract),
        "contract": model.contract.to_dict(),
        "scores": {
            "held_out": evaluation.held_out,
            "cross_validation": evaluation.cross_validation,
            "bar": dict(source.min_scores),
            "refitted": not source.fitted,
        },
        "data": {
            "digest": data_digest(model.frame, source.y),
            "rows": len(model.frame),
            "source": source.data_source,
            "licence": source.data_license,
        },
    }


def _engine_members(selection: EngineSelection) -> dict[str, Any]:
    """Return the manifest's members about engines."""
    return {"engine": selection.engine, "engines": selection.table, "batching": selection.batching}


def _libraries(modules: set[str], contract: Contract, selection: EngineSelection) -> dict[str, str]:
    """Return the versions of all that serving needs, by distribution."""
    return dict(sorted({**libraries_of(modules, contract.container), **selection.libraries}.items()))


def _reference_file(model: FittedModel, seed: int) -> bytes:
    answers = model.probe.answers(model.frame)
    importance = feature_importance(model.probe, model.frame, seed)
    return canonical_json(measure_reference(model.contract, model.frame, answers, importance).to_dict())


def _unlisted_file(contract: Contract) -> dict[str, bytes]:
    """Return the file of the known values that may not be listed, by its name; nothing where there are none."""
    unlisted = contract.unlisted()
    return {UNLISTED: canonical_json(unlisted)} if unlisted else {}


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
        reason = " ".join((done.stderr.strip() or f"exit code {done.returncode}").splitlines()[-1:])
        raise BakeError(f"The service refuses the artifact, nothing was written: {reason}")
