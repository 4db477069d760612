"""Clients that predict rows of a model's own data and tell what was right, until they are stopped."""

import http.client
import json
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from typing import Any

Connect = Callable[[], http.client.HTTPConnection]
JSON = {"Content-Type": "application/json"}
REFUSED = {"X": "these are no rows"}


def connect_to(port: int, authority: str = "") -> Connect:
    """Return what makes a connection to a port of this machine; over TLS where there is an authority to trust."""
    if not authority:
        return lambda: http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    context = ssl.create_default_context(cafile=authority)
    return lambda: http.client.HTTPSConnection("localhost", port, timeout=30, context=context)


@contextmanager
def clients(
    connect: Connect, rows: Sequence[Any], truths: Sequence[Any], n_clients: int = 1, pause_seconds: float = 0.01
) -> Iterator[list[str]]:
    """Have clients predict and tell what was right; of every tenth row, a request is refused.

    Args:
        connect: What makes a connection.
        rows: What is predicted, one row a request.
        truths: What was right for each row.
        n_clients: How many there are.
        pause_seconds: How long a client waits after each row.

    Yields:
        What went wrong, as far as one knows then.
    """
    stop, wrong = threading.Event(), list[str]()

    def ask(connection: http.client.HTTPConnection, path: str, document: Any) -> tuple[int, str]:
        connection.request("POST", path, json.dumps(document), JSON)
        answer = connection.getresponse()
        answer.read()
        return answer.status, answer.headers["X-Request-ID"]

    def run(first: int) -> None:
        connection = connect()
        try:
            for number in count(first):
                if stop.is_set():
                    return
                place = number * 7 % len(rows)
                status, request_id = ask(connection, "/predict", {"X": [rows[place]]})
                told, _ = ask(connection, "/feedback", {"request_id": request_id, "y_true": [truths[place]]})
                if (status, told) != (200, 200):
                    wrong.append(f"row {place}: predicted {status}, told {told}")
                if number % 10 == 0:
                    ask(connection, "/predict", REFUSED)
                time.sleep(pause_seconds)
        except OSError as error:
            wrong.append(repr(error))
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=(first,)) for first in range(n_clients)]
    for thread in threads:
        thread.start()
    try:
        yield wrong
    finally:
        stop.set()
        for thread in threads:
            thread.join()
