"""What is counted, and how it is written out; one process keeps its series in memory, several in shared files."""

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
FILES_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"  # prometheus_client takes the folder from the environment only
CLOCK_TICKS = os.sysconf("SC_CLK_TCK")
CPU_SECONDS = "process_cpu_seconds_total"
COMBINE: dict[str, Callable[[list[float]], float]] = {
    # In whole ticks: floats that are added in another order can give a little less, and a counter must never fall.
    CPU_SECONDS: lambda seconds: round(sum(seconds) * CLOCK_TICKS) / CLOCK_TICKS,
    "process_start_time_seconds": min,
    "process_max_fds": min,
}
MAX_READINGS = 10  # of the processes, until none started or ended meanwhile; one reading takes under a millisecond
# These exist from the start, so that the first failure is seen as a rise.
EXPECTED_REQUESTS = (
    ("/predict", "POST", "2xx"),
    ("/predict", "POST", "4xx"),
    ("/predict", "POST", "5xx"),
    ("/feedback", "POST", "5xx"),
    (UNMATCHED, OTHER_METHOD, "5xx"),
)

Samples = Iterable[tuple[MetricDefinition[Any], float]]
# Called at each scrape, with whether OpenMetrics is wanted; returns text in that format, without its end. It may set
# series of this process instead, and return nothing.
Source = Callable[[bool], bytes]

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
        model_version: Of the model that is served.
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

        # A series by its labels, found quicker than the library does; as many as there are series.
        self._series_of: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}
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
        """Return one series, which exists from then on.

        Args:
            declared: Its family.
            labels: The values of its labels in the order of the declaration; the model version is filled in.
        """
        with self._lock:
            family: Kind = self._families.get(declared.name) or self._make(declared)
            self._families[declared.name] = family
        if declared.labels:
            family = family.labels(*([self._version] if "version" in declared.labels else []), *labels)
        return family

    def _make(self, declared: MetricDefinition[Any]) -> Any:
        options: dict[str, Any] = {"registry": None if self.shared else self._registry}
        if declared.kind is HISTOGRAM:
            options["buckets"] = declared.buckets
        if declared.kind is GAUGE:
            options["multiprocess_mode"] = declared.combine
        return declared.kind(declared.name.removesuffix("_total"), declared.help, list(declared.labels), **options)

    def add_source(self, source: Source) -> None:
        """Call a source of metrics at each scrape.

        A source that sets gauges does so for this process only. Where processes share their series, another one may
        answer the scrape, so such a source has to be called now and then as well.
        """
        self._sources.append(source)

    def count_request(
        self, route: str, method: str, status: int, seconds: float, exemplar: dict[str, str] | None = None
    ) -> None:
        """Count one answered request.

        Args:
            route: The route's pattern, never a path that a client made up.
            method: The HTTP method.
            status: Of the answer.
            seconds: From the whole request to the answer.
            exemplar: By which one such request is found again.
        """
        method = method if method in METHODS else OTHER_METHOD
        key = (route, method, status // 100)
        found = self._series_of.get(key)
        if found is None:
            count = self.metric(metric_definitions.HTTP_REQUESTS, route, method, f"{status // 100}xx")
            found = self._series_of[key] = count, self.metric(metric_definitions.HTTP_DURATION, route)
        found[0].inc()
        found[1].observe(seconds, exemplar)

    def count_refused(self, reason: str) -> None:
        """Count one request, or connection, that never reaches the application."""
        self._refused[reason].inc()

    def count_error(self, code: str) -> None:
        """Count one refused prediction request."""
        self.metric(metric_definitions.PREDICTION_ERRORS, code).inc()

    def count_check(self, check: str, result: str) -> None:
        """Count how a check of a release ended.

        Raises:
            KeyError: If it is none of the words of such checks.
        """
        self._checks[check, result].inc()

    def batch_counter(self) -> Callable[[int, int, Sequence[float]], None]:
        """Return what counts a batch; its series exist from then on."""
        requests, rows = self.metric(metric_definitions.BATCH_REQUESTS), self.metric(metric_definitions.BATCH_ROWS)
        wait = self.metric(metric_definitions.BATCH_WAIT)

        def count(n_requests: int, n_rows: int, waited_seconds: Sequence[float]) -> None:
            requests.observe(n_requests)
            rows.observe(n_rows)
            for seconds in waited_seconds:
                wait.observe(seconds)

        return count

    def model_loaded(self, artifact: Artifact, seconds: float) -> None:
        """Tell which model is served, what it scored when it was baked, and how long loading took."""
        engine = artifact.engine
        exact = str(bool(engine["exact"])).lower()
        self.metric(metric_definitions.MODEL_INFO, artifact.name, artifact.digest, engine["name"], exact).set(1)
        self.metric(metric_definitions.MODEL_LOAD_SECONDS).set(seconds)
        self.metric(metric_definitions.GOLDEN_REQUESTS).set(len(artifact.golden()))
        for name, score in artifact.manifest["scores"]["held_out"].items():
            self.metric(metric_definitions.MODEL_SCORE, name).set(score)

    def exposition(self, accept: str) -> tuple[bytes, str]:
        """Return all series in the format that an Accept header prefers, and that format's content type."""
        try:
            encode, content_type = choose_encoder(accept)
        except (TypeError, ValueError):  # the library reads the version in the header without a doubt
            encode, content_type = choose_encoder("")
        openmetrics = content_type.startswith("application/openmetrics-text")
        end = OPENMETRICS_END if openmetrics else b""
        texts = [source(openmetrics) for source in self._sources]  # first, because some set series of the registry
        return b"".join([encode(self._registry).removesuffix(end), *texts, end]), content_type


class SharedSeries(Collector):
    """The series of all processes, added up from their files while the processes write, start and are killed.

    prometheus_client creates a file empty and sets its size in a second step. It cannot read an empty file, so such a
    file is left out: it holds no series yet. It can read any other state of a file, because it writes an entry before
    it counts the entry, and enlarges a file before it writes to the new part. It also expects that files of gauges
    disappear; no other file does.

    Args:
        directory: The folder of share_series.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def collect(self) -> Iterator[Metric]:
        """Yield each family, the values of its series added up over the processes."""
        yield from MultiProcessCollector.merge([str(path) for path in self._directory.glob("*.db") if _n_bytes(path)])


def _n_bytes(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:  # forget_gauges was quicker
        return 0


class _Samples(Collector):
    def __init__(self, samples: Samples) -> None:
        self._samples = samples

    def collect(self) -> Iterator[Metric]:
        """Yield a family of one series for each value that there is."""
        for declared, value in self._samples:
            metric = Metric(declared.name.removesuffix("_total"), declared.help, declared.type)
            metric.add_sample(declared.name, {}, value)
            yield metric


def text_of(read: Callable[[], Samples]) -> Source:
    """Return the source that reads samples when a scrape comes, whichever process answers it."""

    def source(openmetrics: bool) -> bytes:
        samples: Any = _Samples(read())  # the encoders call nothing but collect
        text: bytes = openmetrics_text(samples) if openmetrics else classic_text(samples)
        return text.removesuffix(OPENMETRICS_END)

    return source


def container_samples() -> Samples:
    """Yield limits and throttling of the container, as far as there are any."""
    if quota := cpu_quota():
        yield metric_definitions.CPU_LIMIT, quota.cores
        if throttling := quota.throttling():
            yield metric_definitions.CPU_PERIODS, throttling.periods
            yield metric_definitions.CPU_THROTTLED_PERIODS, throttling.throttled_periods
            yield metric_definitions.CPU_THROTTLED_SECONDS, throttling.throttled_seconds
    if (n_bytes := memory_limit()) is not None:
        yield metric_definitions.MEMORY_LIMIT, n_bytes


def process_samples(master: int) -> Samples:
    """Yield CPU, memory, descriptors and start time of the master and its processes; nothing where there is no /proc.

    Args:
        master: The process id of the master.
    """
    for _ in range(MAX_READINGS):
        children, ended_ticks = family = _family(master)
        of_name: dict[str, list[float]] = {}
        for pid in (master, *children):
            for metric in ProcessCollector(pid=partial(int, pid), registry=None).collect():
                of_name.setdefault(metric.samples[0].name, []).append(metric.samples[0].value)
        if family == _family(master):  # otherwise the CPU seconds of a process are missing, or counted twice
            break
    if CPU_SECONDS in of_name:
        of_name[CPU_SECONDS].append(ended_ticks / CLOCK_TICKS)
    for declared in metric_definitions.PROCESS:
        if found := of_name.get(declared.name):
            yield declared, COMBINE.get(declared.name, sum)(found)


def _family(master: int) -> tuple[list[int], int]:
    """Return the process ids of the master's children, and the CPU ticks of those that ended."""
    words = _proc(f"{master}/stat").rpartition(")")[2].split()
    return _children(master), sum(map(int, words[13:15]))  # cutime and cstime, see proc_pid_stat(5)


def _children(pid: int) -> list[int]:
    return [int(word) for word in _proc(f"{pid}/task/{pid}/children").split()]


def _proc(name: str) -> str:
    try:
        return (Path("/proc") / name).read_text()
    except OSError:
        return ""
