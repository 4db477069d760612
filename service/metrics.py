"""Every Prometheus series, named and described; one process keeps them in memory, several in shared files."""

import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    values,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.registry import Collector

# 1 ms is a compiled model on an idle machine, 10 s is beyond what a client waits for.
DURATION_BUCKETS_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
FILES_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"  # prometheus_client takes the folder from the environment only
CLOCK_TICKS = os.sysconf("SC_CLK_TCK")
COMBINE: dict[str, Callable[[list[float]], float]] = {"process_start_time_seconds": min, "process_max_fds": min}

disable_created_metrics()  # a series beside each series that says when it began; the process has a start time already


def share_series(directory: Path, slot: int) -> None:
    """Keep the series that are made from now on in files of this slot, added up over all slots at a scrape.

    A process that takes over the slot of a dead one goes on with its counters, so files do not pile up.

    Args:
        directory: Where the files of all processes are; in memory.
        slot: This process's place among the serving processes.
    """
    os.environ[FILES_VARIABLE] = str(directory)
    values.ValueClass = values.MultiProcessValue(process_identifier=lambda: slot)


def forget_gauges(directory: Path, slot: int) -> None:
    """Remove what a dead process said of the moment, such as its requests in flight; its counts stay."""
    mark_process_dead(slot, str(directory))


class Metrics:
    """The series of one serving process, and how they are written out.

    Args:
        master: The process id of the server's master.
        shared: The folder of share_series, or None for one process.
    """

    def __init__(self, master: int, shared: Path | None = None) -> None:
        self._registry = CollectorRegistry()
        if shared is not None:
            MultiProcessCollector(self._registry, path=str(shared))
        self._registry.register(ProcessTree(master))
        # Where series are registered; those of several processes are found in their files.
        self.registry = own = None if shared else self._registry
        self._requests = Counter(
            "bakehouse_http_requests",
            "Requests answered, by route, method and status class.",
            ["route", "method", "status"],
            registry=own,
        )
        self._duration = Histogram(
            "bakehouse_http_request_duration_seconds",
            "Seconds from a request's headers to its answer, its body included.",
            ["route"],
            buckets=DURATION_BUCKETS_SECONDS,
            registry=own,
        )
        self.in_flight = Gauge(
            "bakehouse_http_requests_in_flight",
            "Requests that a thread is working on.",
            multiprocess_mode="livesum",
            registry=own,
        )
        self.rows = Counter("bakehouse_predicted_rows", "Rows predicted.", registry=own)
        # A series by its labels, found quicker than the library does; as many as there are series.
        self._series_of: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}
        self._errors = Counter(
            "bakehouse_prediction_errors",
            "Prediction requests refused, by code of the first error.",
            ["code"],
            registry=own,
        )
        self._model = Gauge(
            "bakehouse_model_info",
            "Always 1: the model that is served.",
            ["name", "version", "digest", "engine"],
            multiprocess_mode="livemax",
            registry=own,
        )
        self._load_seconds = Gauge(
            "bakehouse_model_load_seconds",
            "Seconds it took to verify and load the model and replay its golden requests.",
            multiprocess_mode="livemax",
            registry=own,
        )

    def count_request(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count one answered request; route is the route's pattern, never a path that a client made up."""
        method = method if method in METHODS else "other"
        key = (route, method, status // 100)
        series = self._series_of.get(key)
        if series is None:
            count = self._requests.labels(route, method, f"{status // 100}xx")
            series = self._series_of[key] = count, self._duration.labels(route)
        series[0].inc()
        series[1].observe(seconds)

    def count_error(self, code: str) -> None:
        """Count one refused prediction request."""
        self._errors.labels(code).inc()

    def model_loaded(self, name: str, version: str, digest: str, engine: str, seconds: float) -> None:
        """Tell which model is served and how long loading took."""
        self._model.labels(name, version, digest, engine).set(1)
        self._load_seconds.set(seconds)

    def exposition(self, accept: str) -> tuple[bytes, str]:
        """Return all series in the format that an Accept header prefers, and that format's content type."""
        try:
            encode, content_type = choose_encoder(accept)
        except (TypeError, ValueError):  # the library reads the version in the header without a doubt
            encode, content_type = choose_encoder("")
        return encode(self._registry), content_type


class ProcessTree(Collector):
    """The process_ series of the whole server: its master and all its serving processes.

    Args:
        master: The process id of the master.
    """

    def __init__(self, master: int) -> None:
        self._master = master

    def collect(self) -> Iterator[Metric]:
        """Yield CPU, memory, descriptors and start time; nothing where there is no /proc."""
        of_name: dict[str, list[Metric]] = {}
        for pid in (self._master, *_children(self._master)):
            for metric in ProcessCollector(pid=partial(int, pid), registry=None).collect():
                of_name.setdefault(metric.name, []).append(metric)
        for name, metrics in of_name.items():
            found = [sample.value for metric in metrics for sample in metric.samples]
            total = Metric(name, f"{metrics[0].documentation} All processes of the server.", metrics[0].type)
            total.add_sample(metrics[0].samples[0].name, {}, COMBINE.get(name, sum)(found) + self._of_ended(name))
            yield total

    def _of_ended(self, name: str) -> float:
        """Return what ended processes add: their CPU seconds, so that the counter never falls."""
        if name != "process_cpu_seconds":
            return 0.0
        words = _proc(f"{self._master}/stat").rpartition(")")[2].split()
        return sum(map(int, words[13:15])) / CLOCK_TICKS  # cutime and cstime, see proc_pid_stat(5)


def _children(pid: int) -> list[int]:
    return [int(word) for word in _proc(f"{pid}/task/{pid}/children").split()]


def _proc(name: str) -> str:
    try:
        return (Path("/proc") / name).read_text()
    except OSError:
        return ""
