"""The CPU limit of a container, read from control groups as the kernel shows them."""

import os
from pathlib import Path

import pytest

from service.host import cpu
from service.host.cpu import compute_threads, cpu_limit, request_threads

MANY = 64.0


@pytest.fixture(autouse=True)
def _many_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the machine so many CPUs that only control groups limit them."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(int(MANY))))


def system(root: Path, groups: str, **files: str) -> Path:
    """Write what the kernel would show below root: the process's groups, and files by path with __ for a slash."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(groups)
    for name, content in files.items():
        path = root / "sys/fs/cgroup" / name.replace("__", "/").replace("cpu_", "cpu.")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return root


def test_without_control_groups_the_affinity_counts(tmp_path: Path) -> None:
    """A machine without /proc, or without limits, offers what the process may run on."""
    assert cpu_limit(tmp_path) == MANY
    assert cpu_limit(system(tmp_path, "0::/\n")) == MANY


def test_the_limit_of_this_process_is_above_zero() -> None:
    """Whatever this machine is."""
    assert 0 < cpu_limit() <= MANY


@pytest.mark.parametrize(
    ("content", "limit"),
    [("50000 100000\n", 0.5), ("400000 100000\n", 4.0), ("max 100000\n", MANY), ("6500000 100000\n", MANY), ("", MANY)],
)
def test_version_2_has_quota_and_period_in_one_file(content: str, limit: float, tmp_path: Path) -> None:
    """The word max is no limit, and a limit above the machine is none either."""
    assert cpu_limit(system(tmp_path, "0::/\n", cpu_max=content)) == limit


def test_the_tightest_group_above_counts(tmp_path: Path) -> None:
    """A pod's limit binds its containers, also where the container has none or a wider one."""
    groups = "0::/kubepods/pod1/container\n"
    files = {
        "kubepods__pod1__container__cpu_max": "max 100000",
        "kubepods__pod1__cpu_max": "150000 100000",
        "kubepods__cpu_max": "300000 100000",
    }
    assert cpu_limit(system(tmp_path, groups, **files)) == 1.5


@pytest.mark.parametrize(("quota", "limit"), [("250000", 2.5), ("-1", MANY), ("", MANY)])
def test_version_1_has_quota_and_period_in_two_files(quota: str, limit: float, tmp_path: Path) -> None:
    """The controller of the name cpu counts, with others on its line, and -1 is no limit."""
    groups = "5:cpuset:/other\n4:cpu,cpuacct:/docker/abc\n1:name=systemd:/docker/abc\n0::/docker/abc\n"
    files = {
        "cpu__docker__abc__cpu_cfs_quota_us": quota,
        "cpu__docker__abc__cpu_cfs_period_us": "100000",
        "cpu__other__cpu_cfs_quota_us": "1",
        "cpu__other__cpu_cfs_period_us": "100000",
    }
    assert cpu_limit(system(tmp_path, groups, **files)) == limit


def test_version_1_in_a_container_shows_its_group_as_the_root(tmp_path: Path) -> None:
    """The path is the host's and leads nowhere in the container; the mount's root is the container's own group."""
    files = {"cpu__cpu_cfs_quota_us": "200000", "cpu__cpu_cfs_period_us": "100000"}
    assert cpu_limit(system(tmp_path, "4:cpu,cpuacct:/docker/abc\n", **files)) == 2.0


@pytest.mark.parametrize(
    ("limit", "workers", "threads"), [(0.5, 1, 2), (1, 1, 4), (2.5, 1, 10), (64, 1, 32), (4, 4, 4), (1, 8, 2)]
)
def test_request_threads_follow_the_limit(
    limit: float, workers: int, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four a CPU over all processes, from 2 to 32 in each."""
    monkeypatch.setattr(cpu, "cpu_limit", lambda: limit)
    assert request_threads(workers) == threads


@pytest.mark.parametrize(
    ("wanted", "workers", "limit", "threads"),
    [
        (1, 1, 8, 1),
        (4, 1, 8, 4),
        (16, 1, 8, 8),
        (2, 1, 0.5, 1),
        (0, 1, 8, 8),
        (0, 4, 8, 2),
        (0, 16, 8, 1),
        (0, 1, 0.5, 1),
    ],
)
def test_compute_threads_stay_within_the_limit(
    wanted: int, workers: int, limit: float, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many as wanted, at most the limit; 0 shares the limit out, and each process has one at least."""
    monkeypatch.setattr(cpu, "cpu_limit", lambda: limit)
    assert compute_threads(wanted, workers) == threads
