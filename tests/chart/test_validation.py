"""Helm refuses values that never work or would lose requests, with a sentence that names the value to set."""

import json
import re
from typing import Any

import pytest

from tests.support.objects import IMAGE, rendered
from tools.helm import CHART, refusal

INGRESS = {"enabled": True, "hosts": ["a.example"]}
GATEWAY = {"enabled": True, "hostnames": ["a.example"], "parentRefs": [{"name": "edge"}]}
OWN = {**GATEWAY, "parentRefs": []}


def watched(monitor: dict[str, str], **windows: str) -> dict[str, Any]:
    """Return values with rules, values of the monitor, and the windows of drift and feedback."""
    rules = {"enabled": True, **{name: {"window": window} for name, window in windows.items()}}
    return {"metrics": {"monitor": {"kind": "PodMonitor", **monitor}, "rules": rules}}


# Values, and a part of the sentence that refuses them.
COMBINATIONS = [
    ({"image": {}}, "No image to serve: set image.tag"),
    ({"fullnameOverride": "1house"}, "A Service cannot be named 1house: set fullnameOverride"),
    ({"rollout": {"terminationGracePeriodSeconds": 49}}, "set it to at least 50"),
    ({"settings": {"drainSeconds": 30.5}, "rollout": {"terminationGracePeriodSeconds": 70}}, "set it to at least 71"),
    ({"rollout": {"maxSurge": 0}}, "set maxSurge to at least 1"),
    ({"rollout": {"maxSurge": "0%", "maxUnavailable": "0%"}}, "set maxSurge to at least 1"),
    ({"rollout": {"maxUnavailable": 2}}, "rollout.maxUnavailable 2 of 2 pods leaves no pod to answer"),
    ({"rollout": {"maxUnavailable": "100%"}}, "rollout.maxUnavailable 100% of 2 pods leaves no pod to answer"),
    (
        {"replicaCount": 1, "rollout": {"maxUnavailable": 1}},
        "rollout.maxUnavailable 1 of 1 pods leaves no pod",
    ),
    (
        {"replicaCount": 1, "rollout": {"maxSurge": 0, "maxUnavailable": "50%"}},
        "maxUnavailable 50% of 1 pods leaves no pod to answer",
    ),
    (
        {"rollout": {"progressDeadlineSeconds": 125}},
        "progressDeadlineSeconds 125 ends before a slow pod has started",
    ),
    ({"probes": {"startup": {"periodSeconds": 2}}}, "set it above 245"),
    ({"settings": {"drainSeconds": 1}}, "settings.drainSeconds 1 ends before proxies stop sending"),
    ({"probes": {"readiness": {"timeoutSeconds": 6}}}, "probes.readiness.timeoutSeconds 6 is longer"),
    ({"probes": {"liveness": {"timeoutSeconds": 11}}}, "probes.liveness.timeoutSeconds 11 is longer"),
    ({"settings": {"predictionLog": "/logs/predictions"}}, "/logs/predictions is not on a volume"),
    ({"settings": {"workerTimeoutSeconds": 29}}, "set it to at least settings.gracefulTimeoutSeconds (30)"),
    (
        {"replicaCount": 3, "autoscaling": {"enabled": True}},
        "replicaCount 3 conflicts with",
    ),
    ({"autoscaling": {"enabled": True, "minReplicas": 11}}, "autoscaling.minReplicas 11 is more than"),
    ({"autoscaling": {"enabled": True}, "resources": {"requests": {"cpu": None}}}, "set resources.requests.cpu"),
    ({"podDisruptionBudget": {"maxUnavailable": 0}}, "podDisruptionBudget.maxUnavailable 0 blocks every node drain"),
    ({"podDisruptionBudget": {"maxUnavailable": "0%"}}, "podDisruptionBudget.maxUnavailable 0% blocks"),
    ({"replicaCount": 1, "podDisruptionBudget": {"maxUnavailable": 0}}, "maxUnavailable 0 blocks every node drain"),
    ({"podDisruptionBudget": {"minAvailable": 0}}, "podDisruptionBudget.minAvailable 0 lets a node drain remove all"),
    ({"podDisruptionBudget": {"minAvailable": "0%"}}, "podDisruptionBudget.minAvailable 0% lets a node drain"),
    (
        {"podDisruptionBudget": {"maxUnavailable": 2}},
        "maxUnavailable 2 of at least 2 pods lets a node drain remove",
    ),
    ({"podDisruptionBudget": {"maxUnavailable": "51%"}}, "maxUnavailable 51% of at least 2 pods lets a node drain"),
    ({"podDisruptionBudget": {"minAvailable": 2}}, "podDisruptionBudget.minAvailable 2 of at least 2 pods blocks"),
    ({"podDisruptionBudget": {"minAvailable": "51%"}}, "podDisruptionBudget.minAvailable 51% of at least 2 pods"),
    ({"extraEnv": [{"name": "BAKEHOUSE_DRAIN_SECONDS", "value": "1"}]}, "use settings.drainSeconds instead"),
    ({"extraEnv": [{"name": "BAKEHOUSE_GRACEFUL_TIMEOUT_SECONDS", "value": "1"}]}, "use settings.gracefulTimeout"),
    ({"extraEnv": [{"name": "BAKEHOUSE_HTTP_PORT", "value": "1"}]}, "use service.port instead"),
    ({"extraEnv": [{"name": "BAKEHOUSE_HEALTH_PORT", "value": "1"}]}, "use service.healthPort instead"),
    ({"extraEnv": [{"name": "BAKEHOUSE_HOST", "value": "::"}]}, "use networkPolicy instead"),
    ({"extraEnv": [{"name": "BAKEHOUSE_TLS_KEY", "value": "a"}]}, "use backendTLS instead"),
    ({"extraEnv": [{"name": "BAKEHOUSE_TLS_CERTIFICATE", "value": "a"}]}, "use backendTLS instead"),
    ({"extraEnv": [{"name": "BAKEHOUSE_TRACING", "value": "true"}]}, "use tracing instead"),
    ({"tracing": {"enabled": True}, "networkPolicy": {"enabled": False}}, "set tracing.endpoint to the address"),
    (
        {"tracing": {"enabled": True, "endpoint": "http://c:4318"}},
        "set networkPolicy.egress to rules for the collector",
    ),
    ({"service": {"port": 8081}}, "service.port and service.healthPort are both 8081"),
    ({"ingress": {"enabled": True}}, "set ingress.hosts"),
    ({"gateway": {**GATEWAY, "hostnames": []}}, "set gateway.hostnames"),
    ({"ingress": INGRESS, "gateway": GATEWAY}, "a.example is served by both ingress.hosts and gateway.hostnames"),
    ({"tls": {"mode": "selfSigned"}}, "tls.mode selfSigned has no edge to secure: enable ingress or gateway"),
    ({"ingress": INGRESS, "tls": {"mode": "existingSecret"}}, "set tls.secretName"),
    ({"ingress": INGRESS, "tls": {"mode": "certManager"}}, "set tls.issuerRef.name"),
    ({"gateway": {**GATEWAY, "requestTimeout": "1h2m3s"}}, "set settings.gracefulTimeoutSeconds to at least 3723."),
    (
        {"gateway": GATEWAY, "tls": {"mode": "selfSigned"}},
        "tls.mode selfSigned creates a certificate that nothing",
    ),
    ({"gateway": OWN}, "set gateway.parentRefs to those of your Gateway"),
    ({"gateway": {**GATEWAY, "create": {"kind": "Gateway", "className": "a"}}}, "exclude each other"),
    ({"gateway": {**OWN, "create": {"kind": "Gateway"}}}, "set gateway.create.className"),
    ({"gateway": {**OWN, "create": {"kind": "ListenerSet"}}}, "set gateway.create.parentRef.name"),
    ({"gateway": GATEWAY, "backendTLS": {"enabled": True, "secretName": "a"}}, "set backendTLS.caConfigMapName"),
    ({"ingress": INGRESS, "backendTLS": {"enabled": True}}, "set service.annotations or ingress.annotations"),
    ({"metrics": {"rules": {"enabled": True}}}, "metrics.rules.enabled needs scraped metrics"),
    ({"metrics": {"dashboards": {"grafanaDashboard": {"enabled": True}}}}, "set metrics.dashboards.enabled"),
    (
        {"metrics": {"monitor": {"interval": "10s", "scrapeTimeout": "11s"}}},
        "metrics.monitor.scrapeTimeout 11s is longer than metrics.monitor.interval 10s",
    ),
    (watched({"interval": "76s"}), "metrics.monitor.interval 76s gives alerts too few scrapes"),
    (watched({"interval": "4m"}), "metrics.monitor.interval 4m gives alerts too few scrapes"),
    (
        watched({"interval": "30s"}, drift="119s"),
        "metrics.rules.drift.window 119s is too short to measure how",
    ),
    (watched({}, drift="3m"), "set it to at least 240s, four times metrics.monitor.interval (empty, taken as 60s)"),
    (watched({"interval": "1m"}, feedback="239s"), "metrics.rules.feedback.window 239s is too short"),
]

