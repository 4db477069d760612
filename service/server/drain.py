"""The drain of a server: after SIGTERM it is not ready, closes connections with their next answer, and still serves.

The chart's preStop hook begins it, by the command in service/commands/drain.py. Every process of the server sees the
drain in the Lifecycle, which /readyz answers from.
"""

import signal
from typing import Any

from gunicorn.arbiter import Arbiter

from service.api.readiness import Lifecycle


def drain_on_sigterm(arbiter: Arbiter, lifecycle: Lifecycle, seconds: float) -> None:
    """Make the master's first SIGTERM begin a drain, and a second one, or the end of the drain, stop the server.

    Args:
        arbiter: Gunicorn's master.
        lifecycle: What all processes of the server share.
        seconds: How long the drain takes; 0 stops at once.
    """
    stop = arbiter.handle_term

    def drain_then_stop() -> None:
        if lifecycle.draining or not seconds:
            stop()
        lifecycle.begin_drain()
        arbiter.log.info("Draining for %s s: not ready, closing connections, still serving", seconds)
        signal.setitimer(signal.ITIMER_REAL, seconds)

    arbiter.handle_term = drain_then_stop
    signal.signal(signal.SIGALRM, lambda *_: arbiter.signal(signal.SIGTERM, None))


def close_while_draining(request: Any, lifecycle: Lifecycle) -> None:
    """Have the answer to a request close its connection; an application cannot, Gunicorn strips its Connection header.

    Args:
        request: Gunicorn's request, before it is answered.
        lifecycle: Whether the server drains.
    """
    if lifecycle.draining:
        request.force_close()
