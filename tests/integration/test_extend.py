"""docs/how-to/extend.md: its example runs, and what it says of middleware, hooks and routes is so."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ArtifactOf
from tests.support.log import check_lines
from tests.support.server import RunningServer
from tests.support.waiting import wait_for
from tools import ROOT
from tools.local_http import predict, send

KEY = {"X-API-Key": "secret"}


@pytest.fixture(scope="module")
def server(artifact_of: ArtifactOf, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """Return a server that was started with the example of the page."""
    code = re.search(r"^```python\n# extended.py\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    assert code
    module = tmp_path_factory.mktemp("extension") / "extended.py"
    module.write_text(code[1])
    variables = {"API_KEY": "secret", "PYTHONPATH": str(ROOT)}
    running = RunningServer(artifact_of("house_prices"), variables, (sys.executable, str(module)))
    yield running.wait_until_ready()
    running.kill()


PAGE: Path = ROOT / "docs/how-to/extend.md"


def test_middleware_sees_predictions_and_all_other_requests(server: RunningServer) -> None:
    """Without the key each of them is refused; the health port is not behind it."""
    body = {"X": [[1500, 3]]}
    assert predict(server.port, body).status == 401
    assert send(server.port, "GET", "/version").status == 401
    assert predict(server.port, body, **KEY).json["y_pred"]
    assert send(server.health_port, "GET", "/version").status == 200


def test_what_middleware_refuses_is_logged_and_counted(server: RunningServer) -> None:
    """It runs inside the access log, so the answer has an id as well."""
    answer = send(server.port, "GET", "/version", headers={"X-Request-ID": "refused-one"})
    assert (answer.status, answer.headers["x-request-id"]) == (401, "refused-one")
    wait_for(lambda: "refused-one" in server.output)
    [line] = [line for line in check_lines(server.output) if line["request_id"] == "refused-one"]
    assert (line["status"], line["route"], line["code"]) == (401, "/version", "unauthorized")


def test_routes_and_hooks_see_what_the_page_says(server: RunningServer) -> None:
    """A hook sees the new route and Flask's others, and no prediction."""
    answer = send(server.port, "GET", "/hello?name=you", headers=KEY)
    assert (answer.json, answer.headers["x-team"]) == ({"hello": "you"}, "prices")
    assert "x-team" in send(server.port, "GET", "/version", headers=KEY).headers
    assert "x-team" not in predict(server.port, {"X": [[1500, 3]]}, **KEY).headers
