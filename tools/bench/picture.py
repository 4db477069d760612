"""The picture of docs/explanation/performance.md: the same results give the same bytes."""

import io
from collections.abc import Mapping
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tools.bench.measure import CONNECTION_COUNTS, ROWS
from tools.bench.models import JSON, LINEAR, LOGISTIC, NPY
from tools.bench.report import CURVE_NAMES, Line, lines, number

# On a page of either colour: each has a contrast of at least 3.5 with white and with GitHub's black.
TEXT, OURS, TEXTBOOK, TARGET = "#767676", "#2f7fd6", "#b8722c", "#d0454c"
LOGISTIC_CURVE = "#8a63d2"
STYLE: Any = {
    "svg.hashsalt": "bakehouse",  # ids in the file, else new ones every time
    "svg.fonttype": "none",  # text stays text: to be searched, read out and tested
    "font.family": ["sans-serif"],
    "font.size": 9,
    "text.color": TEXT,
    "axes.labelcolor": TEXT,
    "axes.edgecolor": TEXT,
    "xtick.color": TEXT,
    "ytick.color": TEXT,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": TEXT,
    "grid.alpha": 0.2,
    "legend.frameon": False,
    "legend.labelcolor": TEXT,
}
BAR = 0.36  # height, of the 1 that a case has
CURVES = {
    f"{model} {content_type}": (colour, style)
    for model, colour in ((LINEAR, OURS), (LOGISTIC, LOGISTIC_CURVE))
    for content_type, style in ((JSON, "-"), (NPY, "--"))
}


def picture(results: Mapping[str, Any]) -> str:
    """Return the picture of a whole run as SVG, without a background."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(9, 7.2), layout="constrained")
        top, bottom = figure.subfigures(2, 1, height_ratios=(1.15, 1))
        _draw_units(top.subplots(), [line for line in lines(results) if line.unit == "units"])
        left, right = bottom.subplots(1, 2)
        _draw_rows(left, results["growth_with_rows"])
        _draw_connections(right, results["growth_with_connections"])
        file = io.StringIO()
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return "".join(f"{line.rstrip()}\n" for line in file.getvalue().splitlines())


def _draw_units(axes: Axes, cases: list[Line]) -> None:
    """Draw a pair of bars for each case; they begin at 1, the constant answer, and double with equal steps."""
    axes.set_title("CPU time of a request, in multiples of a constant answer's", loc="left")
    compared = [case for case in cases if case.target is not None]
    for place, case in enumerate(compared):
        target = case.target or 1.0
        _draw_bar(axes, place - BAR / 2, case.ours, OURS, case.note or number(case.ours), target)
        _draw_bar(axes, place + BAR / 2, case.textbook, TEXTBOOK, number(case.textbook), target)
        axes.plot([target] * 2, [place - 0.46, place + 0.46], color=TARGET, linewidth=2, solid_capstyle="butt")
    axes.set_yticks(range(len(compared)), [case.case.replace(": ", "\n") for case in compared])
    axes.tick_params(axis="y", length=0)
    axes.invert_yaxis()
    axes.set_xscale("log", base=2)
    drawn = [value for case in compared for value in (case.ours, case.textbook, case.target) if value]
    axes.set_xlim(min(1.0, *drawn) * 0.97, max(drawn) * 1.4)  # room for the labels
    axes.xaxis.set_major_formatter(lambda value, _: number(value))
    axes.axvline(1, color=TEXT, linewidth=0.8)
    axes.spines["left"].set_visible(False)
    axes.grid(axis="x")
    axes.set_axisbelow(True)
    for label, colour in (("Bakehouse", OURS), ("textbook service", TEXTBOOK), ("target, at most", TARGET)):
        axes.plot([], [], color=colour, linewidth=5 if colour != TARGET else 2, label=label)
    axes.legend(loc="upper right")


def _draw_bar(axes: Axes, place: float, value: float | None, colour: str, label: str, beyond: float) -> None:
    """Draw a bar, and its label right of it, and of the mark of the target that it does not reach."""
    if value is not None:
        axes.barh(place, value - 1, height=BAR, left=1, color=colour)
    right = max(1.0, value or 1.0)
    right = beyond if right <= beyond else right
    axes.annotate(label, (right, place), (5, 0), textcoords="offset points", va="center", color=colour)


def _draw_rows(axes: Axes, curves: Mapping[str, Mapping[str, float]]) -> None:
    axes.set_title("CPU time of one row, in µs", loc="left")
    axes.set_xlabel("rows a request")
    for name, (colour, style) in CURVES.items():
        if curve := curves.get(name):
            label = CURVE_NAMES[name]
            axes.loglog(ROWS, [curve[str(n)] for n in ROWS], style, color=colour, label=label, marker="o", markersize=4)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.yaxis.set_major_formatter(lambda value, _: number(value))
    axes.minorticks_off()
    axes.grid(visible=True)
    axes.legend()


def _draw_connections(axes: Axes, cases: Mapping[str, Mapping[str, float]]) -> None:
    axes.set_title(f"Requests a second, one row for {LINEAR}", loc="left")
    axes.set_xlabel("connections")
    for name, label, colour in (("ours", "Bakehouse", OURS), ("unit", "constant answer", TEXT)):
        values = [cases[f"{name} {n}"]["requests_per_second"] for n in CONNECTION_COUNTS]
        axes.plot(CONNECTION_COUNTS, values, color=colour, label=label, marker="o", markersize=4)
    axes.set_xscale("log", base=2)
    axes.set_xticks(CONNECTION_COUNTS, [str(n) for n in CONNECTION_COUNTS])
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.minorticks_off()
    axes.grid(visible=True)
    axes.legend()
