"""The Prometheus series of one process and of several."""

import itertools
import os
import shutil
import signal
import struct
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from prometheus_client import Counter, Gauge, Histogram, ProcessCollector, mmap_dict, multiprocess
from prometheus_client.metrics_core import Metric
from prometheus_client.mmap_dict import MmapedDict
from prometheus_client.parser import text_string_to_metric_families

from service.artifact.reader import verify
from service.host.cgroup import cpu_quota, memory_limit
from service.observability import metrics as metrics_module
from service.observability.metric_definitions import (
    CHECKS,
    DURATION_BUCKETS_SECONDS,
    GOLDEN_REQUESTS,
    IN_FLIGHT,
    PROCESSES_STARTED,
    QUEUE_REQUESTS,
    REFUSAL_REASONS,
    RESULTS,
)
from service.observability.metrics import Metrics, SharedSeries, forget_gauges, share_series, text_of
from tools import ROOT

# One serving process among several: its series go to files before it makes them.
PROCESS = """
import os, sys
from pathlib import Path
from service.artifact.reader import verify
from service.observability.metrics import Metrics, forget_gauges, share_series
from service.observability.metric_definitions import CONNECTIONS, IN_FLIGHT
directory, slot = Path(sys.argv[1]), int(sys.argv[2])
share_series(directory, slot)
metrics = Metrics(os.getpid(), directory, "v1")
metrics.rows.inc(3)
metrics.metric(IN_FLIGHT).inc()
metrics.metric(CONNECTIONS, "idle").set(slot)
metrics.count_request("/predict", "POST", 200, 0.002)
metrics.count_check("gate", "passed")
metrics.model_loaded(verify(Path(sys.argv[3])), 0.5)
for dead in sys.argv[4:]:
    forget_gauges(directory, int(dead))
sys.stdout.write(metrics.exposition("")[0].decode())
"""


def samples(text: str) -> dict[tuple[str, ...], float]:
    """Return each sample by its name and the values of its labels, which are sorted by their names."""
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def scrape(metrics: Metrics) -> dict[tuple[str, ...], float]:
    """Return what a scrape of these metrics gives."""
    return samples(metrics.exposition("")[0].decode())


Process = Callable[..., dict[tuple[str, ...], float]]


@pytest.fixture
def process(tmp_path: Path, house_prices: Path) -> Process:
    """Return a function that runs a serving process of a slot, which forgets dead ones, and returns its scrape."""

    def run(slot: int, *dead: int) -> dict[tuple[str, ...], float]:
        command = [sys.executable, "-c", PROCESS, str(tmp_path), str(slot), str(house_prices), *map(str, dead)]
        return samples(subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout)

    return run


@pytest.fixture
def metrics() -> Metrics:
    """Return the series of this process."""
    return Metrics(os.getpid(), model_version="v1")


@pytest.mark.parametrize(("status", "status_class"), [(200, "2xx"), (404, "4xx"), (503, "5xx")])
def test_requests_are_counted_by_status_class(status: int, status_class: str, metrics: Metrics) -> None:
    """A class is enough for alerts and keeps the number of series small."""
    metrics.count_request("/predict", "POST", status, 0.1)
    assert scrape(metrics)["bakehouse_http_requests_total", "POST", "/predict", status_class, "v1"] == 1


def test_a_made_up_method_is_no_label(metrics: Metrics) -> None:
    """Clients cannot make series."""
    metrics.count_request("unmatched", "BREW", 405, 0.1)
    assert scrape(metrics)["bakehouse_http_requests_total", "other", "unmatched", "4xx", "v1"] == 1
    assert len(metrics._request_series) == 1
    metrics.count_request("unmatched", "SMOKE", 405, 0.1)
    assert len(metrics._request_series) == 1


def test_durations_fall_into_buckets_from_a_millisecond_to_ten_seconds(metrics: Metrics) -> None:
    """Each bucket counts what took at most as long as it says."""
    for seconds in (0.0005, 0.002, 0.2, 20):
        metrics.count_request("/predict", "POST", 200, seconds)
    found = scrape(metrics)
    bucket = "bakehouse_http_request_duration_seconds_bucket"
    counts = [found[bucket, bound, "/predict", "v1"] for bound in ("0.001", "0.25", "10.0")]
    assert counts == [1, 3, 3]
    assert found["bakehouse_http_request_duration_seconds_count", "/predict", "v1"] == 4
    assert (DURATION_BUCKETS_SECONDS[0], DURATION_BUCKETS_SECONDS[-1]) == (0.001, 10)


def test_errors_are_counted_by_code(metrics: Metrics) -> None:
    """The word of the first fault says what clients do wrong."""
    for code in ("empty", "empty", "not_a_row"):
        metrics.count_error(code)
    found = scrape(metrics)
    assert found["bakehouse_prediction_errors_total", "empty", "v1"] == 2
    assert found["bakehouse_prediction_errors_total", "not_a_row", "v1"] == 1


