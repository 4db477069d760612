"""What the control groups (version 1 or 2) that hold this process say: limits of CPU and memory, and throttling."""

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

ROOT = Path("/")
NO_LIMIT_BYTES = 2**60  # version 1 says a number near 2**63 where there is no limit
UNITS_A_SECOND = {"throttled_usec": 1e6, "throttled_time": 1e9}  # in version 2 and version 1


class Throttling(NamedTuple):
    """How a CPU limit worked so far.

    Args:
        periods: In which it was enforced.
        throttled_periods: Of these, in which there was no CPU time left.
        throttled_seconds: How long threads had to wait, added up.
    """

    periods: int
    throttled_periods: int
    throttled_seconds: float


class Quota(NamedTuple):
    """The CPU limit of one group.

    Args:
        cores: Seconds of CPU a second.
        directory: Where the kernel shows the group.
    """

    cores: float
    directory: Path

    def throttling(self) -> Throttling | None:
        """Return how the limit worked so far, or None where the kernel does not say."""
        words = _words(self.directory / "cpu.stat")
        found = {name: int(value) for name, value in zip(words[::2], words[1::2], strict=False) if value.isdigit()}
        if not {"nr_periods", "nr_throttled"} <= found.keys():
            return None
        seconds = sum(found.get(name, 0) / units for name, units in UNITS_A_SECOND.items())
        return Throttling(found["nr_periods"], found["nr_throttled"], seconds)


def cpu_quota(root: Path = ROOT) -> Quota | None:
    """Return the tightest limit of the groups that hold this process, or None; a parent's limit binds its children.

    Args:
        root: Where /proc and /sys are found.
    """
    return min(_quotas(root), key=lambda quota: quota.cores, default=None)


def memory_limit(root: Path = ROOT) -> int | None:
    """Return how many bytes of memory the groups allow, or None without a limit.

    Args:
        root: Where /proc and /sys are found.
    """
    found = [
        int(word)
        for directory, version in _groups("memory", root)
        for word in _words(directory / ("memory.max" if version > 1 else "memory.limit_in_bytes"))
        if word.isdigit()
    ]
    return min((limit for limit in found if limit < NO_LIMIT_BYTES), default=None)


def _quotas(root: Path) -> Iterator[Quota]:
    for directory, version in _groups("cpu", root):
        cores = _quota_v2(directory) if version > 1 else _quota_v1(directory)
        if cores > 0:
            yield Quota(cores, directory)


def _groups(controller: str, root: Path) -> Iterator[tuple[Path, int]]:
    """Yield the directory of every group that holds this process, the innermost first, and the version it is of."""
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
    """Return quota over period, or 0 where there is no limit ("max" in version 2, -1 in version 1)."""
    return int(quota) / int(period) if quota.isdigit() and period.isdigit() else 0.0
