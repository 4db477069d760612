"""The race of engines: which forms of an estimator there are, which of them pass the gate, and which one serves."""

import statistics
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np
import pandas as pd

from service.artifact import MODEL, installed_version
from service.contract import PREDICT, PREDICT_PROBA, Contract
from service.engine import (
    COMPILED_TREES,
    FOLDER,
    NUMPY,
    ONNX,
    ONNXRUNTIME,
    PLAN,
    SCIKIT_LEARN,
    TREELITE,
    TREELITE_DTYPE,
    TREELITE_MODEL,
    Engine,
    compiled_engine,
    scikit_learn_engine,
)
from service.plan import pack
from service.schema import Columns
from training.compile import compile_plan
from training.errors import BakeError, UnsupportedError, one_line
from training.gate import Gate, Table, Verdict, as_columns, chosen
from training.trees import compile_library

FASTEST = "fastest"  # of all that pass the gate
EXACT = "exact"  # the fastest of those that give the estimator's bits
NAMES = (NUMPY, COMPILED_TREES, TREELITE, ONNXRUNTIME, SCIKIT_LEARN)  # in the order of preference
CHOICES = (FASTEST, EXACT, *NAMES)

FLOAT64_BOUND, FLOAT32_BOUND = 1e-9, 1e-5  # of the scale of an output
N_ROWS = (1, 10, 100, 1000)
ROUNDS = 7
ROUND_SECONDS = 0.002  # of one engine; a clock's ticks are far below
MAX_REASON_LENGTH = 200
WORTH_CHANGING = 0.5  # a later engine needs less than this share of the time, so that noise decides nothing

# Merging requests that wait pays where a call costs much and rows little.
BATCH_ROWS, BATCHING_SECONDS, BATCH_COST = 32, 300e-6, 8


@dataclass(frozen=True)
class Candidate:
    """A form of the estimator.

    Args:
        files: The artifact's files that it is made of.
        bound: How far its numbers may differ from the estimator's, relative to the scale of the output.
        libraries: The distributions that serving it needs.
    """

    files: Mapping[str, bytes]
    bound: float
    libraries: tuple[str, ...] = ()


