"""What values become in the objects: the fields that nothing else would miss if a template lost them."""

import re
import ssl
from base64 import b64decode
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest
import yaml

from service.settings import Settings
from tests.chart.conftest import SETUPS
from tests.support.kubernetes import problems
from tests.support.pods import pods, rendered
from tools.helm import CHART, one, render

TRACES = CHART.parents[1] / "docs/how-to/traces.md"
INGRESS = {"enabled": True, "hosts": ["a.example", "*.b.example"]}
GATEWAY = {"enabled": True, "hostnames": ["c.example", "d.example"], "create": {"kind": "Gateway", "className": "edge"}}
SHARED = {**GATEWAY, "create": {}, "parentRefs": [{"name": "edge", "sectionName": "https"}]}
SELF_SIGNED = {"mode": "selfSigned"}
CERT_MANAGER = {"mode": "certManager", "issuerRef": {"name": "letsencrypt", "kind": "ClusterIssuer"}}
NAME = "house-bakehouse"
RELEASE = {"app.kubernetes.io/name": "bakehouse", "app.kubernetes.io/instance": "house"}
SERVERS = {"matchLabels": {**RELEASE, "app.kubernetes.io/component": "server"}}
CHECKS = {
    "matchLabels": RELEASE,
    "matchExpressions": [{"key": "app.kubernetes.io/component", "operator": "In", "values": ["gate", "test"]}],
}
PEERS = [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "somewhere"}}}]
DNS = {"ports": [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}]}
Objects = list[dict[str, Any]]


def spec(found: Objects, kind: str, name: str | None = None) -> dict[str, Any]:
    """Return the specification of an object."""
    return dict(one(found, kind, name)["spec"])


def pod(found: Objects, name: str = f"Deployment/{NAME}") -> dict[str, Any]:
    """Return the specification of a pod."""
    return dict(pods(found)[name]["spec"])


def container(found: Objects, name: str = f"Deployment/{NAME}") -> dict[str, Any]:
    """Return the only container of a pod."""
    (only,) = pod(found, name)["containers"]
    return dict(only)


def variables(found: Objects, name: str = f"Deployment/{NAME}") -> dict[str, str]:
    """Return the environment of a pod's container, in its order."""
    return {each["name"]: each["value"] for each in container(found, name)["env"]}


# Names ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["12e3", "007", "1.10", "0x1f"])
def test_names_that_look_like_numbers_stay_text(text: str):
    """The release's, the model version's and those of Secrets, in every label, selector and reference."""
    values = {
        **SETUPS["everything"],
        "fullnameOverride": "house",
        "image": {"repository": "house", "tag": text},
        "tls": {"mode": "existingSecret", "secretName": text},
        "backendTLS": {"enabled": True, "secretName": text, "caConfigMapName": text},
        "serviceAccount": {"name": text},
        "tests": {"edge": {"caSecretName": text}},
        "priorityClassName": text,
        "gateway": {**GATEWAY, "create": {"kind": "Gateway", "className": text}},
        "commonLabels": {"team": text},
    }
    found = render(values, name=text)
    assert problems(found) == []
    assert spec(found, "Deployment")["selector"]["matchLabels"]["app.kubernetes.io/instance"] == text
    assert pods(found)["Deployment/house"]["metadata"]["labels"]["app.kubernetes.io/version"] == text
    assert f"--version={text}" in container(found, "Job/house-gate")["args"]
    assert problems(rendered({"ingress": INGRESS, "tls": {**SELF_SIGNED, "secretName": text}})) == []
    assert problems(rendered({"ingress": INGRESS, "tls": {**CERT_MANAGER, "secretName": text}})) == []


