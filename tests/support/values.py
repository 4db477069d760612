"""Whether the values of a chart, their comments and their schema agree."""

from collections.abc import Iterator
from typing import Any

from tools.chart import chart_values


def value_problems(values: str, schema: dict[str, Any]) -> list[str]:
    """Return what is missing in a values.yaml or its schema: comments, entries, descriptions, closed objects.

    An object that lists its properties must refuse others. An object without properties must name what it accepts, even
    if that is anything (additionalProperties: true), as for values that the chart passes on to Kubernetes.

    Args:
        values: The text of values.yaml.
        schema: The content of values.schema.json, whose references point into itself.
    """
    found = chart_values(values)
    described = dict(_properties(schema, schema))
    # Values for dependencies of the chart. Helm sets them, so values.yaml need not.
    described.pop("global", None)
    comments = {value.name: value.comment for value in found}
    names = set(comments)
    groups = {name[:dot] for name in names for dot, letter in enumerate(name) if letter == "."}
    problems = [f"{value.name} has no comment in values.yaml" for value in found if not value.comment]
    problems += [f"{name} is not in the schema" for name in sorted(names - set(described))]
    for name, part in described.items():
        if name in names and part.get("description") != comments[name]:
            problems.append(f"{name} has another description in the schema than its comment: run make docs")
        if name not in names | groups and not any(name.startswith(f"{value}.") for value in names):
            problems.append(f"{name} is in the schema but not in values.yaml")
    return problems + [f"{path} is not closed in the schema" for path in _open_objects(schema)]


def _resolved(part: dict[str, Any], root: dict[str, Any]) -> dict[str, Any]:
    if "$ref" not in part:
        return part
    target: Any = root
    for step in part["$ref"].removeprefix("#/").split("/"):
        target = target[step]
    # Members beside a reference are added, such as a description.
    return {**_resolved(target, root), **part}


def _properties(part: dict[str, Any], root: dict[str, Any], parent: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    for key, each in _resolved(part, root).get("properties", {}).items():
        yield parent + key, _resolved(each, root)
        yield from _properties(each, root, f"{parent}{key}.")


def _open_objects(part: Any, path: str = "#") -> Iterator[str]:
    if isinstance(part, dict):
        takes = part.get("additionalProperties")
        if "properties" in part:
            # Alternatives of anyOf refer to properties that are listed outside of them.
            is_open = takes is not False and part.get("type") == "object"
        else:
            is_open = takes is None and "object" in part.get("type", ()) and "$ref" not in part
        if is_open:
            yield path
        for key, each in part.items():
            yield from _open_objects(each, f"{path}/{key}")
    elif isinstance(part, list):
        for number, each in enumerate(part):
            yield from _open_objects(each, f"{path}/{number}")
