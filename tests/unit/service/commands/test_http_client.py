"""The HTTP client of the commands: where it connects to, what it trusts, and how it says that there is no answer."""

import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from service.commands import http_client
from service.commands.healthcheck import healthcheck
from service.commands.http_client import ClientError, address_of, base_url, notify, request, request_patiently, trusting
from service.settings import Settings
from tests.support.canned import canned
from tests.support.certificates import Authority
from tools.local_http import free_port

OK = (200, {}, b'{"a": 1}')


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_client, "PAUSE_SECONDS", 0)


def unreachable(url: str, **options: str | ssl.SSLContext) -> str:
    """Return the sentence about a URL that gives no answer."""
    with pytest.raises(ClientError) as failed:
        request(url, **options)
    assert str(failed.value).startswith(f"{url} cannot be reached (")
    assert str(failed.value).endswith(").")
    return str(failed.value)


def test_a_get_and_a_post_are_sent_as_they_should_be() -> None:
    """A body makes it a POST of JSON; a redirect is an answer, and is not followed."""
    with canned({"/a": OK, "/b": (308, {"Location": "https://x/"}, b"")}) as server:
        url = f"http://127.0.0.1:{server.port}"
        assert request(f"{url}/a").json() == {"a": 1}
        answer = request(f"{url}/b", b"{}")
        assert (answer.status, answer.location) == (308, "https://x/")
        host = f"127.0.0.1:{server.port}"
        assert server.seen == [("GET", "/a", host, b""), ("POST", "/b", host, b"{}")]


def test_another_address_is_connected_to_under_the_name_of_the_url() -> None:
    """As curl --connect-to: Host stays what the URL says."""
    with canned({"/a": OK}) as server:
        assert request("http://models.example/a", connect_to=f"127.0.0.1:{server.port}").status == 200
        assert request(f"http://models.example:{server.port}/a", connect_to="127.0.0.1").status == 200
        assert [host for _, _, host, _ in server.seen] == ["models.example", f"models.example:{server.port}"]


@pytest.mark.parametrize(
    ("url", "connect_to", "address"),
    [
        ("http://a/x", None, ("a", 80)),
        ("https://a", None, ("a", 443)),
        ("http://[::1]:9", None, ("::1", 9)),
        ("https://a:9", "b", ("b", 9)),
        ("https://a", "10.0.0.1:8443", ("10.0.0.1", 8443)),
        ("https://a", "2001:db8::1", ("2001:db8::1", 443)),
        ("https://a", "[2001:db8::1]:8443", ("2001:db8::1", 8443)),
    ],
)
def test_addresses_are_names_or_ips_with_an_optional_port(
    url: str, connect_to: str | None, address: tuple[str, int]
) -> None:
    """The port is that of the address, else of the URL, else of its scheme."""
    assert address_of(urlsplit(url), connect_to) == address


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """Return an authority of the test's own."""
    return Authority(tmp_path)