@pytest.mark.parametrize(
    ("image", "reference"),
    [
        ({"tag": "v1"}, "bakehouse:v1"),
        ({"repository": "registry.example:5000/a/b", "tag": "v1"}, "registry.example:5000/a/b:v1"),
        ({"digest": f"sha256:{'0' * 64}", "tag": ""}, f"bakehouse@sha256:{'0' * 64}"),
        ({"digest": f"sha256:{'0' * 64}", "tag": "v1"}, f"bakehouse:v1@sha256:{'0' * 64}"),
    ],
    ids=["tag", "repository", "digest", "both"],
)
def test_every_pod_runs_the_image(image: dict[str, str], reference: str):
    """By tag, by digest or by both; the label and the checks compare with the tag, where there is one."""
    found = rendered({"image": image})
    for each in pods(found).values():
        assert each["spec"]["containers"][0]["image"] == reference
        assert each["metadata"]["labels"].get("app.kubernetes.io/version", "") == image["tag"]
    for name in (f"Job/{NAME}-gate", f"Pod/{NAME}-test-service"):
        asked = [argument for argument in container(found, name)["args"] if argument.startswith("--version")]
        assert asked == ([f"--version={image['tag']}"] if image["tag"] else [])


def test_a_new_chart_alone_replaces_no_pod(tmp_path: Path):
    """Its versions are in the labels of objects, and in no pod's template."""
    chart = copytree(CHART, tmp_path / "bakehouse")
    description = re.sub(r"ersion: \d.*", "ersion: 9.9.9", (CHART / "Chart.yaml").read_text())
    (chart / "Chart.yaml").write_text(description)
    values = {key: value for key, value in SETUPS["everything"].items() if key != "extraObjects"}
    old, new = render(values), render(values, chart=chart)
    assert one(new, "Service")["metadata"]["labels"]["helm.sh/chart"] == "bakehouse-9.9.9"
    assert spec(old, "Deployment") == spec(new, "Deployment")


# The server -----------------------------------------------------------------------------------------------------------


def test_settings_arrive_as_they_are_given():
    """The service understands each of them, large numbers and fractions too; the gate's are the same."""
    given = {
        "drainSeconds": 2.5,
        "gracefulTimeoutSeconds": 45,
        "keepAliveSeconds": 0,
        "headerTimeoutSeconds": 1,
        "bodyTimeoutSeconds": 2,
        "answerTimeoutSeconds": 3600,
        "workers": 3,
        "threads": 0,
        "computeThreads": 1024,
        "maxQueued": 100_000,
        "maxConnections": 100_000,
        "maxBodyBytes": 1024**3,
        "maxRows": 10_000_000,
        "feedbackBytes": 1024**4,
        "feedbackSeconds": 31_536_000,
        "predictionLog": "-",
        "predictionLogRatio": 0.25,
        "predictionLogRedact": 'age, "a, b"',
        "workerTimeoutSeconds": 3600,
        "driftFeatures": 1000,
        "driftRows": 1000,
        "logLevel": "error",
    }
    found = rendered({"settings": given})
    for name in (f"Deployment/{NAME}", f"Job/{NAME}-gate"):
        assert Settings.from_env(variables(found, name)) == Settings(
            drain_seconds=2.5,
            graceful_timeout_seconds=45,
            keep_alive_seconds=0,
            header_timeout_seconds=1,
            body_timeout_seconds=2,
            answer_timeout_seconds=3600,
            workers=3,
            threads=0,
            compute_threads=1024,
            max_queued=100_000,
            max_connections=100_000,
            max_body_bytes=1024**3,
            max_rows=10_000_000,
            feedback_bytes=1024**4,
            feedback_seconds=31_536_000,
            prediction_log="-",
            prediction_log_ratio=0.25,
            prediction_log_redact='age, "a, b"',
            worker_timeout_seconds=3600,
            drift_features=1000,
            drift_rows=1000,
            log_level="error",
        )


def test_tracing_arrives_at_the_server_and_is_checked_before():
    """Where to and as whom is the server's; the check finds out whether the image has the packages. As documented."""
    (values,) = map(yaml.safe_load, re.findall(r"```yaml\n(.*?)```", TRACES.read_text(), re.DOTALL))
    found = rendered(values)
    assert problems(found) == []
    server, gate = variables(found), variables(found, f"Job/{NAME}-gate")
    assert Settings.from_env(server).tracing
    assert Settings.from_env(gate).tracing
    sent = {"OTEL_EXPORTER_OTLP_ENDPOINT": values["tracing"]["endpoint"], "OTEL_SERVICE_NAME": "house"}
    assert {name: value for name, value in server.items() if name.startswith("OTEL_")} == sent
    assert not [name for name in gate if name.startswith("OTEL_")]


