"""An estimator that takes as long as a test wants: as long as there is a file that its variable names."""

import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from sklearn.linear_model import LinearRegression

from tests.support.baking import NUMBERS, PRICES, bake_whole_way

VARIABLE = "HELD_BY_FILE"
BODY = json.dumps({"X": [[1.0, 2.0, 3.0]]}).encode()
REQUEST = (
    b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(BODY)
) + BODY


class HeldRegression(LinearRegression):
    """A linear regression that does not answer while the file is there."""

    def predict(self, X: Any) -> NDArray[Any]:
        """Return the predictions, once it may."""
        while (name := os.environ.get(VARIABLE)) and Path(name).exists():
            time.sleep(0.01)
        return super().predict(X)


def bake_held(output: Path) -> Path:
    """Return the artifact of such an estimator."""
    bake_whole_way(output, NUMBERS, PRICES, HeldRegression())
    return output


@contextmanager
def held_requests(port: int, file: Path, n_requests: int) -> Iterator[list[socket.socket]]:
    """Have this many requests worked on, or wait for a thread, until the end of the block.

    Args:
        port: Of a server of the held estimator, started with VARIABLE naming the file.
        file: By which it is held.
        n_requests: How many, each on a connection of its own.
    """
    file.touch()
    with ExitStack() as stack:
        stack.callback(file.unlink)
        connections = [
            stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=30)) for _ in range(n_requests)
        ]
        for connection in connections:
            connection.sendall(REQUEST)
        yield connections
