"""How many processors this process may use: the container's CPU limit (cgroup v1 or v2) and the affinity mask."""

import os
from collections.abc import Iterator
from math import ceil
from pathlib import Path, PurePosixPath


def cpu_limit(root: Path = Path("/")) -> float:
    """Return the number of CPUs this process may use, such as 0.5 or 4; always above 0.

    Args:
        root: Where /proc and /sys are found.
    """
    return min([len(os.sched_getaffinity(0)), *_quotas(root)])


def request_threads(workers: int) -> int:
    """Return how many requests one of several serving processes should work on at a time.

    Four a CPU, because a thread also waits for bodies to come in; at most 32, where the interpreter's lock limits.
    """
    return max(2, min(32, ceil(4 * cpu_limit() / workers)))


def compute_threads(wanted: int, workers: int) -> int:
    """Return how many threads one prediction may use, from 1 to the CPU limit; wanted 0 shares the limit out."""
    limit = max(1, int(cpu_limit()))
    return min(wanted, limit) if wanted else max(1, limit // workers)


def _quotas(root: Path) -> Iterator[float]:
    """Yield the quota of every control group that holds this process, in CPUs; a parent's limit binds its children."""
    try:
        groups = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in groups:
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        mount = root / "sys/fs/cgroup" / ("cpu" if controllers else "")
        for group in (PurePosixPath(path), *PurePosixPath(path).parents):
            directory = mount / str(group).lstrip("/")
            quota = _quota_v1(directory) if controllers else _quota_v2(directory)
            if quota > 0:
                yield quota


def _quota_v2(directory: Path) -> float:
    return _ratio(*_words(directory / "cpu.max"))


def _quota_v1(directory: Path) -> float:
    return _ratio(*_words(directory / "cpu.cfs_quota_us"), *_words(directory / "cpu.cfs_period_us"))


def _words(file: Path) -> list[str]:
    try:
        return file.read_text().split()
    except OSError:
        return []


def _ratio(quota: str = "", period: str = "") -> float:
    """Return quota over period, or 0 where there is no limit ("max" in version 2, -1 in version 1)."""
    return int(quota) / int(period) if quota.isdigit() and period.isdigit() else 0.0