def test_values_left_empty_are_the_services_own():
    """The chart repeats no default but the two that its arithmetic needs."""
    assert set(variables(rendered())) == {"BAKEHOUSE_DRAIN_SECONDS", "BAKEHOUSE_GRACEFUL_TIMEOUT_SECONDS"}


def test_more_variables_keep_their_order_and_replace_the_charts():
    """Kubernetes expands $(HOST) only of variables that stand before."""
    extra = [
        {"name": "ZONE", "value": "a"},
        {"name": "BAKEHOUSE_MAX_ROWS", "value": "5"},
        {"name": "HOST", "value": "$(ZONE).example"},
        {"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
    ]
    found = rendered({"settings": {"maxRows": 7}, "extraEnv": extra})
    own = [
        {"name": "BAKEHOUSE_DRAIN_SECONDS", "value": "10"},
        {"name": "BAKEHOUSE_GRACEFUL_TIMEOUT_SECONDS", "value": "30"},
    ]
    assert container(found)["env"] == own + extra
    assert container(found, f"Job/{NAME}-gate")["env"] == own + extra


def test_of_two_variables_of_one_name_the_last_counts():
    """As in a shell, and never both, which Kubernetes would refuse."""
    found = rendered(
        {"extraEnv": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}, {"name": "A", "value": "3"}]}
    )
    assert list(variables(found).items())[2:] == [("A", "3"), ("B", "2")]


def test_ports_are_those_the_service_listens_on():
    """The chart sets none of them, so they are the settings' defaults; the Service leads to them by name."""
    found = rendered({"service": {"port": 8000, "healthPort": 9000}})
    settings = Settings()
    assert container(found)["ports"] == [
        {"name": "http", "containerPort": settings.http_port},
        {"name": "health", "containerPort": settings.health_port},
    ]
    assert spec(found, "Service")["ports"] == [
        {"name": "http", "port": 8000, "targetPort": "http", "appProtocol": "http"},
        {"name": "health", "port": 9000, "targetPort": "health", "appProtocol": "http"},
    ]


def test_probes_ask_the_health_port():
    """Ready for starting and for traffic, alive for being restarted; with the numbers of the values."""
    found = container(rendered({"probes": {"readiness": {"failureThreshold": 9}}}))
    for probe, path in (("startup", "/readyz"), ("readiness", "/readyz"), ("liveness", "/healthz")):
        assert found[f"{probe}Probe"]["httpGet"] == {"path": path, "port": "health"}
    assert found["startupProbe"]["failureThreshold"] == 120
    get = {"path": "/readyz", "port": "health"}
    assert found["readinessProbe"] == {"httpGet": get, "periodSeconds": 5, "failureThreshold": 9, "timeoutSeconds": 5}
    assert found["livenessProbe"]["periodSeconds"] == 10


# How it changes -------------------------------------------------------------------------------------------------------


def test_a_rollout_is_as_the_values_say():
    """One more, none less, unless told otherwise."""
    usual = spec(rendered(), "Deployment")
    assert usual["strategy"] == {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
    assert (usual["minReadySeconds"], usual["progressDeadlineSeconds"], usual["revisionHistoryLimit"]) == (5, 180, 5)
    told = {
        "maxSurge": "50%",
        "maxUnavailable": 1,
        "minReadySeconds": 7,
        "progressDeadlineSeconds": 200,
        "revisionHistoryLimit": 2,
    }
    told_spec = spec(rendered({"rollout": told}), "Deployment")
    assert told_spec["strategy"]["rollingUpdate"] == {"maxSurge": "50%", "maxUnavailable": 1}
    assert {name: told_spec[name] for name in list(told)[2:]} == dict(list(told.items())[2:])


@pytest.mark.parametrize(
    ("values", "seconds"),
    [
        ({}, 50),
        ({"settings": {"drainSeconds": 2.5, "gracefulTimeoutSeconds": 20}}, 33),
        ({"rollout": {"terminationGracePeriodSeconds": 90}}, 90),
    ],
    ids=["default", "rounded up", "given"],
)
def test_the_grace_period_is_long_enough(values: dict[str, Any], seconds: int):
    """Drain, requests in flight and ten seconds more; never cut short by rounding."""
    found = pod(rendered(values))
    assert found["terminationGracePeriodSeconds"] == seconds
    (server,) = found["containers"]
    assert server["lifecycle"] == {"preStop": {"exec": {"command": ["python", "-m", "service", "drain"]}}}


def test_the_number_of_pods_is_applied_unless_an_autoscaler_decides():
    """Two, the given number, or none."""
    assert spec(rendered(), "Deployment")["replicas"] == 2
    assert spec(rendered({"replicaCount": 1}), "Deployment")["replicas"] == 1
    found = rendered({"autoscaling": {"enabled": True, "minReplicas": 3, "maxReplicas": 4}})
    assert "replicas" not in spec(found, "Deployment")
    scaler = spec(found, "HorizontalPodAutoscaler")
    assert (scaler["minReplicas"], scaler["maxReplicas"]) == (3, 4)
    assert scaler["metrics"] == [
        {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 70}}}
    ]


