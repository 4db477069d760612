"""Write what values.yaml says of its values into the chart's README and its schema: python -m tools.chart."""

import copy
import json
from collections.abc import Iterator
from typing import Any, NamedTuple

import yaml

from tools import ROOT

CHART = ROOT / "helm/bakehouse"
BEGIN, END = "<!-- values: written by make docs -->\n", "<!-- end of values -->"
COMMENT = "# -- "


class Value(NamedTuple):
    """A value of the chart: its name with dots, its default, and what the comment above it says ("" without one)."""

    name: str
    default: Any
    comment: str


def chart_values(text: str) -> list[Value]:
    """Return the values of a values.yaml, in its order.

    The comment of a value begins with "# -- " and ends at the value's line. A mapping is one value, unless it holds
    others that have a comment.
    """
    return _values_of(yaml.compose(text, Loader=yaml.SafeLoader), text.splitlines())


def _values_of(node: yaml.MappingNode, lines: list[str], parent: str = "") -> list[Value]:
    found = []
    for key, content in node.value:
        name, comment = parent + key.value, _comment_above(key.start_mark.line, lines)
        within = _values_of(content, lines, f"{name}.") if isinstance(content, yaml.MappingNode) else []
        if any(value.comment for value in within) or (within and not comment):
            found += within
        else:
            # Through text again, because only a loader of a whole document knows what anchors stand for.
            found.append(Value(name, yaml.safe_load(yaml.serialize(content)), comment))
    return found


def _comment_above(line: int, lines: list[str]) -> str:
    said: list[str] = []
    for text in map(str.strip, reversed(lines[:line])):
        if not text.startswith("#"):
            break
        if text.startswith(COMMENT):
            return " ".join([text.removeprefix(COMMENT), *said])
        said.insert(0, text.removeprefix("#").strip())
    return ""


def values_table(text: str) -> str:
    """Return the Markdown table of the values of a values.yaml."""
    return "\n".join(["| value | default | what it does |", "|---|---|---|", *_rows(text)])


def _rows(text: str) -> Iterator[str]:
    for value in chart_values(text):
        default = json.dumps(value.default, separators=(",", ":"), ensure_ascii=False)
        cells = (f"`{value.name}`", f"`{default}`", value.comment)
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def with_table(readme: str, values: str) -> str:
    """Return the README's text with the table as it should be.

    Args:
        readme: The text of the README, with the lines between which the table goes.
        values: The text of values.yaml.

    Raises:
        ValueError: If the README has no place for the table.
    """
    before, begin, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"the chart's README has no lines {BEGIN.strip()} and {END}")
    return f"{before}{BEGIN}{values_table(values)}\n{END}{after}"


def with_descriptions(schema: dict[str, Any], values: str) -> dict[str, Any]:
    """Return the schema with the comments of a values.yaml as descriptions, which editors show.

    Args:
        schema: The content of values.schema.json; values that it does not list are passed over.
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
    readme.write_text(with_table(readme.read_text(), values))
    schema.write_text(json.dumps(with_descriptions(json.loads(schema.read_text()), values), indent=2) + "\n")
