"""The parts of a dashboard: panels with their queries, variables and annotations.

In a query, OF_RELEASE and OF_VERSION stand for the matchers of the variables, as in metric{OF_VERSION, status="5xx"}.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from grafana_foundation_sdk.builders import barchart, common, dashboard, prometheus, stat, table, timeseries
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models.common import (
    BigValueGraphMode,
    GraphTresholdsStyleMode,
    LegendDisplayMode,
    LegendPlacement,
    SortOrder,
    StackingMode,
    TooltipDisplayMode,
    VisibilityMode,
    VizOrientation,
)
from grafana_foundation_sdk.models.dashboard import (
    AnnotationQuery,
    DashboardCursorSync,
    DashboardLinkType,
    DataSourceRef,
    DataTransformerConfig,
    DynamicConfigValue,
    Threshold,
    ThresholdsMode,
    VariableRefresh,
    VariableSort,
)
from grafana_foundation_sdk.models.dashboard import Dashboard as BuiltDashboard
from grafana_foundation_sdk.models.dashboard import Panel as BuiltPanel
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

TAG = "bakehouse"  # the dashboards link to each other by it
DATASOURCE = DataSourceRef("prometheus", "${datasource}")
# Match a variable of one value with =. Grafana escapes values for =~ only in variables that may have several.
OF_RELEASE = 'namespace="$namespace", release="$release"'
OF_VERSION = f'{OF_RELEASE}, version=~"$version"'
REFS = "ABCDEFGHIJ"  # the names of a panel's queries in Grafana
WIDTH = 24  # columns of Grafana's grid
GRAPH_HEIGHT, STAT_HEIGHT = 8, 4
GREEN, YELLOW, RED = "green", "yellow", "red"

Panel = Builder[BuiltPanel]
Variable = Builder[Any]
# Colors by the value at which each begins. None is the lowest.
Steps = Sequence[tuple[float | None, str]]
PLAIN: Steps = ((None, GREEN),)


@dataclass(frozen=True)
class Query:
    """A query, and the legend of its series: text with {{label}} in it."""

    expr: str
    legend: str


@dataclass(frozen=True)
class Column:
    """A column of a table: its name, the query of its values, and their unit. Without a name, only its labels show."""

    name: str
    expr: str
    unit: str = "none"
    decimals: int | None = None


def promql(expr: str) -> str:
    """Return a query with the variables' matchers, on one line."""
    return " ".join(expr.replace("OF_VERSION", OF_VERSION).replace("OF_RELEASE", OF_RELEASE).split())


def graph(
    title: str,
    description: str,
    unit: str,
    *queries: Query,
    width: int = 8,
    stacked: bool = False,
    signed: bool = False,
    at_most: float | None = None,
    marks: Steps = PLAIN,
    every: str = "",
    empty: str = "",
) -> Panel:
    """Return a panel of curves over time.

    Args:
        title: What it shows.
        description: How to read it.
        unit: Unit of the values, by Grafana's name.
        queries: Each gives one or more curves.
        width: Width in columns of the grid.
        stacked: Whether the curves add up to a total.
        signed: Whether values may be below 0.
        at_most: The end of the axis, if there is one.
        marks: Values at which to draw a line.
        every: The shortest time between two points, for expensive queries.
        empty: Why there may be no values. The panel shows it instead.
    """
    panel = (
        timeseries.Panel()
        .height(GRAPH_HEIGHT)
        .line_width(1)
        .fill_opacity(30 if stacked else 0)
        .show_points(VisibilityMode.NEVER)
        .legend(common.VizLegendOptions().display_mode(LegendDisplayMode.LIST).placement(LegendPlacement.BOTTOM))
        .tooltip(common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI).sort(SortOrder.DESCENDING))
        .targets([_target(query, place) for place, query in enumerate(queries)])
    )
    if stacked:
        panel.stacking(common.StackingConfig().mode(StackingMode.NORMAL).group("A"))
    if not signed:
        panel.min(0)
    if at_most is not None:
        panel.max(at_most)
    if every:
        panel.interval(every)
    if marks != PLAIN:
        panel.thresholds_style(common.GraphThresholdsStyleConfig().mode(GraphTresholdsStyleMode.DASHED))
    return _with_common(panel, title, description, unit, width, marks, empty)


