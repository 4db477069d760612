"""Writes docs/reference/chart.md, the page of the chart's values, from values.yaml: python -m tools.chart_page."""

from tools import ROOT
from tools.chart import CHART, values_tables

PAGE = ROOT / "docs/reference/chart.md"
INTRODUCTION = """\
# Chart values

The values of the chart `helm/bakehouse`. `make docs` writes this page from `values.yaml`. `values.schema.json` refuses
a value that is not listed here. `helm/bakehouse/README.md` explains how the values work together, and
`helm/bakehouse/ci/` holds a values file for each supported setup.

"""


def page(values: str) -> str:
    """Return the text of the page for the text of a values.yaml."""
    return f"{INTRODUCTION}{values_tables(values)}\n".replace("\n### ", "\n## ")


if __name__ == "__main__":
    PAGE.write_text(page((CHART / "values.yaml").read_text()))
