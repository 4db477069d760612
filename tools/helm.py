"""The chart as Helm 4 renders it: in this process, without a cluster and without the helm command.

The functions here pass their keyword arguments on to templates(), which documents them.
"""

import json
import re
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import helm_python
import yaml

# The public Chart.render() takes neither a Kubernetes version nor API versions. The library below it does.
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
    """Return the text of each rendered template, by the template's path within the chart.

    Args:
        values: The user's values. A null removes a default.
        chart: The chart's folder.
        name: The release's name.
        namespace: The release's namespace.
        kube_version: The value of .Capabilities.KubeVersion.
        api_versions: Entries of .Capabilities.APIVersions beside Kubernetes' own, such as monitoring.coreos.com/v1.
        is_upgrade: Whether .Release.IsUpgrade is true, instead of .Release.IsInstall.

    Raises:
        helm_python.HelmError: If Helm refuses the chart, the values, the name or the version of Kubernetes.
    """
    # The project's own chart does not change while a process runs, so equal arguments render once.
    install, rendered = (_install_once, _rendered_once) if chart == CHART else (_install, _rendered)
    arguments = (json.dumps(values or {}), chart, name, namespace, kube_version, tuple(api_versions))
    install(*arguments)
    return dict(rendered(*arguments, is_upgrade))


def _install(
    values: str, chart: Path, name: str, namespace: str, kube_version: str, api_versions: tuple[str, ...]
) -> None:
    """Install in a dry run, which refuses bad names, other versions of Kubernetes, and objects without a kind."""
    options = {
        "namespace": namespace,
        "kube_version": kube_version,
        "api_versions": list(api_versions),
        "dry_run": "client",
    }
    with helm_python.Chart.load(chart) as loaded, helm_python.Config(storage_driver="memory") as config:
        _native.call_string(
            "helm_install", config._raw(), _native.HANDLE(0), loaded._raw(), None, name, values, json.dumps(options)
        )


def _rendered(
    values: str,
    chart: Path,
    name: str,
    namespace: str,
    kube_version: str,
    api_versions: tuple[str, ...],
    is_upgrade: bool,
) -> dict[str, str]:
    """Return the templates. The result of an installation has no hooks, and cannot be an upgrade."""
    release = {
        "name": name,
        "namespace": namespace,
        "kube_version": kube_version,
        "api_versions": list(api_versions),
        "is_upgrade": is_upgrade,
    }
    with helm_python.Chart.load(chart) as loaded:
        rendered = json.loads(_native.call_string("helm_render", loaded._raw(), values, json.dumps(release)))
    # Helm's paths begin with the chart's name, whatever its folder.
    return {path.partition("/")[2]: text for path, text in rendered.items()}


_install_once, _rendered_once = cache(_install), cache(_rendered)


def render(values: Mapping[str, Any] | None = None, **options: Any) -> list[dict[str, Any]]:
    """Return the objects that the values give, including hooks and tests, in the order of templates.

    Raises:
        helm_python.HelmError: If Helm refuses the values, see templates().
        ValueError: If a template renders something other than objects, or sets a field twice.
    """
    return [
        rendered
        for path, text in sorted(templates(values, **options).items())
        if not path.endswith("NOTES.txt")
        for rendered in objects(text, path)
    ]


def objects(text: str, source: str = "text") -> list[dict[str, Any]]:
    """Return the objects in a file of YAML documents, read as Helm reads them: 1e3 is a number, 2026-01-01 a string.

    Raises:
        ValueError: If a document is not an object, or sets a field twice. Helm would silently drop one of the two.
    """
    contents = []
    for document in re.split(r"^---\s*$", text, flags=re.MULTILINE):
        try:
            _refuse_duplicates(yaml.compose(document, Loader=yaml.CSafeLoader))
            content = helm_python.values_from_yaml(document)
        except (ValueError, yaml.YAMLError, helm_python.HelmError) as error:
            raise ValueError(f"{source}: {error}") from error
        if content:
            contents.append(content)
    return contents


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
    """Return the message with which Helm refuses the values.

    Raises:
        AssertionError: If it accepts them.
    """
    try:
        templates(values, **options)
    except helm_python.HelmError as error:
        return str(error)
    raise AssertionError(f"Helm accepts {json.dumps(values)}")


def lint(values: Mapping[str, Any] | None = None, *, chart: Path = CHART) -> list[str]:
    """Return the warnings and errors of helm lint --strict, "severity path: message"."""
    report = helm_python.lint(chart, dict(values or {}), strict=True, kube_version=KUBERNETES)
    severities = {2: "warning", 3: "error"}
    return [
        f"{severities[message['severity']]} {message['path']}: {message['error']}"
        for message in report["messages"]
        if message["severity"] in severities
    ]


def one(rendered: Iterable[dict[str, Any]], kind: str, name: str | None = None) -> dict[str, Any]:
    """Return the only object of a kind, or of a kind and name.

    Raises:
        AssertionError: If no object matches, or several do.
    """
    listed = list(rendered)
    matching = [each for each in listed if each["kind"] == kind and name in (None, each["metadata"]["name"])]
    names = [f"{each['kind']}/{each['metadata']['name']}" for each in listed]
    assert len(matching) == 1, f"{len(matching)} of {kind} {name or ''} among {names}"
    return matching[0]
