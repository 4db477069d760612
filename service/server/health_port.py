"""The health port. It has its own thread and listener, so that probes get answers while all pool threads are busy."""

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
    """Return a listener for all serving processes. They inherit it, so that a new process can replace another.

    Raises:
        OSError: If the port is in use.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.create_server((host, port), family=family, backlog=BACKLOG)
    listener.setblocking(False)  # a connection wakes several processes, and only one of them gets it
    return listener


def serve_in_background(listener: socket.socket, app: WSGIApplication) -> None:
    """Serve the application on this listener in a thread. The thread ends with the process."""
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
        """Log nothing: a probe that disconnects is normal."""


class _Handler(WSGIRequestHandler):
    timeout = CLIENT_TIMEOUT_SECONDS

    def address_string(self) -> str:
        return str(self.client_address[0])  # the default would look up the host name

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:  # noqa: ARG002
        """Answer invalid HTTP as the API does. The library's own page would repeat parts of the request."""
        status = HTTPStatus(code)
        detail = f"{status.phrase}: the server cannot process this HTTP request."
        self.wfile.write(raw_problem(status, detail, new_request_id()))
        self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing: probes arrive every few seconds."""
