"""Write the comments of values.yaml into the chart's README and its schema: python -m tools.chart."""

import copy
import json
import re
from collections.abc import Iterable
from itertools import groupby
from typing import Any, NamedTuple

import yaml

from tools import ROOT
from tools.markers import replaced

CHART = ROOT / "helm/bakehouse"
BEGIN, END = "<!-- values: written by make docs -->\n", "<!-- end of values -->"
COMMENT = "# -- "
SECTION = re.compile(r"# (.+?) -{3,}")


class Value(NamedTuple):
    """A value of the chart.

    Args:
        name: Its path with dots, such as image.tag.
        default: Its default.
        comment: The comment above it; "" without one.
        section: The heading of its part of the file; "" without one.
    """

    name: str
    default: Any
    comment: str
    section: str = ""


def chart_values(text: str) -> list[Value]:
    """Return the values of a values.yaml, in its order.

    The comment of a value begins with "# -- " and ends at the value's line. A mapping is one value, unless it contains
    values with a comment. A section begins with a line such as "# Network ---".
    """
    return _values_of(yaml.compose(text, Loader=yaml.SafeLoader), text.splitlines())


def _values_of(node: yaml.MappingNode, lines: list[str], parent: str = "") -> list[Value]:
    values = []
    for key, content in node.value:
        name, line = parent + key.value, key.start_mark.line
        comment = _comment_above(line, lines)
        children = _values_of(content, lines, f"{name}.") if isinstance(content, yaml.MappingNode) else []
        if any(child.comment for child in children) or (children and not comment):
            values += children
        else:
            # Through text again, because only a loader of a whole document resolves anchors.
            default = yaml.safe_load(yaml.serialize(content))
            values.append(Value(name, default, comment, _section_above(line, lines)))
    return values


def _comment_above(line: int, lines: list[str]) -> str:
    sentences: list[str] = []
    for text in map(str.strip, reversed(lines[:line])):
        if not text.startswith("#"):
            break
        if text.startswith(COMMENT):
            return " ".join([text.removeprefix(COMMENT), *sentences])
        sentences.insert(0, text.removeprefix("#").strip())
    return ""


def _section_above(line: int, lines: list[str]) -> str:
    return next((match[1] for text in reversed(lines[:line]) if (match := SECTION.fullmatch(text))), "")


def values_tables(text: str) -> str:
    """Return the Markdown tables of the values of a values.yaml, one for each section and under its heading."""
    sections = groupby(chart_values(text), lambda value: value.section)
    return "\n\n".join(_table(section, values) for section, values in sections)


def _table(section: str, values: Iterable[Value]) -> str:
    heading = [f"### {section}", ""] if section else []
    return "\n".join([*heading, "| value | default | description |", "|---|---|---|", *map(_row, values)])


def _row(value: Value) -> str:
    default = json.dumps(value.default, separators=(",", ":"), ensure_ascii=False)
    cells = (f"`{value.name}`", f"`{default}`", value.comment)
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def with_tables(readme: str, values: str) -> str:
    """Return the README's text with current tables of values.

    Args:
        readme: The text of the README, with the lines between which the tables go.
        values: The text of values.yaml.

    Raises:
        ValueError: If the README has no place for the tables.
    """
    return replaced(readme, BEGIN, END, f"{values_tables(values)}\n")


def with_descriptions(schema: dict[str, Any], values: str) -> dict[str, Any]:
    """Return the schema with the comments of a values.yaml as descriptions, which editors show.

    Args:
        schema: The content of values.schema.json. Values that it does not list are skipped.
        values: The text of values.yaml.
    """
    described = copy.deepcopy(schema)
    for value in chart_values(values):
        *groups, name = value.name.split(".")
        properties = described.get("properties", {})
        for group in groups:
            properties = properties.get(group, {}).get("properties", {})
        if name in properties:
            properties[name] = {**properties[name], "description": value.comment}
    return described


if __name__ == "__main__":
    readme, schema = CHART / "README.md", CHART / "values.schema.json"
    values = (CHART / "values.yaml").read_text()
    readme.write_text(with_tables(readme.read_text(), values))
    schema.write_text(json.dumps(with_descriptions(json.loads(schema.read_text()), values), indent=2) + "\n")
