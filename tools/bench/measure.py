"""What is measured: one function for each part of the results, data out."""

import asyncio
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from itertools import count, cycle
from pathlib import Path
from typing import Any

import orjson

from service.artifact.contract import PREDICT
from service.artifact.manifest import REFERENCE
from service.artifact.reference import Reference
from service.codec.json_request import parse_request
from service.host.cpu import request_threads
from service.inference.loading import load_model
from service.observability.drift import Drift
from service.settings import Settings
from tools.bench import servers
from tools.bench.client import Crowd, NotServedError, WrongAnswerError, ask, one_by_one, wrk
from tools.bench.models import FOREST, JSON, LINEAR, LOGISTIC, MIXED, NPY, WIDE, BenchError, Model, Request
from tools.bench.servers import Server
from tools.local_http import send

CONNECTIONS = 16
BULK_CONNECTIONS = 4
BULK_ROWS = 1000
ROWS = (1, 10, 100, 1000, 10_000)
CONNECTION_COUNTS = (1, 4, 16, 64, 256)
WORKER_COUNTS = (1, 2, 4)
OVERLOAD = 5
MOST_IN_FLIGHT = 800  # below the connections that a server of either kind holds
DRIFT_MODELS = (LINEAR, LOGISTIC, WIDE)  # of 2, 30 and 200 features
DRIFT_CALLS = 20_000
DRIFT_REQUESTS = 100  # different ones
WINDOW_ROWS, LEAST_WINDOW_REQUESTS = 64, 32  # short, because machines become slower and faster within seconds
SCRAPES = 50
UNIT = "unit"
NOT_SERVED = "not served (415)"
FORMATS = {JSON: Model.json_request, NPY: Model.npy_request}


@dataclass(frozen=True)
class Effort:
    """How long the bench takes over things.

    Args:
        turns: How often each case is measured for the targets.
        growth_turns: How often for the curves.
        seconds: How long one measurement takes; wrk takes whole seconds.
        starts: How often a server is started for the time that it takes.
        overload_seconds: How long capacity and overload are measured.
        drift_seconds: How long a server counts for drift and does not, in turns.
    """

    turns: int = 11
    growth_turns: int = 5
    seconds: int = 1
    starts: int = 7
    overload_seconds: int = 10
    drift_seconds: int = 20


QUICK = Effort(turns=2, growth_turns=1, starts=2, overload_seconds=3, drift_seconds=3)


@dataclass(frozen=True)
class Case:
    """Requests to one server.

    Args:
        server: The server.
        request: What is sent.
        expected: The right answer's bytes.
        connections: How many connections wrk uses; 0 for the client that counts exactly, over one.
        may_refuse: Whether a 503 with Retry-After is a right answer too.
    """

    server: Server
    request: Request
    expected: bytes
    connections: int = CONNECTIONS
    may_refuse: bool = False


@dataclass
class Bench:
    """What the measurements share.

    Args:
        models: The baked models by name.
        overload_model: The model for the overload, served by scikit-learn where the bake can be told so.
        effort: How long to take.
        report: Told what is going on.
        engines: Filled with the engine that serves each model.
    """

    models: Mapping[str, Model]
    overload_model: Model
    effort: Effort
    report: Callable[[str], None]
    engines: dict[str, str] = field(default_factory=dict)

    def ours(self, stack: ExitStack, name: str, workers: int = 1) -> Server:
        """Start the service on a model."""
        server = stack.enter_context(servers.ours(self.models[name], workers))
        self.engines[name] = engine_of(server)
        return server

    def unit_case(self, stack: ExitStack, connections: int = CONNECTIONS) -> Case:
        """Start the unit and return its case: one row of the linear model, a constant answer."""
        model = self.models[LINEAR]
        server = stack.enter_context(servers.unit(model))
        return Case(server, model.json_request(1), model.constant_answer(), connections)


def engine_of(server: Server) -> str:
    """Return what the service says of the engine that it serves with."""
    return str(send(server.health_port, "GET", "/version").json["model"]["engine"])


# Turns and medians --------------------------------------------------------------------------------------------------


