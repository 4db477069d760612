"""Certificates of the edge and of the pods."""

import ssl
from base64 import b64decode
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from service.settings import Settings
from tests.support.objects import (
    CERT_MANAGER,
    CHECK_JOB,
    GATEWAY,
    INGRESS,
    NAME,
    SELF_SIGNED,
    container,
    pod,
    pods,
    rendered,
    spec,
    variables,
)
from tools.helm import one


@pytest.mark.parametrize(
    ("tls", "secret", "writer"),
    [
        ({"mode": "existingSecret", "secretName": "mine"}, "mine", None),
        (CERT_MANAGER, f"{NAME}-tls", "Certificate"),
        ({**CERT_MANAGER, "secretName": "mine"}, "mine", "Certificate"),
        (SELF_SIGNED, f"{NAME}-tls", "Secret"),
        ({**SELF_SIGNED, "secretName": "mine"}, "mine", "Secret"),
    ],
    ids=lambda each: each["mode"] + each.get("secretName", "") if isinstance(each, dict) else None,
)
def test_writer_and_readers_of_the_certificate_use_one_secret(tls: dict[str, Any], secret: str, writer: str | None):
    """The writer is a Certificate, the chart or the user. Readers are the Ingress and the Gateway's listeners."""
    found = rendered({"ingress": INGRESS, "gateway": GATEWAY, "tls": tls})
    hosts = [*INGRESS["hosts"], *GATEWAY["hostnames"]]
    assert {each["kind"] for each in found} & {"Certificate", "Secret"} == ({writer} if writer else set())
    if writer == "Certificate":
        expected = {"secretName": secret, "dnsNames": hosts, "issuerRef": CERT_MANAGER["issuerRef"]}
        assert spec(found, "Certificate").items() >= expected.items()
    elif writer == "Secret":
        assert one(found, "Secret", secret)["type"] == "kubernetes.io/tls"
    assert spec(found, "Ingress")["tls"] == [{"hosts": INGRESS["hosts"], "secretName": secret}]
    listeners = [each["tls"] for each in spec(found, "Gateway")["listeners"] if each["protocol"] == "HTTPS"]
    assert listeners == [{"mode": "Terminate", "certificateRefs": [{"name": secret}]}] * 2


def test_without_tls_there_is_no_certificate():
    """There is no test of one either."""
    found = rendered({"ingress": INGRESS, "gateway": GATEWAY})
    assert not {each["kind"] for each in found} & {"Certificate", "Secret"}
    assert "tls" not in spec(found, "Ingress")
    assert {each["protocol"] for each in spec(found, "Gateway")["listeners"]} == {"HTTP"}
    assert [name for name in pods(found) if "-test-edge" in name] == []


def handshake(secret: Mapping[str, str], authority: str, hostname: str, folder: Path) -> str | None:
    """Return the protocol of a handshake between a server with the Secret and a client that trusts the authority.

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
    """Clients that trust its authority accept it for each name, and for no other."""
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
    """The policy covers only the API's port. It has the name in the certificate and the authority's ConfigMap."""
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


def test_the_pod_serves_tls_with_the_secret():
    """The service reads the mounted files. The Service announces HTTPS, and the health port stays HTTP."""
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
    assert not {"BAKEHOUSE_TLS_CERTIFICATE", "BAKEHOUSE_TLS_KEY"} & set(variables(found, CHECK_JOB))
