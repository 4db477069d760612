"""The edge: Ingress, Gateway, ListenerSet and their routes."""

from typing import Any

import pytest

from service.settings import Settings
from tests.support.objects import EXISTING_GATEWAY, GATEWAY, INGRESS, NAME, SELF_SIGNED, rendered, spec, variables
from tools.helm import one


@pytest.mark.parametrize("paths", [["/"], ["/predict", "/openapi.json"]], ids=str)
def test_an_ingress_serves_every_path_of_every_host(paths: list[str]):
    """Paths are prefixes, and lead to the API's port of the Service."""
    found = spec(rendered({"ingress": {**INGRESS, "className": "edge", "paths": paths}}), "Ingress")
    backend = {"service": {"name": NAME, "port": {"name": "http"}}}
    http = {"paths": [{"path": path, "pathType": "Prefix", "backend": backend} for path in paths]}
    rules = [{"host": host, "http": http} for host in ("a.example", "*.b.example")]
    assert found == {"ingressClassName": "edge", "rules": rules}


@pytest.mark.parametrize("paths", [["/"], ["/predict", "/openapi.json"]], ids=str)
def test_a_route_serves_every_path(paths: list[str]):
    """Paths are prefixes, lead to the API's port of the Service, and have the timeout."""
    values = {"gateway": {**EXISTING_GATEWAY, "paths": paths, "requestTimeout": "30s"}, "service": {"port": 8000}}
    assert spec(rendered(values), "HTTPRoute") == {
        "parentRefs": EXISTING_GATEWAY["parentRefs"],
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
def test_every_host_has_listeners(create: dict[str, Any], own: dict[str, Any], tls: dict[str, Any]):
    """Each host has an HTTP listener. With a certificate it has HTTPS for the route, and HTTP redirects."""
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


def test_an_existing_gateway_redirects_from_the_given_listeners():
    """There is no redirect if tls.redirect is off."""
    plain = [{"name": "edge", "sectionName": "http"}]
    gateway = {**EXISTING_GATEWAY, "redirectParentRefs": plain}
    found = rendered({"gateway": gateway})
    assert spec(found, "HTTPRoute", f"{NAME}-redirect")["parentRefs"] == plain
    one(
        rendered({"gateway": {**EXISTING_GATEWAY, "redirectParentRefs": plain}, "tls": {"redirect": False}}),
        "HTTPRoute",
    )


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
    """A Gateway redirects by itself, and without a certificate there is no HTTPS."""
    assert Settings.from_env(variables(rendered(values))).redirect_to_https == redirects