_MESSAGES: dict[str, str] = {}


def refused(values: dict[str, Any]) -> str:
    """Return the message that refuses a release with these values."""
    key = json.dumps(values)
    if key not in _MESSAGES:
        _MESSAGES[key] = refusal({**IMAGE, **values})
    return _MESSAGES[key]


# A sentence about the live release, which tests/e2e/test_release.py provokes.
ON_A_CLUSTER = "backendTLS.enabled cannot change while pods serve"

# Values, and the place and reason of the schema's refusal.
SHAPES = [
    ({"replicas": 2}, "at '': additional properties 'replicas' not allowed"),
    ({"image": {"name": "a"}}, "at '/image': additional properties 'name' not allowed"),
    ({"probes": {"startup": {"seconds": 1}}}, "at '/probes/startup': additional properties 'seconds' not allowed"),
    ({"gateway": {"create": {"class": "a"}}}, "at '/gateway/create': additional properties 'class' not allowed"),
    ({"settings": {"drain_seconds": 5}}, "at '/settings': additional properties 'drain_seconds' not allowed"),
    ({"extraEnv": [{"name": "A", "values": "a"}]}, "at '/extraEnv/0': additional properties 'values' not allowed"),
    ({"extraEnv": [{"value": "a"}]}, "at '/extraEnv/0': missing property 'name'"),
    ({"extraEnv": [{"name": "A", "value": 1}]}, "at '/extraEnv/0/value': got number, want string"),
    ({"image": {"tag": 1.1}}, "at '/image/tag': got number, want string"),
    ({"image": {"tag": "-v1"}}, "at '/image/tag': '-v1' does not match pattern"),
    ({"image": {"tag": "v" * 64}}, "at '/image/tag': 'vvv"),
    ({"image": {"tag": "v1", "digest": "sha256:1"}}, "at '/image/digest': 'sha256:1' does not match"),
    ({"image": {"tag": "v1", "pullPolicy": "Sometimes"}}, "at '/image/pullPolicy': value must be one of"),
    ({"replicaCount": 0}, "at '/replicaCount': minimum: got 0, want 1"),
    ({"replicaCount": "2"}, "at '/replicaCount': got string, want"),
    ({"settings": {"workers": 65}}, "at '/settings/workers': maximum: got 65, want 64"),
    ({"settings": {"predictionLog": "logs/predictions"}}, "at '/settings/predictionLog': 'logs/predictions' does not"),
    ({"settings": {"predictionLogRatio": 1.5}}, "at '/settings/predictionLogRatio': maximum: got 1.5, want 1"),
    ({"settings": {"threads": 1.5}}, "at '/settings/threads': got number, want"),
    ({"settings": {"drainSeconds": None}}, "at '/settings': missing property 'drainSeconds'"),
    ({"settings": {"gracefulTimeoutSeconds": None}}, "at '/settings': missing property 'gracefulTimeoutSeconds'"),
    ({"gate": {"enabled": "yes"}}, "at '/gate/enabled': got string, want boolean"),
    ({"gate": {"latencyBudgetMilliseconds": 0}}, "at '/gate/latencyBudgetMilliseconds': exclusiveMinimum"),
    ({"rollout": {"maxSurge": "one"}}, "at '/rollout/maxSurge'"),
    ({"service": {"port": 65536}}, "at '/service/port': maximum"),
    ({"service": {"type": "ExternalName"}}, "at '/service/type': value must be one of"),
    ({"ingress": {"hosts": ["A.example"]}}, "at '/ingress/hosts/0': 'A.example' does not match"),
    ({"ingress": {"hosts": ["a.example", "a.example"]}}, "at '/ingress/hosts': items at 0 and 1 are equal"),
    ({"ingress": {"paths": ["predict"]}}, "at '/ingress/paths/0': 'predict' does not match"),
    ({"gateway": {"paths": []}}, "at '/gateway/paths': minItems"),
    ({"gateway": {"requestTimeout": "60"}}, "at '/gateway/requestTimeout': '60' does not match"),
    ({"gateway": {"requestTimeout": "1.5s"}}, "at '/gateway/requestTimeout': '1.5s' does not match"),
    ({"metrics": {"monitor": {"interval": "1.5s"}}}, "at '/metrics/monitor/interval': '1.5s' does not match"),
    ({"metrics": {"monitor": {"interval": "0s"}}}, "at '/metrics/monitor/interval': '0s' does not match"),
    ({"metrics": {"monitor": {"scrapeTimeout": "30s1m"}}}, "at '/metrics/monitor/scrapeTimeout': '30s1m' does not"),
    ({"tls": {"mode": "letsencrypt"}}, "at '/tls/mode': value must be one of"),
    ({"metrics": {"monitor": {"kind": "Probe"}}}, "at '/metrics/monitor/kind': value must be one of"),
    ({"metrics": {"rules": {"drift": {"window": "1h30m"}}}}, "at '/metrics/rules/drift/window': '1h30m' does not"),
    ({"metrics": {"rules": {"feedback": {"window": "0d"}}}}, "at '/metrics/rules/feedback/window': '0d' does not"),
    ({"metrics": {"rules": {"runbookURL": "docs"}}}, "at '/metrics/rules/runbookURL': 'docs' does not match"),
    ({"slo": {"latencySeconds": 0.3}}, "at '/slo/latencySeconds': value must be one of"),
    ({"slo": {"availability": 1}}, "at '/slo/availability'"),
    ({"slo": {"latency": 0.4}}, "at '/slo/latency': minimum: got 0.4, want 0.5"),
    ({"slo": {"days": 6}}, "at '/slo/days': minimum: got 6, want 7"),
    ({"metrics": {"dashboards": {"labels": {"a": 1}}}}, "at '/metrics/dashboards/labels/a': got number, want string"),
    ({"podLabels": {"a": 1}}, "at '/podLabels/a': got number, want string"),
]  # fmt: skip


