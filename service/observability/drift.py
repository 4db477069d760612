"""Drift, found where predictions are made: rows counted by feature and bin, beside the shares that training had.

Counters add up over pods and processes and leave the window to whoever asks, so distances such as PSI are left to
PromQL. To cost a request next to nothing, a call only remembers cells, and some hundred rows are then counted at once.
Where requests come so fast that this, too, would be felt, some of them are drawn, each of which counts for several.
What is written at a scrape is text that was made once, with the counts in between.
"""

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from itertools import chain
from pathlib import Path
from random import random
from typing import Any

import numpy as np
from numpy.typing import NDArray
from prometheus_client import exposition
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics import exposition as openmetrics_exposition

from service.artifact.contract import PREDICT, Contract
from service.artifact.reference import Bin, Ranges, Reference, bins_of
from service.columns import Columns, concatenate, n_rows, take
from service.observability.histogram import CategoryPlaces, NumberCounter
from service.observability.logging import log_bug
from service.observability.metric_definitions import (
    FEATURE_IMPORTANCE,
    FEATURE_REFERENCE,
    FEATURE_ROWS,
    PREDICTION_REFERENCE,
    PREDICTION_ROWS,
)
from service.settings import Settings

ROWS_AT_ONCE = 256  # counted together; NumPy takes three times as long to sort twice as many numbers
ROWS_A_SECOND = 500  # about so many of a process's are counted, which are 30,000 a minute: distances need a thousand
MAX_COUNTS_FOR = 100
COUNTERS = (FEATURE_ROWS, PREDICTION_ROWS)


class BinCounters:
    """One number for each place, that only grows: in memory, or in a file that processes share.

    Args:
        n_places: How many numbers.
        directory: Where each process has a file; None for one process.
        slot: This process's place among them; who takes over that of a dead one goes on with its counts.
    """

    def __init__(self, n_places: int, directory: Path | None, slot: int) -> None:
        self._own: NDArray[np.int64] = np.zeros(n_places, dtype=np.int64)
        self._directory = directory
        if directory is not None and n_places:
            path = directory / f"drift_{slot}.counts"
            if not path.exists():
                self._own.tofile(path)
            self._own = np.memmap(path, dtype=np.int64, mode="r+", shape=(n_places,))

    def add(self, counts: NDArray[np.int64]) -> None:
        """Add to the numbers of this process."""
        self._own += counts

    def total(self) -> NDArray[np.int64]:
        """Return the numbers of all processes."""
        if self._directory is None:
            return self._own.copy()
        total = np.zeros(self._own.size, dtype=np.int64)
        for path in self._directory.glob("drift_*.counts"):
            counts = np.fromfile(path, dtype=np.int64)
            if counts.size == total.size:  # one that is just being made is shorter, and has counted nothing
                total += counts
        return total


