"""Computes how many CPUs and threads this process may use, from the container's CPU limit and the affinity mask."""

import os
from math import ceil
from pathlib import Path

from service.host.cgroup import ROOT, cpu_quota

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS")


def cpu_limit(root: Path = ROOT) -> float:
    """Return the number of CPUs that this process may use, such as 0.5 or 4. It is always above 0.

    Args:
        root: The folder that contains /proc and /sys.
    """
    quota = cpu_quota(root)
    n_cpus = len(os.sched_getaffinity(0))
    return min(n_cpus, quota.cores) if quota else n_cpus


def request_threads(workers: int) -> int:
    """Return the number of worker threads for each of several serving processes.

    There are four per CPU, because threads also wait, and at least two. There are at most 32, because the interpreter's
    lock makes more useless.
    """
    return max(2, min(32, ceil(4 * cpu_limit() / workers)))


def compute_threads(setting: int, workers: int) -> int:
    """Return how many threads one prediction may use, from 1 to the CPU limit. 0 divides the limit by the workers."""
    limit = max(1, int(cpu_limit()))
    return min(setting, limit) if setting else max(1, limit // workers)


def set_thread_budget(n_threads: int) -> None:
    """Limit the threads of OpenMP and the BLAS libraries. They read this once, when NumPy is imported."""
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, str(n_threads)))
