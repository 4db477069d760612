"""Reads CPU limits, memory limits and throttling from the control groups (version 1 or 2) of this process."""

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

ROOT = Path("/")
NO_LIMIT_BYTES = 2**60  # version 1 has a number near 2**63 if there is no limit
UNITS_A_SECOND = {"throttled_usec": 1e6, "throttled_time": 1e9}  # of version 2 and of version 1


class Throttling(NamedTuple):
    """The effect of a CPU limit since the group was created.

    Args:
        periods: Periods in which the kernel enforced the limit.
        throttled_periods: Periods in which the CPU time was used up.
        throttled_seconds: Sum of the time for which threads were throttled.
    """

    periods: int
    throttled_periods: int
    throttled_seconds: float


class Quota(NamedTuple):
    """The CPU limit of one group.

    Args:
        cores: CPU seconds per second.
        directory: The directory of the group.
    """

    cores: float
    directory: Path

    def throttling(self) -> Throttling | None:
        """Return the effect of the limit so far, or None if the kernel does not report it."""
        words = _words(self.directory / "cpu.stat")
        statistics = {name: int(value) for name, value in zip(words[::2], words[1::2], strict=False) if value.isdigit()}
        if not {"nr_periods", "nr_throttled"} <= statistics.keys():
            return None
        seconds = sum(statistics.get(name, 0) / units for name, units in UNITS_A_SECOND.items())
        return Throttling(statistics["nr_periods"], statistics["nr_throttled"], seconds)


def cpu_quota(root: Path = ROOT) -> Quota | None:
    """Return the lowest CPU limit of the groups of this process, or None. A parent's limit also limits its children.

    Args:
        root: The folder that contains /proc and /sys.
    """
    return min(_quotas(root), key=lambda quota: quota.cores, default=None)


def memory_limit(root: Path = ROOT) -> int | None:
    """Return the lowest memory limit of the groups in bytes, or None without a limit.

    Args:
        root: The folder that contains /proc and /sys.
    """
    limits = [
        int(word)
        for directory, version in _groups("memory", root)
        for word in _words(directory / ("memory.max" if version > 1 else "memory.limit_in_bytes"))
        if word.isdigit()
    ]
    return min((limit for limit in limits if limit < NO_LIMIT_BYTES), default=None)


def _quotas(root: Path) -> Iterator[Quota]:
    for directory, version in _groups("cpu", root):
        cores = _quota_v2(directory) if version > 1 else _quota_v1(directory)
        if cores > 0:
            yield Quota(cores, directory)


def _groups(controller: str, root: Path) -> Iterator[tuple[Path, int]]:
    """Yield the directory and the version (1 or 2) of every group of this process, the innermost first."""
    try:
        groups = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in groups:
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        mount = root / "sys/fs/cgroup" / (controller if controllers else "")
        for group in (PurePosixPath(path), *PurePosixPath(path).parents):
            yield mount / str(group).lstrip("/"), 1 if controllers else 2


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
    """Return quota / period, or 0 without a limit ("max" in version 2, -1 in version 1)."""
    return int(quota) / int(period) if quota.isdigit() and period.isdigit() else 0.0
