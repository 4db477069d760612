"""Draws the dashboards with data from a Prometheus: python -m tools.pictures URL --namespace NAME --release NAME."""

import argparse
import io
import json
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from tools import ROOT
from tools.bench.picture import STYLE, TEXT
from tools.dashboards import FOLDER as DASHBOARDS
from tools.panels import Answer, Prometheus, panels

FOLDER = ROOT / "docs/pictures"
COLUMNS, COLUMN_INCHES, ROW_INCHES = 24, 0.62, 0.36  # of Grafana's grid
LABEL = "Drawn from a real run by tools/pictures.py, not a screenshot of Grafana"
# Readable on light and dark pages.
CURVES = ("#2f7fd6", "#b8722c", "#3f9c5a", "#8a63d2", "#d0454c", "#1f9aa6", "#a3872d", "#c2569e", "#6f7f2e", "#767676")
THRESHOLDS = {
    "green": "#3f9c5a", "yellow": "#b58a1b", "orange": "#c9702b", "red": "#d0454c", "dark-red": "#a8323a",
}  # fmt: skip
ROLLOUT = "#2f7fd6"
MAX_LEGEND, MAX_ROWS = 9, 8  # curves with a name in the legend, rows of a table
TINY, SMALL, LARGE = 6, 7, 16  # points


def picture(board: Mapping[str, Any], answers: Sequence[Answer], subject: str, seconds: int) -> str:
    """Return a dashboard as SVG without a background. The same answers give the same SVG.

    Args:
        board: The dashboard.
        answers: The results of all its queries, in its order.
        subject: The release and namespace, for the title.
        seconds: The length of the time range.
    """
    rest = iter(answers)
    of_panel = [(panel, [next(rest) for _ in panel["targets"]]) for panel in panels(board)]
    rollouts = [series for answer in rest for series in answer.series]
    n_rows = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in board["panels"])
    with mpl.rc_context({**STYLE, "font.size": SMALL, "axes.titlesize": 8, "svg.hashsalt": board["uid"]}):
        figure = Figure(figsize=(COLUMNS * COLUMN_INCHES, (n_rows + 2) * ROW_INCHES))
        figure.text(0.01, 1 - 0.7 / (n_rows + 2), f"{board['title']}: {subject}", size=12, weight="bold", va="center")
        figure.text(0.99, 1 - 0.7 / (n_rows + 2), LABEL, size=9, ha="right", va="center")
        end = max((time for answer in answers for time in _times(answer)), default=0.0)
        for panel in board["panels"]:
            if panel["type"] == "row":
                height = 1 - (panel["gridPos"]["y"] + 2) / (n_rows + 2)
                figure.text(0.006, height, panel["title"], size=10, weight="bold")
                line = (height + 0.9 / (n_rows + 2),) * 2
                figure.add_artist(Line2D((0.006, 0.994), line, color=TEXT, linewidth=0.5))
        for panel, its in of_panel:
            axes = figure.add_axes(_place(panel, n_rows))
            axes.set_title(its[0].query.panel, loc="left")
            _draw(axes, panel, its, rollouts, (end, seconds))
        file = io.StringIO()
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return "".join(f"{line.rstrip()}\n" for line in file.getvalue().splitlines())


def _times(answer: Answer) -> list[float]:
    return [float(time) for series in answer.series for time, _ in series.get("values", [series.get("value")])]


def _place(panel: Mapping[str, Any], n_rows: int) -> tuple[float, float, float, float]:
    """Return left, bottom, width and height of a panel's axes as fractions of the figure."""
    place, height = panel["gridPos"], n_rows + 2
    above, below = (1.0, 0.3) if panel["type"] == "stat" else (1.0, 2.6)
    left = 0.15 if panel["type"] in ("stat", "table") else 1.25
    return (
        (place["x"] + left) / COLUMNS,
        1 - (place["y"] + place["h"] + 2 - below) / height,
        (place["w"] - left - 0.3) / COLUMNS,
        (place["h"] - above - below) / height,
    )


def _draw(
    axes: Axes,
    panel: Mapping[str, Any],
    answers: list[Answer],
    rollouts: list[dict[str, Any]],
    shown: tuple[float, int],
) -> None:
    defaults = panel["fieldConfig"]["defaults"]
    if not any(answer.series for answer in answers):
        axes.set_axis_off()
        axes.text(0.5, 0.5, defaults.get("noValue", "no data"), ha="center", va="center", style="italic")
    elif panel["type"] == "timeseries":
        _draw_curves(axes, defaults, answers, rollouts, shown)
    elif panel["type"] == "barchart":
        _draw_bars(axes, defaults, panel["options"]["xField"], answers)
    elif panel["type"] == "table":
        _draw_table(axes, panel, answers)
    else:
        _draw_number(axes, defaults, answers[0])


