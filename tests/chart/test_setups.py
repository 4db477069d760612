"""Every setup of ci/ installs and upgrades: its objects are valid, consistent and restricted."""

from dataclasses import fields

import pytest

from service.settings import Settings
from tests.chart.conftest import SETUPS
from tests.support.kubernetes import problems
from tests.support.objects import Objects, pods, restrictions_missed, selects
from tools.helm import lint, notes, one

STANDARD_LABELS = {f"app.kubernetes.io/{name}" for name in ("name", "instance", "managed-by")} | {"helm.sh/chart"}


def test_every_object_is_valid(found: Objects):
    """The API servers of all supported versions accept every field, in hooks and tests too."""
    assert problems(found) == []


@pytest.mark.parametrize("setup", SETUPS)
def test_lint_and_notes(setup: str):
    """The linter has no warning, and the notes name the release's namespace."""
    assert lint(SETUPS[setup]) == []
    assert "helm -n models test house" in notes(SETUPS[setup], namespace="models")


def test_every_object_belongs_to_the_release(found: Objects):
    """It has the namespace and labels of the release, and its own name."""
    own = [each for each in found if not each["metadata"]["name"].endswith("-note")]
    assert {each["metadata"]["namespace"] for each in own} == {"models"}
    for each in own:
        missing = STANDARD_LABELS - set(each["metadata"]["labels"]) if each["kind"] != "Pod" else set()
        assert not missing, each["metadata"]["name"]
    names = [(each["kind"], each["metadata"]["name"]) for each in found]
    assert len(names) == len(set(names))


def test_only_servers_are_selected(found: Objects):
    """Traffic, budgets and scrapes never reach the pods of checks."""
    servers = {name for name in pods(found) if name.startswith("Deployment/")}
    for each in found:
        spec = each.get("spec", {})
        if each["kind"] == "Service":
            selector = {"matchLabels": spec["selector"]}
        elif each["kind"] in ("Deployment", "PodDisruptionBudget", "PodMonitor"):
            selector = spec["selector"]
        elif each["kind"] == "NetworkPolicy" and not each["metadata"]["name"].endswith("-checks"):
            selector = spec["podSelector"]
        else:
            continue
        matched = {name for name, pod in pods(found).items() if selects(selector, pod["metadata"]["labels"])}
        assert matched == servers, f"{each['kind']} selects {matched}"
        assert not {"app.kubernetes.io/version", "helm.sh/chart"} & set(selector["matchLabels"])


def test_references_exist(found: Objects):
    """A reference to an object, a port or a volume leads to one of the release."""
    deployment, service = one(found, "Deployment"), one(found, "Service")
    server = deployment["spec"]["template"]["spec"]["containers"][0]
    ports = {each["name"] for each in server["ports"]}
    assert {each["targetPort"] for each in service["spec"]["ports"]} <= ports
    for each in found:
        spec = each.get("spec", {})
        match each["kind"]:
            case "HorizontalPodAutoscaler":
                assert spec["scaleTargetRef"]["name"] == deployment["metadata"]["name"]
                assert "replicas" not in deployment["spec"]
            case "ServiceMonitor":
                assert spec["endpoints"][0]["port"] in {port["name"] for port in service["spec"]["ports"]}
                assert selects(spec["selector"], service["metadata"]["labels"])
            case "PodMonitor":
                assert spec["podMetricsEndpoints"][0]["port"] in ports
            case "HTTPRoute":
                assert spec["parentRefs"], "attaches to no listener"
                backends = [ref for rule in spec["rules"] for ref in rule.get("backendRefs", [])]
                assert {ref["name"] for ref in backends} <= {service["metadata"]["name"]}


def test_names_in_pods_are_unique(found: Objects):
    """No variable is set twice, and every mount has one volume."""
    for pod in pods(found).values():
        volumes = [each["name"] for each in pod["spec"].get("volumes", [])]
        assert len(volumes) == len(set(volumes))
        for each in pod["spec"]["containers"]:
            names = [variable["name"] for variable in each.get("env", [])]
            assert len(names) == len(set(names))
            assert {mount["name"] for mount in each.get("volumeMounts", [])} <= set(volumes)


def test_every_pod_is_restricted(found: Objects):
    """A namespace that enforces the restricted Pod Security Standard accepts every pod."""
    assert [(name, rule) for name, pod in pods(found).items() for rule in restrictions_missed(pod["spec"])] == []


def test_the_service_knows_every_variable_that_the_chart_sets(found: Objects):
    """The chart sets no variable that the service ignores."""
    known = {item.metadata["name"] for item in fields(Settings)} | {"TZ", "TOKEN", "POD_NAME"}
    for pod in pods(found).values():
        names = {each["name"] for each in pod["spec"]["containers"][0].get("env", [])}
        assert {name for name in names if not name.startswith("OTEL_")} <= known  # those are OpenTelemetry's
