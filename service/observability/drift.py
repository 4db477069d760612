"""Counts predicted rows by feature and bin, to detect data drift. Gauges hold the shares of the training rows.

Counters add up over pods and processes, and a query chooses the time window. So PromQL computes distances such as PSI.
A call only buffers cells, and a few hundred rows are counted together: this costs a request almost nothing. Above about
500 rows a second, requests are sampled, and each sampled request carries a weight. A scrape writes a text that was
prepared at the start, with the current counts in between.
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

ROWS_AT_ONCE = 256  # rows counted together; NumPy takes three times as long to sort twice as many numbers
ROWS_A_SECOND = 500  # a process counts about this many: 30,000 a minute, where distances need a thousand
MAX_WEIGHT = 100
COUNTERS = (FEATURE_ROWS, PREDICTION_ROWS)


class BinCounters:
    """One counter for each bin: in memory, or in a file that processes share.

    Args:
        n_places: How many counters.
        directory: The folder with a file for each process, or None for a single process.
        slot: The number of this process. The successor of a dead process takes its slot and continues its counts.
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
        """Add to the counters of this process."""
        self._own += counts

    def total(self) -> NDArray[np.int64]:
        """Return the sums over all processes."""
        if self._directory is None:
            return self._own.copy()
        total = np.zeros(self._own.size, dtype=np.int64)
        for path in self._directory.glob("drift_*.counts"):
            counts = np.fromfile(path, dtype=np.int64)
            if counts.size == total.size:  # a file that is being created is shorter, and has counted nothing
                total += counts
        return total


