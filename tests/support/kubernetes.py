"""Problems for which an API server would refuse an object, as far as schemas can express them."""

import json
from collections.abc import Iterable
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match
from referencing import Registry, Resource

VERSIONS = ("1.34", "1.35", "1.36")
CUSTOM_RESOURCES = Path(__file__).parents[1] / "chart/schemas"
OBJECT_META = "https://kubernetes.io/api/_definitions.json#/$defs/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"


def problems(found: Iterable[dict[str, Any]], versions: Iterable[str] = VERSIONS) -> list[str]:
    """Return the problems of objects in these versions of Kubernetes, "Kind/name: path: message (versions)".

    Unknown fields are problems, as with strict field validation, and so is a kind without a schema. Rules that schemas
    cannot express, such as those in CEL, are not checked.
    """
    wrong: dict[str, list[str]] = {}
    for each in found:
        for version in versions:
            for message in _messages(each, version):
                wrong.setdefault(message, []).append(version)
    return [f"{message} ({', '.join(seen)})" for message, seen in wrong.items()]


def _messages(found: dict[str, Any], version: str) -> Iterable[str]:
    api_version, kind = found.get("apiVersion", ""), found.get("kind", "")
    name = f"{kind}/{found.get('metadata', {}).get('name', '')}"
    try:
        validator = _validator(version, api_version, kind)
    except FileNotFoundError:
        yield f"{name}: no schema of {api_version} {kind}"
        return
    for error in validator.iter_errors(found):
        # Of the alternatives of anyOf and oneOf, the nearest to valid has the most helpful message.
        closest = best_match([error])
        yield f"{name}: {'.'.join(map(str, closest.absolute_path))}: {closest.message}"


@cache
def _validator(version: str, api_version: str, kind: str) -> Draft202012Validator:
    group, _, api = api_version.rpartition("/")
    custom = CUSTOM_RESOURCES / group / f"{kind.lower()}_{api}.json"
    if group and custom.exists():
        schema = json.loads(custom.read_text())
        schema["properties"]["metadata"] = {"$ref": OBJECT_META}
    else:
        # apps/v1 Deployment is deployment-apps-v1.json, networking.k8s.io/v1 Ingress is ingress-networking-v1.json.
        parts = [kind.lower(), group.partition(".")[0], api]
        schema = json.loads((_folder(version) / f"{'-'.join(filter(None, parts))}.json").read_text())
    return Draft202012Validator(schema, registry=_definitions(version))


@cache
def _definitions(version: str) -> Registry:
    definitions = Resource.from_contents(json.loads((_folder(version) / "_definitions.json").read_text()))
    return Registry().with_resource(definitions.id() or "", definitions).crawl()


def _folder(version: str) -> Path:
    return Path(str(files("kubernetes_validate"))) / f"kubernetes-json-schema/v{version}.0-local-strict"
