"""How long engines take, measured side by side."""

import statistics
import time
from collections.abc import Mapping

import numpy as np

from service.artifact.contract import Contract
from service.columns import Columns, take
from service.engines.engine_function import EngineFunction
from training.engines.probe_rows import ArrayColumns, as_request

N_ROWS = (1, 10, 100, 1000)
ROUNDS = 7
ROUND_SECONDS = 0.002  # of one engine; a clock's ticks are far below

# Merging requests that wait pays where a call costs much and rows little.
BATCH_ROWS, BATCHING_SECONDS, BATCH_COST = 32, 300e-6, 8


def time_engines(
    engines: Mapping[str, EngineFunction], contract: Contract, training: ArrayColumns
) -> dict[str, dict[str, float]]:
    """Return the seconds of CPU that a call takes, by engine and number of rows: medians of rounds in turn."""
    return {
        name: {str(n_rows): seconds for n_rows, seconds in zip(N_ROWS, by_rows, strict=True)}
        for name, by_rows in zip(
            engines,
            zip(*(_seconds(engines, contract, training, n_rows) for n_rows in N_ROWS), strict=True),
            strict=True,
        )
    }


def _seconds(
    engines: Mapping[str, EngineFunction], contract: Contract, training: ArrayColumns, n_rows: int
) -> list[float]:
    columns = as_request(take(training, np.arange(n_rows) % len(training[0])), contract)
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


def _calls(engine: EngineFunction, columns: Columns, outputs: tuple[str, ...]) -> int:
    """Return how many calls make a round long enough to be measured."""
    _seconds_a_call(engine, columns, outputs, 2)  # the first ones fill caches
    return max(1, int(ROUND_SECONDS / _seconds_a_call(engine, columns, outputs, 2)))


def _seconds_a_call(engine: EngineFunction, columns: Columns, outputs: tuple[str, ...], n_calls: int) -> float:
    started = time.process_time_ns()
    for _ in range(n_calls):
        engine(columns, outputs)
    return max(1, time.process_time_ns() - started) / n_calls / 1e9


def batching_pays(engine: EngineFunction, contract: Contract, training: ArrayColumns) -> bool:
    """Say whether requests that wait should be answered together."""
    one, many = (_seconds({"": engine}, contract, training, n_rows)[0] for n_rows in (1, BATCH_ROWS))
    return one > BATCHING_SECONDS and many < BATCH_COST * one