class Drift:
    """Counts the rows of predictions by feature and bin; called as a PredictionObserver by several threads.

    Args:
        reference: How features and predictions were distributed in training.
        contract: What the model takes and answers.
        version: The model version, a label of every series.
        settings: How many features to watch, and the most rows of one request to count.
        directory: Where serving processes share their counts; None for one process.
        slot: This process's place among them.
        clock: Tells the time, in seconds.
    """

    def __init__(
        self,
        reference: Reference,
        contract: Contract,
        version: str,
        settings: Settings,
        directory: Path | None = None,
        slot: int = 1,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._version = version
        self._n_most = settings.drift_rows
        self._importance = reference.importance
        watched = _most_important(contract, self._importance, settings.drift_features)
        self._takes_all = len(watched) == len(contract.features)

        n_samples = reference.n_samples
        self._bins: list[tuple[str | None, Bin]] = []  # by place; with the feature's name, None for the predictions
        self._numbers_at: list[int] = []  # which of the contract's features are numbers
        self._texts_at: list[int] = []  # those of text and booleans
        self._places: list[CategoryPlaces] = []
        numbers: list[tuple[Ranges, int]] = []
        for index in watched:
            feature, begin = contract.features[index], len(self._bins)
            distribution = reference.features[feature.name]
            bins = bins_of(distribution, n_samples, feature.known, feature.kind == "number")
            if isinstance(bins, Ranges):
                self._numbers_at.append(index)
                numbers.append((bins, begin))
            else:
                self._texts_at.append(index)
                self._places.append(CategoryPlaces(bins, begin))
            self._bins += [(feature.name, each) for each in bins.bins]
        self._numbers = NumberCounter(numbers) if numbers else None
        self._taken_at = np.array(self._numbers_at, dtype=np.intp)  # NumPy takes three times as long to read a list

        self._counts_predictions = PREDICT in reference.predictions
        self._predicted_numbers: NumberCounter | None = None
        self._predicted_places: CategoryPlaces | None = None
        if self._counts_predictions:
            distribution = reference.predictions[PREDICT]
            bins, begin = bins_of(distribution, n_samples, contract.classes, False), len(self._bins)
            if isinstance(bins, Ranges):
                self._predicted_numbers = NumberCounter([(bins, begin)])
            else:
                self._predicted_places = CategoryPlaces(bins, begin)
            self._bins += [(None, each) for each in bins.bins]

        self._counts = BinCounters(len(self._bins), directory, slot)
        self._lock = threading.Lock()
        self._requests: list[tuple[Columns, NDArray[Any] | None]] = []  # remembered: numbers and predictions
        self._found: list[int] = []  # the places of other cells
        self._n_rows = 0
        self._counts_for = 1  # how many requests one that is remembered stands for
        self._n_lately = 0  # rows remembered since that was last chosen
        self._clock, self._since = clock, clock()
        self._failed = False
        # Made now and not by the first scrape, which it would take several times as long as any other.
        self._texts = {openmetrics: self._text_around_counts(openmetrics) for openmetrics in (False, True)}

    def __call__(self, _request_id: str, columns: Columns, outputs: Mapping[str, NDArray[Any]]) -> None:
        """Count the rows of one request, sooner or later, or leave that to another one; never fails."""
        if self._counts_for > 1 and random() * self._counts_for > 1:  # noqa: S311 - no secret
            return
        try:
            self._remember(columns, outputs.get(PREDICT) if self._counts_predictions else None)
        except Exception as error:  # noqa: BLE001 - a prediction is not to fail because it cannot be counted
            self._tell(error)

    def _tell(self, error: Exception) -> None:
        if not self._failed:
            log_bug(error, "Rows are missing in the counts for drift.")
        self._failed = True

    def _remember(self, columns: Columns, predictions: NDArray[Any] | None) -> None:
        n_samples = n_rows(columns)
        if n_samples > self._n_most:
            rows = _evenly_spread(self._n_most, n_samples)
            n_samples, columns = self._n_most, take(columns, rows)
            predictions = None if predictions is None else predictions.take(rows, axis=0)
        places: Sequence[int] = ()
        if isinstance(columns, np.ndarray):
            if not self._takes_all:
                columns = columns.take(self._taken_at, axis=1)
        else:  # text is looked up at once: keeping it would keep up to a body of each client
            texts = zip(self._places, [columns[index] for index in self._texts_at], strict=True)
            places = [place[cell] for place, column in texts for cell in column]
            columns = [columns[index] for index in self._numbers_at]
        with self._lock:
            self._requests.append((columns, predictions))
            self._found += places
            self._n_rows += n_samples
            if self._n_rows >= ROWS_AT_ONCE:
                self._count()

    def _count(self) -> None:
        """Count what is remembered, and forget it; the caller holds the lock."""
        requests, found, counts_for = self._requests, self._found, self._counts_for
        self._choose_how_many()
        self._requests, self._found, self._n_rows = [], [], 0
        n_places = len(self._bins)
        predicted = [predictions for _, predictions in requests if predictions is not None]
        if self._predicted_places:
            labels = chain.from_iterable(predictions.tolist() for predictions in predicted)
            found += map(self._predicted_places.__getitem__, labels)
        counts = np.bincount(np.fromiter(found, np.intp, len(found)), minlength=n_places)
        if predicted and self._predicted_numbers:
            counts += self._predicted_numbers.counts(np.concatenate(predicted).reshape(1, -1), n_places)
        if requests and self._numbers:
            columns = concatenate([columns for columns, _ in requests])
            numbers = (
                np.ascontiguousarray(columns.T)
                if isinstance(columns, np.ndarray)
                else np.array(columns, dtype=np.float64)
            )
            counts += self._numbers.counts(numbers, n_places)
        self._counts.add(counts_for * counts)

    def _choose_how_many(self) -> None:
        """Let one request stand for as many as are too many, going by what is remembered now."""
        now = self._clock()
        self._n_lately += self._n_rows
        if self._n_lately >= ROWS_A_SECOND or now - self._since > 1:  # else too little to go by
            n_came, n_wanted = self._n_lately * self._counts_for, ROWS_A_SECOND * (now - self._since)
            self._counts_for = 1 + int(min(n_came / max(n_wanted, 1), MAX_COUNTS_FOR - 1))
            self._n_lately, self._since = 0, now

    # What is scraped --------------------------------------------------------------------------------------------------

    def exposition(self, openmetrics: bool) -> bytes:
        """Return the series as text, without an end, in the OpenMetrics format or the classic one."""
        with self._lock:
            try:
                self._count()
            except Exception as error:  # noqa: BLE001 - nor is a scrape of all the other series
                self._tell(error)
            counts = self._counts.total().tolist()
        *before, after = self._texts[openmetrics]
        return "".join([*chain.from_iterable(zip(before, map(str, counts), strict=True)), after]).encode()

    def _text_around_counts(self, openmetrics: bool) -> list[str]:
        """Return what the library writes before each count, and after the last one; it takes long to write it."""
        encode = openmetrics_exposition.generate_latest if openmetrics else exposition.generate_latest
        texts = [""]
        beginnings = tuple(f"{declared.name}{{" for declared in COUNTERS)
        for line in encode(self).decode().split("\n"):  # not splitlines: labels may hold other ends of lines
            if line.startswith(beginnings):
                before, _, _ = line.rpartition(" ")
                texts[-1] += f"{before} "
                texts.append("\n")
            elif line and line != "# EOF":
                texts[-1] += f"{line}\n"
        return texts

    def collect(self) -> Iterable[Metric]:
        """Yield the families as the library takes them, nothing counted in them."""
        predictions = [({"bin": each.text, "kind": each.kind}, each.ratio) for name, each in self._bins if name is None]
        features = [
            ({"feature": name, "bin": each.text, "kind": each.kind}, each.ratio)
            for name, each in self._bins
            if name is not None
        ]
        names = dict.fromkeys(labels["feature"] for labels, _ in features)
        importances = [({"feature": name}, self._importance[name]) for name in names if name in self._importance]
        for declared, samples in (
            (FEATURE_ROWS, features),
            (PREDICTION_ROWS, predictions),
            (FEATURE_REFERENCE, features),
            (PREDICTION_REFERENCE, predictions),
            (FEATURE_IMPORTANCE, importances),
        ):
            metric = Metric(declared.name.removesuffix("_total"), declared.help, declared.type)
            for labels, value in samples:
                metric.add_sample(
                    declared.name, {"version": self._version, **labels}, 0.0 if declared in COUNTERS else value
                )
            if samples:
                yield metric


@lru_cache(maxsize=32)
def _evenly_spread(n_rows: int, n_samples: int) -> NDArray[np.intp]:
    """Return the rows in the middle of so many equal parts of a request."""
    return (2 * np.arange(n_rows) + 1) * n_samples // (2 * n_rows)


def _most_important(contract: Contract, importance: Mapping[str, float], n_features: int) -> list[int]:
    """Return which of the contract's features to watch, in its order."""
    order = sorted(range(len(contract.features)), key=lambda index: -importance.get(contract.names[index], 0.0))
    return sorted(order[:n_features])
