"""Models are rolled out one after another under load, ten unless E2E_ROLLOUTS says less, and no request is lost."""

import itertools
import statistics
import time
from typing import Any

import pytest

from tests.e2e.conftest import VERSIONS, Upgrade
from tests.support.cluster import MINUTE


@pytest.mark.images(*VERSIONS)
def test_rollouts_under_load_lose_no_request(upgrade: Upgrade, load: Any) -> None:
    """Each answer is right for the version that it names, and no older version answers once a rollout is complete.

    It is complete when Helm says so and the last old pod, which still drains then, is gone.
    """
    upgrade(VERSIONS[0])
    seconds, completed = {}, {}
    with load() as clients:
        clients.wait_for(VERSIONS[0])
        for version in VERSIONS[1:]:
            seconds[version] = upgrade(version).seconds
            completed[version] = time.time()
            clients.wait_for(version)
        reports = clients.stop()
    print(f"\nseconds per rollout: {[round(value, 1) for value in seconds.values()]}, "
          f"median {statistics.median(seconds.values()):.1f}")  # fmt: skip
    for way, report in reports.items():
        per_second = report["good"] / report["seconds"]
        print(f"{way}: {report['good']} good, {report['failed']} failed, {report['connections']} connections, "
              f"{per_second:.0f} requests/s; {report['answers']}")  # fmt: skip
    for report in reports.values():
        assert report["failures"] == []
        assert report["failed"] == 0
        assert set(report["answers"]) == set(VERSIONS)
        assert report["connections"] > 0
        for older, newer in itertools.pairwise(VERSIONS):
            assert report["last_sent"][older] < completed[newer]
    assert max(seconds.values()) < 5 * MINUTE  # helm's own timeout
