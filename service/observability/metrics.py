"""Counts and exposes metrics. One process keeps its series in memory. Several processes keep them in shared files."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, disable_created_metrics, values
from prometheus_client.exposition import choose_encoder
from prometheus_client.exposition import generate_latest as classic_text
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.openmetrics.exposition import generate_latest as openmetrics_text
from prometheus_client.registry import Collector

from service.artifact.reader import Artifact
from service.host.cgroup import cpu_quota, memory_limit
from service.observability import metric_definitions
from service.observability.metric_definitions import GAUGE, HISTOGRAM, Kind, MetricDefinition
from service.observability.request_context import METHODS, OTHER_METHOD, UNMATCHED

OPENMETRICS_END = b"# EOF\n"
FILES_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"  # prometheus_client reads the folder only from the environment
CLOCK_TICKS = os.sysconf("SC_CLK_TCK")
CPU_SECONDS = "process_cpu_seconds_total"
COMBINE: dict[str, Callable[[list[float]], float]] = {
    # Round to whole ticks: floats added in another order can give a smaller sum, and a counter must never fall.
    CPU_SECONDS: lambda seconds: round(sum(seconds) * CLOCK_TICKS) / CLOCK_TICKS,
    "process_start_time_seconds": min,
    "process_max_fds": min,
}
MAX_READINGS = 10  # repeat while processes start or end during a reading; one reading takes less than a millisecond
# These series exist from the start. So the first failure is visible as an increase.
EXPECTED_REQUESTS = (
    ("/predict", "POST", "2xx"),
    ("/predict", "POST", "4xx"),
    ("/predict", "POST", "5xx"),
    ("/feedback", "POST", "5xx"),
    (UNMATCHED, OTHER_METHOD, "5xx"),
)

Samples = Iterable[tuple[MetricDefinition[Any], float]]
# Called at each scrape. The argument is true for OpenMetrics. It returns text in that format, without the end marker.
# It may set series of this process instead, and return nothing.
Source = Callable[[bool], bytes]

disable_created_metrics()  # no extra series with the start time of each series; the process has a start time


def share_series(directory: Path, slot: int) -> None:
    """Keep all series created from now on in files of this slot. A scrape adds up the files of all slots.

    A process that takes over the slot of a dead process continues its counters. So files do not accumulate.

    Args:
        directory: The folder, in memory, with the files of all processes.
        slot: The number of this serving process.
    """
    os.environ[FILES_VARIABLE] = str(directory)
    values.ValueClass = values.MultiProcessValue(process_identifier=lambda: slot)


def forget_gauges(directory: Path, slot: int) -> None:
    """Remove the gauges of a dead process, such as its requests in flight. Its counters stay."""
    mark_process_dead(slot, str(directory))


class Metrics:
    """Counts in the series of one serving process and exposes them.

    Args:
        master: The process id of the server's master.
        shared: The folder of share_series, or None for a single process.
        model_version: The version of the served model.
    """

    def __init__(self, master: int, shared: Path | None = None, model_version: str = "") -> None:
        self.shared = shared is not None
        self._version = model_version
        self._registry = CollectorRegistry()
        self._families: dict[str, Any] = {}
        self._lock = Lock()
        self._sources: list[Source] = []
        if shared is not None:
            self._registry.register(SharedSeries(shared))
        self.add_source(text_of(container_samples))
        self.add_source(text_of(partial(process_samples, master)))

        # A cache of series by their labels: quicker than the lookup of the library, and no larger than the series.
        self._request_series: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}
        for request in EXPECTED_REQUESTS:
            self.metric(metric_definitions.HTTP_REQUESTS, *request)
            self.metric(metric_definitions.HTTP_DURATION, request[0])
        self._refused = {
            reason: self.metric(metric_definitions.REFUSED, reason) for reason in metric_definitions.REFUSAL_REASONS
        }
        self._checks = {
            (check, result): self.metric(metric_definitions.RELEASE_CHECKS, check, result)
            for check in metric_definitions.CHECKS
            for result in metric_definitions.RESULTS
        }
        self.rows = self.metric(metric_definitions.PREDICTED_ROWS)
        self.request_bytes = self.metric(metric_definitions.REQUEST_BYTES)
        self.response_bytes = self.metric(metric_definitions.RESPONSE_BYTES)
        self.queue_wait = self.metric(metric_definitions.QUEUE_WAIT)

    def metric(self, declared: MetricDefinition[Kind], *labels: str) -> Kind:
        """Return one series. The first call creates it.

        Args:
            declared: Its family.
            labels: The values of its labels in the order of the declaration, without the model version.
        """
        with self._lock:
            family: Kind = self._families.get(declared.name) or self._new_family(declared)
            self._families[declared.name] = family
        if declared.labels:
            family = family.labels(*([self._version] if "version" in declared.labels else []), *labels)
        return family

    def _new_family(self, declared: MetricDefinition[Any]) -> Any:
        options: dict[str, Any] = {"registry": None if self.shared else self._registry}
        if declared.kind is HISTOGRAM:
            options["buckets"] = declared.buckets
        if declared.kind is GAUGE:
            options["multiprocess_mode"] = declared.combine
        return declared.kind(declared.name.removesuffix("_total"), declared.help, list(declared.labels), **options)

    def add_source(self, source: Source) -> None:
        """Call a source of metrics at each scrape.

        A source sets gauges for this process only. If processes share their series, another process may answer the
        scrape. So the process must also call such a source from time to time.
        """
        self._sources.append(source)

    def count_request(
        self, route: str, method: str, status: int, seconds: float, exemplar: dict[str, str] | None = None
    ) -> None:
        """Count one answered request.

        Args:
            route: The pattern of the route, never a path from a client.
            method: The HTTP method.
            status: The status of the response.
            seconds: Time from the whole request to the response.
            exemplar: Labels that identify this request, such as its trace id.
        """
        method = method if method in METHODS else OTHER_METHOD
        key = (route, method, status // 100)
        series = self._request_series.get(key)
        if series is None:
            requests = self.metric(metric_definitions.HTTP_REQUESTS, route, method, f"{status // 100}xx")
            series = self._request_series[key] = requests, self.metric(metric_definitions.HTTP_DURATION, route)
        series[0].inc()
        series[1].observe(seconds, exemplar)

    def count_refused(self, reason: str) -> None:
        """Count one request or connection that never reaches the application."""
        self._refused[reason].inc()

    def count_error(self, code: str) -> None:
        """Count one refused prediction request."""
        self.metric(metric_definitions.PREDICTION_ERRORS, code).inc()

    def count_check(self, check: str, result: str) -> None:
        """Count one release check and its result.

        Raises:
            KeyError: If the check or the result is unknown.
        """
        self._checks[check, result].inc()

    def batch_counter(self) -> Callable[[int, int, Sequence[float]], None]:
        """Return a function that counts a batch, and create its series."""
        requests, rows = self.metric(metric_definitions.BATCH_REQUESTS), self.metric(metric_definitions.BATCH_ROWS)
        wait = self.metric(metric_definitions.BATCH_WAIT)

        def count(n_requests: int, n_rows: int, waited_seconds: Sequence[float]) -> None:
            requests.observe(n_requests)
            rows.observe(n_rows)
            for seconds in waited_seconds:
                wait.observe(seconds)

        return count

    def model_loaded(self, artifact: Artifact, seconds: float) -> None:
        """Set the gauges of the served model: its name, its scores at the bake, and the time to load it."""
        engine = artifact.engine
        exact = str(bool(engine["exact"])).lower()
        self.metric(metric_definitions.MODEL_INFO, artifact.name, artifact.digest, engine["name"], exact).set(1)
        self.metric(metric_definitions.MODEL_LOAD_SECONDS).set(seconds)
        self.metric(metric_definitions.GOLDEN_REQUESTS).set(len(artifact.golden()))
        for name, score in artifact.manifest["scores"]["held_out"].items():
            self.metric(metric_definitions.MODEL_SCORE, name).set(score)

    def exposition(self, accept: str) -> tuple[bytes, str]:
        """Return all series as text and their content type, in the format that the Accept header prefers."""
        try:
            encode, content_type = choose_encoder(accept)
        except (TypeError, ValueError):  # prometheus_client does not validate the version in the header
            encode, content_type = choose_encoder("")
        openmetrics = content_type.startswith("application/openmetrics-text")
        end = OPENMETRICS_END if openmetrics else b""
        texts = [source(openmetrics) for source in self._sources]  # first, because some sources set series
        return b"".join([encode(self._registry).removesuffix(end), *texts, end]), content_type


class SharedSeries(Collector):
    """Adds up the series of all processes from their files, while processes write, start and are killed.

    prometheus_client creates a file empty and sets its size in a second step. It cannot read an empty file, so this
    class skips such a file: it holds no series yet. prometheus_client can read any other state of a file. It writes an
    entry before it counts the entry, and it enlarges a file before it writes to the new part. It also expects that
    files of gauges disappear. No other file disappears.

    Args:
        directory: The folder of share_series.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def collect(self) -> Iterator[Metric]:
        """Yield each family. The values of its series are sums over the processes."""
        yield from MultiProcessCollector.merge([str(path) for path in self._directory.glob("*.db") if _n_bytes(path)])