def _draw_curves(
    axes: Axes,
    defaults: Mapping[str, Any],
    answers: list[Answer],
    rollouts: list[dict[str, Any]],
    shown: tuple[float, int],
) -> None:
    custom, (end, seconds) = defaults["custom"], shown
    curves = sorted(
        (
            _named(answer.query.legend, series["metric"]),
            {round(time - end): float(value) for time, value in series["values"]},
        )
        for answer in answers
        for series in answer.series
    )
    below: dict[int, float] = {}
    for place, (name, points) in enumerate(curves):
        color, times = CURVES[place % len(CURVES)], list(points)
        label = name if place < MAX_LEGEND else None
        if "stacking" in custom:
            lower = [below.get(time, 0.0) for time in times]
            upper = [low + value for low, value in zip(lower, points.values(), strict=True)]
            below.update(zip(times, upper, strict=True))
            axes.fill_between(times, lower, upper, color=color, alpha=0.5, linewidth=0, label=label)
        else:
            axes.plot(times, list(points.values()), color=color, linewidth=1.2, label=label)
    for series in rollouts:
        axes.axvline(float(series["values"][0][0]) - end, color=ROLLOUT, linewidth=0.8, linestyle=":")
    lowest, highest = axes.get_ylim()
    for step in defaults["thresholds"]["steps"]:
        if step["value"] is not None and "thresholdsStyle" in custom and lowest <= step["value"] <= highest:
            axes.axhline(step["value"], color=THRESHOLDS[step["color"]], linewidth=0.8, linestyle="--")
    axes.set_ylim(bottom=defaults.get("min", lowest), top=defaults.get("max", max(highest, 1e-9)) * 1.02)
    axes.set_xlim(-seconds, 0)
    axes.yaxis.set_major_formatter(lambda value, _: formatted(value, defaults["unit"]))
    axes.set_xticks([-seconds * quarter / 4 for quarter in range(5)])
    axes.xaxis.set_major_formatter(lambda value, _: f"{value / 60:.3g} min" if value else "now")
    axes.locator_params(axis="y", nbins=5)
    axes.tick_params(labelsize=TINY)
    axes.grid(visible=True)
    axes.legend(
        loc="upper left", bbox_to_anchor=(-0.02, -0.13), ncols=max(2, math.ceil(min(len(curves), MAX_LEGEND) / 3)),
        fontsize=TINY, borderaxespad=0, handlelength=1, columnspacing=1, labelspacing=0.2,
    )  # fmt: skip


def _draw_bars(axes: Axes, defaults: Mapping[str, Any], by: str, answers: list[Answer]) -> None:
    names = sorted({series["metric"][by] for answer in answers for series in answer.series})
    width = 0.8 / len(answers)
    for place, answer in enumerate(answers):
        values = {series["metric"][by]: float(series["value"][1]) for series in answer.series}
        left = [number - 0.4 + width * (place + 0.5) for number in range(len(names))]
        axes.bar(left, [values.get(name, 0.0) for name in names], width, color=CURVES[place], label=answer.query.legend)
    axes.set_xticks(range(len(names)), names, rotation=20, ha="right", fontsize=TINY)
    axes.yaxis.set_major_formatter(lambda value, _: formatted(value, defaults["unit"]))
    axes.grid(axis="y")
    axes.legend(loc="upper right", fontsize=TINY)


def _draw_table(axes: Axes, panel: Mapping[str, Any], answers: list[Answer]) -> None:
    axes.set_axis_off()
    by, fields = panel["transformations"][0]["options"]["byField"], list[str]()
    units = {
        override["matcher"]["options"]: {each["id"]: each["value"] for each in override["properties"]}
        for override in panel["fieldConfig"]["overrides"]
    }
    rows: dict[str, dict[str, str]] = {}
    for answer in answers:
        for series in answer.series:
            labels, name = series["metric"], answer.query.legend
            cells = rows.setdefault(labels[by], {})
            new_cells = {by: labels[by], **{key: labels[key] for key in sorted(labels)}}
            if name:
                settings = units.get(name, {})
                new_cells[name] = formatted(
                    float(series["value"][1]), settings.get("unit", "none"), settings.get("decimals")
                )
            cells.update(new_cells)
            fields += [field for field in new_cells if field not in fields]
    shown = [[_short(row.get(field, "")) for field in fields] for _, row in sorted(rows.items())[:MAX_ROWS]]
    widths = [max(len(text) for text in column) + 2 for column in zip(fields, *shown, strict=True)]
    drawn = axes.table(
        cellText=shown, colLabels=fields, loc="upper left", cellLoc="left", edges="horizontal",
        colWidths=[width / max(sum(widths), 60) for width in widths],
    )  # fmt: skip
    drawn.auto_set_font_size(False)
    drawn.set_fontsize(SMALL)
    for (row, _), cell in drawn.get_celld().items():
        cell.set_edgecolor(TEXT)
        cell.set_linewidth(0.3)
        cell.set_height(1 / (MAX_ROWS + 1))
        cell.set_text_props(color=TEXT, ha="left", weight="normal" if row else "bold")


