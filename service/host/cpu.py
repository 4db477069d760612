"""How many processors this process may use: the container's CPU limit and the affinity mask."""

import os
from math import ceil
from pathlib import Path

from service.host.cgroup import ROOT, cpu_quota

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS")


def cpu_limit(root: Path = ROOT) -> float:
    """Return the number of CPUs this process may use, such as 0.5 or 4; always above 0.

    Args:
        root: Where /proc and /sys are found.
    """
    quota = cpu_quota(root)
    n_cpus = len(os.sched_getaffinity(0))
    return min(n_cpus, quota.cores) if quota else n_cpus


def request_threads(workers: int) -> int:
    """Return how many requests one of several serving processes should work on at a time.

    Four a CPU, because a thread also waits for bodies to come in; at most 32, where the interpreter's lock limits.
    """
    return max(2, min(32, ceil(4 * cpu_limit() / workers)))


def compute_threads(wanted: int, workers: int) -> int:
    """Return how many threads one prediction may use, from 1 to the CPU limit; wanted 0 shares the limit out."""
    limit = max(1, int(cpu_limit()))
    return min(wanted, limit) if wanted else max(1, limit // workers)


def set_thread_budget(n_threads: int) -> None:
    """Have OpenMP and the BLAS libraries use so many threads; they read this once, when NumPy is imported."""
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, str(n_threads)))