@pytest.mark.parametrize(("values", "sentence"), COMBINATIONS, ids=[sentence for _, sentence in COMBINATIONS])
def test_combinations_that_lose_requests_or_never_work_are_refused(values: dict[str, Any], sentence: str):
    """The sentence names the value to set."""
    assert sentence in refused(values)


@pytest.mark.parametrize(("values", "sentence"), SHAPES, ids=[sentence for _, sentence in SHAPES])
def test_values_outside_the_schema_are_refused(values: dict[str, Any], sentence: str):
    """Helm names the path of a misspelt name or of a number out of its bounds, and never ignores it."""
    assert sentence in refusal({**IMAGE, **values})


def test_one_message_names_all_problems():
    """One run of Helm finds them all."""
    message = refusal({"rollout": {"maxSurge": 0}, "ingress": {"enabled": True}})
    assert [line.partition(":")[0] for line in message.strip().splitlines()[2:]] == [
        "No image to serve",
        "rollout.maxSurge and rollout.maxUnavailable are both 0, so Kubernetes can replace no pod",
        "ingress.enabled needs a host name",
    ]


def test_every_sentence_of_the_chart_is_tested():
    """A new sentence needs a case above."""
    texts = [file.read_text() for file in (CHART / "templates/validation").glob("*.tpl")]
    blocks = [block for text in texts for block in re.findall(r"^- >-\n((?:  .+\n)+)", text, re.MULTILINE)]
    sentences = [" ".join(block.split()) for block in blocks]
    assert len(sentences) == sum(text.count(">-") for text in texts) > 25
    sentences = [each for each in sentences if not each.startswith(ON_A_CLUSTER)]
    messages = "\n".join(refused(values) for values, _ in COMBINATIONS)
    assert [each for each in sentences if not re.search(_pattern(each), messages)] == []


