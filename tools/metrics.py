"""Writes docs/reference/metrics.md from the declarations of all metrics: python -m tools.metrics."""

from collections.abc import Sequence
from typing import Any

from service.observability import metric_definitions
from service.observability.metric_definitions import LabelValues, MetricDefinition
from tools import ROOT

PAGE = ROOT / "docs/reference/metrics.md"
# The modules that declare metrics, in the order of the page.
MODULES = (metric_definitions,)
SERIES: tuple[MetricDefinition[Any], ...] = tuple(
    declared for module in MODULES for declared in module.METRIC_DEFINITIONS
)
INTRODUCTION = """\
# Metrics

`GET /metrics` on the health port answers in Prometheus' text format, or in OpenMetrics if `Accept` asks for it.
`make docs` writes this page from the code. Tests compare it with running servers, and `promtool check metrics` reads
it.

- **Series are bounded.** Clients cannot create series: each label has fixed values, or values from the artifact or the
  operator. The column *at most* counts the series of one server, with every bucket of a histogram;
  all together that is {total}. This is with the default of 50 features watched for drift. Each further feature adds up
  to 41 series.
- **Several processes.** With `WEB_CONCURRENCY` above 1, any process answers a scrape for all. Counters and histograms
  add up and continue when a process is replaced. Gauges add up over the live processes and are up to half a second old.
- **Restarts.** Counters start at 0 when the server starts.
- **Exemplars.** In OpenMetrics, with one serving process, the duration of a request that came with a `traceparent`
  carries its `trace_id` as an exemplar.

| series | type | unit | labels | at most | help |
|---|---|---|---|---|---|
"""


def page(declared: Sequence[MetricDefinition[Any]] = SERIES) -> str:
    """Return the text of the page."""
    return INTRODUCTION.format(total=sum(one.at_most for one in declared)) + "".join(map(_row, declared))


def _row(declared: MetricDefinition[Any]) -> str:
    labels = "; ".join(f"`{name}`: {_label_text(values)}" for name, values in declared.labels.items())
    description = f"{declared.help} Only {declared.only}." if declared.only else declared.help
    cells = (f"`{declared.name}`", declared.type, declared.unit, labels, str(declared.at_most), description)
    return f"| {' | '.join(cells)} |\n"


def _label_text(values: Sequence[str] | LabelValues) -> str:
    return values.text if isinstance(values, LabelValues) else ", ".join(f"`{value}`" for value in values)


if __name__ == "__main__":
    PAGE.write_text(page())