@pytest.mark.parametrize(
    ("values", "limit"),
    [
        ({}, {"maxUnavailable": 1}),
        ({"podDisruptionBudget": {"maxUnavailable": "50%"}}, {"maxUnavailable": "50%"}),
        ({"podDisruptionBudget": {"minAvailable": 1}}, {"minAvailable": 1}),
        ({"replicaCount": 1}, {"maxUnavailable": 1}),
        ({"autoscaling": {"enabled": True, "minReplicas": 1}}, {"maxUnavailable": 1}),
        ({"autoscaling": {"enabled": True}}, {"maxUnavailable": 1}),
    ],
    ids=str,
)
def test_a_budget_limits_drains(values: dict[str, Any], limit: dict[str, Any]):
    """And a pod that is unhealthy anyway keeps no node from being drained."""
    found = spec(rendered(values), "PodDisruptionBudget")
    assert found == {**limit, "unhealthyPodEvictionPolicy": "AlwaysAllow", "selector": SERVERS}


@pytest.mark.parametrize(
    "values",
    [
        {"replicaCount": 1, "podDisruptionBudget": {"minAvailable": 1}},
        {"autoscaling": {"enabled": True, "minReplicas": 1}, "podDisruptionBudget": {"minAvailable": 1}},
        {"podDisruptionBudget": {"enabled": False}},
    ],
    ids=str,
)
def test_where_one_pod_may_be_all_there_is_no_budget_of_those_that_stay(values: dict[str, Any]):
    """It would block every drain."""
    assert "PodDisruptionBudget" not in {each["kind"] for each in rendered(values)}


@pytest.mark.parametrize(
    ("gate", "is_upgrade", "arguments"),
    [
        ({}, False, ["--version=v1", "--latency-budget=250"]),
        ({}, True, ["--version=v1", "--latency-budget=250", f"--live=http://{NAME}:9000"]),
        ({"latencyBudgetMilliseconds": None}, False, ["--version=v1"]),
        ({"latencyBudgetMilliseconds": 0.5}, False, ["--version=v1", "--latency-budget=0.5"]),
        ({"latencyBudgetMilliseconds": 10_000_000}, False, ["--version=v1", "--latency-budget=10000000"]),
        ({"allowContractChange": True}, False, ["--version=v1", "--latency-budget=250", "--allow-contract-change"]),
    ],
    ids=str,
)
def test_the_gate_checks_what_it_is_told(gate: dict[str, Any], is_upgrade: bool, arguments: list[str]):
    """The live release only where there is one; it tries once, before anything else of the release is there."""
    found = rendered({"gate": gate, "service": {"healthPort": 9000}}, is_upgrade=is_upgrade)
    assert container(found, f"Job/{NAME}-gate")["args"] == ["check", *arguments]
    job = one(found, "Job")
    assert job["metadata"]["annotations"]["helm.sh/hook"] == "pre-install,pre-upgrade"
    assert (job["spec"]["backoffLimit"], job["spec"]["activeDeadlineSeconds"]) == (0, 180)
    assert "serviceAccountName" not in pod(found, f"Job/{NAME}-gate")


