"""The state of a server: loading, ready or draining. The master and all serving processes share it."""

import mmap

from service.artifact.reader import Artifact


class Lifecycle:
    """Knows whether the server is ready for requests.

    Create it before the serving processes are forked: the drain flag is a byte of memory that all processes share.
    """

    def __init__(self) -> None:
        self._draining = mmap.mmap(-1, 1)
        # Each serving process sets this for itself after the model has passed its golden requests.
        self.served: Artifact | None = None

    @property
    def draining(self) -> bool:
        """Whether the server is draining before it stops."""
        return self._draining[0] != 0

    def begin_drain(self) -> None:
        """Set the drain flag for all processes."""
        self._draining[0] = 1

    def not_ready_because(self) -> str:
        """Return why the server is not ready, or an empty text if it is ready."""
        if self.draining:
            return "The server is draining: it is about to stop."
        return "" if self.served else "The model is being loaded."