def test_the_model_is_told(house_prices: Path) -> None:
    """One series names the model, others say how good it was, and how loading went."""
    artifact = verify(house_prices)
    metrics = Metrics(os.getpid(), model_version=artifact.version)
    metrics.model_loaded(artifact, 0.5)
    found = scrape(metrics)
    assert found["bakehouse_model_info", artifact.digest, "numpy", "true", "house_prices", artifact.version] == 1
    assert found["bakehouse_model_load_seconds",] == 0.5
    assert found["bakehouse_golden_requests",] == len(artifact.golden())
    scores = {key[1]: value for key, value in found.items() if key[0] == "bakehouse_model_score"}
    assert scores == pytest.approx(artifact.manifest["scores"]["held_out"])
    assert {key[2] for key in found if key[0] == "bakehouse_model_score"} == {artifact.version}


def test_what_may_fail_is_there_before_it_does(metrics: Metrics) -> None:
    """The first failure is a rise from 0, which a query over some minutes sees."""
    found = scrape(metrics)
    assert found["bakehouse_http_requests_total", "POST", "/predict", "5xx", "v1"] == 0
    assert {key[1]: value for key, value in found.items() if key[0] == "bakehouse_http_requests_refused_total"} == (
        dict.fromkeys(REFUSAL_REASONS, 0)
    )
    checks = {key[1:]: value for key, value in found.items() if key[0] == "bakehouse_release_checks_total"}
    assert checks == dict.fromkeys(itertools.product(CHECKS, RESULTS), 0)


def test_a_check_is_counted_by_fixed_words_only(metrics: Metrics) -> None:
    """Whoever reaches the health port cannot make series."""
    metrics.count_check("gate", "refused")
    assert scrape(metrics)["bakehouse_release_checks_total", "gate", "refused"] == 1
    with pytest.raises(KeyError):
        metrics.count_check("gate", "maybe")


def test_batches_are_counted_where_there_are_any(metrics: Metrics) -> None:
    """A model that is not served in batches has no such series."""
    assert not [key for key in scrape(metrics) if key[0].startswith("bakehouse_batch")]
    metrics.batch_counter()(3, 40, [0.0, 0.25, 0.5])
    found = scrape(metrics)
    assert found["bakehouse_batch_requests_sum",] == 3
    assert found["bakehouse_batch_rows_bucket", "100.0"] - found["bakehouse_batch_rows_bucket", "30.0"] == 1
    assert (found["bakehouse_batch_wait_seconds_count",], found["bakehouse_batch_wait_seconds_sum",]) == (3, 0.75)


def test_gauges_of_the_moment_are_asked_for_at_each_scrape(metrics: Metrics) -> None:
    """They cost nothing in between."""
    moments = iter([2, 5])

    def source(_openmetrics: bool) -> bytes:
        metrics.metric(QUEUE_REQUESTS).set(next(moments))
        return b""

    metrics.add_source(source)
    assert [scrape(metrics)["bakehouse_queue_requests",] for _ in range(2)] == [2, 5]


def test_what_a_function_reads_is_there_while_it_reads_it(metrics: Metrics) -> None:
    """Such as the end of a certificate, where there is one."""
    given: list[float] = [7]
    metrics.add_source(text_of(lambda: [(PROCESSES_STARTED, value) for value in given]))
    assert scrape(metrics)["bakehouse_processes_started_total",] == 7
    given.clear()
    assert ("bakehouse_processes_started_total",) not in scrape(metrics)