def measure(case: Case, seconds: int) -> dict[str, float]:
    """Measure a case once.

    Raises:
        WrongAnswerError: If a request was not answered as it should be.
        BenchError: If a process of the server came or went: its CPU time would be lost.
    """
    before = case.server.cpu_seconds()
    if case.connections:
        load = wrk(case.server.port, case.request, case.expected, case.connections, seconds)
        n_counted = load.answered + load.refused
        if load.refused and not case.may_refuse:
            raise WrongAnswerError(
                f"{load.refused} of {n_counted} requests were refused, with {case.connections} clients."
            )
        seen = {
            "requests_per_second": n_counted / load.seconds,
            "p50_ms": load.p50_ms,
            "p99_ms": load.p99_ms,
            "refused_share": load.refused / n_counted,
        }
        case.server.wait_until_idle()
        n_requests = n_counted + case.connections  # each had one more in flight when wrk stopped, which was worked on
    else:
        n_requests = one_by_one(case.server.port, case.request, case.expected, seconds)
        seen = {}
    after = case.server.cpu_seconds()
    if before.keys() != after.keys():
        raise BenchError("A process of a server was replaced while it was measured.")
    used = sum(after.values()) - sum(before.values())
    return {"cpu_us": used / n_requests * 1e6, **seen}


def in_turns(cases: Mapping[str, Case], n_turns: int, seconds: int) -> dict[str, list[dict[str, float]]]:
    """Measure each case once in every turn, after a turn that warms up and does not count."""
    for case in cases.values():
        measure(case, 1)
    turns = [{name: measure(case, seconds) for name, case in cases.items()} for _ in range(n_turns)]
    return {name: [turn[name] for turn in turns] for name in cases}


def medians(turns: list[dict[str, float]]) -> dict[str, float]:
    """Return the median of each number over the turns."""
    return {name: statistics.median(turn[name] for turn in turns) for name in turns[0]}


def median_ratio(turns: list[dict[str, float]], unit_turns: list[dict[str, float]]) -> float:
    """Return the median of the ratios of CPU time within each turn."""
    pairs = zip(turns, unit_turns, strict=True)
    return statistics.median(one["cpu_us"] / unit["cpu_us"] for one, unit in pairs)


def in_units(measured: Mapping[str, list[dict[str, float]]]) -> dict[str, dict[str, Any]]:
    """Return the medians of every case, with its ratio to the unit and the CPU time of each turn."""
    return {
        name: {
            **medians(turns),
            "units": median_ratio(turns, measured[UNIT]),
            "cpu_us_turns": [turn["cpu_us"] for turn in turns],
        }
        for name, turns in measured.items()
    }


# The parts ----------------------------------------------------------------------------------------------------------


def single(bench: Bench) -> dict[str, Any]:
    """One row a request: the constant answers, and each model by the service and by the textbook's."""
    with ExitStack() as stack:
        cases = {UNIT: bench.unit_case(stack)}
        flask = stack.enter_context(servers.constant_flask(bench.models[LINEAR]))
        cases["flask"] = Case(flask, cases[UNIT].request, cases[UNIT].expected)
        for name in (LINEAR, LOGISTIC, FOREST, MIXED):
            bench.report(f"starting the servers of {name}")
            request = bench.models[name].json_request(1)
            ours = bench.ours(stack, name)
            cases[f"ours {name}"] = Case(ours, request, ask(ours.port, request))
            textbook = stack.enter_context(servers.textbook(bench.models[name]))
            cases[f"textbook {name}"] = Case(textbook, request, ask(textbook.port, request))
        return in_units(in_turns(cases, bench.effort.turns, bench.effort.seconds))


def bulk(bench: Bench) -> dict[str, Any]:
    """1000 rows of 30 features a request, as JSON and as a NumPy matrix."""
    model = bench.models[LOGISTIC]
    with ExitStack() as stack:
        cases = {UNIT: bench.unit_case(stack)}
        ours, textbook = bench.ours(stack, LOGISTIC), stack.enter_context(servers.textbook(model))
        plain, npy = model.json_request(BULK_ROWS), model.npy_request(BULK_ROWS)
        cases["ours json"] = Case(ours, plain, ask(ours.port, plain), BULK_CONNECTIONS)
        cases["textbook json"] = Case(textbook, plain, ask(textbook.port, plain), BULK_CONNECTIONS)
        try:
            cases["ours npy"] = Case(ours, npy, ask(ours.port, npy), BULK_CONNECTIONS)
        except NotServedError:
            bench.report(f"{NPY} is {NOT_SERVED}")
        measured = in_units(in_turns(cases, bench.effort.turns, bench.effort.seconds))
    return {"json_bytes": len(plain.body), "npy_bytes": len(npy.body), **measured}