def number(
    title: str,
    description: str,
    unit: str,
    query: Query,
    *,
    width: int = 4,
    height: int = STAT_HEIGHT,
    decimals: int | None = None,
    marks: Steps = PLAIN,
    empty: str = "",
) -> Panel:
    """Return a panel of the current value, or of each series. Further arguments are those of graph()."""
    panel = (
        stat.Panel()
        .height(height)
        .graph_mode(BigValueGraphMode.NONE)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .targets([_target(query, 0, instant=True)])
    )
    if decimals is not None:
        panel.decimals(decimals)
    return _with_common(panel, title, description, unit, width, marks, empty)


def compared(
    title: str, description: str, unit: str, by: str, bars: Sequence[Column], *, width: int = 12, empty: str = ""
) -> Panel:
    """Return a panel with a group of bars for each value of a label. The arguments are those of graph()."""
    panel = (
        barchart.Panel()
        .height(GRAPH_HEIGHT)
        .min(0)
        .orientation(VizOrientation.VERTICAL)
        .x_field(by)
        .x_tick_label_rotation(-30)
        .show_value(VisibilityMode.NEVER)
        .legend(common.VizLegendOptions().display_mode(LegendDisplayMode.LIST).placement(LegendPlacement.BOTTOM))
        .tooltip(common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI).sort(SortOrder.NONE))
    )
    _joined(panel, by, bars, sort=by)
    return _with_common(panel, title, description, unit, width, PLAIN, empty)


def listed(
    title: str,
    description: str,
    by: str,
    columns: Sequence[Column],
    *,
    sort: str,
    labels: Mapping[str, str] | None = None,
    width: int = WIDTH,
    empty: str = "",
) -> Panel:
    """Return a table with a row for each value of a label. Further arguments are those of graph().

    Args:
        title: What it shows.
        description: How to read it.
        by: The label.
        columns: One query each.
        sort: The column that sorts the rows, the greatest value first.
        labels: Further labels of the queries, and the names of their columns.
        width: Width in columns of the grid.
        empty: Why there may be no rows.
    """
    panel = table.Panel().height(GRAPH_HEIGHT).show_header(True)
    _joined(panel, by, columns, sort=sort, descending=sort != by, labels=labels)
    for column in filter(lambda each: each.name, columns):
        settings = [DynamicConfigValue("unit", column.unit)]
        if column.decimals is not None:
            settings.append(DynamicConfigValue("decimals", column.decimals))
        panel.override_by_name(column.name, settings)
    return _with_common(panel, title, description, "none", width, PLAIN, empty)


def _target(query: Query, place: int, *, instant: bool = False, as_table: bool = False) -> prometheus.Dataquery:
    target = prometheus.Dataquery().expr(promql(query.expr)).legend_format(query.legend).ref_id(REFS[place])
    if as_table:
        target.format(PromQueryFormat.TABLE)
    return target.instant() if instant else target.range()


def _joined(
    panel: Any,
    by: str,
    columns: Sequence[Column],
    *,
    sort: str,
    descending: bool = False,
    labels: Mapping[str, str] | None = None,
) -> None:
    """Join the columns of a panel by a label, into one frame with a field for each column."""
    panel.targets(
        [_target(Query(each.expr, each.name), place, instant=True, as_table=True) for place, each in enumerate(columns)]
    )
    # The names of the fields after the join: Value #A, Time 1 and so on, or Value and Time after a single query.
    values = [f"Value #{REFS[place]}" for place in range(len(columns))] if len(columns) > 1 else ["Value"]
    names = {value: each.name for value, each in zip(values, columns, strict=True) if each.name}
    hidden = ["Time", *(f"Time {place + 1}" for place in range(len(columns))), *(set(values) - set(names))]
    for transformation, options in (
        ("joinByField", {"byField": by, "mode": "outer"}),
        (
            "organize",
            {"excludeByName": dict.fromkeys(hidden, True), "renameByName": {**(labels or {}), **names}},
        ),
        ("sortBy", {"fields": {}, "sort": [{"field": sort, "desc": descending}]}),
    ):
        panel.with_transformation(DataTransformerConfig(id_val=transformation, options=options))


