"""The service, counting for drift in every other window of requests; it tells what each window took.

Two servers differ by more than the counting costs, even two that do the same, and so do two seconds on a busy machine.
"""

import os
import sys
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

from service.__main__ import main
from service.host.cpu import compute_threads, set_thread_budget
from service.settings import Settings


def alternate(windows: Path, n_requests: int) -> None:
    """Count every other window of requests, and write the CPU time of a request in each, in microseconds.

    Args:
        windows: The file for it: one line a window, those with counting first, third and so on.
        n_requests: How many requests a window has.
    """
    settings = Settings.from_env()
    # What the service does before it imports NumPy, which comes with the next line.
    set_thread_budget(compute_threads(settings.compute_threads, settings.workers))
    from service.observability.drift import Drift
    from service.server import application

    count, lock, file = Drift.__call__, threading.Lock(), windows.open("w", buffering=1)
    n_seen, began = 0, time.process_time()
    counted_seconds, since = 0.0, time.monotonic()  # in earlier windows with counting, and when this window began

    def alternating(self: Drift, *seen: Any) -> None:
        nonlocal n_seen, began, counted_seconds, since
        counting = n_seen // n_requests % 2 == 0
        if counting:
            count(self, *seen)
        with lock:
            n_seen += 1
            if n_seen % n_requests == 0:
                now, began_before, began = time.monotonic(), began, time.process_time()
                file.write(f"{(began - began_before) / n_requests * 1e6}\n")
                counted_seconds += now - since if counting else 0
                since = now

    def clock() -> float:
        # Stands still in windows without counting: else requests would seem to come half as fast as they do.
        return counted_seconds + time.monotonic() - since

    Drift.__call__ = alternating  # type: ignore[method-assign]
    application.Drift = partial(Drift, clock=clock)  # type: ignore[attr-defined, misc, assignment]


if __name__ == "__main__":
    alternate(Path(os.environ["WINDOWS"]), int(os.environ["REQUESTS_A_WINDOW"]))
    sys.exit(main())
