"""The Grafana dashboards of the chart, one module each. python -m tools.dashboards writes them."""

import json

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from tools import ROOT
from tools.dashboards import model, service, slo

FOLDER = ROOT / "helm/bakehouse/dashboards"


def texts() -> dict[str, str]:
    """Return the JSON text of each dashboard by the name of its file."""
    boards = {"service": service.dashboard(), "model": model.dashboard(), "slo": slo.dashboard()}
    return {f"{name}.json": json.dumps(board, cls=JSONEncoder, indent=1) + "\n" for name, board in boards.items()}