@dataclass
class Race:
    """How the race ended.

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


def race(estimator: Any, contract: Contract, frame: pd.DataFrame, choice: str, seed: int) -> Race:
    """Return which engine serves, and what became of the others.

    Args:
        estimator: The fitted estimator.
        contract: What it takes and answers.
        frame: The training rows.
        choice: One of CHOICES.
        seed: For the choice of rows to compare.

    Raises:
        BakeError: If the engine that was asked for cannot serve; says why.
    """
    asked = scikit_learn_engine(estimator, contract)
    gate = Gate(asked, contract, frame, seed)
    invariant = gate.is_batch_invariant(asked)
    entries: dict[str, dict[str, Any]] = {
        SCIKIT_LEARN: {"name": SCIKIT_LEARN, "exact": True, "batch_invariant": invariant, "files": [MODEL]}
    }
    candidates, engines = {}, {SCIKIT_LEARN: asked}
    direct = COMPILED_TREES if _ends_in_trees(estimator) else NUMPY
    for name, make in ((direct, _direct), (TREELITE, _treelite), (ONNXRUNTIME, _onnx)):
        try:
            candidate, engine, verdict = _judged(name, make, estimator, contract, gate)
        except Exception as error:  # noqa: BLE001 - converters fail in any way, and then another engine serves
            entries[name] = {"name": name, "refused": _reason(error)}
            continue
        candidates[name], engines[name] = candidate, engine
        entries[name] = {
            "name": name, "exact": verdict.exact, "difference": float(f"{verdict.difference:.3g}"),
            "bound": candidate.bound, "batch_invariant": verdict.batch_invariant, "files": [],
        }  # fmt: skip
    seconds = _timed(engines, contract, gate.training)
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
    batching = merging and _batching_pays(engines[serving], contract, gate.training)
    return Race(serving, table, files, libraries, batching, seconds)


def _judged(
    name: str, make: "Callable[[Any, Contract], Candidate]", estimator: Any, contract: Contract, gate: Gate
) -> tuple[Candidate, Engine, Verdict]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # converters warn of what the gate finds out
        candidate = make(estimator, contract)
        engine = compiled_engine(name, candidate.files.__getitem__, contract)
        return candidate, engine, gate.judge(engine, candidate.bound)


def _reason(error: Exception) -> str:
    if isinstance(error, UnsupportedError):
        return str(error)
    return one_line(Exception(f"{type(error).__name__}: {error}"))[:MAX_REASON_LENGTH]


def _ends_in_trees(estimator: Any) -> bool:
    while hasattr(estimator, "best_estimator_") or hasattr(estimator, "steps"):
        estimator = estimator.best_estimator_ if hasattr(estimator, "best_estimator_") else estimator.steps[-1][1]
    return type(estimator).__module__.startswith(("sklearn.tree", "sklearn.ensemble"))


# ------------------------------------------------------------------------------------------- candidates


def _direct(estimator: Any, contract: Contract) -> Candidate:
    files = {PLAN: pack(compile_plan(estimator, contract))}
    if _ends_in_trees(estimator):
        files |= {FOLDER + name: content for name, content in compile_library().items()}
    return Candidate(files, FLOAT64_BOUND)


def _treelite(estimator: Any, contract: Contract) -> Candidate:
    _need("treelite")
    kind = type(estimator).__name__.removesuffix("Classifier").removesuffix("Regressor")
    if kind not in ("RandomForest", "ExtraTrees", "GradientBoosting", "HistGradientBoosting"):
        raise UnsupportedError("It takes ensembles of trees alone.")
    if contract.container != "float64":
        raise UnsupportedError("It takes a matrix of numbers.")
    if more := {output.name for output in contract.outputs} - {PREDICT, PREDICT_PROBA}:
        raise UnsupportedError(f"It has no {', '.join(sorted(more))}.")
    import treelite

    dtype = b"float64" if kind == "HistGradientBoosting" else b"float32"
    model = treelite.sklearn.import_model(estimator)
    return Candidate({TREELITE_MODEL: model.serialize_bytes(), TREELITE_DTYPE: dtype}, FLOAT64_BOUND, ("treelite",))


def _onnx(estimator: Any, contract: Contract) -> Candidate:
    _need("onnxruntime", "skl2onnx")
    from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType

    outputs = [output.name for output in contract.outputs]
    if len(outputs) > (2 if PREDICT in outputs else 1):
        raise UnsupportedError(f"One graph has no more than a label and one kind of scores, not {', '.join(outputs)}.")
    problem: Exception = UnsupportedError("It was not converted.")
    numbers = [(DoubleTensorType, FLOAT64_BOUND), (FloatTensorType, FLOAT32_BOUND)]
    for number, bound in reversed(numbers) if _ends_in_trees(estimator) else numbers:  # a graph's trees hold float32
        try:
            files = {ONNX: _onnx_graph(estimator, contract, number)}
            compiled_engine(ONNXRUNTIME, files.__getitem__, contract)
        except Exception as error:  # noqa: BLE001 - the other type of numbers may do
            problem = error
        else:
            return Candidate(files, bound, ("onnxruntime",))
    raise problem


def _onnx_graph(estimator: Any, contract: Contract, number: Any) -> bytes:
    from skl2onnx import convert_sklearn
    from skl2onnx.common.data_types import BooleanTensorType, StringTensorType

    types = {"number": number, "boolean": BooleanTensorType, "string": StringTensorType}
    if contract.all_numbers and contract.container != "frame":
        inputs = [("X", number([None, len(contract.features)]))]
    else:
        inputs = [(feature.name, types[feature.kind]([None, 1])) for feature in contract.features]
    scores = "decision_function" in {output.name for output in contract.outputs}
    options = {id(estimator): {"zipmap": False, **({"raw_scores": True} if scores else {})}}
    graph = convert_sklearn(estimator, initial_types=inputs, options=options if contract.classes is not None else None)
    return bytes(graph.SerializeToString())


def _need(*distributions: str) -> None:
    missing = [name for name in distributions if find_spec(name) is None]
    if missing:
        raise UnsupportedError(f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} not installed.")


# ------------------------------------------------------------------------------------------- time


def _timed(engines: Mapping[str, Engine], contract: Contract, training: Table) -> dict[str, dict[str, float]]:
    """Return the seconds of CPU that a call takes, by engine and number of rows: medians of rounds in turn."""
    return {
        name: {str(n_rows): seconds for n_rows, seconds in zip(N_ROWS, by_rows, strict=True)}
        for name, by_rows in zip(
            engines,
            zip(*(_seconds(engines, contract, training, n_rows) for n_rows in N_ROWS), strict=True),
            strict=True,
        )
    }


def _seconds(engines: Mapping[str, Engine], contract: Contract, training: Table, n_rows: int) -> list[float]:
    columns = as_columns(chosen(training, np.arange(n_rows) % len(training[0])), contract)
    outputs = (contract.outputs[0].name,)
    with np.errstate(all="ignore"):
        calls = [_calls(engine, columns, outputs) for engine in engines.values()]
        rounds = [
            [
                _seconds_a_call(engine, columns, outputs, n_calls)
                for engine, n_calls in zip(engines.values(), calls, strict=True)
            ]
            for _ in range(ROUNDS)
        ]
    return [float(f"{statistics.median(seconds):.3g}") for seconds in zip(*rounds, strict=True)]


def _calls(engine: Engine, columns: Columns, outputs: tuple[str, ...]) -> int:
    """Return how many calls make a round long enough to be measured."""
    _seconds_a_call(engine, columns, outputs, 2)  # the first ones fill caches
    return max(1, int(ROUND_SECONDS / _seconds_a_call(engine, columns, outputs, 2)))


def _seconds_a_call(engine: Engine, columns: Columns, outputs: tuple[str, ...], n_calls: int) -> float:
    started = time.process_time_ns()
    for _ in range(n_calls):
        engine(columns, outputs)
    return max(1, time.process_time_ns() - started) / n_calls / 1e9


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


def _batching_pays(engine: Engine, contract: Contract, training: Table) -> bool:
    one, many = (_seconds({"": engine}, contract, training, n_rows)[0] for n_rows in (1, BATCH_ROWS))
    return one > BATCHING_SECONDS and many < BATCH_COST * one