def test_limits_of_the_container_are_told(metrics: Metrics, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the kernel shows them at the scrape, and not where it shows none."""
    names = {f"bakehouse_{name}" for name in (
        "cpu_limit_cores", "cpu_periods_total", "cpu_throttled_periods_total", "cpu_throttled_seconds_total",
        "memory_limit_bytes",
    )}  # fmt: skip
    root = tmp_path / "root"
    monkeypatch.setattr(metrics_module, "cpu_quota", partial(cpu_quota, root))
    monkeypatch.setattr(metrics_module, "memory_limit", partial(memory_limit, root))
    assert not {key[0] for key in scrape(metrics)} & names
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text("0::/\n")
    group = root / "sys/fs/cgroup"
    group.mkdir(parents=True)
    (group / "cpu.max").write_text("150000 100000\n")
    (group / "cpu.stat").write_text("usage_usec 5\nnr_periods 30\nnr_throttled 4\nthrottled_usec 2500000\n")
    (group / "memory.max").write_text("536870912\n")
    found = {key[0]: value for key, value in scrape(metrics).items() if key[0] in names}
    assert sorted(found) == sorted(names)
    assert list(found.values()) == [1.5, 30, 4, 2.5, 536870912]


def test_there_is_no_series_that_says_when_another_began(metrics: Metrics) -> None:
    """The process has a start time already."""
    metrics.rows.inc()
    assert not [key for key in scrape(metrics) if key[0].endswith("_created")]


def test_process_series_cover_the_children_of_the_master(metrics: Metrics) -> None:
    """Memory is that of all processes, the start that of the first."""
    alone = scrape(metrics)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        together = scrape(metrics)
        assert child.stdin
        child.stdin.write(b"\n")
    for name in ("process_resident_memory_bytes", "process_open_fds"):
        assert together[name,] > alone[name,] > 0
    assert together["process_start_time_seconds",] == alone["process_start_time_seconds",]


def test_processor_time_of_ended_children_is_kept(metrics: Metrics) -> None:
    """The counter never falls when a serving process is replaced."""
    before = scrape(metrics)["process_cpu_seconds_total",]
    burn = "import time\nwhile time.process_time() < 0.2: pass"
    subprocess.run([sys.executable, "-c", burn], check=True)
    assert scrape(metrics)["process_cpu_seconds_total",] >= before + 0.15  # counted in hundredths, rounded down


@pytest.mark.parametrize("when", ["before", "after"])
def test_processor_time_is_right_while_a_child_ends(
    metrics: Metrics, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    """It is counted once, whether the child ends before or after its own time is read."""
    burn = "import time\nwhile time.process_time() < 0.2: pass\nprint()\ninput()"
    with subprocess.Popen([sys.executable, "-c", burn], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout
        child.stdout.readline()

        class Ending(ProcessCollector):
            def collect(self) -> Iterable[Metric]:
                of_child = self._pid() == child.pid and child.returncode is None
                if of_child and when == "before":
                    child.kill()
                    child.wait()
                found = super().collect()
                if of_child and when == "after":
                    child.kill()
                    child.wait()
                return found

        before = scrape(metrics)["process_cpu_seconds_total",]
        monkeypatch.setattr(metrics_module, "ProcessCollector", Ending)
        meanwhile = scrape(metrics)["process_cpu_seconds_total",]
        assert child.returncode == -signal.SIGKILL
    after = scrape(metrics)["process_cpu_seconds_total",]
    assert before <= meanwhile <= after


def test_processor_time_is_in_whole_ticks() -> None:
    """0.1 + 0.2 + 0.3 is more than 0.3 + 0.2 + 0.1: a counter that falls so little is taken for one that began anew."""
    add = metrics_module.COMBINE["process_cpu_seconds_total"]
    assert {add(list(seconds)) for seconds in itertools.permutations([0.1, 0.2, 0.3])} == {0.6}


def test_without_proc_there_are_no_process_series() -> None:
    """Where the kernel shows nothing, the other series are served all the same."""
    missing = 2**22 + 1  # above the greatest process id of Linux
    found = scrape(Metrics(missing))
    assert not [key for key in found if key[0].startswith("process_resident")]
    assert found["bakehouse_predicted_rows_total", ""] == 0


def test_series_of_several_processes_add_up(process: Process) -> None:
    """Whichever process is scraped, it answers for all of them, and says nothing twice."""
    process(1)
    found = process(2)
    assert found["bakehouse_predicted_rows_total", "v1"] == 6
    assert found["bakehouse_http_requests_total", "POST", "/predict", "2xx", "v1"] == 2
    assert found["bakehouse_release_checks_total", "gate", "passed"] == 2
    assert found["bakehouse_connections", "idle"] == 1 + 2
    assert found["bakehouse_model_load_seconds",] == 0.5
    assert [value for key, value in found.items() if key[0] == "bakehouse_model_info"] == [1]


def test_a_replaced_process_goes_on_counting(process: Process, tmp_path: Path) -> None:
    """Who takes over a slot takes over its counters and files, so that files do not pile up."""
    process(1)
    files = sorted(path.name for path in tmp_path.iterdir())
    assert process(1)["bakehouse_predicted_rows_total", "v1"] == 6
    assert sorted(path.name for path in tmp_path.iterdir()) == files


def test_a_dead_process_has_nothing_in_flight(process: Process) -> None:
    """What it said of the moment is forgotten, what it counted is kept."""
    assert process(1)["bakehouse_http_requests_in_flight",] == 1
    found = process(2, 1)
    assert found["bakehouse_http_requests_in_flight",] == 1
    assert found["bakehouse_connections", "idle"] == 2
    assert found["bakehouse_predicted_rows_total", "v1"] == 6


def test_sharing_is_set_up_in_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """prometheus_client finds the folder there and nowhere else; the slot names the files."""
    monkeypatch.setattr(metrics_module.values, "ValueClass", metrics_module.values.ValueClass)
    monkeypatch.setenv(metrics_module.FILES_VARIABLE, "")
    metrics_module.share_series(tmp_path, 7)
    shared = Metrics(os.getpid(), tmp_path, "v1")
    assert shared.shared
    shared.metric(IN_FLIGHT).inc()
    shared.metric(GOLDEN_REQUESTS).set(3)
    shared.rows.inc(2)
    assert scrape(shared)["bakehouse_predicted_rows_total", "v1"] == 2
    names = ["counter_7.db", "gauge_livemax_7.db", "gauge_livesum_7.db", "histogram_7.db"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    metrics_module.forget_gauges(tmp_path, 7)
    assert sorted(path.name for path in tmp_path.iterdir()) == [names[0], names[3]]


# Files that are read while others write them --------------------------------------------------------------------------

LONG = "x" * 70_000  # of a file of 64 KiB, it does not fit in


@pytest.fixture
def shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return a folder that has the files of slot 7, once this process makes series."""
    monkeypatch.setattr(metrics_module.values, "ValueClass", metrics_module.values.ValueClass)
    monkeypatch.setenv(metrics_module.FILES_VARIABLE, "")
    directory = tmp_path / "series"
    directory.mkdir()
    share_series(directory, 7)
    yield directory
    metrics_module.values.ValueClass.close_all_files()


def read_series(directory: Path) -> dict[str, float]:
    """Return what a scrape finds in the files."""
    return {sample.name: sample.value for family in SharedSeries(directory).collect() for sample in family.samples}


def at_each_line(sources: Sequence[str], work: Callable[[], object], look: Callable[[], object]) -> None:
    """Do some work and look at what is there before each line of these source files that it runs."""

    def trace(frame: FrameType, _event: str, _argument: Any) -> Any:
        if frame.f_code.co_filename not in sources:
            return None
        look()
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)


