"""Clients that predict without pause over connections they keep, and count what they are answered."""

import http.client
import json
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

DOCUMENT = {"X": [[1500, 3]]}
BODY = json.dumps(DOCUMENT)
HEADERS = {"Content-Type": "application/json"}


@dataclass
class Load:
    """Clients that send one request after the other until they are told to stop; a failed request is not retried.

    Args:
        port_of: Gives the port for a new connection, as a load balancer would.
        expected: What "y_pred" must be.
        n_clients: How many clients there are, each with one connection.
        pause_seconds: How long a client waits after an answer.
        document: What is sent.
    """

    port_of: Callable[[], int]
    expected: list[float]
    n_clients: int = 16
    pause_seconds: float = 0.05
    document: Any = field(default_factory=lambda: DOCUMENT)
    answered: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    connections: int = 0

    def __enter__(self) -> "Load":
        """Start the clients."""
        self._stop = threading.Event()
        self._body = json.dumps(self.document)
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._run) for _ in range(self.n_clients)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        """Stop the clients and wait for them."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        connection: http.client.HTTPConnection | None = None
        while not self._stop.is_set():
            if connection is None:
                connection = http.client.HTTPConnection("127.0.0.1", self.port_of(), timeout=30)
                with self._lock:
                    self.connections += 1
            if not self._exchange(connection):
                connection.close()
                connection = None
            time.sleep(self.pause_seconds)
        if connection is not None:
            connection.close()

    def _exchange(self, connection: http.client.HTTPConnection) -> bool:
        """Send one request and say whether the connection may be used again."""
        try:
            connection.request("POST", "/predict", self._body, HEADERS)
            response = connection.getresponse()
            body = json.loads(response.read())
            good = response.status == http.HTTPStatus.OK and body["y_pred"] == self.expected
        except (OSError, http.client.HTTPException, ValueError, KeyError) as error:
            self._count(f"{type(error).__name__}: {error}")
            return False
        self._count("" if good else f"{response.status}: {body}")
        return not response.will_close

    def _count(self, failure: str) -> None:
        with self._lock:
            self.answered["failed" if failure else "good"] += 1
            if failure:
                self.failures.append(failure)
