"""What control groups say of limits and throttling, as the kernel shows them."""

from pathlib import Path

import pytest

from service.host.cgroup import Throttling, cpu_quota, memory_limit

STAT_V2 = "usage_usec 900\nuser_usec 1\nsystem_usec 2\nnr_periods 30\nnr_throttled 4\nthrottled_usec 2500000\n"
STAT_V1 = "nr_periods 30\nnr_throttled 4\nthrottled_time 2500000000\n"


def system(root: Path, groups: str, **files: str) -> Path:
    """Write what the kernel would show below root: the process's groups, and files by path with __ for a slash."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(groups)
    for name, content in files.items():
        folder, _, file = name.replace("__", "/").rpartition("/")
        path = root / "sys/fs/cgroup" / folder / file.replace("_", ".", 1)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return root


def test_throttling_is_that_of_the_tightest_group_of_version_2(tmp_path: Path) -> None:
    """The limit that binds is the one that throttles."""
    files = {
        "pod__box__cpu_max": "400000 100000\n",
        "pod__box__cpu_stat": STAT_V2.replace("30", "99"),
        "pod__cpu_max": "150000 100000\n",
        "pod__cpu_stat": STAT_V2,
    }
    quota = cpu_quota(system(tmp_path, "0::/pod/box\n", **files))
    assert quota
    assert quota.cores == 1.5
    assert quota.throttling() == Throttling(30, 4, 2.5)


def test_version_1_counts_nanoseconds(tmp_path: Path) -> None:
    """And has its files below the controller."""
    files = {
        "cpu__docker__abc__cpu_cfs_quota_us": "50000",
        "cpu__docker__abc__cpu_cfs_period_us": "100000",
        "cpu__docker__abc__cpu_stat": STAT_V1,
    }
    quota = cpu_quota(system(tmp_path, "4:cpu,cpuacct:/docker/abc\n0::/docker/abc\n", **files))
    assert quota
    assert quota.cores == 0.5
    assert quota.throttling() == Throttling(30, 4, 2.5)


@pytest.mark.parametrize("stat", ["", "usage_usec 900\n", "nr_periods x\nnr_throttled 1\n", "nr_periods"])
def test_where_the_kernel_says_nothing_there_is_no_throttling(stat: str, tmp_path: Path) -> None:
    """A limit is known all the same."""
    quota = cpu_quota(system(tmp_path, "0::/\n", cpu_max="100000 100000\n", cpu_stat=stat))
    assert quota
    assert quota.throttling() is None


def test_without_a_quota_there_is_none(tmp_path: Path) -> None:
    """Nor without control groups, nor where there is no /proc."""
    assert cpu_quota(system(tmp_path / "a", "0::/\n", cpu_max="max 100000\n", cpu_stat=STAT_V2)) is None
    assert cpu_quota(tmp_path / "nothing") is None


@pytest.mark.parametrize(
    ("groups", "files", "limit"),
    [
        ("0::/pod/box\n", {"pod__box__memory_max": "max\n", "pod__memory_max": "536870912\n"}, 536870912),
        ("0::/pod/box\n", {"pod__box__memory_max": "1000\n", "pod__memory_max": "2000\n"}, 1000),
        ("0::/\n", {"memory_max": "max\n"}, None),
        ("0::/\n", {}, None),
        ("9:memory:/a\n", {"memory__a__memory_limit_in_bytes": "1000\n"}, 1000),
        ("9:memory:/a\n", {"memory__a__memory_limit_in_bytes": "9223372036854771712\n"}, None),
        ("9:memory:/a\n", {"memory__memory_limit_in_bytes": "1000\n"}, 1000),
    ],
)
def test_the_least_memory_that_any_group_allows_is_the_limit(
    groups: str, files: dict[str, str], limit: int | None, tmp_path: Path
) -> None:
    """In both versions, each with its own word for no limit."""
    assert memory_limit(system(tmp_path, groups, **files)) == limit
