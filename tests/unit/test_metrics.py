"""The Prometheus series of one process and of several."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from service import metrics as metrics_module
from service.metrics import DURATION_BUCKETS_SECONDS, Metrics

ROOT = Path(__file__).parents[2]
# One serving process among several: its series go to files before it makes them.
PROCESS = """
import os, sys
from pathlib import Path
from service.metrics import Metrics, forget_gauges, share_series
directory, slot = Path(sys.argv[1]), int(sys.argv[2])
share_series(directory, slot)
metrics = Metrics(os.getpid(), directory)
metrics.rows.inc(3)
metrics.in_flight.inc()
metrics.count_request("/predict", "POST", 200, 0.002)
metrics.model_loaded("house_prices", "v1", "abc", "scikit-learn", 0.5)
for dead in sys.argv[3:]:
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


def process(directory: Path, slot: int, *dead: int) -> dict[tuple[str, ...], float]:
    """Run a serving process of this slot, which forgets dead ones, and return what its scrape gives."""
    command = [sys.executable, "-c", PROCESS, str(directory), str(slot), *map(str, dead)]
    return samples(subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout)


@pytest.fixture
def metrics() -> Metrics:
    """Return the series of this process."""
    return Metrics(os.getpid())


@pytest.mark.parametrize(("status", "status_class"), [(200, "2xx"), (404, "4xx"), (503, "5xx")])
def test_requests_are_counted_by_status_class(status: int, status_class: str, metrics: Metrics) -> None:
    """A class is enough for alerts and keeps the number of series small."""
    metrics.count_request("/predict", "POST", status, 0.1)
    assert scrape(metrics)["bakehouse_http_requests_total", "POST", "/predict", status_class] == 1


def test_a_made_up_method_is_no_label(metrics: Metrics) -> None:
    """Clients cannot make series."""
    metrics.count_request("unmatched", "BREW", 405, 0.1)
    assert scrape(metrics)["bakehouse_http_requests_total", "other", "unmatched", "4xx"] == 1


def test_durations_fall_into_buckets_from_a_millisecond_to_ten_seconds(metrics: Metrics) -> None:
    """Each bucket counts what took at most as long as it says."""
    for seconds in (0.0005, 0.002, 0.2, 20):
        metrics.count_request("/predict", "POST", 200, seconds)
    found = scrape(metrics)
    bucket = "bakehouse_http_request_duration_seconds_bucket"
    counts = [found[bucket, bound, "/predict"] for bound in ("0.001", "0.25", "10.0")]
    assert counts == [1, 3, 3]
    assert found["bakehouse_http_request_duration_seconds_count", "/predict"] == 4
    assert (DURATION_BUCKETS_SECONDS[0], DURATION_BUCKETS_SECONDS[-1]) == (0.001, 10)


def test_errors_are_counted_by_code(metrics: Metrics) -> None:
    """The word of the first fault says what clients do wrong."""
    for code in ("empty", "empty", "not_a_row"):
        metrics.count_error(code)
    found = scrape(metrics)
    assert found["bakehouse_prediction_errors_total", "empty"] == 2
    assert found["bakehouse_prediction_errors_total", "not_a_row"] == 1


def test_the_model_is_told(metrics: Metrics) -> None:
    """One series names the model, one says how long loading took."""
    metrics.model_loaded("house_prices", "v1", "abc", "scikit-learn", 0.5)
    found = scrape(metrics)
    [labels] = [key for key in found if key[0] == "bakehouse_model_info"]
    assert set(labels[1:]) == {"house_prices", "v1", "abc", "scikit-learn"}
    assert found[labels] == 1
    assert found["bakehouse_model_load_seconds",] == 0.5


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


def test_without_proc_there_are_no_process_series() -> None:
    """Where the kernel shows nothing, the other series are served all the same."""
    missing = 2**22 + 1  # above the greatest process id of Linux
    found = scrape(Metrics(missing))
    assert not [key for key in found if key[0].startswith("process_resident")]
    assert found["bakehouse_predicted_rows_total",] == 0


def test_series_of_several_processes_add_up(tmp_path: Path) -> None:
    """Whichever process is scraped, it answers for all of them."""
    process(tmp_path, 1)
    found = process(tmp_path, 2)
    assert found["bakehouse_predicted_rows_total",] == 6
    assert found["bakehouse_http_requests_total", "POST", "/predict", "2xx"] == 2
    assert found["bakehouse_model_load_seconds",] == 0.5
    assert [value for key, value in found.items() if key[0] == "bakehouse_model_info"] == [1]


def test_a_replaced_process_goes_on_counting(tmp_path: Path) -> None:
    """Who takes over a slot takes over its counters and files, so that files do not pile up."""
    process(tmp_path, 1)
    files = sorted(path.name for path in tmp_path.iterdir())
    assert process(tmp_path, 1)["bakehouse_predicted_rows_total",] == 6
    assert sorted(path.name for path in tmp_path.iterdir()) == files


def test_a_dead_process_has_nothing_in_flight(tmp_path: Path) -> None:
    """What it said of the moment is forgotten, what it counted is kept."""
    assert process(tmp_path, 1)["bakehouse_http_requests_in_flight",] == 1
    found = process(tmp_path, 2, 1)
    assert found["bakehouse_http_requests_in_flight",] == 1
    assert found["bakehouse_predicted_rows_total",] == 6


def test_sharing_is_set_up_in_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """prometheus_client finds the folder there and nowhere else; the slot names the files."""
    monkeypatch.setattr(metrics_module.values, "ValueClass", metrics_module.values.ValueClass)
    monkeypatch.setenv(metrics_module.FILES_VARIABLE, "")
    metrics_module.share_series(tmp_path, 7)
    shared: Any = Metrics(os.getpid(), tmp_path)
    shared.in_flight.inc()
    shared.rows.inc(2)
    assert scrape(shared)["bakehouse_predicted_rows_total",] == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "counter_7.db",
        "gauge_livemax_7.db",
        "gauge_livesum_7.db",
    ]
    metrics_module.forget_gauges(tmp_path, 7)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["counter_7.db"]
