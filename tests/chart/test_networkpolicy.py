"""The network policies, and the Service of the health port: which connections are possible."""

from typing import Any

import pytest

from service.settings import Settings
from tests.support.objects import (
    CHECK_JOB,
    CHECKS,
    INGRESS,
    NAME,
    RELEASE_LABELS,
    SELF_SIGNED,
    SERVERS,
    container,
    rendered,
    spec,
)
from tools.helm import one

PEERS = [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "somewhere"}}}]
DNS = {"ports": [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}]}


@pytest.mark.parametrize("kind", ["LoadBalancer", "NodePort"])
def test_a_published_service_does_not_publish_the_health_port(kind: str):
    """Metrics stay inside the cluster, at a separate Service that check, test and monitor use."""
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
    assert f"--live=http://{NAME}-health:8081" in container(found, CHECK_JOB)["args"]
    assert f"--health-url=http://{NAME}-health:8081" in one(found, "Pod")["spec"]["containers"][0]["args"]
    labels = next(each["metadata"]["labels"] for each in found if each["metadata"]["name"] == f"{NAME}-health")
    assert spec(found, "ServiceMonitor")["selector"]["matchLabels"].items() <= labels.items()


@pytest.mark.parametrize(
    "values",
    [{}, {"clients": PEERS}, {"scrapers": PEERS}, {"egress": [{"ports": [{"port": 4317, "protocol": "TCP"}]}]}],
    ids=["default", "clients", "scrapers", "egress"],
)
def test_servers_allow_these_connections_and_no_other(values: dict[str, Any]):
    """Clients reach the API, scrapers the health port, and checks both. The pods send nothing by default."""
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
def test_checks_reach_dns_and_servers(tls: dict[str, Any]):
    """This holds for the check Job and for helm test, with any edge."""
    settings = Settings()
    ports = [{"port": port, "protocol": "TCP"} for port in (settings.http_port, settings.health_port)]
    assert spec(rendered({"ingress": INGRESS, "tls": tls}), "NetworkPolicy", f"{NAME}-checks") == {
        "podSelector": CHECKS,
        "policyTypes": ["Ingress", "Egress"],
        "egress": [DNS, {"ports": ports, "to": [{"podSelector": SERVERS}]}],
    }


def test_helm_test_reaches_the_edge_at_any_address():
    """It may use any port, because a policy may apply after address translation. The check Job may not."""
    found = rendered({"ingress": INGRESS, "tls": SELF_SIGNED})
    assert spec(found, "NetworkPolicy", f"{NAME}-edge-checks") == {
        "podSelector": {"matchLabels": {**RELEASE_LABELS, "app.kubernetes.io/component": "test"}},
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
def test_policies_exist_for_what_exists(values: dict[str, Any], names: set[str]):
    """Only an edge with a certificate is tested."""
    assert {each["metadata"]["name"] for each in rendered(values) if each["kind"] == "NetworkPolicy"} == names
