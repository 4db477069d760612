"""The targets, the tables and the page docs/explanation/performance.md, all from one JSON document of results."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from tools.bench.measure import (
    BULK_CONNECTIONS,
    BULK_ROWS,
    CONNECTION_COUNTS,
    CONNECTIONS,
    NOT_SERVED,
    OVERLOAD,
    ROWS,
    UNIT,
    WORKER_COUNTS,
)
from tools.bench.models import DESCRIPTIONS, JSON, LINEAR, LOGISTIC, NPY
from tools.markers import replaced

BEGIN, END = "<!-- numbers: written by make bench -->\n", "<!-- end of numbers -->"
SINGLE_TARGET = 1.3
JSON_TARGET = 7.5
NPY_TARGET = 2.5
FOREST_TARGET = 0.35
START_TARGET_SECONDS = 1.0
MEMORY_TARGET_MB = 120.0
P99_TARGET_MS = 1.0
DRIFT_TARGET_PERCENT = 3.0
SCRAPE_TARGET_MS = 10.0
CURVE_NAMES = {
    f"{model} {content_type}": f"{model}, {name}"
    for model in (LINEAR, LOGISTIC)
    for content_type, name in ((JSON, "JSON"), (NPY, "NumPy"))
}
Results = Mapping[str, Any]


@dataclass(frozen=True)
class Line:
    """One line of the table.

    Args:
        case: What was measured.
        unit: In what: "units" are multiples of the CPU time of a constant answer.
        ours: What the service took; None where it was not measured, or does not serve that.
        textbook: What the textbook's service took, if it was measured.
        target: The most that the service may take; None where there is no target.
        note: What stands in the place of a number.
    """

    case: str
    unit: str
    ours: float | None
    textbook: float | None = None
    target: float | None = None
    note: str = ""

    @property
    def verdict(self) -> str:
        """Whether the target is met, as measured, not as rounded."""
        if self.target is None:
            return ""
        return "met" if self.ours is not None and self.ours <= self.target else "missed"


def lines(results: Results) -> list[Line]:
    """Return the table's lines for the parts that were measured."""
    return [line for part, lines_of in LINES.items() if part in results for line in lines_of(results[part])]


def _single(part: Results) -> list[Line]:
    of = {name: case["units"] for name, case in part.items()}
    constants = [
        Line(f"constant WSGI answer, {part[UNIT]['cpu_us']:.0f} µs: the unit", "units", of[UNIT]),
        Line("constant Flask view", "units", of["flask"]),
    ]
    return constants + [
        Line(f"{name}, {what}: 1 row", "units", of[f"ours {name}"], of[f"textbook {name}"], SINGLE_TARGET)
        for name, what in DESCRIPTIONS.items()
    ]


def _bulk(part: Results) -> list[Line]:
    rows, npy = f"{LOGISTIC}: {BULK_ROWS} rows of 30", part.get("ours npy")
    return [
        Line(f"{rows}, JSON", "units", part["ours json"]["units"], part["textbook json"]["units"], JSON_TARGET),
        Line(f"{rows}, NumPy", "units", npy and npy["units"], None, NPY_TARGET, "" if npy else NOT_SERVED),
    ]


def _forest(part: Results) -> list[Line]:
    case = f"digits: {BULK_ROWS} rows, CPU less its JSON, over scikit-learn's predict"
    return [Line(case, "", part["predict_share"], None, FOREST_TARGET)]


def _start(part: Results) -> list[Line]:
    return [Line(f"{LINEAR}: start to ready", "s", part["seconds"], None, START_TARGET_SECONDS)]


def _memory(part: Results) -> list[Line]:
    return [Line(f"{LOGISTIC}: memory (PSS) after load", "MB", part["ours"], part["textbook"], MEMORY_TARGET_MB)]