def forest(bench: Bench) -> dict[str, Any]:
    """1000 rows for the forest, against scikit-learn's predict and the JSON in this process."""
    model, turns = bench.models[FOREST], []
    request, rows = model.json_request(BULK_ROWS), model.rows(BULK_ROWS)
    with ExitStack() as stack:
        ours = bench.ours(stack, FOREST)
        case = Case(ours, request, ask(ours.port, request), connections=0)
        measure(case, 1)
        for _ in range(bench.effort.turns):
            turns.append({
                "cpu_us": measure(case, bench.effort.seconds)["cpu_us"],
                "predict_us": own_cpu_us(lambda: model.estimator.predict(rows)),
                "json_us": own_cpu_us(lambda: (orjson.loads(request.body), orjson.dumps({"y_pred": request.answer}))),
            })  # fmt: skip
    parts = medians(turns)
    return {**parts, "predict_share": (parts["cpu_us"] - parts["json_us"]) / parts["predict_us"]}


def own_cpu_us(call: Callable[[], object], n_calls: int = 20) -> float:
    """Return the CPU time of one call in this process, the median of some, in microseconds."""
    times = []
    for _ in range(n_calls):
        started = time.process_time()
        call()
        times.append(time.process_time() - started)
    return statistics.median(times) * 1e6


def start(bench: Bench) -> dict[str, Any]:
    """From the start of the process until the health port says that the default model is ready."""
    seconds = []
    for _ in range(bench.effort.starts):
        with servers.ours(bench.models[LINEAR]) as server:
            seconds.append(server.start_seconds)
    return {"seconds": statistics.median(seconds), "seconds_turns": seconds}


def memory(bench: Bench) -> dict[str, Any]:
    """The memory of all processes with the logistic pipeline, after load."""
    model = bench.models[LOGISTIC]
    request = model.json_request(1)
    with ExitStack() as stack:
        started = {"ours": bench.ours(stack, LOGISTIC), "textbook": stack.enter_context(servers.textbook(model))}
        for server in started.values():
            wrk(server.port, request, ask(server.port, request), CONNECTIONS, bench.effort.seconds)
        return {name: server.proportional_bytes() / 1e6 for name, server in started.items()}


def latency(bench: Bench) -> dict[str, Any]:
    """How long one client waits that asks one thing after the other."""
    request = bench.models[LINEAR].json_request(1)
    with ExitStack() as stack:
        cases = {UNIT: bench.unit_case(stack, connections=1)}
        for name, server in (
            ("ours", bench.ours(stack, LINEAR)),
            ("textbook", stack.enter_context(servers.textbook(bench.models[LINEAR]))),
        ):
            cases[name] = Case(server, request, ask(server.port, request), connections=1)
        return in_units(in_turns(cases, bench.effort.turns, bench.effort.seconds))


def growth_with_rows(bench: Bench) -> dict[str, Any]:
    """CPU time of one row, for more and more rows in a request; by model and content type, where that is served."""
    found = {}
    for name in (LINEAR, LOGISTIC):
        for content_type, request_of in FORMATS.items():
            requests = {str(n_rows): request_of(bench.models[name], n_rows) for n_rows in ROWS}
            with ExitStack() as stack:
                server = bench.ours(stack, name)
                try:
                    cases = {
                        n: Case(server, request, ask(server.port, request), connections=0)
                        for n, request in requests.items()
                    }
                except NotServedError:
                    continue
                measured = in_turns(cases, bench.effort.growth_turns, bench.effort.seconds)
            per_row = {n: medians(turns)["cpu_us"] / int(n) for n, turns in measured.items()}
            found[f"{name} {content_type}"] = per_row
    return found


def growth_with_connections(bench: Bench) -> dict[str, Any]:
    """What a request of one row takes, for more and more connections."""
    request = bench.models[LINEAR].json_request(1)
    with ExitStack() as stack:
        server, unit = bench.ours(stack, LINEAR), bench.unit_case(stack)
        expected = ask(server.port, request)
        cases = {}
        for n in CONNECTION_COUNTS:
            cases[f"ours {n}"] = Case(server, request, expected, n, may_refuse=True)
            cases[f"unit {n}"] = Case(unit.server, unit.request, unit.expected, n)
        measured = in_turns(cases, bench.effort.growth_turns, bench.effort.seconds)
    return {name: medians(turns) for name, turns in measured.items()}


def growth_with_workers(bench: Bench) -> dict[str, Any]:
    """What a request of one row takes, for more serving processes."""
    request = bench.models[LINEAR].json_request(1)
    with ExitStack() as stack:
        cases = {}
        for n in WORKER_COUNTS:
            server = bench.ours(stack, LINEAR, workers=n)
            cases[str(n)] = Case(server, request, ask(server.port, request))
        measured = in_turns(cases, bench.effort.growth_turns, bench.effort.seconds)
    return {name: medians(turns) for name, turns in measured.items()}


