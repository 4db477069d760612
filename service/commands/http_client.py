"""The HTTP client of the commands: one request over a connection of its own, with TLS; only the standard library."""

import http.client
import json
import socket
import ssl
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from threading import Thread
from typing import Any
from urllib.parse import SplitResult, urlsplit

TIMEOUT_SECONDS = 4  # three tries and the pauses between them stay below 15 s, connecting and reading apart
TRIES = 3
PAUSE_SECONDS = 1
NOTIFY_SECONDS = 1.0  # an upgrade must not wait longer to report its result
PORTS = {"http": 80, "https": 443}
WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - compared with, not listened on
JSON_HEADERS = {"Content-Type": "application/json"}


class ClientError(Exception):
    """A server cannot be reached, or does not answer in HTTP; the message is one sentence."""


@dataclass(frozen=True)
class Answer:
    """What a server answered.

    Args:
        url: What was asked for, for messages.
        status: The HTTP status.
        location: The Location header, or nothing.
        body: The body.
    """

    url: str
    status: int
    location: str
    body: bytes

    def json(self) -> Any:
        """Return the JSON of a good answer.

        Raises:
            ClientError: If the status is another than 200, or the body is no JSON.
        """
        if self.status != HTTPStatus.OK:
            raise ClientError(f"{self.url} answers {self.status} instead of 200.")
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError) as error:
            raise ClientError(f"{self.url} does not answer with JSON.") from error


def base_url(text: str) -> str:
    """Return the URL, under which paths such as /version are asked for, without a slash at its end.

    Raises:
        ValueError: If it is no http or https URL with a host, or has more than a path.
    """
    try:
        parts = urlsplit(text)
        fits = parts.scheme in PORTS and parts.hostname and parts.port != 0 and not (parts.query or parts.fragment)
    except ValueError:  # the port is no number, or the brackets do not match
        fits = False
    if not fits:
        raise ValueError("must be http://HOST[:PORT] or https://HOST[:PORT]")
    return text.rstrip("/")


def request(
    url: str, body: bytes | None = None, tls: ssl.SSLContext | None = None, connect_to: str | None = None
) -> Answer:
    """Return the answer to a GET, or to a POST of JSON where there is a body; redirects are not followed.

    Args:
        url: Where to, http or https.
        body: What to send.
        tls: Which certificates are trusted; those of the system if left out.
        connect_to: ADDRESS or ADDRESS:PORT to connect to in place of the URL's, whose name is still the one that Host,
            SNI and the certificate must match.

    Raises:
        ClientError: If there is no answer.
    """
    parts = urlsplit(url)
    host, port = str(parts.hostname), parts.port or PORTS[parts.scheme]
    connection = (http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection)(host, port)
    try:
        connection.sock = socket.create_connection(address_of(parts, connect_to), TIMEOUT_SECONDS)
        if parts.scheme == "https":
            context = tls or ssl.create_default_context()
            connection.sock = context.wrap_socket(connection.sock, server_hostname=host)
        connection.request(
            "GET" if body is None else "POST", parts.path or "/", body, {} if body is None else JSON_HEADERS
        )
        response = connection.getresponse()
        return Answer(url, response.status, response.getheader("Location", ""), response.read())
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise ClientError(f"{url} cannot be reached ({_reason(error)}).") from error
    finally:
        connection.close()


def request_patiently(url: str, again: Sequence[int] = (), **options: Any) -> Answer:
    """Return the answer to a GET, which is tried a few times where there is none, or one of these statuses.

    Raises:
        ClientError: If there is no answer at the last try.
    """
    for _ in range(TRIES - 1):
        try:
            answer = request(url, **options)
            if answer.status not in again:
                return answer
        except ClientError:
            pass
        time.sleep(PAUSE_SECONDS)
    return request(url, **options)


def notify(url: str, document: Any) -> None:
    """Send JSON, and do not wait long for it to arrive; whether it does, or is wanted there, makes no difference."""

    def send() -> None:
        with suppress(ClientError):
            request(url, json.dumps(document).encode())

    sending = Thread(target=send, daemon=True)  # because looking up a name has no timeout
    sending.start()
    sending.join(NOTIFY_SECONDS)


def address_of(url: SplitResult, connect_to: str | None = None) -> tuple[str, int]:
    """Return host and port to connect to for a URL; an IPv6 address with a port stands in brackets."""
    port = url.port or PORTS[url.scheme]
    if not connect_to:
        return str(url.hostname), port
    if connect_to.count(":") > 1 and not connect_to.startswith("["):
        return connect_to, port
    instead = urlsplit(f"//{connect_to}")
    return str(instead.hostname), instead.port or port


def trusting(ca: str | None) -> ssl.SSLContext:
    """Return a context that trusts the certificates in this PEM file, or the system's where there is none.

    Raises:
        ClientError: If the file cannot be read.
    """
    try:
        return ssl.create_default_context(cafile=ca)
    except OSError as error:
        raise ClientError(f"The certificates in {ca} cannot be read ({_reason(error)}).") from error


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {error.verify_message}"
    if isinstance(error, OSError):
        return error.strerror or str(error) or type(error).__name__
    return type(error).__name__  # it may hold what the other side sent