def _latency(part: Results) -> list[Line]:
    ours, textbook, unit = part["ours"], part["textbook"], part[UNIT]
    return [
        Line(f"{LINEAR}: p50 at 1 connection", "ms", ours["p50_ms"], textbook["p50_ms"]),
        Line(f"{LINEAR}: p99 at 1 connection", "ms", ours["p99_ms"], textbook["p99_ms"], P99_TARGET_MS),
        Line("constant WSGI answer: p50 at 1 connection", "ms", unit["p50_ms"]),
        Line("constant WSGI answer: p99 at 1 connection", "ms", unit["p99_ms"]),
    ]


def _growth_with_rows(part: Results) -> list[Line]:
    case = f"times that CPU a row rises on the way from {ROWS[0]} to {ROWS[-1]} rows"
    return [Line(case, "", float(sum(len(rises(curve)) for curve in part.values())), None, 0.0)]


def _overload(part: Results) -> list[Line]:
    lost = part["broken"] + part["hanging"]
    return [
        Line(f"{OVERLOAD} times the capacity: requests without an answer", "", float(lost), None, 0.0),
        Line(f"{OVERLOAD} times the capacity: right answers, over the capacity", "", part["goodput_ratio"]),
    ]


def _drift(part: Results) -> list[Line]:
    return [
        *(
            Line(f"{case}: counting for drift, {how}", "%", 100 * of[share], None, DRIFT_TARGET_PERCENT)
            for case, of in part["requests"].items()
            for how, share in (("calls alone", "alone_share"), ("in the server", "share"))
        ),
        Line("scrape with drift of 50 features, CPU", "ms", part["scrape_ms"], None, SCRAPE_TARGET_MS),
    ]


LINES = {
    "single": _single,
    "bulk": _bulk,
    "forest": _forest,
    "start": _start,
    "memory": _memory,
    "latency": _latency,
    "growth_with_rows": _growth_with_rows,
    "overload": _overload,
    "drift": _drift,
}


def rises(curve: Mapping[str, float]) -> list[tuple[int, int]]:
    """Return the pairs of sizes from one to the other of which a curve does not fall."""
    return [(before, after) for before, after in pairwise(ROWS) if curve[str(after)] >= curve[str(before)]]


