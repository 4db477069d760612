"""Where a server is in its life: loading, ready, or draining; shared by its master and all its serving processes."""

import mmap

from service.artifact.reader import Artifact


class Lifecycle:
    """Tells whether traffic is welcome.

    Made before the serving processes are forked: the drain flag is a byte of memory that they all share.
    """

    def __init__(self) -> None:
        self._draining = mmap.mmap(-1, 1)
        # Set by each serving process for itself, once the model gave its golden answers.
        self.served: Artifact | None = None

    @property
    def draining(self) -> bool:
        """Whether the server is on its way out."""
        return self._draining[0] != 0

    def begin_drain(self) -> None:
        """Tell all processes that the server is on its way out."""
        self._draining[0] = 1

    def not_ready_because(self) -> str:
        """Return why traffic is not welcome, or nothing."""
        if self.draining:
            return "The server is draining: it is about to stop."
        return "" if self.served else "The model is being loaded."
