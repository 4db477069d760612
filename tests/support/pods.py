"""What the tests of the chart ask of objects and of the pods in them."""

from collections.abc import Iterable, Mapping
from typing import Any

from tools.helm import render

IMAGE = {"image": {"tag": "v1"}}


def rendered(values: Mapping[str, Any] | None = None, **options: Any) -> list[dict[str, Any]]:
    """Return the objects of the smallest release, with these values beside its image."""
    return render({**IMAGE, **(values or {})}, **options)


def pods(found: Iterable[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the pods and pod templates among objects, by Kind/name of what they are in."""
    templates = {
        f"{each['kind']}/{each['metadata']['name']}": each if each["kind"] == "Pod" else each["spec"].get("template")
        for each in found
        if isinstance(each.get("spec"), dict)
    }
    return {name: template for name, template in templates.items() if template and "containers" in template["spec"]}


def selects(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Return whether a label selector with matchLabels and expressions of In matches; others are refused."""
    assert set(selector) <= {"matchLabels", "matchExpressions"}, selector
    expressions = selector.get("matchExpressions", [])
    assert all(each["operator"] == "In" for each in expressions), expressions
    return selector.get("matchLabels", {}).items() <= labels.items() and all(
        labels.get(each["key"]) in each["values"] for each in expressions
    )


def restrictions_missed(spec: Mapping[str, Any]) -> list[str]:
    """Return which rules of the restricted Pod Security Standard a pod's spec breaks."""
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


# https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted
VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}
