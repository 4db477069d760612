"""TLS on the API's port, its renewal, and the redirect to it, with a real Gunicorn and real certificates."""

import http.client
import json
import socket
import ssl
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from tests.integration.test_cli import EXIT_SETTINGS, assert_one_sentence, service
from tests.support.certificates import Authority
from tests.support.load import BODY, HEADERS
from tests.support.server import RunningServer
from tests.support.waiting import wait_for
from tools.local_http import exchange, free_port, send

Serve = Callable[..., RunningServer]


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """Return an authority of the test's own."""
    return Authority(tmp_path)


def variables(files: tuple[Path, Path]) -> dict[str, str]:
    """Return the settings that name a certificate and its key."""
    return {"BAKEHOUSE_TLS_CERTIFICATE": str(files[0]), "BAKEHOUSE_TLS_KEY": str(files[1])}


def connect(server: RunningServer, authority: Authority, name: str) -> ssl.SSLSocket:
    """Return a TLS connection, once the server's certificate was verified for this name."""
    trusting = ssl.create_default_context(cafile=str(authority.file))
    plain = socket.create_connection(("127.0.0.1", server.port), timeout=30)
    try:
        return trusting.wrap_socket(plain, server_hostname=name)
    except ssl.SSLError:
        plain.close()
        raise


def predict(connection: http.client.HTTPConnection) -> http.client.HTTPResponse:
    """Send the documented request and return the answer, read to its end."""
    connection.request("POST", "/predict", BODY, HEADERS)
    response = connection.getresponse()
    assert json.loads(response.read())["y_pred"]
    return response


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_renewed_certificate_reaches_new_connections(
    serve: Serve, house_prices: Path, authority: Authority, workers: str
) -> None:
    """Connections that are open go on with the old one; every process of the server picks the new one up."""
    server = serve(house_prices, WEB_CONCURRENCY=workers, **variables(authority.issue("one.test")))
    with closing(http.client.HTTPConnection("one.test")) as kept:
        kept.sock = connect(server, authority, "one.test")
        assert predict(kept).status == 200
        authority.issue("two.test")
        for _ in range(8):
            with closing(http.client.HTTPConnection("two.test")) as new:
                new.sock = connect(server, authority, "two.test")
                assert predict(new).status == 200
        assert predict(kept).status == 200
    with pytest.raises(ssl.SSLCertVerificationError):
        connect(server, authority, "one.test")


def test_connections_that_find_no_room_before_tls_are_counted(
    serve: Serve, house_prices: Path, authority: Authority
) -> None:
    """There is no way to answer them yet, so that metrics are all that is seen of them."""
    settings = {"BAKEHOUSE_MAX_CONNECTIONS": "10", **variables(authority.issue("one.test"))}
    server = serve(house_prices, **settings)
    with ExitStack() as stack:
        for _ in range(10):
            connection = stack.enter_context(connect(server, authority, "one.test"))
            connection.sendall(
                b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n"
            )
            assert connection.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        for _ in range(3):
            with pytest.raises((ssl.SSLError, ConnectionResetError)):
                connect(server, authority, "one.test")
        metrics = send(server.health_port, "GET", "/metrics").body.decode()
        assert 'bakehouse_http_requests_refused_total{reason="too_many_connections"} 3.0' in metrics


def test_the_health_port_stays_plain_http(serve: Serve, house_prices: Path, authority: Authority) -> None:
    """Probes and scrapes need no certificate; the API answers nothing without TLS, and goes on after such a client."""
    server = serve(house_prices, **variables(authority.issue("one.test")))
    for path in ("/healthz", "/readyz", "/metrics", "/version", "/contract"):
        assert send(server.health_port, "GET", path).status == 200
    try:
        answer = exchange(server.port, b"GET /version HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    except ConnectionResetError:
        answer = b""
    assert b"200" not in answer
    with closing(http.client.HTTPConnection("one.test")) as connection:
        connection.sock = connect(server, authority, "one.test")
        assert predict(connection).status == 200


def test_the_welcome_is_a_command_for_tls(house_prices: Path, authority: Authority) -> None:
    """Who starts it in a terminal can copy the curl, although no authority that curl knows signed the certificate."""
    server = RunningServer(house_prices, variables(authority.issue("one.test")), terminal=True).wait_until_ready()
    wait_for(lambda: f"curl -s --insecure https://localhost:{server.port}/predict" in server.errors)
    server.kill()


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated:DeprecationWarning")
def test_an_old_version_of_tls_is_refused(serve: Serve, house_prices: Path, authority: Authority) -> None:
    """A client that speaks 1.2 at most is served, one that speaks 1.1 at most is not."""
    server = serve(house_prices, **variables(authority.issue("one.test")))
    context = ssl.create_default_context(cafile=str(authority.file))
    context.set_ciphers("ALL:@SECLEVEL=0")  # or the client itself would refuse what is old
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as plain:
        context.wrap_socket(plain, server_hostname="one.test").close()
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    with (
        socket.create_connection(("127.0.0.1", server.port), timeout=30) as plain,
        pytest.raises((ssl.SSLError, ConnectionResetError)),
    ):
        context.wrap_socket(plain, server_hostname="one.test")


@pytest.mark.parametrize("broken", ["missing", "no certificate", "another key"])
def test_a_certificate_that_cannot_be_used_stops_the_start(
    house_prices: Path, authority: Authority, tmp_path: Path, broken: str
) -> None:
    """One sentence and the code of wrong settings, before anything is served."""
    certificate, key = authority.issue("one.test")
    files = {
        "missing": (tmp_path / "none.pem", key),
        "no certificate": (key, key),
        "another key": (certificate, authority.issue("two.test", "two")[1]),
    }
    ports = {"BAKEHOUSE_HTTP_PORT": str(free_port()), "BAKEHOUSE_HEALTH_PORT": str(free_port())}
    done = service(BAKEHOUSE_ARTIFACT=str(house_prices), **ports, **variables(files[broken]))
    assert done.returncode == EXIT_SETTINGS
    assert_one_sentence(done.stderr)
    assert "BAKEHOUSE_TLS_CERTIFICATE" in done.stderr


def test_plain_http_at_the_proxy_is_sent_to_https(serve: Serve, house_prices: Path) -> None:
    """The redirect is the same over a real connection, which is usable after it, whatever the body was."""
    server = serve(house_prices, BAKEHOUSE_REDIRECT_TO_HTTPS="true")
    plain = {**HEADERS, "Host": "models.example:80", "X-Forwarded-Proto": "http"}
    with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)) as connection:
        for path in ("/predict?a=1", "//other.example/x", "/healthz"):
            connection.request("POST", path, BODY, plain)
            response = connection.getresponse()
            assert response.status == 308
            assert response.read() == b""
            assert response.getheader("Location", "").startswith("https://models.example/")
        connection.request("POST", "/predict", BODY, HEADERS)
        assert connection.getresponse().status == 200
    for host in (b"", b"Host: \r\n", b"Host: a b\r\n", b"Host: a\x0bb\r\n", b"Host: a\rx: y\r\n"):
        answer = exchange(server.port, b"GET /x HTTP/1.0\r\nX-Forwarded-Proto: http\r\n" + host + b"\r\n")
        assert answer.split()[1] == b"400"
        assert b"Location" not in answer
    assert send(server.health_port, "GET", "/healthz", headers={"X-Forwarded-Proto": "http"}).status == 200
    assert "Traceback" not in server.errors