def overload(bench: Bench) -> dict[str, Any]:
    """Five times as many requests as the service can answer.

    Raises:
        WrongAnswerError: If one of them was answered with anything but the right answer or a 503 with Retry-After.
    """
    request, seconds = bench.overload_model.json_request(1), bench.effort.overload_seconds
    with servers.ours(bench.overload_model) as server:
        expected, engine = ask(server.port, request), engine_of(server)
        asyncio.run(Crowd(server.port, request, expected).closed_loop(request_threads(1), 1))
        closed = asyncio.run(Crowd(server.port, request, expected).closed_loop(request_threads(1), seconds))
        capacity = closed.good_in_time / seconds
        crowd = Crowd(server.port, request, expected)
        tally = asyncio.run(crowd.open_loop(OVERLOAD * capacity, seconds, MOST_IN_FLIGHT))
    if tally.wrong or closed.good < closed.offered:
        raise WrongAnswerError(f"Answers under overload, or of the capacity before it, were wrong: {tally}, {closed}")
    return {
        "engine": engine,
        "capacity_per_second": capacity,
        "offered_per_second": tally.offered / seconds,
        "goodput_ratio": tally.good_in_time / seconds / capacity,
        "answered_share": tally.good / tally.offered,
        "refused_share": tally.refused / tally.offered,
        **asdict(tally),
    }


def drift(bench: Bench) -> dict[str, Any]:
    """What counting rows for drift adds to a request, alone and in a server under load; and a scrape."""
    found = {}
    for name in DRIFT_MODELS:
        model = bench.models[name]
        for what, request_of, n_rows, connections in (
            ("1 row, JSON", Model.json_request, 1, CONNECTIONS),
            (f"{BULK_ROWS} rows, JSON", Model.json_request, BULK_ROWS, BULK_CONNECTIONS),
            (f"{BULK_ROWS} rows, NumPy", Model.npy_request, BULK_ROWS, BULK_CONNECTIONS),
        ):
            bench.report(f"drift of {name}, {what}")
            call, request = drift_call(model, n_rows), request_of(model, n_rows)
            alone_us = statistics.median(many_calls_us(call) for _ in range(bench.effort.growth_turns))
            with tempfile.TemporaryDirectory(prefix="bakehouse-bench-") as folder:
                n_requests = WINDOW_ROWS // n_rows + LEAST_WINDOW_REQUESTS
                windows = servers.Windows(n_requests, Path(folder) / "windows")
                with servers.ours(model, windows=windows) as server:
                    wrk(server.port, request, ask(server.port, request), connections, bench.effort.drift_seconds)
                    pairs = windows.pairs()
            with_us, without_us = (statistics.fmean(values) for values in zip(*pairs, strict=True))
            found[f"{name} {what}"] = {
                "alone_us": alone_us,
                "cpu_us": without_us,
                "alone_share": alone_us / without_us,
                "share": with_us / without_us - 1,
                "n_windows": len(pairs),
            }
    with ExitStack() as stack:
        server = bench.ours(stack, WIDE)
        scrapes = []
        for _ in range(SCRAPES):
            before = sum(server.cpu_seconds().values())
            body = send(server.health_port, "GET", "/metrics").body
            scrapes.append(sum(server.cpu_seconds().values()) - before)
    return {
        "requests": found,
        "scrape_ms": statistics.median(scrapes) * 1e3,
        "scrape_bytes": len(body),
        "series": sum(not line.startswith(b"#") for line in body.splitlines()),
    }


def drift_call(model: Model, n_rows: int) -> Callable[[], None]:
    """Return what counts a request of so many rows, another one each time; none stands for others."""
    loaded = load_model(model.artifact)
    reference = Reference.from_dict(orjson.loads(loaded.artifact.read(REFERENCE)))
    counting = Drift(reference, loaded.contract, loaded.artifact.version, Settings(), clock=count(step=3600).__next__)
    requests = []
    for first in range(DRIFT_REQUESTS):
        columns = parse_request(model.json_request(n_rows, first).body, loaded.contract, n_rows).columns
        requests.append((columns, loaded.predict(columns, [PREDICT])))
    following = cycle(requests)
    return lambda: counting("", *next(following))


def many_calls_us(call: Callable[[], None], n_calls: int = DRIFT_CALLS) -> float:
    """Return the CPU time of one of many calls, in microseconds: some of them count for all others."""
    started = time.thread_time()
    for _ in range(n_calls):
        call()
    return (time.thread_time() - started) / n_calls * 1e6


PARTS: dict[str, Callable[[Bench], dict[str, Any]]] = {
    part.__name__: part
    for part in (
        single, bulk, forest, start, memory, latency, growth_with_rows, growth_with_connections, growth_with_workers,
        overload, drift,
    )
}  # fmt: skip
