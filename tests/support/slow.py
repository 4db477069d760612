"""Clients that take their time, many of them in one thread: each sends a byte now and then, or nothing."""

import selectors
import socket
import threading
import time
from collections import Counter
from dataclasses import dataclass, field

BODY = b'{"X": [[1500, 3]]}'
HEAD = (
    b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nX-Long: "
    + b"x" * 4000
    + b"\r\nContent-Length: 4000\r\n\r\n"
)
PAUSE_SECONDS = 0.05
KINDS = {"head": b"", "body": HEAD, "silent": b""}  # what each sends at once


@dataclass
class SlowClients:
    """Connections that are slow until the end of the block, a third each in the head, in the body, and silent.

    Args:
        port: The server's.
        n_clients: How many connections.
    """

    port: int
    n_clients: int
    answered: Counter[str] = field(default_factory=Counter)  # by kind and status; "closed" without an answer

    def __enter__(self) -> "SlowClients":
        """Open all connections and keep on sending."""
        self._stop = threading.Event()
        self._selector = selectors.DefaultSelector()
        kinds = list(KINDS)
        for number in range(self.n_clients):
            kind = kinds[number % len(kinds)]
            connection = socket.create_connection(("127.0.0.1", self.port), timeout=30)
            connection.sendall(KINDS[kind])
            connection.setblocking(False)
            self._selector.register(connection, selectors.EVENT_READ, kind)
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        """Close all connections."""
        self._stop.set()
        self._thread.join()
        for key in list(self._selector.get_map().values()):
            key.fileobj.close()
        self._selector.close()

    @property
    def n_open(self) -> int:
        """How many connections the server did not end so far."""
        return len(self._selector.get_map())

    def _run(self) -> None:
        n_sent = 0
        while not self._stop.wait(PAUSE_SECONDS):
            for key, _ in self._selector.select(0):
                self._look_at(key.fileobj, key.data)
            for key in list(self._selector.get_map().values()):
                self._send(key.fileobj, key.data, n_sent)
            n_sent += 1

    def _look_at(self, connection: socket.socket, kind: str) -> None:
        try:
            answer = connection.recv(65536)
        except ConnectionError:
            answer = b"HTTP/1.1 reset"
        self.answered[f"{kind} {answer.split()[1].decode() if answer else 'closed'}"] += 1
        self._selector.unregister(connection)
        connection.close()

    def _send(self, connection: socket.socket, kind: str, n_sent: int) -> None:
        byte = {"head": HEAD[n_sent % len(HEAD) :][:1], "body": b" ", "silent": b""}[kind]
        try:
            connection.send(byte)
        except OSError:
            return  # the selector will say


def wait_until_closed(clients: SlowClients, seconds: float = 60) -> None:
    """Return once the server has ended all connections."""
    end = time.monotonic() + seconds
    while clients.n_open:
        assert time.monotonic() < end, f"{clients.n_open} connections are still open"
        time.sleep(0.05)