def number(value: float | None) -> str:
    """Return a number with three digits that say something; none is left empty."""
    if value is None:
        return ""
    return f"{value:.0f}" if value >= 100 or value == int(value) else f"{value:.3g}"


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table, its columns aligned for the terminal, numbers to the right."""
    widths = [max(len(cell) for cell in column) for column in zip(heads, *rows, strict=True)]
    first, *others = widths
    rule = ["-" * first, *("-" * (width - 1) + ":" for width in others)]

    def line(cells: Sequence[str]) -> str:
        padded = [cells[0].ljust(first), *(c.rjust(width) for c, width in zip(cells[1:], others, strict=True))]
        return f"| {' | '.join(padded)} |"

    return "\n".join([line(heads), line(rule), *map(line, rows)])


def main_table(results: Results) -> str:
    """Return the table of everything that has one number."""
    rows = [
        (
            line.case,
            line.note or number(line.ours),
            number(line.textbook),
            line.unit,
            "" if line.target is None else f"at most {number(line.target)}",
            line.verdict,
        )
        for line in lines(results)
    ]
    return table(("what", "ours", "textbook", "in", "target", ""), rows)


def growth_tables(results: Results) -> dict[str, str]:
    """Return the tables of growth by their titles."""
    tables = {}
    if part := results.get("growth_with_rows"):
        shown = [name for name in CURVE_NAMES if name in part]
        rows = [[str(n), *(number(part[name][str(n)]) for name in shown)] for n in ROWS]
        heads = ["rows a request", *(CURVE_NAMES[name] for name in shown)]
        tables["CPU time of one row, in µs, over one connection"] = table(heads, rows)
    if part := results.get("growth_with_connections"):
        rows = []
        for n in CONNECTION_COUNTS:
            ours, unit = part[f"ours {n}"], part[f"unit {n}"]
            rows.append([
                str(n), number(ours["cpu_us"]), number(unit["cpu_us"]), number(ours["requests_per_second"]),
                number(unit["requests_per_second"]), number(ours["p99_ms"]), number(unit["p99_ms"]),
                f"{ours['refused_share']:.0%}",
            ])  # fmt: skip
        heads = ["connections", "CPU, µs", "of the unit", "a second", "of the unit", "p99, ms", "of the unit", "503"]
        tables[f"One row for {LINEAR}, by connections"] = table(heads, rows)
    if part := results.get("growth_with_workers"):
        rows = [
            [str(n), *(number(part[str(n)][name]) for name in ("cpu_us", "requests_per_second", "p99_ms"))]
            for n in WORKER_COUNTS
        ]
        tables[f"One row for {LINEAR}, by serving processes"] = table(
            ["processes", "CPU, µs", "a second", "p99, ms"], rows
        )
    return tables


def sentences(results: Results) -> list[str]:
    """Return what needs more than a number in a table, a sentence each."""
    told = []
    if part := results.get("bulk"):
        told.append(
            f"A body of {BULK_ROWS} rows of 30 features is {part['json_bytes']} bytes as JSON and {part['npy_bytes']} "
            f"as NumPy writes it; {BULK_CONNECTIONS} connections send it, and {CONNECTIONS} the single rows."
        )
    if part := results.get("forest"):
        told.append(
            f"The forest's {BULK_ROWS} rows take {part['cpu_us'] / 1e3:.1f} ms of CPU a request; in one process "
            f"without a server, scikit-learn's predict takes {part['predict_us'] / 1e3:.1f} ms and orjson, for that "
            f"body and answer, {part['json_us'] / 1e3:.1f} ms."
        )
    for name, curve in results.get("growth_with_rows", {}).items():
        told += [
            f"{CURVE_NAMES[name]}: a row costs no less at {after} rows a request than at {before}."
            for before, after in rises(curve)
        ]
    if part := results.get("drift"):
        costs = [f"{of['alone_us']:.3g} µs of {of['cpu_us']:.0f} for {case}" for case, of in part["requests"].items()]
        told.append(
            f"Counting for drift takes, of a request's CPU, {', '.join(costs)}, where calls follow each other in one "
            "thread and each is counted. In the server it is on and off in turns, some dozen requests long, and "
            "some requests count for all. Wide is a linear model of 200 features, of which 50 are watched: a scrape "
            f"of those is {part['series']} series, {part['scrape_bytes']} bytes."
        )
    if part := results.get("overload"):
        told.append(
            f"Overload: the forest on the engine {part['engine']} answers {part['capacity_per_second']:.0f} requests a "
            f"second. Offered {part['offered_per_second']:.0f} a second, {part['answered_share']:.1%} were answered, "
            f"{part['refused_share']:.1%} refused with 503 and Retry-After, {part['broken']} connections broke and "
            f"{part['hanging']} requests hung; right answers came at {part['goodput_ratio']:.2f} of the capacity."
            + (f" The client held {part['withheld']} requests back: so many others waited." if part["withheld"] else "")
        )
    return told


def machine_sentences(results: Results) -> list[str]:
    """Return where and when the results were measured, a sentence each."""
    machine = results["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    engines = ", ".join(f"{name} by {engine}" for name, engine in results["engines"].items())
    return [
        f"Measured on {machine['date']} at commit {machine['commit']}{' with --quick' if results['quick'] else ''}: "
        f"{machine['cores']} cores of {machine['cpu']}, load average {machine['load_average']:.1f} before the start, "
        f"OPENBLAS_CORETYPE {machine['openblas_coretype'] or 'not set'}; "
        f"{machine['threads']} threads a server.",
        f"Python {machine['python']}, {versions}.",
        f"Served: {engines}." if engines else "",
    ]


def block(results: Results) -> str:
    """Return all that the page says in numbers."""
    parts = [*machine_sentences(results), main_table(results), *sentences(results)]
    for title, text in growth_tables(results).items():
        parts += [f"{title}:", text]
    return "\n\n".join(filter(None, parts)) + "\n"


def with_numbers(page: str, results: Results) -> str:
    """Return the page's text with its numbers as they should be."""
    return replaced(page, BEGIN, END, block(results))