@pytest.mark.parametrize("kind", ["Job", "Pod"])
def test_checks_run_as_an_account_that_was_there_before(kind: str):
    """It may have the pull secrets; the release's own account does not exist before the release does."""
    for account, name in (({"create": False, "name": "puller"}, "puller"), ({"create": False}, "default")):
        found = one(rendered({"serviceAccount": account}), kind)["spec"]
        assert (found["template"]["spec"] if kind == "Job" else found)["serviceAccountName"] == name
    found = one(rendered({}), kind)["spec"]
    assert "serviceAccountName" not in (found["template"]["spec"] if kind == "Job" else found)


def test_the_gate_waits_for_no_object_of_the_release():
    """A Secret that extraObjects make is not there before the first install; a sidecar may have to be kept away."""
    from_secret = {"secretKeyRef": {"name": "a", "key": "b"}}
    variables = [{"name": "A", "valueFrom": from_secret}, {"name": "B", "value": "1"}]
    found = rendered({"extraEnv": variables, "podAnnotations": {"sidecar.example.com/inject": "false"}})
    gate, server = (container(found, each)["env"] for each in (f"Job/{NAME}-gate", f"Deployment/{NAME}"))
    assert {"name": "A", "valueFrom": {"secretKeyRef": {"name": "a", "key": "b", "optional": True}}} in gate
    assert variables[0] in server
    assert variables[1] in gate
    annotations = one(found, "Job")["spec"]["template"]["metadata"]["annotations"]
    assert annotations == {"sidecar.example.com/inject": "false"}


@pytest.mark.parametrize("kind", ["LoadBalancer", "NodePort"])
def test_a_published_service_does_not_publish_the_health_port(kind: str):
    """Metrics stay inside, at a Service of their own that gate, test and monitor know."""
    monitor = {"monitor": {"kind": "ServiceMonitor"}}
    found = rendered({"service": {"type": kind}, "metrics": monitor}, is_upgrade=True)
    ports = {
        name: [port["name"] for port in spec(found, "Service", name)["ports"]] for name in (NAME, f"{NAME}-health")
    }
    assert ports == {NAME: ["http"], f"{NAME}-health": ["health"]}
    assert (spec(found, "Service", NAME)["type"], spec(found, "Service", f"{NAME}-health")["type"]) == (
        kind,
        "ClusterIP",
    )
    assert f"--live=http://{NAME}-health:8081" in container(found, f"Job/{NAME}-gate")["args"]
    assert f"--health-url=http://{NAME}-health:8081" in one(found, "Pod")["spec"]["containers"][0]["args"]
    labels = next(each["metadata"]["labels"] for each in found if each["metadata"]["name"] == f"{NAME}-health")
    assert spec(found, "ServiceMonitor")["selector"]["matchLabels"].items() <= labels.items()


# Who may reach whom ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "values",
    [{}, {"clients": PEERS}, {"scrapers": PEERS}, {"egress": [{"ports": [{"port": 4317, "protocol": "TCP"}]}]}],
    ids=["default", "clients", "scrapers", "egress"],
)
def test_servers_have_these_holes_and_no_other(values: dict[str, Any]):
    """Clients reach the API, scrapers the health port, the release's own checks both; nothing goes out unless told."""
    http, health = {"port": "http", "protocol": "TCP"}, {"port": "health", "protocol": "TCP"}
    clients = {"from": values["clients"]} if "clients" in values else {}
    scrapers = {"from": values["scrapers"]} if "scrapers" in values else {}
    assert spec(rendered({"networkPolicy": values}), "NetworkPolicy", NAME) == {
        "podSelector": SERVERS,
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [
            {"ports": [http], **clients},
            {"ports": [health], **scrapers},
            {"ports": [http, health], "from": [{"podSelector": CHECKS}]},
        ],
        "egress": values.get("egress", []),
    }


@pytest.mark.parametrize("tls", [{}, SELF_SIGNED], ids=["plain", "TLS"])
def test_checks_reach_names_and_servers(tls: dict[str, Any]):
    """Gate and tests alike, whatever is at the edge."""
    settings = Settings()
    ports = [{"port": port, "protocol": "TCP"} for port in (settings.http_port, settings.health_port)]
    assert spec(rendered({"ingress": INGRESS, "tls": tls}), "NetworkPolicy", f"{NAME}-checks") == {
        "podSelector": CHECKS,
        "policyTypes": ["Ingress", "Egress"],
        "egress": [DNS, {"ports": ports, "to": [{"podSelector": SERVERS}]}],
    }


