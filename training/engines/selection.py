"""Selects the engine that serves: the fastest of those that pass the equivalence check."""

import statistics
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from service.artifact.contract import Contract
from service.artifact.manifest import MODEL, installed_version
from service.engines.engine_function import EngineFunction
from service.engines.registry import (
    COMPILED_TREES,
    NUMPY,
    ONNXRUNTIME,
    SCIKIT_LEARN,
    TREELITE,
    compiled_engine,
)
from service.engines.scikit_learn import scikit_learn_engine
from training.engines.candidates import Candidate, onnx_candidate, pipeline_candidate, treelite_candidate
from training.engines.compile_trees import ends_in_trees
from training.engines.equivalence import EquivalenceCheck, Verdict
from training.engines.timing import batching_pays, time_engines
from training.errors import BakeError, UnsupportedError, one_line

FASTEST = "fastest"  # of all that pass the equivalence check
EXACT = "exact"  # the fastest of those that give the estimator's bits
NAMES = (NUMPY, COMPILED_TREES, TREELITE, ONNXRUNTIME, SCIKIT_LEARN)  # in the order of preference
CHOICES = (FASTEST, EXACT, *NAMES)
MAX_REASON_LENGTH = 200
WORTH_CHANGING = 0.5  # a later engine needs less than this share of the time, so that noise decides nothing


@dataclass
class EngineSelection:
    """Which engine serves, and how the others compare.

    Args:
        engine: The name of the engine that serves.
        table: What the manifest says of each engine, in the order of preference.
        files: The artifact's files that the serving engine is made of.
        libraries: The versions of the distributions that it needs besides those of the estimator.
        batching: Whether merging requests that wait pays.
        timings: Seconds of CPU a call, by engine and number of rows.
    """

    engine: str
    table: list[dict[str, Any]]
    files: Mapping[str, bytes]
    libraries: Mapping[str, str]
    batching: bool
    timings: Mapping[str, Mapping[str, float]]


def select_engine(estimator: Any, contract: Contract, frame: pd.DataFrame, choice: str, seed: int) -> EngineSelection:
    """Return which engine serves, and how the others compare.

    Args:
        estimator: The fitted estimator.
        contract: What it takes and answers.
        frame: The training rows.
        choice: One of CHOICES.
        seed: For the choice of rows to compare.

    Raises:
        BakeError: If the engine that was asked for cannot serve; says why.
    """
    reference_engine = scikit_learn_engine(estimator, contract)
    check = EquivalenceCheck(reference_engine, contract, frame, seed)
    invariant = check.is_batch_invariant(reference_engine)
    entries: dict[str, dict[str, Any]] = {
        SCIKIT_LEARN: {"name": SCIKIT_LEARN, "exact": True, "batch_invariant": invariant, "files": [MODEL]}
    }
    candidates, engines = {}, {SCIKIT_LEARN: reference_engine}
    compiled = COMPILED_TREES if ends_in_trees(estimator) else NUMPY
    for name, make in ((compiled, pipeline_candidate), (TREELITE, treelite_candidate), (ONNXRUNTIME, onnx_candidate)):
        try:
            candidate, engine, verdict = _judged(name, make, estimator, contract, check)
        except Exception as error:  # noqa: BLE001 - converters fail in any way, and then another engine serves
            entries[name] = {"name": name, "refused": _reason(error)}
            continue
        candidates[name], engines[name] = candidate, engine
        entries[name] = {
            "name": name, "exact": verdict.exact, "difference": float(f"{verdict.difference:.3g}"),
            "bound": candidate.bound, "batch_invariant": verdict.batch_invariant, "files": [],
        }  # fmt: skip
    seconds = time_engines(engines, contract, check.training)
    serving = _chosen(choice, entries, seconds)
    table = [entries[name] for name in NAMES if name in entries]
    files: Mapping[str, bytes] = {}
    libraries: Mapping[str, str] = {}
    if serving != SCIKIT_LEARN:
        files = candidates[serving].files
        libraries = {name: installed_version(name) for name in candidates[serving].libraries}
        entries[serving]["files"] = sorted(files)
    # What is exact stays so: a row's bits must not depend on who else asks.
    merging = entries[serving]["batch_invariant"] or not entries[serving]["exact"]
    batching = merging and batching_pays(engines[serving], contract, check.training)
    return EngineSelection(serving, table, files, libraries, batching, seconds)


def _judged(
    name: str, make: "Callable[[Any, Contract], Candidate]", estimator: Any, contract: Contract, check: EquivalenceCheck
) -> tuple[Candidate, EngineFunction, Verdict]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # converters warn of what the equivalence check finds
        candidate = make(estimator, contract)
        engine = compiled_engine(name, candidate.files.__getitem__, contract)
        return candidate, engine, check.judge(engine, candidate.bound)


def _reason(error: Exception) -> str:
    if isinstance(error, UnsupportedError):
        return str(error)
    return one_line(Exception(f"{type(error).__name__}: {error}"))[:MAX_REASON_LENGTH]


def _chosen(choice: str, entries: Mapping[str, Mapping[str, Any]], seconds: Mapping[str, Mapping[str, float]]) -> str:
    """Return the engine that serves.

    Raises:
        BakeError: If it was asked for and cannot serve.
    """
    if choice in NAMES:
        if "exact" not in entries.get(choice, {}):
            reason = entries.get(choice, {}).get("refused", "This model has no such form.")
            raise BakeError(f"The engine {choice} cannot serve this model: {reason}")
        return choice
    able = [
        name for name in NAMES if entries.get(name, {}).get("exact", False) or (name in seconds and choice != EXACT)
    ]
    serving = able[0]
    for name in able[1:]:
        ratios = [seconds[name][n_rows] / seconds[serving][n_rows] for n_rows in seconds[name]]
        if statistics.geometric_mean(ratios) < WORTH_CHANGING:
            serving = name
    return serving