@pytest.fixture
def tls_port(authority: Authority) -> Iterator[int]:
    """Return the port of a server with a certificate for models.test."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.issue("models.test"))
    with canned({"/a": OK}, context) as server:
        yield server.port


def test_a_certificate_must_be_trusted_and_fit_the_name(authority: Authority, tls_port: int) -> None:
    """The name is that of the URL, wherever the connection goes to."""
    trusted = {"tls": trusting(str(authority.file)), "connect_to": f"127.0.0.1:{tls_port}"}
    assert request("https://models.test/a", **trusted).status == 200
    assert "Hostname mismatch" in unreachable("https://other.test/a", **trusted)
    untrusted = {**trusted, "tls": trusting(None)}
    assert "its certificate is not trusted: " in unreachable("https://models.test/a", **untrusted)


def test_a_file_of_certificates_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    """One sentence that names the file."""
    (tmp_path / "text").write_text("no certificate")
    for path in (tmp_path / "none", tmp_path / "text"):
        with pytest.raises(ClientError, match=rf"^The certificates in {path} cannot be read \(.*\)\.$"):
            trusting(str(path))


def test_whoever_does_not_answer_in_http_cannot_be_reached() -> None:
    """Refused, hung up, silent, no such name, no HTTP: one kind of error, with its reason."""
    assert "Connection refused" in unreachable(f"http://127.0.0.1:{free_port()}/")
    assert "cannot be reached" in unreachable("http://no-such-name.invalid/")
    assert "cannot be reached" in unreachable("http://models.example/", connect_to="127.0.0.1:x")
    with canned({}) as server:
        assert "wrong version" in unreachable(f"https://127.0.0.1:{server.port}/").lower()


def test_a_silent_server_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A listener whose process hangs takes the connection and never answers."""
    monkeypatch.setattr(http_client, "TIMEOUT_SECONDS", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        assert "timed out" in unreachable(f"http://127.0.0.1:{silent.getsockname()[1]}/")


def test_patience_tries_again() -> None:
    """A status that may pass is tried again, a few times and not for ever; a good answer is not asked for twice."""
    loading, absent = (503, {}, b""), (404, {}, b"")
    with canned({"/soon": [loading, loading, OK], "/never": loading, "/absent": absent}) as server:
        url = f"http://127.0.0.1:{server.port}"
        assert [request_patiently(f"{url}{path}", (503,)).status for path in ("/soon", "/never", "/absent")] == [
            200,
            503,
            404,
        ]
        assert [path for _, path, _, _ in server.seen].count("/absent") == 1
        assert len(server.seen) == 7


def test_patience_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be reached is tried a few times, with pauses."""
    pauses: list[float] = []
    monkeypatch.setattr(http_client.time, "sleep", pauses.append)
    with pytest.raises(ClientError, match="Connection refused"):
        request_patiently(f"http://127.0.0.1:{free_port()}/")
    assert len(pauses) == http_client.TRIES - 1
    assert http_client.TRIES * http_client.TIMEOUT_SECONDS + sum(pauses) < 15


@pytest.mark.parametrize("body", [b"", b"<html>", b"\xff", b"[" * 100_000])
def test_what_is_no_json_is_an_error(body: bytes) -> None:
    """Somebody else listens there."""
    with (
        canned({"/": (200, {}, body)}) as server,
        pytest.raises(ClientError, match=r"^http://.*/ does not answer with JSON\.$"),
    ):
        request(f"http://127.0.0.1:{server.port}/").json()


@pytest.mark.parametrize("text", ["http://a", "https://a:1/b/c/", "http://[::1]:8081", "http://10.0.0.1/"])
def test_a_base_url_loses_its_last_slash(text: str) -> None:
    """So that paths can follow it."""
    assert base_url(text) == text.rstrip("/")


@pytest.mark.parametrize(
    "text",
    ["", "a", "a:8081", "ftp://a", "http://", "http://:80", "http://a:x", "http://a:0", "http://a?b", "http://a#b"],
)
def test_other_words_are_no_base_url(text: str) -> None:
    """A typing error in a chart's values is no release that is down."""
    with pytest.raises(ValueError, match="must be http"):
        base_url(text)


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "localhost"])  # noqa: S104 - connected to
def test_a_live_server_passes_the_healthcheck(host: str) -> None:
    """A wildcard is listened on, not connected to."""
    with canned({"/healthz": OK}) as server:
        healthcheck(Settings(host=host, health_port=server.port))
        assert [path for _, path, _, _ in server.seen] == ["/healthz"]


def test_another_answer_than_200_fails_the_healthcheck() -> None:
    """So does none."""
    with canned({}) as server, pytest.raises(ClientError, match="answers 404: the server is not live"):
        healthcheck(Settings(health_port=server.port))
    with pytest.raises(ClientError, match=r"http://\[::1\]:\d+/healthz cannot be reached"):
        healthcheck(Settings(host="::", health_port=free_port()))


def test_what_is_told_arrives_as_json() -> None:
    """And once, whatever the answer is; an older server has no such path."""
    with canned({"/checks": (204, {}, b"")}) as server:
        for path in ("checks", "older"):
            notify(f"http://127.0.0.1:{server.port}/{path}", {"check": "gate"})
        assert [(method, path, body) for method, path, _, body in server.seen] == [
            ("POST", "/checks", b'{"check": "gate"}'),
            ("POST", "/older", b'{"check": "gate"}'),
        ]


def test_nobody_waits_for_who_does_not_listen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither where nothing is, nor where something takes the connection and never answers."""
    monkeypatch.setattr(http_client, "NOTIFY_SECONDS", 0.1)
    notify(f"http://127.0.0.1:{free_port()}/checks", {})
    with socket.create_server(("127.0.0.1", 0)) as silent:
        notify(f"http://127.0.0.1:{silent.getsockname()[1]}/checks", {})
        connection, _ = silent.accept()
        with connection:
            received = b""
            while not received.endswith(b"{}"):
                received += connection.recv(1000)
            assert received.startswith(b"POST /checks ")
            connection.setblocking(False)
            with pytest.raises(BlockingIOError):  # it is still open, and waits for an answer
                connection.recv(1)