def test_the_tests_reach_the_edge_wherever_it_is():
    """By any port, because a policy may apply after an address was translated; the gate does not."""
    found = rendered({"ingress": INGRESS, "tls": SELF_SIGNED})
    assert spec(found, "NetworkPolicy", f"{NAME}-edge-checks") == {
        "podSelector": {"matchLabels": {**RELEASE, "app.kubernetes.io/component": "test"}},
        "policyTypes": ["Egress"],
        "egress": [{"ports": [{"protocol": "TCP"}]}],
    }


@pytest.mark.parametrize(
    ("values", "names"),
    [
        ({}, {NAME, f"{NAME}-checks"}),
        ({"ingress": INGRESS}, {NAME, f"{NAME}-checks"}),
        ({"ingress": INGRESS, "tls": SELF_SIGNED}, {NAME, f"{NAME}-checks", f"{NAME}-edge-checks"}),
        ({"ingress": INGRESS, "tls": SELF_SIGNED, "tests": {"enabled": False}}, {NAME, f"{NAME}-checks"}),
        ({"ingress": INGRESS, "tls": SELF_SIGNED, "networkPolicy": {"enabled": False}}, set()),
    ],
    ids=["default", "plain edge", "TLS", "no tests", "no policies"],
)
def test_policies_are_there_for_what_is_there(values: dict[str, Any], names: set[str]):
    """Only the tests of an edge with a certificate ask the edge."""
    assert {each["metadata"]["name"] for each in rendered(values) if each["kind"] == "NetworkPolicy"} == names


# The edge -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("paths", [["/"], ["/predict", "/openapi.json"]], ids=str)
def test_an_ingress_serves_every_path_of_every_host(paths: list[str]):
    """By prefix, at the Service's port of the API."""
    found = spec(rendered({"ingress": {**INGRESS, "className": "edge", "paths": paths}}), "Ingress")
    backend = {"service": {"name": NAME, "port": {"name": "http"}}}
    http = {"paths": [{"path": path, "pathType": "Prefix", "backend": backend} for path in paths]}
    rules = [{"host": host, "http": http} for host in ("a.example", "*.b.example")]
    assert found == {"ingressClassName": "edge", "rules": rules}


@pytest.mark.parametrize("paths", [["/"], ["/predict", "/openapi.json"]], ids=str)
def test_a_route_serves_every_path(paths: list[str]):
    """By prefix, at the Service's port of the API, for as long as a request may take."""
    values = {"gateway": {**SHARED, "paths": paths, "requestTimeout": "30s"}, "service": {"port": 8000}}
    assert spec(rendered(values), "HTTPRoute") == {
        "parentRefs": SHARED["parentRefs"],
        "hostnames": ["c.example", "d.example"],
        "rules": [
            {
                "matches": [{"path": {"type": "PathPrefix", "value": path}} for path in paths],
                "backendRefs": [{"name": NAME, "port": 8000}],
                "timeouts": {"request": "30s"},
            }
        ],
    }


@pytest.mark.parametrize(
    ("create", "own"),
    [
        ({"kind": "Gateway", "className": "edge"}, {"gatewayClassName": "edge"}),
        ({"kind": "ListenerSet", "parentRef": {"name": "edge", "namespace": "infra"}},
         {"parentRef": {"name": "edge", "namespace": "infra"}}),
    ],
    ids=["Gateway", "ListenerSet"],
)  # fmt: skip
@pytest.mark.parametrize("tls", [{}, SELF_SIGNED], ids=["plain", "TLS"])
def test_listeners_are_made_for_every_host(create: dict[str, Any], own: dict[str, Any], tls: dict[str, Any]):
    """Plain HTTP, and HTTPS where there is a certificate; the route is at the best of them, a redirect at the other."""
    found = rendered({"gateway": {**GATEWAY, "create": create}, "tls": tls})
    listeners = []
    for index, host in enumerate(GATEWAY["hostnames"]):
        both = {"hostname": host, "allowedRoutes": {"namespaces": {"from": "Same"}}}
        listeners.append({"name": f"http-{index}", "port": 80, "protocol": "HTTP", **both})
        if tls:
            secret = {"mode": "Terminate", "certificateRefs": [{"name": f"{NAME}-tls"}]}
            listeners.append({"name": f"https-{index}", "port": 443, "protocol": "HTTPS", "tls": secret, **both})
    assert spec(found, create["kind"]) == {**own, "listeners": listeners}
    parent = {"group": "gateway.networking.k8s.io", "kind": create["kind"], "name": NAME}
    plain, secure = (
        [{**parent, "sectionName": f"{scheme}-{index}"} for index in (0, 1)] for scheme in ("http", "https")
    )
    assert spec(found, "HTTPRoute", NAME)["parentRefs"] == (secure if tls else plain)
    redirects = [each["spec"] for each in found if each["metadata"]["name"] == f"{NAME}-redirect"]
    redirect = {"type": "RequestRedirect", "requestRedirect": {"scheme": "https", "statusCode": 301}}
    hostnames = GATEWAY["hostnames"]
    expected = {"parentRefs": plain, "hostnames": hostnames, "rules": [{"filters": [redirect]}]}
    assert redirects == ([expected] if tls else [])