def _pattern(sentence: str) -> str:
    return ".+".join(map(re.escape, re.split(r"{{.*?}}", sentence)))


@pytest.mark.parametrize("name", ["a.b", "1a"])
def test_a_release_name_that_no_service_may_have_is_refused(name: str):
    """Otherwise Helm would install half of the objects. A full name of the user's helps."""
    assert f"A Service cannot be named {name}-bakehouse: set fullnameOverride" in refusal(IMAGE, name=name)
    assert rendered({"fullnameOverride": "house"}, name=name)


def test_an_old_kubernetes_is_refused():
    """The chart names the oldest version that works."""
    assert "requires kubeVersion: >=1.31.0-0" in refusal(IMAGE, kube_version="1.30.9")


@pytest.mark.parametrize(
    "values",
    [
        {"rollout": {"terminationGracePeriodSeconds": 50}},
        {"rollout": {"maxUnavailable": 1}},
        {"rollout": {"maxSurge": 0, "maxUnavailable": 1}},
        {"rollout": {"progressDeadlineSeconds": 126}},
        {"settings": {"drainSeconds": 2}},
        {"settings": {"workerTimeoutSeconds": 30}},
        {"autoscaling": {"enabled": True, "minReplicas": 10}},
        {"autoscaling": {"enabled": True, "metrics": [{"type": "Pods"}]}, "resources": {"requests": {"cpu": None}}},
        {"podDisruptionBudget": {"maxUnavailable": "50%"}},
        {"replicaCount": 4, "podDisruptionBudget": {"maxUnavailable": 3}},
        {"autoscaling": {"enabled": True, "minReplicas": 3}, "podDisruptionBudget": {"maxUnavailable": 2}},
        {"podDisruptionBudget": {"minAvailable": 1}},
        {"podDisruptionBudget": {"minAvailable": "50%"}},
        {"replicaCount": 1, "podDisruptionBudget": {"minAvailable": 1}},
        {"replicaCount": 4, "rollout": {"maxSurge": 0, "maxUnavailable": "50%"}},
        {"gateway": {**GATEWAY, "requestTimeout": "1m30s500ms"}, "settings": {"gracefulTimeoutSeconds": 90}},
        {"ingress": INGRESS, "gateway": {**GATEWAY, "hostnames": ["b.example"]}, "tls": {"mode": "selfSigned"}},
        {"ingress": INGRESS, "gateway": {**GATEWAY, "hostnames": ["b.example"]}},
        {"ingress": {**INGRESS, "annotations": {"a": "b"}}, "backendTLS": {"enabled": True}},
        {"tracing": {"enabled": True, "endpoint": "http://c:4318"}, "networkPolicy": {"enabled": False}},
        {"tracing": {"enabled": True, "endpoint": "http://c:4318"}, "networkPolicy": {"egress": [{}]}},
        {"metrics": {"monitor": {"kind": "PodMonitor", "interval": "10m", "scrapeTimeout": "10m"}}},
        watched({"interval": "75s"}, drift="5m", feedback="1w"),
        watched({"interval": "15s", "scrapeTimeout": "15s"}, drift="1m", feedback="60s"),
        watched({}, drift="4m", feedback="2d"),
    ],
    ids=str,
)
def test_values_at_a_bound_are_accepted(values: dict[str, Any]):
    """No sentence refuses values that work."""
    assert rendered(values)