def _n_bytes(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:  # forget_gauges has just removed it
        return 0


class _Samples(Collector):
    def __init__(self, samples: Samples) -> None:
        self._samples = samples

    def collect(self) -> Iterator[Metric]:
        """Yield a family with one series for each sample."""
        for declared, value in self._samples:
            metric = Metric(declared.name.removesuffix("_total"), declared.help, declared.type)
            metric.add_sample(declared.name, {}, value)
            yield metric


def text_of(read: Callable[[], Samples]) -> Source:
    """Return a source that reads samples at each scrape. Any process can answer it."""

    def source(openmetrics: bool) -> bytes:
        samples: Any = _Samples(read())  # the encoders call nothing but collect
        text: bytes = openmetrics_text(samples) if openmetrics else classic_text(samples)
        return text.removesuffix(OPENMETRICS_END)

    return source


def container_samples() -> Samples:
    """Yield the CPU and memory limits of the container and its throttling, if it has any."""
    if quota := cpu_quota():
        yield metric_definitions.CPU_LIMIT, quota.cores
        if throttling := quota.throttling():
            yield metric_definitions.CPU_PERIODS, throttling.periods
            yield metric_definitions.CPU_THROTTLED_PERIODS, throttling.throttled_periods
            yield metric_definitions.CPU_THROTTLED_SECONDS, throttling.throttled_seconds
    if (n_bytes := memory_limit()) is not None:
        yield metric_definitions.MEMORY_LIMIT, n_bytes


def process_samples(master: int) -> Samples:
    """Yield CPU, memory, descriptors and start time of the master and its processes. Yield nothing without /proc.

    Args:
        master: The process id of the master.
    """
    for _ in range(MAX_READINGS):
        children, ended_ticks = before = _children(master)
        values_by_name: dict[str, list[float]] = {}
        for pid in (master, *children):
            for metric in ProcessCollector(pid=partial(int, pid), registry=None).collect():
                values_by_name.setdefault(metric.samples[0].name, []).append(metric.samples[0].value)
        if before == _children(master):  # otherwise the CPU seconds of a process are missing, or counted twice
            break
    if CPU_SECONDS in values_by_name:
        values_by_name[CPU_SECONDS].append(ended_ticks / CLOCK_TICKS)
    for declared in metric_definitions.PROCESS:
        if process_values := values_by_name.get(declared.name):
            yield declared, COMBINE.get(declared.name, sum)(process_values)


def _children(master: int) -> tuple[list[int], int]:
    """Return the process ids of the master's children, and the CPU ticks of the children that ended."""
    stat_fields = _read_proc(f"{master}/stat").rpartition(")")[2].split()
    pids = [int(pid) for pid in _read_proc(f"{master}/task/{master}/children").split()]
    return pids, sum(map(int, stat_fields[13:15]))  # cutime and cstime, see proc_pid_stat(5)


def _read_proc(name: str) -> str:
    try:
        return (Path("/proc") / name).read_text()
    except OSError:
        return ""