def test_somebody_elses_gateway_redirects_where_it_is_told():
    """From the plain listeners that are named, unless redirects are off."""
    plain = [{"name": "edge", "sectionName": "http"}]
    found = rendered({"gateway": {**SHARED, "redirectParentRefs": plain}})
    assert spec(found, "HTTPRoute", f"{NAME}-redirect")["parentRefs"] == plain
    one(rendered({"gateway": {**SHARED, "redirectParentRefs": plain}, "tls": {"redirect": False}}), "HTTPRoute")


@pytest.mark.parametrize(
    ("values", "redirects"),
    [
        ({"ingress": INGRESS, "tls": SELF_SIGNED}, True),
        ({"ingress": INGRESS, "tls": {**SELF_SIGNED, "redirect": False}}, False),
        ({"ingress": INGRESS}, False),
        ({"gateway": GATEWAY, "tls": SELF_SIGNED}, False),
    ],
    ids=["Ingress with TLS", "redirect off", "plain Ingress", "Gateway"],
)
def test_the_service_redirects_only_behind_an_ingress_with_tls(values: dict[str, Any], redirects: bool):
    """A Gateway does it itself, and without a certificate there is nowhere to send clients."""
    assert Settings.from_env(variables(rendered(values))).redirect_to_https == redirects


# Certificates ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tls", "secret", "maker"),
    [
        ({"mode": "existingSecret", "secretName": "mine"}, "mine", None),
        (CERT_MANAGER, f"{NAME}-tls", "Certificate"),
        ({**CERT_MANAGER, "secretName": "mine"}, "mine", "Certificate"),
        (SELF_SIGNED, f"{NAME}-tls", "Secret"),
        ({**SELF_SIGNED, "secretName": "mine"}, "mine", "Secret"),
    ],
    ids=lambda each: each["mode"] + each.get("secretName", "") if isinstance(each, dict) else None,
)
def test_who_writes_and_who_reads_the_certificate_mean_one_secret(tls: dict[str, Any], secret: str, maker: str | None):
    """Its maker, if the chart has one, the Ingress and each listener of the Gateway."""
    found = rendered({"ingress": INGRESS, "gateway": GATEWAY, "tls": tls})
    hosts = [*INGRESS["hosts"], *GATEWAY["hostnames"]]
    assert {each["kind"] for each in found} & {"Certificate", "Secret"} == ({maker} if maker else set())
    if maker == "Certificate":
        asked = {"secretName": secret, "dnsNames": hosts, "issuerRef": CERT_MANAGER["issuerRef"]}
        assert spec(found, "Certificate").items() >= asked.items()
    elif maker == "Secret":
        assert one(found, "Secret", secret)["type"] == "kubernetes.io/tls"
    assert spec(found, "Ingress")["tls"] == [{"hosts": INGRESS["hosts"], "secretName": secret}]
    listeners = [each["tls"] for each in spec(found, "Gateway")["listeners"] if each["protocol"] == "HTTPS"]
    assert listeners == [{"mode": "Terminate", "certificateRefs": [{"name": secret}]}] * 2