class Drift:
    """Counts predicted rows by feature and bin. It is a PredictionObserver that several threads call.

    Args:
        reference: The distributions of features and predictions in training.
        contract: The contract of the model.
        version: The model version, a label of every series.
        settings: How many features to count, and how many rows of one request.
        directory: The folder where serving processes share their counts, or None for a single process.
        slot: The number of this serving process.
        clock: Returns the time in seconds.
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
        self._max_rows = settings.drift_rows
        self._importance = reference.importance
        selected = _most_important(contract, self._importance, settings.drift_features)
        self._all_selected = len(selected) == len(contract.features)

        n_samples = reference.n_samples
        self._bins: list[tuple[str | None, Bin]] = []  # by place, with the feature's name, or None for predictions
        self._numeric_indices: list[int] = []  # the contract's features of numbers
        self._categorical_indices: list[int] = []  # the contract's features of text and booleans
        self._category_places: list[CategoryPlaces] = []
        numeric_bins: list[tuple[Ranges, int]] = []
        for index in selected:
            feature, begin = contract.features[index], len(self._bins)
            distribution = reference.features[feature.name]
            bins = bins_of(distribution, n_samples, feature.known, feature.kind == "number")
            if isinstance(bins, Ranges):
                self._numeric_indices.append(index)
                numeric_bins.append((bins, begin))
            else:
                self._categorical_indices.append(index)
                self._category_places.append(CategoryPlaces(bins, begin))
            self._bins += [(feature.name, each) for each in bins.bins]
        self._number_counter = NumberCounter(numeric_bins) if numeric_bins else None
        # As an array, because NumPy takes three times as long to read a list.
        self._matrix_columns = np.array(self._numeric_indices, dtype=np.intp)

        self._counts_predictions = PREDICT in reference.predictions
        self._prediction_counter: NumberCounter | None = None
        self._prediction_places: CategoryPlaces | None = None
        if self._counts_predictions:
            distribution = reference.predictions[PREDICT]
            bins, begin = bins_of(distribution, n_samples, contract.classes, False), len(self._bins)
            if isinstance(bins, Ranges):
                self._prediction_counter = NumberCounter([(bins, begin)])
            else:
                self._prediction_places = CategoryPlaces(bins, begin)
            self._bins += [(None, each) for each in bins.bins]

        self._counters = BinCounters(len(self._bins), directory, slot)
        self._lock = threading.Lock()
        self._buffer: list[tuple[Columns, NDArray[Any] | None]] = []  # numbers and predictions of requests
        self._buffered_places: list[int] = []  # the places of all other cells
        self._n_buffered = 0  # rows
        self._weight = 1  # how many requests one buffered request represents
        self._n_since = 0  # rows buffered since the weight was last chosen
        self._clock, self._since = clock, clock()
        self._failed = False
        # Prepared at the start, otherwise the first scrape would take several times as long as the others.
        self._texts = {openmetrics: self._text_around_counts(openmetrics) for openmetrics in (False, True)}

    def __call__(self, _request_id: str, columns: Columns, outputs: Mapping[str, NDArray[Any]]) -> None:
        """Buffer the rows of one request, or skip the request while requests are sampled. It never fails."""
        if self._weight > 1 and random() * self._weight > 1:  # noqa: S311 - not a secret
            return
        try:
            self._add(columns, outputs.get(PREDICT) if self._counts_predictions else None)
        except Exception as error:  # noqa: BLE001 - a prediction must not fail because it cannot be counted
            self._log_failure(error)

    def _log_failure(self, error: Exception) -> None:
        """Log the first failure. Later ones would fill the log."""
        if not self._failed:
            log_bug(error, "Rows are missing in the counts for drift.")
        self._failed = True

    def _add(self, columns: Columns, predictions: NDArray[Any] | None) -> None:
        """Buffer the rows of one request, and count the buffer if it is full."""
        n_samples = n_rows(columns)
        if n_samples > self._max_rows:
            rows = _evenly_spaced(self._max_rows, n_samples)
            n_samples, columns = self._max_rows, take(columns, rows)
            predictions = None if predictions is None else predictions.take(rows, axis=0)
        places: Sequence[int] = ()
        if isinstance(columns, np.ndarray):
            if not self._all_selected:
                columns = columns.take(self._matrix_columns, axis=1)
        else:  # text is looked up now: otherwise the buffer could hold a whole body of each client
            categorical_columns = [columns[index] for index in self._categorical_indices]
            pairs = zip(self._category_places, categorical_columns, strict=True)
            places = [place[cell] for place, column in pairs for cell in column]
            columns = [columns[index] for index in self._numeric_indices]
        with self._lock:
            self._buffer.append((columns, predictions))
            self._buffered_places += places
            self._n_buffered += n_samples
            if self._n_buffered >= ROWS_AT_ONCE:
                self._count_buffer()

    def _count_buffer(self) -> None:
        """Count the buffered rows and empty the buffer. The caller holds the lock."""
        buffer, places, weight = self._buffer, self._buffered_places, self._weight
        self._choose_weight()
        self._buffer, self._buffered_places, self._n_buffered = [], [], 0
        n_places = len(self._bins)
        predicted = [predictions for _, predictions in buffer if predictions is not None]
        if self._prediction_places:
            labels = chain.from_iterable(predictions.tolist() for predictions in predicted)
            places += map(self._prediction_places.__getitem__, labels)
        counts = np.bincount(np.fromiter(places, np.intp, len(places)), minlength=n_places)
        if predicted and self._prediction_counter:
            counts += self._prediction_counter.counts(np.concatenate(predicted).reshape(1, -1), n_places)
        if buffer and self._number_counter:
            columns = concatenate([columns for columns, _ in buffer])
            numbers = (
                np.ascontiguousarray(columns.T)
                if isinstance(columns, np.ndarray)
                else np.array(columns, dtype=np.float64)
            )
            counts += self._number_counter.counts(numbers, n_places)
        self._counters.add(weight * counts)

    def _choose_weight(self) -> None:
        """Set the weight from the rate of rows since the last choice, so that about ROWS_A_SECOND are buffered."""
        now = self._clock()
        self._n_since += self._n_buffered
        if self._n_since >= ROWS_A_SECOND or now - self._since > 1:  # otherwise there are too few rows for an estimate
            n_arrived, n_wanted = self._n_since * self._weight, ROWS_A_SECOND * (now - self._since)
            self._weight = 1 + int(min(n_arrived / max(n_wanted, 1), MAX_WEIGHT - 1))
            self._n_since, self._since = 0, now

    # Scrapes ----------------------------------------------------------------------------------------------------------

    def exposition(self, openmetrics: bool) -> bytes:
        """Return the series as text in the OpenMetrics or the classic format, without an end marker."""
        with self._lock:
            try:
                self._count_buffer()
            except Exception as error:  # noqa: BLE001 - a scrape of all other series must not fail either
                self._log_failure(error)
            counts = self._counters.total().tolist()
        *before, after = self._texts[openmetrics]
        return "".join([*chain.from_iterable(zip(before, map(str, counts), strict=True)), after]).encode()

    def _text_around_counts(self, openmetrics: bool) -> list[str]:
        """Return the text before each count, and the text after the last one. prometheus_client is slow to write it."""
        encode = openmetrics_exposition.generate_latest if openmetrics else exposition.generate_latest
        texts = [""]
        prefixes = tuple(f"{declared.name}{{" for declared in COUNTERS)
        for line in encode(self).decode().split("\n"):  # not splitlines: labels may contain other line separators
            if line.startswith(prefixes):
                before, _, _ = line.rpartition(" ")
                texts[-1] += f"{before} "
                texts.append("\n")
            elif line and line != "# EOF":
                texts[-1] += f"{line}\n"
        return texts

    def collect(self) -> Iterable[Metric]:
        """Yield the families as prometheus_client expects them, with all counts 0."""
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
def _evenly_spaced(n_rows: int, n_samples: int) -> NDArray[np.intp]:
    """Return n_rows row numbers: the middles of n_rows equal parts of a request with n_samples rows."""
    return (2 * np.arange(n_rows) + 1) * n_samples // (2 * n_rows)


def _most_important(contract: Contract, importance: Mapping[str, float], n_features: int) -> list[int]:
    """Return the indices of the most important features, in the contract's order."""
    order = sorted(range(len(contract.features)), key=lambda index: -importance.get(contract.names[index], 0.0))
    return sorted(order[:n_features])