def make_series() -> None:
    """Make series of each kind, and one that is too long for a new file."""
    Gauge("gauge", "", registry=None, multiprocess_mode="livesum").set(5)
    Histogram("histogram", "", registry=None, buckets=[1]).observe(0.5)
    counter = Counter("counter", "", registry=None)
    counter.inc(2)
    Counter("long", LONG, registry=None).inc(3)
    counter.inc(2)


def test_files_can_be_read_at_whichever_line_the_library_stopped_to_write_them(shared: Path, tmp_path: Path) -> None:
    """Another process is scraped just then: no value is missing or torn. Or it is killed: its successor goes on."""
    allowed = {"gauge": {0, 5}, "counter_total": {0, 2, 4}, "long_total": {0, 3}, "histogram_sum": {0, 0.5}}
    copies: list[Path] = []
    at_each_line(
        [mmap_dict.__file__],
        make_series,
        lambda: copies.append(shutil.copytree(shared, tmp_path / f"stopped-{len(copies)}")),
    )
    assert len(copies) > 50
    before: dict[str, float] = {}
    for copied in copies:
        found = read_series(copied)
        assert found.keys() >= before.keys()
        assert all(value >= before.get(name, 0) for name, value in found.items())
        assert all(value in allowed.get(name, {0, 1}) for name, value in found.items())
        for path in copied.glob("*.db"):
            MmapedDict(str(path)).close()
        assert read_series(copied) == found
        shutil.rmtree(copied)
        before = found
    made = {"gauge": 5, "counter_total": 4, "long_total": 3}
    assert read_series(shared) == {**made, "histogram_bucket": 1, "histogram_count": 1, "histogram_sum": 0.5}
    assert (shared / "counter_7.db").stat().st_size > len(LONG)


def test_gauges_can_go_at_whichever_line_of_a_scrape(shared: Path) -> None:
    """A process dies while another one is scraped."""
    make_series()
    gauges = shared / "gauge_livesum_7.db"
    data = gauges.read_bytes()
    sources = [metrics_module.__file__, multiprocess.__file__, mmap_dict.__file__]
    found: list[dict[str, float]] = []
    for stop in itertools.count():
        gauges.write_bytes(data)
        lines = itertools.count()

        def remove(stop: int = stop, lines: Iterator[int] = lines) -> None:
            if next(lines) == stop:
                forget_gauges(shared, 7)

        at_each_line(sources, lambda: found.append(read_series(shared)), remove)
        assert found[-1]["counter_total"] == 4
        if next(lines) <= stop:
            break
    assert {each.get("gauge") for each in found} == {None, 5}


def test_the_library_cannot_read_an_empty_file(tmp_path: Path) -> None:
    """Once it can, SharedSeries is no longer needed."""
    (tmp_path / "counter_1.db").touch()
    assert read_series(tmp_path) == {}
    with pytest.raises(struct.error):
        list(multiprocess.MultiProcessCollector(None, path=str(tmp_path)).collect())
