"""The objects of a release, the pods in them, and what the tests of the chart look up there."""

from collections.abc import Iterable, Mapping
from typing import Any

from tools.helm import one, render

Objects = list[dict[str, Any]]

IMAGE = {"image": {"tag": "v1"}}
# Names and selectors of the release that rendered() gives.
NAME = "house-bakehouse"
SERVER, CHECK_JOB = f"Deployment/{NAME}", f"Job/{NAME}-gate"
RELEASE_LABELS = {"app.kubernetes.io/name": "bakehouse", "app.kubernetes.io/instance": "house"}
SERVERS = {"matchLabels": {**RELEASE_LABELS, "app.kubernetes.io/component": "server"}}
CHECKS = {
    "matchLabels": RELEASE_LABELS,
    "matchExpressions": [{"key": "app.kubernetes.io/component", "operator": "In", "values": ["gate", "test"]}],
}
# Values of an edge.
INGRESS = {"enabled": True, "hosts": ["a.example", "*.b.example"]}
GATEWAY = {"enabled": True, "hostnames": ["c.example", "d.example"], "create": {"kind": "Gateway", "className": "edge"}}
EXISTING_GATEWAY = {**GATEWAY, "create": {}, "parentRefs": [{"name": "edge", "sectionName": "https"}]}
SELF_SIGNED = {"mode": "selfSigned"}
CERT_MANAGER = {"mode": "certManager", "issuerRef": {"name": "letsencrypt", "kind": "ClusterIssuer"}}

# https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted
VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}


def rendered(values: Mapping[str, Any] | None = None, **options: Any) -> Objects:
    """Return the objects of the smallest release, with these values beside its image."""
    return render({**IMAGE, **(values or {})}, **options)


def spec(objects: Objects, kind: str, name: str | None = None) -> dict[str, Any]:
    """Return the specification of the only object of a kind, or of a kind and name."""
    return dict(one(objects, kind, name)["spec"])


def pods(objects: Iterable[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the pods and pod templates among objects, by the Kind/name of their object."""
    templates = {
        f"{each['kind']}/{each['metadata']['name']}": each if each["kind"] == "Pod" else each["spec"].get("template")
        for each in objects
        if isinstance(each.get("spec"), dict)
    }
    return {name: template for name, template in templates.items() if template and "containers" in template["spec"]}


def pod(objects: Objects, name: str = SERVER) -> dict[str, Any]:
    """Return the specification of a pod."""
    return dict(pods(objects)[name]["spec"])


def container(objects: Objects, name: str = SERVER) -> dict[str, Any]:
    """Return the only container of a pod."""
    (only,) = pod(objects, name)["containers"]
    return dict(only)


def variables(objects: Objects, name: str = SERVER) -> dict[str, str]:
    """Return the environment of a pod's container, in its order."""
    return {each["name"]: each["value"] for each in container(objects, name)["env"]}


def selects(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Return whether a label selector matches. It may have matchLabels and expressions with In."""
    assert set(selector) <= {"matchLabels", "matchExpressions"}, selector
    expressions = selector.get("matchExpressions", [])
    assert all(each["operator"] == "In" for each in expressions), expressions
    return selector.get("matchLabels", {}).items() <= labels.items() and all(
        labels.get(each["key"]) in each["values"] for each in expressions
    )


def restrictions_missed(spec: Mapping[str, Any]) -> list[str]:
    """Return the rules of the restricted Pod Security Standard that the spec of a pod breaks."""
    pod = spec.get("securityContext", {})
    missed = [field for field in ("hostNetwork", "hostPID", "hostIPC") if spec.get(field)]
    missed += [f"volume {each['name']}" for each in spec.get("volumes", []) if not VOLUMES & set(each)]
    for each in spec.get("initContainers", []) + spec["containers"]:
        own = each.get("securityContext", {})
        context = {**pod, **own}
        rules = {
            "privileged": not own.get("privileged", False),
            "allowPrivilegeEscalation": own.get("allowPrivilegeEscalation") is False,
            "capabilities.drop": own.get("capabilities", {}).get("drop") == ["ALL"],
            "capabilities.add": set(own.get("capabilities", {}).get("add", [])) <= {"NET_BIND_SERVICE"},
            "runAsNonRoot": context.get("runAsNonRoot") is True,
            "runAsUser": context.get("runAsUser") != 0,
            "seccompProfile": context.get("seccompProfile", {}).get("type") in ("RuntimeDefault", "Localhost"),
            "procMount": own.get("procMount", "Default") == "Default",
            "hostPort": not any("hostPort" in port for port in each.get("ports", [])),
        }
        missed += [f"{each['name']}: {rule}" for rule, kept in rules.items() if not kept]
    return missed
