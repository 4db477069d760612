"""A server of the test's own that answers what it is told to, for what no real release answers on demand."""

import ssl
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Canned:
    """A running server.

    Args:
        answers: For each path what is answered in turn, the last one again and again: status, headers and body.
        port: Where it listens on this machine.
        seen: For each request its method, its path, its Host header and its body.
    """

    answers: Mapping[str, Sequence[tuple[int, Mapping[str, str], bytes]]]
    port: int = 0
    seen: list[tuple[str, str, str, bytes]] = field(default_factory=list)


@contextmanager
def canned(answers: Mapping[str, Any], tls: ssl.SSLContext | None = None) -> Iterator[Canned]:
    """Serve these answers; one that is no list is given every time, a path without any is answered 404."""
    server = Canned({path: given if isinstance(given, list) else [given] for path, given in answers.items()})

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            n_before = sum(path == self.path for _, path, _, _ in server.seen)
            server.seen.append((self.command, self.path, self.headers.get("Host", ""), body))
            in_turn = server.answers.get(self.path, [(404, {}, b"")])
            status, headers, content = in_turn[min(n_before, len(in_turn) - 1)]
            self.send_response(status)
            for name, value in {"Content-Length": str(len(content)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        do_POST = do_GET  # noqa: N815

        def log_message(self, format: str, *arguments: Any) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        server.port = listening.server_address[1]
        if tls:
            listening.socket = tls.wrap_socket(listening.socket, server_side=True)
        threading.Thread(target=listening.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        listening.shutdown()
