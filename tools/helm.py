"""The chart as Helm 4 renders it: in this process, with no cluster and no helm command.

The functions here pass their keyword arguments on to templates(), which says what they mean.
"""

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import helm_python
import yaml

# The public Chart.render() takes neither a Kubernetes version nor API versions; the library under it does.
from helm_python import _native

from tools import ROOT

CHART = ROOT / "helm/bakehouse"
KUBERNETES = "1.36.0"


def templates(
    values: Mapping[str, Any] | None = None,
    *,
    chart: Path = CHART,
    name: str = "house",
    namespace: str = "default",
    kube_version: str = KUBERNETES,
    api_versions: Iterable[str] = (),
    is_upgrade: bool = False,
) -> dict[str, str]:
    """Return what each template makes of the values, by the template's path within the chart.

    Args:
        values: What a user sets; a null removes a default.
        chart: The chart's folder.
        name: The release's name.
        namespace: The release's namespace.
        kube_version: What .Capabilities.KubeVersion says.
        api_versions: What .Capabilities.APIVersions has beside Kubernetes' own, such as monitoring.coreos.com/v1.
        is_upgrade: Whether .Release.IsUpgrade is true, instead of .Release.IsInstall.

    Raises:
        helm_python.HelmError: If Helm refuses the chart, the values, the name or the version of Kubernetes.
    """
    overrides = json.dumps(values or {})
    options = {"namespace": namespace, "kube_version": kube_version, "api_versions": list(api_versions)}
    with helm_python.Chart.load(chart) as loaded, helm_python.Config(storage_driver="memory") as config:
        # What an installation refuses beyond what rendering does: names, versions of Kubernetes, objects of no kind.
        dry_run = json.dumps({**options, "dry_run": "client"})
        _native.call_string(
            "helm_install", config._raw(), _native.HANDLE(0), loaded._raw(), None, name, overrides, dry_run
        )
        # The installation's answer has no hooks, and cannot be an upgrade.
        release = json.dumps({**options, "name": name, "is_upgrade": is_upgrade})
        rendered = json.loads(_native.call_string("helm_render", loaded._raw(), overrides, release))
        # Helm's names begin with the chart's, whatever its folder is called.
        return {path.partition("/")[2]: text for path, text in rendered.items()}


def render(values: Mapping[str, Any] | None = None, **options: Any) -> list[dict[str, Any]]:
    """Return the objects that the values give, hooks and tests among them, in the order of templates.

    Raises:
        helm_python.HelmError: If Helm refuses; see templates().
        ValueError: If a template gives something else than objects, or sets a field twice.
    """
    return [
        found
        for path, text in sorted(templates(values, **options).items())
        if not path.endswith("NOTES.txt")
        for found in objects(text, path)
    ]


def objects(text: str, source: str = "text") -> list[dict[str, Any]]:
    """Return the objects in a file of YAML documents, read as Helm reads them: 1e3 is a number, 2026-01-01 a string.

    Raises:
        ValueError: If a document is no object, or sets a field twice, of which Helm would silently drop one.
    """
    found = []
    for document in re.split(r"^---\s*$", text, flags=re.MULTILINE):
        try:
            _refuse_duplicates(yaml.compose(document, Loader=yaml.CSafeLoader))
            content = helm_python.values_from_yaml(document)
        except (ValueError, yaml.YAMLError, helm_python.HelmError) as error:
            raise ValueError(f"{source}: {error}") from error
        if content:
            found.append(content)
    return found


def _refuse_duplicates(node: yaml.Node | None) -> None:
    if isinstance(node, yaml.MappingNode):
        names = [key.value for key, _ in node.value]
        if repeated := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"line {node.start_mark.line + 1}: {', '.join(repeated)} set twice")
        for _, value in node.value:
            _refuse_duplicates(value)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            _refuse_duplicates(value)


def notes(values: Mapping[str, Any] | None = None, **options: Any) -> str:
    """Return the text of NOTES.txt, which a user reads after an installation."""
    return templates(values, **options)["templates/NOTES.txt"]


def refusal(values: Mapping[str, Any] | None = None, **options: Any) -> str:
    """Return what Helm says when it refuses the values.

    Raises:
        AssertionError: If it accepts them.
    """
    try:
        templates(values, **options)
    except helm_python.HelmError as error:
        return str(error)
    raise AssertionError(f"Helm accepts {json.dumps(values)}")


def lint(values: Mapping[str, Any] | None = None, *, chart: Path = CHART) -> list[str]:
    """Return what helm lint --strict has against the chart with the values, "severity path: message", without hints."""
    report = helm_python.lint(chart, dict(values or {}), strict=True, kube_version=KUBERNETES)
    severities = {2: "warning", 3: "error"}
    return [
        f"{severities[message['severity']]} {message['path']}: {message['error']}"
        for message in report["messages"]
        if message["severity"] in severities
    ]


def one(found: Iterable[dict[str, Any]], kind: str, name: str | None = None) -> dict[str, Any]:
    """Return the object of a kind, and of a name if several are of that kind.

    Raises:
        AssertionError: If none matches, or several do.
    """
    listed = list(found)
    matching = [each for each in listed if each["kind"] == kind and name in (None, each["metadata"]["name"])]
    everything = [f"{each['kind']}/{each['metadata']['name']}" for each in listed]
    assert len(matching) == 1, f"{len(matching)} of {kind} {name or ''} among {everything}"
    return matching[0]
