"""Write the schemas of custom resources from their projects' definitions: python -m tests.chart.schemas.update.

The definitions are in the Go module of each project, which never changes and has a public hash. The schemas keep the
keywords of JSON Schema, and close objects as the strict field validation of the API server does. They lack rules in
CEL, uniqueness of list keys, and the status. The schema of GrafanaDashboard is written by hand, and has only the fields
that the chart uses.
"""

import base64
import hashlib
import io
import json
import re
import urllib.request
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

from helm_python import values_from_yaml

HERE = Path(__file__).parent
PROXY = "https://proxy.golang.org"
KEPT = {
    *("type", "required", "enum", "pattern", "multipleOf", "uniqueItems"),
    *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "minLength", "maxLength"),
    *("minItems", "maxItems", "minProperties", "maxProperties"),
}
# JSON Schema has another keyword for some of these, see json_schema().
DROPPED = {
    *("description", "title", "default", "format", "example", "nullable"),
    *("x-kubernetes-int-or-string", "x-kubernetes-preserve-unknown-fields", "x-kubernetes-validations"),
    *("x-kubernetes-list-map-keys", "x-kubernetes-list-type", "x-kubernetes-map-type"),
}


class Source(NamedTuple):
    """A Go module, its hash at https://sum.golang.org, and the path of its definitions."""

    module: str
    version: str
    hash: str
    path: str
    plurals: tuple[str, ...]


SOURCES = (
    Source(
        "sigs.k8s.io/gateway-api",
        "v1.6.3",
        "h1:lKpJa5bGlraC/QeACvCpsHLdmO6y0iKfzVl6gzaFEYc=",
        "config/crd/standard/gateway.networking.k8s.io_{}.yaml",
        ("backendtlspolicies", "gateways", "httproutes", "listenersets"),
    ),
    Source(
        "github.com/prometheus-operator/prometheus-operator",
        "v0.94.1",
        "h1:QEIb2wenPH+SdMN1xMf8l4Pmj00YYXXI6HlbLlQWkww=",
        "example/prometheus-operator-crd/monitoring.coreos.com_{}.yaml",
        ("podmonitors", "prometheusrules", "servicemonitors"),
    ),
    Source(
        "github.com/cert-manager/cert-manager",
        "v1.21.2",
        "h1:UWgoYM+KLNtRlqmoWOKjKBOBUPVHeepQ6/ac3ERJW68=",
        "deploy/crds/cert-manager.io_{}.yaml",
        ("certificates", "issuers"),
    ),
)
README = """# Schemas of custom resources

`python -m tests.chart.schemas.update` writes these files from definitions that the projects publish under Apache-2.0.
The files have types, bounds, patterns and names, but no descriptions. The schema of GrafanaDashboard is written by
hand: it has only the fields that the chart uses.

| module | version | kinds |
|---|---|---|
"""


def module_files(source: Source) -> zipfile.ZipFile:
    """Download a module and return its files, named "module@version/path".

    Raises:
        ValueError: If the files have another hash.
    """
    with urllib.request.urlopen(f"{PROXY}/{source.module}/@v/{source.version}.zip", timeout=300) as answer:
        files = zipfile.ZipFile(io.BytesIO(answer.read()))
    # https://go.dev/ref/mod#go-sum-files: the SHA-256 of a list of the files' SHA-256
    listed = "".join(f"{hashlib.sha256(files.read(name)).hexdigest()}  {name}\n" for name in sorted(files.namelist()))
    found = "h1:" + base64.b64encode(hashlib.sha256(listed.encode()).digest()).decode()
    if found != source.hash:
        raise ValueError(f"{source.module} {source.version} has the hash {found} instead of {source.hash}")
    return files


def json_schema(schema: dict[str, Any], *, close: bool = True) -> dict[str, Any]:
    """Return an OpenAPI schema of a custom resource as JSON Schema, closed where the API server prunes.

    Args:
        schema: Part of a definition's openAPIV3Schema.
        close: False inside allOf, anyOf, oneOf and not, which refer to fields that are declared outside them.

    Raises:
        ValueError: If the schema has an unknown keyword.
    """
    found: dict[str, Any] = {name: value for name, value in schema.items() if name in KEPT}
    for name, value in schema.items():
        if name == "properties":
            found[name] = {key: json_schema(each, close=close) for key, each in value.items()}
        elif name == "additionalProperties" and isinstance(value, bool):
            found[name] = value
        elif name in ("items", "additionalProperties"):
            found[name] = json_schema(value, close=close)
        elif name == "not":
            found[name] = json_schema(value, close=False)
        elif name in ("allOf", "anyOf", "oneOf"):
            found[name] = [json_schema(each, close=False) for each in value]
        elif name not in KEPT | DROPPED:
            raise ValueError(f"unknown keyword {name}")
    if "pattern" in found:
        # Go allows a flag anywhere, Python only at the start.
        found["pattern"] = re.sub(r"^\^\(\?i\)", "(?i)^", found["pattern"])
    if schema.get("x-kubernetes-int-or-string"):
        found["type"] = ["integer", "string"]
    if schema.get("nullable"):
        found["type"] = [found["type"], "null"]
    if schema.get("x-kubernetes-list-type") == "set":
        found["uniqueItems"] = True
    open_ended = schema.get("x-kubernetes-preserve-unknown-fields") or "additionalProperties" in schema
    if close and "properties" in schema and not open_ended:
        found["additionalProperties"] = False
    return found


def kind_schema(definition: dict[str, Any]) -> tuple[Path, dict[str, Any]]:
    """Return the file's name, group/kind_version.json, and the schema of the fields that a chart may set.

    Raises:
        ValueError: If version v1 is not served.
    """
    spec = definition["spec"]
    name = Path(spec["group"], f"{spec['names']['singular']}_v1.json")
    for version in spec["versions"]:
        if version["name"] == "v1" and version["served"]:
            schema = json_schema(version["schema"]["openAPIV3Schema"])
            schema["properties"].pop("status", None)
            schema["required"] = sorted({"apiVersion", "kind", "metadata", *schema.get("required", ())})
            schema["properties"]["apiVersion"]["const"] = f"{spec['group']}/v1"
            schema["properties"]["kind"]["const"] = spec["names"]["kind"]
            return name, schema
    raise ValueError(f"{name.stem} is not served")


def main() -> None:
    """Write all files of this folder except this one and the GrafanaDashboard's."""
    readme = README
    for source in SOURCES:
        files = module_files(source)
        kinds = []
        for plural in source.plurals:
            text = files.read(f"{source.module}@{source.version}/{source.path.format(plural)}").decode()
            name, schema = kind_schema(values_from_yaml(text))
            kinds.append(schema["properties"]["kind"]["const"])
            (HERE / name).parent.mkdir(exist_ok=True)
            (HERE / name).write_text(json.dumps(schema, sort_keys=True, separators=(",", ":")) + "\n")
        readme += f"| {source.module} | {source.version} | {', '.join(kinds)} |\n"
    (HERE / "README.md").write_text(readme)


if __name__ == "__main__":
    main()
