"""Several serving processes: metrics add up, and a killed process is replaced without a trace."""

import http.client
import itertools
import os
import random
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from service.artifact.reader import verify
from tests.support.holding import VARIABLE, held_requests
from tests.support.server import RunningServer
from tests.support.waiting import wait_for
from tools.local_http import Answer, predict, send

Serve = Callable[..., RunningServer]
EXAMPLE = {"X": [[1500, 3], [2000, 10]]}
N_KILLS = int(os.environ.get("WORKERS_KILLED", "5"))
READY = r'"process_id":([0-9]+),"message":"[^"]* is ready'
# As on a slow machine: a file of series stays empty for a while after a process made it.
SLOW_FILES = """
import time
from prometheus_client import mmap_dict

def slow_open(name, mode):
    file = open(name, mode)
    if "a" in mode:
        time.sleep(0.05)
    return file

mmap_dict.open = slow_open
"""


def samples(server: RunningServer) -> dict[str, float]:
    """Return every sample of the health port's metrics by name and labels."""
    return parsed(send(server.health_port, "GET", "/metrics").body.decode())


def parsed(text: str) -> dict[str, float]:
    """Return every sample of a scrape by name and labels, once none was found twice."""
    found = re.findall(r"^([^#\s].*) (\S+)$", text, re.MULTILINE)
    assert len(dict(found)) == len(found)
    return {key: float(value) for key, value in found}


def ready_models(server: RunningServer) -> int:
    """Return how many serving processes have loaded the model so far, dead ones included."""
    return server.errors.count("is ready")


def test_metrics_of_four_processes_add_up_and_outlive_a_killed_one(serve: Serve, house_prices: Path) -> None:
    """Counts are the sum over processes, never fall, and gauges of a dead process are gone."""
    server = serve(house_prices, WEB_CONCURRENCY="4")
    wait_for(lambda: ready_models(server) == 4)
    for _ in range(40):
        assert predict(server.port, EXAMPLE).status == 200
    version = verify(house_prices).version
    requests = f'bakehouse_http_requests_total{{method="POST",route="/predict",status="2xx",version="{version}"}}'
    assert samples(server)[requests] == 40
    assert samples(server)[f'bakehouse_predicted_rows_total{{version="{version}"}}'] == 80
    assert {samples(server)[requests] for _ in range(8)} == {40}  # whichever process answers the scrape

    before = samples(server)
    victim = server.workers()[0]
    os.kill(victim, signal.SIGKILL)
    wait_for(lambda: victim not in server.workers() and len(server.workers()) == 4)
    wait_for(lambda: ready_models(server) == 5)
    after = samples(server)
    assert after[requests] == 40
    assert after["process_cpu_seconds_total"] >= before["process_cpu_seconds_total"]
    assert after["bakehouse_http_requests_in_flight"] == 0
    assert (before["bakehouse_processes_started_total"], after["bakehouse_processes_started_total"]) == (4, 5)
    wait_for(lambda: samples(server)["bakehouse_queue_limit"] == before["bakehouse_queue_limit"] == 4 * 100)
    assert sum(name.startswith("bakehouse_model_info") for name in after) == 1
    for _ in range(40):
        assert predict(server.port, EXAMPLE).status == 200
    assert samples(server)[requests] == 80


def test_every_scrape_is_whole_while_processes_are_started_and_killed(house_prices: Path, tmp_path: Path) -> None:
    """None fails because another process makes its files or loses them, and no counter falls."""
    (tmp_path / "sitecustomize.py").write_text(SLOW_FILES)
    server = RunningServer(house_prices, {"WEB_CONCURRENCY": "4", "PYTHONPATH": str(tmp_path)})
    with ExitStack() as stack:
        stack.callback(server.kill)
        answers = stack.enter_context(scraping(server.health_port))
        server.wait_until_ready()
        for _ in range(20):
            assert predict(server.port, EXAMPLE).status == 200
        n_counted = len(answers) + 1  # answers from here on; one may be on its way
        wait_for(lambda: len(server.workers()) == 4)
        kept = server.workers()[0]  # or nobody would answer
        for _ in range(N_KILLS):
            victim = random.choice([pid for pid in server.workers() if pid != kept])
            os.kill(victim, signal.SIGKILL)
            wait_for(lambda victim=victim: victim not in server.workers() and len(server.workers()) == 4)
            time.sleep(random.uniform(0, 0.8))  # into its start
        wait_for(lambda: set(map(str, server.workers())) <= set(re.findall(READY, server.errors)))

    assert [answer.body for answer in answers if answer.status != 200] == []
    scrapes = [parsed(answer.body.decode()) for answer in answers]
    assert len(scrapes) > n_counted
    (rows,) = [name for name in scrapes[-1] if name.startswith("bakehouse_predicted_rows_total")]
    assert {found[rows] for found in scrapes[n_counted:]} == {40}
    fell = [
        (name, before[name], after[name])
        for before, after in itertools.pairwise(scrapes)
        for name in before.keys() & after.keys()
        if re.search(r"_(total|count|sum|bucket)(\{|$)", name) and after[name] < before[name]
    ]
    assert fell == []