def _draw_number(axes: Axes, defaults: Mapping[str, Any], answer: Answer) -> None:
    axes.set_axis_off()
    named = sorted((_named(answer.query.legend, each["metric"]), float(each["value"][1])) for each in answer.series)
    for place, (name, value) in enumerate(named):
        height = 1 - (place + 0.55) / len(named)
        reached = [step for step in defaults["thresholds"]["steps"] if step["value"] is None or value >= step["value"]]
        text = formatted(value, defaults["unit"], defaults.get("decimals"))
        axes.text(0.0, height, text, size=LARGE, va="center", weight="bold", color=THRESHOLDS[reached[-1]["color"]])
        if len(named) > 1:
            axes.text(0.2, height, name, va="center")


def _named(legend: str, labels: Mapping[str, str]) -> str:
    for label, value in labels.items():
        legend = legend.replace("{{" + label + "}}", value)
    return legend


def _short(text: str) -> str:
    return text if len(text) <= 24 else f"{text[:12]}…"


def formatted(value: float, unit: str, decimals: int | None = None) -> str:
    """Return a number with its unit, in about the same format as Grafana."""
    if not math.isfinite(value):
        return str(value)
    match unit:
        case "percentunit":
            return f"{value * 100:.{decimals}f} %" if decimals is not None else f"{value * 100:.3g} %"
        case "s":
            scale, name = next(
                ((each, name) for each, name in ((1, "s"), (1e-3, "ms")) if abs(value) >= each), (1e-6, "µs")
            )
            return f"{value / scale:.3g} {name}" if value else "0 s"
        case "dtdurations":
            return f"{value / 86400:.3g} days" if value >= 86400 else f"{value / 60:.3g} min"
        case "bytes":
            return f"{value / 2**20:.3g} MiB"
        case "Bps":
            return f"{value / 1000:.3g} kB/s"
    text = f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}" if decimals is None else f"{value:.{decimals}f}"
    return f"{text}/s" if unit in ("reqps", "rowsps") else text


def main() -> None:
    """Write the pictures of all dashboards.

    Raises:
        SystemExit: With a message, if Prometheus does not answer, or has no data of the release or feature.
    """
    parser = argparse.ArgumentParser(prog="python -m tools.pictures", description=__doc__)
    parser.add_argument("url", help="the address of a Prometheus that scrapes the release and has its rules")
    parser.add_argument("--namespace", required=True)
    parser.add_argument("--release", required=True)
    parser.add_argument("--feature", help="the feature whose bins are drawn (default: the first one)")
    parser.add_argument("--seconds", type=int, default=3600, help="length of the time range (default: %(default)s)")
    parser.add_argument("--rate-interval", default="1m", help="at least four scrape intervals (default: %(default)s)")
    parser.add_argument("--end", type=float, help="end of the time range, as a Unix time (default: now)")
    parser.add_argument(
        "--output", type=Path, default=FOLDER, help="folder whose pictures are overwritten (default: docs/pictures)"
    )
    options = parser.parse_args()
    chosen = {"namespace": options.namespace, "release": options.release}
    if options.feature:
        chosen["feature"] = options.feature
    prometheus = Prometheus(options.url, options.seconds, end=options.end, rate_interval=options.rate_interval)
    boards = {file.stem: json.loads(file.read_text()) for file in sorted(DASHBOARDS.glob("*.json"))}
    try:
        answers = {name: prometheus.answers(board, chosen) for name, board in boards.items()}
    except (AssertionError, OSError) as error:
        sys.exit(f"{parser.prog}: {options.url}: {error}")
    options.output.mkdir(parents=True, exist_ok=True)
    for name, board in boards.items():
        drawn = picture(board, answers[name], f"{options.release} in {options.namespace}", options.seconds)
        (options.output / f"{name}.svg").write_text(drawn)


if __name__ == "__main__":
    main()
