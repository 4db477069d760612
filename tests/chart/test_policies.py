"""What a policy scanner has against the chart is mended, or waived with a reason."""

from tests.chart.conftest import SETUPS, rendered
from tests.support.checkov import findings, read_waivers, unsettled


def test_every_finding_is_settled():
    """In every setup; a waiver that nothing needs any more goes."""
    found = findings({setup: rendered(setup, is_upgrade=False) for setup in SETUPS})
    assert unsettled(found, read_waivers()) == []
