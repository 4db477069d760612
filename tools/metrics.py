"""Write docs/reference/metrics.md from the declarations of all metrics: python -m tools.metrics."""

from collections.abc import Sequence
from typing import Any

from service import series
from service.series import Series, Values
from tools import ROOT

PAGE = ROOT / "docs/reference/metrics.md"
# The modules that declare series, in the order of the page.
MODULES = (series,)
SERIES: tuple[Series[Any], ...] = tuple(declared for module in MODULES for declared in module.SERIES)
INTRODUCTION = """\
# Metrics

Written by `make docs` from the declarations in [`service/series.py`](../service/series.py); tests compare this page
with what running servers expose, and let `promtool check metrics` see it.

`GET /metrics` on the health port answers in the text format of Prometheus, or in OpenMetrics where `Accept` asks for
it. There, the duration of a request that came with a W3C `traceparent` carries its `trace_id` as an exemplar (with one
serving process). Whichever of several serving processes (`WEB_CONCURRENCY`) answers a scrape, it answers for all:
counters and histograms add up, and go on when a process is replaced; so do gauges of the moment, for the processes that
live, and they are then up to half a second old. Counters begin at 0 when the server starts.

Clients cannot make series: each label has fixed words, or values that the artifact or the operator decided on. The last
column but one is the most series of a family that one server exposes, each bucket of a histogram counted; all together
that is {total}. So it is with the default of 50 features that are watched for drift; more of them add up to 41 series
each.

| series | type | unit | labels | at most | help |
|---|---|---|---|---|---|
"""


def page(declared: Sequence[Series[Any]] = SERIES) -> str:
    """Return the text of the page."""
    return INTRODUCTION.format(total=sum(one.at_most for one in declared)) + "".join(map(_row, declared))


def _row(declared: Series[Any]) -> str:
    labels = "; ".join(f"`{name}`: {_shown(values)}" for name, values in declared.labels.items())
    about = f"{declared.help} Only {declared.only}." if declared.only else declared.help
    cells = (f"`{declared.name}`", declared.type, declared.unit, labels, str(declared.at_most), about)
    return f"| {' | '.join(cells)} |\n"


def _shown(values: Sequence[str] | Values) -> str:
    return values.text if isinstance(values, Values) else ", ".join(f"`{value}`" for value in values)


if __name__ == "__main__":
    PAGE.write_text(page())