def _with_common(panel: Any, title: str, description: str, unit: str, width: int, marks: Steps, empty: str) -> Panel:
    """Return the panel with the properties that every panel has."""
    steps = [Threshold(value, color) for value, color in marks]
    panel.title(title).description(description).unit(unit).span(width).datasource(DATASOURCE)
    panel.thresholds(dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps))
    if empty:
        panel.no_value(empty)
    finished: Panel = panel
    return finished


def choice(name: str, query: str, description: str, *, label: str = "", several: bool = False) -> Variable:
    """Return a variable with the values that a label_values() query gives."""
    variable = (
        dashboard.QueryVariable(name)
        .label(label or name)
        .description(description)
        .query(promql(query))
        .datasource(DATASOURCE)
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(VariableSort.ALPHABETICAL_ASC)
    )
    if several:
        variable.multi(True).include_all(True).all_value(".*")
    return variable


class _RolloutQuery(AnnotationQuery):
    """An annotation with a text to show on hovering, which Grafana's data source for Prometheus reads."""

    def to_json(self) -> dict[str, object]:
        return {**super().to_json(), "titleFormat": "Rollout", "textFormat": "{{release}} serves {{version}}"}


class _Rollouts(dashboard.AnnotationQuery):
    """The builder of the annotation. The SDK's has no member for the texts."""

    def __init__(self) -> None:
        self._internal = _RolloutQuery()


def assembled(
    uid: str,
    title: str,
    description: str,
    rows: Mapping[str, Sequence[Panel]],
    *,
    more: Sequence[Variable] = (),
    since: str = "now-3h",
    refresh: Literal["30s", "5m"] = "30s",
) -> BuiltDashboard:
    """Return a dashboard.

    Args:
        uid: Its identifier, part of its address in Grafana. Never change it.
        title: Its title.
        description: What it shows.
        rows: Panels by the title of their row.
        more: Variables in addition to those of every dashboard.
        since: The start of the time range that it shows first.
        refresh: How often it queries again.
    """
    board = (
        dashboard.Dashboard(title)
        .uid(uid)
        .description(description)
        .tags([TAG])
        .readonly()
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .time(since, "now")
        .refresh(refresh)
        .link(
            dashboard.DashboardLink("Bakehouse")
            .type(DashboardLinkType.DASHBOARDS)
            .tags([TAG])
            .include_vars(True)
            .keep_time(True)
        )
        .annotation(
            _Rollouts()
            .name("Rollouts")
            .datasource(DATASOURCE)
            .icon_color("blue")
            .enable(True)
            # Versions in the minutes after their first scrape. Grafana merges minutes that follow each other.
            .expr(
                promql(
                    "count by (release, version) (bakehouse_model_info{OF_RELEASE})"
                    " unless count by (release, version) (bakehouse_model_info{OF_RELEASE} offset 5m)"
                )
            )
        )
        .with_variable(dashboard.DatasourceVariable("datasource").label("data source").type("prometheus"))
        .with_variable(
            choice("namespace", "label_values(bakehouse_model_info, namespace)", "Namespace of the release.")
        )
        .with_variable(
            choice(
                "release",
                'label_values(bakehouse_model_info{namespace="$namespace"}, release)',
                "Helm release.",
            )
        )
        .with_variable(
            choice(
                "version", "label_values(bakehouse_model_info{OF_RELEASE}, version)", "Model versions.", several=True
            )
        )
    )
    for variable in more:
        board.with_variable(variable)
    identifier = 0
    for name, panels in rows.items():
        identifier += 1
        board.with_row(dashboard.Row(name).id(identifier))
        for panel in panels:
            identifier += 1
            panel.id(identifier)  # type: ignore[attr-defined]  # every builder of panels has it
            board.with_panel(panel)
    return board.build()
