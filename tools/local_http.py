"""Sends requests to a server on this machine and returns complete responses."""

import http.client
import json
import socket
from collections.abc import Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Answer:
    """A response: its status, its headers by lower-case name, and its body."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The decoded JSON body."""
        return json.loads(self.body)


def send(port: int, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None) -> Answer:
    """Send one request over a new connection.

    Args:
        port: The server's port on this machine.
        method: GET, POST and so on.
        path: The path.
        body: Bytes or text. An iterable of bytes is sent in chunks.
        headers: Headers in addition to those of the body.
    """
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
        chunked = body is not None and not isinstance(body, bytes | str)
        with suppress(BrokenPipeError):  # a server that refuses a body early answers and closes during the transfer
            connection.request(method, path, body, dict(headers or {}), encode_chunked=chunked)
        response = connection.getresponse()
        return Answer(response.status, {name.lower(): value for name, value in response.getheaders()}, response.read())


def predict(port: int, document: Any, **headers: str) -> Answer:
    """Send a document to /predict."""
    more_headers = {name.replace("_", "-"): value for name, value in headers.items()}
    return send(port, "POST", "/predict", json.dumps(document), {"Content-Type": "application/json", **more_headers})


def exchange(port: int, request: bytes) -> bytes:
    """Send bytes unchanged, and return all bytes that the server sends before it closes."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: connection.recv(65536), b""))


def receive_answer(connection: socket.socket) -> Answer:
    """Return the next response on a connection. Read nothing after it."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        byte = connection.recv(1)
        assert byte, "the connection ended before the response"
        head += byte
    lines = head.decode().split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])}
    n_bytes = int(headers.get("content-length", 0))
    body = b""
    while len(body) < n_bytes:
        piece = connection.recv(n_bytes - len(body))
        assert piece, "the response was cut off"
        body += piece
    return Answer(int(lines[0].split()[1]), headers, body)


def connect(port: int) -> socket.socket:
    """Return a connection that fails after 30 seconds instead of waiting forever."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=30)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def free_port() -> int:
    """Return a free port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])
