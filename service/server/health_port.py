"""The health port: a thread and a listener of its own, so that busy serving threads do not keep probes waiting."""

import socket
import threading
from http import HTTPStatus
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer
from wsgiref.types import WSGIApplication

from service.observability.logging import new_request_id
from service.problems import raw_problem

CLIENT_TIMEOUT_SECONDS = 5  # a probe that takes longer has given up
BACKLOG = 128


def listen(host: str, port: int) -> socket.socket:
    """Return a listener that serving processes inherit, so that one can take over from another.

    Raises:
        OSError: If the port is taken.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.create_server((host, port), family=family, backlog=BACKLOG)
    listener.setblocking(False)  # several processes wake up for one connection, all but one find it taken
    return listener


def serve_in_background(listener: socket.socket, app: WSGIApplication) -> None:
    """Answer on this listener from a thread that ends with the process."""
    server = _Server(listener)
    server.set_app(app)
    threading.Thread(target=server.serve_forever, name="health", daemon=True).start()


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True

    def __init__(self, listener: socket.socket) -> None:
        super().__init__(listener.getsockname(), _Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listener
        self.server_name, self.server_port = listener.getsockname()[:2]
        self.setup_environ()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: a probe that hung up is no news."""


class _Handler(WSGIRequestHandler):
    timeout = CLIENT_TIMEOUT_SECONDS

    def address_string(self) -> str:
        return str(self.client_address[0])  # the default looks up its name

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:  # noqa: ARG002
        """Answer broken HTTP as the API does; the library's own page repeats it."""
        status = HTTPStatus(code)
        detail = f"{status.phrase}: this is no HTTP request that can be served."
        self.wfile.write(raw_problem(status, detail, new_request_id()))
        self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: probes come every few seconds."""