@contextmanager
def scraping(port: int) -> Iterator[list[Answer]]:
    """Scrape without a pause, and give the answers."""
    answers: list[Answer] = []
    done = threading.Event()

    def scrape() -> None:
        while not done.wait(0.001):
            with suppress(OSError, http.client.HTTPException):  # before the start, or from a process that was killed
                answer = send(port, "GET", "/metrics")
                if "content-length" in answer.headers:  # otherwise the process was killed while it wrote them
                    answers.append(answer)

    scraper = threading.Thread(target=scrape)
    scraper.start()
    try:
        yield answers
    finally:
        done.set()
        scraper.join()


@pytest.mark.slow
def test_requests_in_a_killed_process_are_no_longer_in_flight(serve: Serve, held: Path, tmp_path: Path) -> None:
    """The gauge forgets what died with its process, also when another process takes its place."""
    server = serve(held, WEB_CONCURRENCY="2", **{VARIABLE: str(tmp_path / "hold")})
    wait_for(lambda: ready_models(server) == 2)
    with held_requests(server.port, tmp_path / "hold", 3):
        wait_for(lambda: samples(server)["bakehouse_http_requests_in_flight"] == 3)
        for victim in server.workers():
            os.kill(victim, signal.SIGKILL)
        (tmp_path / "hold").unlink()  # or the golden requests of the new processes would be held as well
        wait_for(lambda: ready_models(server) == 4)
        assert samples(server)["bakehouse_http_requests_in_flight"] == 0


@pytest.mark.slow
def test_what_waits_in_several_processes_adds_up(serve: Serve, held: Path, tmp_path: Path) -> None:
    """Threads, queues and connections of all of them, whichever one is scraped; of a dead process nothing is left."""
    server = serve(held, WEB_CONCURRENCY="2", BAKEHOUSE_THREADS="1", **{VARIABLE: str(tmp_path / "hold")})
    wait_for(lambda: ready_models(server) == 2)
    busy, queued = "bakehouse_threads_busy", "bakehouse_queue_requests"
    working = 'bakehouse_connections{state="working"}'

    def told() -> set[tuple[float, ...]]:
        found = [samples(server) for _ in range(8)]
        return {tuple(sample[name] for name in ("bakehouse_threads", busy, queued, working)) for sample in found}

    with held_requests(server.port, tmp_path / "hold", 20):  # so many that most often both processes have some
        wait_for(lambda: samples(server)["bakehouse_http_requests_in_flight"] == 20)
        wait_for(lambda: len(told()) == 1)  # a process may just be taking its first request from the queue
        assert told() in ({(2, 2, 18, 20)}, {(2, 1, 19, 20)})
        os.kill(server.workers()[0], signal.SIGKILL)
        wait_for(lambda: samples(server)["bakehouse_processes_started_total"] == 3)
        assert samples(server)["bakehouse_threads"] == 1  # its successor is still loading
        (tmp_path / "hold").unlink()  # or the golden requests of the new process would be held as well
        wait_for(lambda: ready_models(server) == 3)
    wait_for(lambda: samples(server)["bakehouse_http_requests_in_flight"] == 0)
    wait_for(lambda: samples(server)["bakehouse_threads"] == 2)
    assert samples(server)[working] == samples(server)["bakehouse_threads_busy"] == samples(server)[queued] == 0


def test_files_of_dead_processes_do_not_pile_up_and_are_removed_at_the_end(serve: Serve, house_prices: Path) -> None:
    """A new process goes on with the files of the dead one; a stopped server leaves none."""
    server = serve(house_prices, WEB_CONCURRENCY="2")
    wait_for(lambda: ready_models(server) == 2)
    directory = series_directory(server)
    for n_ready in (3, 4):
        os.kill(server.workers()[0], signal.SIGKILL)
        wait_for(lambda n_ready=n_ready: ready_models(server) == n_ready)
    slots = {path.stem.rpartition("_")[2] for path in directory.glob("*.db")}
    assert slots == {"1", "2"}
    server.terminate()
    assert server.process.wait(timeout=60) == 0
    assert not directory.exists()


def series_directory(server: RunningServer) -> Path:
    """Return where the serving processes keep their series, by the files they hold open."""
    targets = [link.readlink() for pid in server.workers() for link in Path(f"/proc/{pid}/fd").iterdir()]
    (directory,) = {target.parent for target in targets if target.suffix == ".db"}
    return directory


def test_a_killed_process_is_replaced_and_requests_go_on(serve: Serve, house_prices: Path) -> None:
    """With one serving process as well, kill -9 is healed by the master; only what was inside is lost."""
    server = serve(house_prices)
    wait_for(lambda: ready_models(server) == 1)
    os.kill(server.workers()[0], signal.SIGKILL)
    wait_for(lambda: ready_models(server) == 2)
    assert predict(server.port, EXAMPLE).status == 200
    assert samples(server)["bakehouse_http_requests_in_flight"] == 0
    assert samples(server)["bakehouse_processes_started_total"] == 2