def test_without_tls_there_is_no_certificate():
    """Nor a test of one."""
    found = rendered({"ingress": INGRESS, "gateway": GATEWAY})
    assert not {each["kind"] for each in found} & {"Certificate", "Secret"}
    assert "tls" not in spec(found, "Ingress")
    assert {each["protocol"] for each in spec(found, "Gateway")["listeners"]} == {"HTTP"}
    assert [name for name in pods(found) if "-test-edge" in name] == []


def handshake(secret: Mapping[str, str], authority: str, hostname: str, folder: Path) -> str | None:
    """Return the protocol that a client who trusts the authority and a server with the Secret agree on.

    Raises:
        ssl.SSLCertVerificationError: If the client refuses the certificate.
    """
    for name in ("tls.crt", "tls.key"):
        (folder / name).write_bytes(b64decode(secret[name]))
    server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_side.load_cert_chain(folder / "tls.crt", folder / "tls.key")
    client_side = ssl.create_default_context(cadata=authority)
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_side.wrap_bio(to_client, to_server, server_hostname=hostname)
    server = server_side.wrap_bio(to_server, to_client, server_side=True)
    for each in (client, server, client, server):
        with suppress(ssl.SSLWantReadError):
            each.do_handshake()
    return client.version()


def test_a_self_signed_certificate_is_for_every_host(tmp_path: Path):
    """Clients with its authority take it under each name, and under no other."""
    found = rendered({"ingress": INGRESS, "gateway": GATEWAY, "tls": SELF_SIGNED})
    data = one(found, "Secret")["data"]
    authority = b64decode(data["ca.crt"]).decode()
    for hostname in ("a.example", "any.b.example", "c.example", "d.example"):
        assert handshake(data, authority, hostname, tmp_path) == "TLSv1.3"
    with pytest.raises(ssl.SSLCertVerificationError, match=r"e\.example"):
        handshake(data, authority, "e.example", tmp_path)


@pytest.mark.parametrize(
    ("values", "hostname"), [({}, f"{NAME}.models.svc"), ({"hostname": "pod.example"}, "pod.example")], ids=str
)
def test_a_gateway_trusts_the_pods_certificate(values: dict[str, Any], hostname: str, tmp_path: Path):
    """On the API's port alone, by the name that is in it and by the authority in the ConfigMap."""
    found = rendered({"gateway": GATEWAY, "backendTLS": {"enabled": True, **values}}, namespace="models")
    assert spec(found, "BackendTLSPolicy") == {
        "targetRefs": [{"group": "", "kind": "Service", "name": NAME, "sectionName": "http"}],
        "validation": {
            "hostname": hostname,
            "caCertificateRefs": [{"group": "", "kind": "ConfigMap", "name": f"{NAME}-pod-ca"}],
        },
    }
    authority = one(found, "ConfigMap", f"{NAME}-pod-ca")["data"]["ca.crt"]
    assert handshake(one(found, "Secret", f"{NAME}-pod-tls")["data"], authority, hostname, tmp_path) == "TLSv1.3"


def test_the_pod_speaks_tls_with_the_secret():
    """The service reads what is mounted; the Service says so, and the health port stays plain."""
    values = {"enabled": True, "secretName": "mine", "caConfigMapName": "authority"}
    found = rendered({"gateway": GATEWAY, "backendTLS": values})
    assert not {each["kind"] for each in found} & {"Secret", "ConfigMap"}
    (volume,) = pod(found)["volumes"]
    (mount,) = container(found)["volumeMounts"]
    assert volume == {"name": mount["name"], "secret": {"secretName": "mine", "defaultMode": 0o440}}
    settings = Settings.from_env(variables(found))
    assert settings.tls_certificate == f"{mount['mountPath']}/tls.crt"
    assert settings.tls_key == f"{mount['mountPath']}/tls.key"
    protocols = {each["name"]: each["appProtocol"] for each in spec(found, "Service")["ports"]}
    assert protocols == {"http": "https", "health": "http"}
    references = spec(found, "BackendTLSPolicy")["validation"]["caCertificateRefs"]
    assert [each["name"] for each in references] == ["authority"]
    assert not {"BAKEHOUSE_TLS_CERTIFICATE", "BAKEHOUSE_TLS_KEY"} & set(variables(found, f"Job/{NAME}-gate"))
