"""Every endpoint through Flask: ids, logs, counts, and the one form that refusals have."""

import io
import json
import re
from collections.abc import Callable

import pytest
from flask.testing import FlaskClient

from service.api.app import create_app, create_health_app
from service.api.readiness import Lifecycle
from service.inference.model import Model
from service.observability.metrics import Metrics
from service.observability.request_context import CONTEXT, RequestContext
from service.settings import Settings
from tests.support.log import check_lines
from tests.support.problem import check_problem

ClientOf = Callable[..., FlaskClient]

ROUTES = {
    "/predict": "POST",
    "/version": "GET",
    "/contract": "GET",
    "/openapi.json": "GET",
    "/healthz": "GET",
    "/readyz": "GET",
    "/metrics": "GET",
}
TRACE = "0af7651916cd43dd8448eb211c80319c"
CANARY = "canary-7331373313"

# The service ignores this for the whole process; pytest's own filters come after that.


@pytest.mark.parametrize("path", ROUTES)
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "TRACE", CANARY.upper()])
def test_another_method_is_refused_and_told_which_to_use(path: str, method: str, client_of: ClientOf) -> None:
    """405 carries Allow, on every route."""
    if method == ROUTES[path]:
        return
    response = client_of().open(path, method=method)
    problem = check_problem(405, response.content_type, response.data)
    assert response.status_code == 405
    assert ROUTES[path] in response.headers["Allow"].split(", ")
    assert response.headers["Allow"] in problem["detail"]


@pytest.mark.parametrize("path", ["/", "/predict/", f"/{CANARY}", "/v1/models", "/static/x", "/healthz/%2e%2e", "/%ff"])
def test_another_path_is_not_found(path: str, client_of: ClientOf, capfd: pytest.CaptureFixture[str]) -> None:
    """404 has the same form as every refusal, and repeats the path nowhere."""
    client = client_of()
    response = client.get(path, query_string={"q": CANARY})
    check_problem(404, response.content_type, response.data)
    assert response.status_code == 404
    assert CANARY not in f"{response.text}{response.headers}{capfd.readouterr()}{client.get('/metrics').text}"


@pytest.mark.parametrize("draining", [False, True])
def test_not_ready_is_503_and_says_why(draining: bool, model_of: Callable[[str], Model]) -> None:
    """Loading and draining are told apart, and a server that is not ready is still live and still predicts."""
    lifecycle = Lifecycle()
    if draining:
        lifecycle.begin_drain()
    client = create_app(Settings(), model_of("house_prices"), Metrics(1), lifecycle).test_client()
    response = client.get("/readyz")
    problem = check_problem(503, response.content_type, response.data)
    assert ("draining" in problem["detail"], "loaded" in problem["detail"]) == (draining, not draining)
    assert client.get("/healthz").status_code == 200
    assert client.post("/predict", json={"X": [[1500, 3]]}).status_code == 200


def test_a_bug_is_500_without_a_trace(
    model_of: Callable[[str], Model], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The caller learns nothing of the code, the operator learns where it failed, and nobody the values."""
    model = model_of("house_prices")
    monkeypatch.setattr(model, "predict", lambda *_: {}[CANARY])
    response = (
        create_app(Settings(), model, Metrics(1), Lifecycle()).test_client().post("/predict", json={"X": [[1, 2]]})
    )
    problem = check_problem(500, response.content_type, response.data)
    output = capfd.readouterr()
    (bug,), (line,) = check_lines(output.err), check_lines(output.out)
    assert (bug["event"], bug["error"], bug["request_id"]) == ("bug", "KeyError", problem["request_id"])
    assert any(place.startswith("predict.py:") for place in bug["where"])
    assert (line["level"], line["code"]) == ("error", "internal_server_error")
    assert "predict.py" not in response.text
    assert CANARY not in response.text + output.out + output.err


@pytest.mark.parametrize("path", ["/healthz", "/nowhere"])
def test_the_ids_of_the_caller_go_into_the_log(
    path: str, client_of: ClientOf, capfd: pytest.CaptureFixture[str]
) -> None:
    """They find the log line, and the request's the answer too, also of a refusal."""
    headers = {"X-Request-ID": "order-17", "traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}
    response = client_of().get(path, headers=headers)
    assert response.headers["X-Request-ID"] == "order-17"
    (line,) = check_lines(capfd.readouterr().out)
    assert (line["request_id"], line["trace_id"]) == ("order-17", TRACE)
    assert path == "/healthz" or response.json["request_id"] == "order-17"


def test_a_request_is_one_line_of_json(
    client_of: ClientOf, model_of: Callable[[str], Model], capfd: pytest.CaptureFixture[str]
) -> None:
    """The line says what was asked, what came of it, how long it took, and by which model."""
    client = client_of()
    capfd.readouterr()
    client.post("/predict?secret=1", json={"X": [[1500, 3], [2000, 3]]})
    (line,) = check_lines(capfd.readouterr().out)
    said = {name: line[name] for name in ("route", "method", "status", "rows", "model_version")}
    version = model_of("house_prices").artifact.version
    assert said == {"route": "/predict", "method": "POST", "status": 200, "rows": 2, "model_version": version}


def test_requests_are_counted_by_route(client_of: ClientOf) -> None:
    """Answers, refusals and unknown paths each have their series, and no path becomes a label."""
    client = client_of()
    client.post("/predict", json={"X": [[1500, 3]]})
    client.post("/predict", json={"X": []})
    client.get(f"/{CANARY}")
    text = client.get("/metrics").text
    for series in (
        '{method="POST",route="/predict",status="2xx",version=""} 1.0',
        '{method="POST",route="/predict",status="4xx",version=""} 1.0',
        '{method="GET",route="unmatched",status="4xx",version=""} 1.0',
    ):
        assert f"bakehouse_http_requests_total{series}" in text
    assert 'bakehouse_http_request_duration_seconds_count{route="/predict",version=""} 2.0' in text


def test_the_time_in_the_queue_is_part_of_the_duration(client_of: ClientOf, capfd: pytest.CaptureFixture[str]) -> None:
    """A client waits for both; the log tells them apart."""
    client = client_of()
    client.post("/predict", json={"X": [[1500, 3]]}, environ_overrides={CONTEXT: RequestContext(queue_seconds=7.0)})
    line = json.loads(capfd.readouterr().out)
    assert line["queue_seconds"] == 7
    assert 7 < line["duration_seconds"] < 10
    assert '_duration_seconds_bucket{le="5.0",route="/predict",version=""} 0.0' in client.get("/metrics").text
    assert '_duration_seconds_bucket{le="10.0",route="/predict",version=""} 1.0' in client.get("/metrics").text


@pytest.mark.parametrize(
    "parent", [f"00-{TRACE}-b7ad6b7169203331-01", f"00-{TRACE}-b7ad6b7169203331-00", f"00-{TRACE}", ""]
)
def test_a_duration_leads_to_its_trace(parent: str, client_of: ClientOf) -> None:
    """Where the format allows it, and the request belongs to one that is recorded."""
    client = client_of()
    client.post("/predict", json={"X": [[1500, 3]]}, headers={"traceparent": parent} if parent else {})
    asked = client.get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"}).text
    exemplar = f' # {{trace_id="{TRACE}"}} '
    found = [line for line in asked.splitlines() if " # " in line and not line.startswith("# ")]
    assert all(line.startswith("bakehouse_http_request_duration_seconds_bucket{") for line in found)
    assert [exemplar in line for line in found] == [True] * parent.endswith("-01")
    assert exemplar not in client.get("/metrics").text


def test_the_health_port_answers_probes_and_nothing_else(capfd: pytest.CaptureFixture[str]) -> None:
    """Probes are neither logged nor counted, and there is no model behind that port."""
    client = create_health_app(Metrics(1), Lifecycle()).test_client()
    assert client.get("/healthz").status_code == 200
    for path in ("/readyz", "/version", "/contract"):
        response = client.get(path)
        assert response.status_code == 503
        assert check_problem(503, response.content_type, response.data)["detail"] == "The model is being loaded."
    counts = re.findall(r"^bakehouse_http_requests_total.* (\S+)$", client.get("/metrics").text, re.MULTILINE)
    assert set(counts) == {"0.0"}
    response = client.post("/predict", data=b"{}")
    check_problem(404, response.content_type, response.data)
    assert capfd.readouterr().out == ""


def test_a_check_of_a_release_tells_how_it_ended(client_of: ClientOf, capfd: pytest.CaptureFixture[str]) -> None:
    """On the health port alone, and as probes are, neither logged nor counted as a request."""
    client = create_health_app(Metrics(1), Lifecycle()).test_client()
    assert client.post("/checks", json={"check": "gate", "result": "passed"}).status_code == 204
    assert client.post("/checks", data=b'{"result":"refused","check":"smoke","more":1}').status_code == 204
    text = client.get("/metrics").text
    assert 'bakehouse_release_checks_total{check="gate",result="passed"} 1.0' in text
    assert 'bakehouse_release_checks_total{check="smoke",result="refused"} 1.0' in text
    assert capfd.readouterr().out == ""
    assert client_of().post("/checks", json={"check": "gate", "result": "passed"}).status_code == 404


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (json.dumps({"check": "gate", "result": CANARY}).encode(), 422),
        (json.dumps({"check": [CANARY], "result": "passed"}).encode(), 422),
        (json.dumps({"check": "gate"}).encode(), 422),
        (json.dumps([CANARY]).encode(), 422),
        (json.dumps(CANARY).encode(), 422),
        (CANARY.encode(), 422),
        (b"", 422),
        (b"[" * 150, 422),
        (json.dumps({"check": "gate", "result": "passed", "more": CANARY * 20}).encode(), 413),
    ],
)
def test_other_words_than_those_of_checks_are_refused(body: bytes, status: int) -> None:
    """What is sent becomes no series and is repeated nowhere; a long body is not read."""
    client = create_health_app(Metrics(1), Lifecycle()).test_client()
    response = client.post("/checks", data=body)
    assert response.status_code == status
    check_problem(status, response.content_type, response.data)
    text = client.get("/metrics").text
    assert CANARY not in text + response.text
    assert set(re.findall(r"^bakehouse_release_checks_total.* (\S+)$", text, re.MULTILINE)) == {"0.0"}


def test_the_health_port_tells_the_same_identity_as_the_api(
    client_of: ClientOf, model_of: Callable[[str], Model]
) -> None:
    """A rollout learns from it what is served, while the server drains as well."""
    lifecycle = Lifecycle()
    lifecycle.served = model_of("house_prices").artifact
    lifecycle.begin_drain()
    client = create_health_app(Metrics(1), lifecycle).test_client()
    for path in ("/version", "/contract"):
        assert client.get(path).json == client_of().get(path).json


PLAIN = {"X-Forwarded-Proto": "http"}


@pytest.mark.parametrize(
    ("path", "host", "location"),
    [
        ("/predict", "models.example", "https://models.example/predict"),
        ("/predict", "models.example:8080", "https://models.example/predict"),
        ("/", "127.0.0.1:80", "https://127.0.0.1/"),
        ("/version?a=1&b=%20c%0d%0a", "[2001:db8::1]:80", "https://[2001:db8::1]/version?a=1&b=%20c%0d%0a"),
        ("/no/such%0d%0ax:%20y", "a_b.example", "https://a_b.example/no/such%0D%0Ax:%20y"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_plain_http_is_sent_to_https(path: str, host: str, location: str, method: str, client_of: ClientOf) -> None:
    """Every path and method, to the same host without its port, with the query as it was; 308 keeps the method."""
    client = client_of(BAKEHOUSE_REDIRECT_TO_HTTPS="true")
    response = client.open(path, method=method, headers={**PLAIN, "Host": host})
    assert (response.status_code, response.headers["Location"]) == (308, location)
    assert response.data == b""


@pytest.mark.parametrize(
    "host", ["", "a b", "a/b", "user@a", "a\tb", "a:port", "[::1", "[g]", "a,b", "\u00e4", "a?b", f"{CANARY}\\"]
)
def test_no_redirect_is_made_of_a_bad_host(host: str, client_of: ClientOf, capfd: pytest.CaptureFixture[str]) -> None:
    """What is no name or address becomes neither a header nor a crash, and is repeated nowhere."""
    client = client_of(BAKEHOUSE_REDIRECT_TO_HTTPS="true")
    response = client.get("/version", headers=PLAIN, environ_overrides={"HTTP_HOST": host})
    assert response.status_code == 400
    check_problem(400, response.content_type, response.data)
    assert "Location" not in response.headers
    assert CANARY not in f"{response.text}{response.headers}{capfd.readouterr()}"


@pytest.mark.parametrize(
    ("variables", "headers", "status"),
    [
        ({}, PLAIN, 200),
        ({"BAKEHOUSE_REDIRECT_TO_HTTPS": "true"}, {}, 200),
        ({"BAKEHOUSE_REDIRECT_TO_HTTPS": "true"}, {"X-Forwarded-Proto": "https"}, 200),
        ({"BAKEHOUSE_REDIRECT_TO_HTTPS": "true"}, {"X-Forwarded-Proto": "https, http"}, 200),
        ({"BAKEHOUSE_REDIRECT_TO_HTTPS": "true"}, {"X-Forwarded-Proto": "HTTP, https"}, 308),
    ],
)
def test_only_what_came_over_plain_http_is_redirected(
    variables: dict[str, str], headers: dict[str, str], status: int, client_of: ClientOf
) -> None:
    """It has to be switched on, and requests without the header are those of the cluster's own network."""
    assert client_of(**variables).get("/version", headers=headers).status_code == status


def test_a_redirect_is_logged_and_counted_and_reads_no_body(
    client_of: ClientOf, capfd: pytest.CaptureFixture[str]
) -> None:
    """It is an answer like any other, with an id; the body waits for https."""

    class Unread(io.BytesIO):
        def read(self, *_size: int) -> bytes:
            raise AssertionError("the body was read")

    client = client_of(BAKEHOUSE_REDIRECT_TO_HTTPS="true")
    response = client.post("/predict", input_stream=Unread(), headers={**PLAIN, "X-Request-ID": "plain"})
    assert response.status_code == 308
    assert response.headers["X-Request-ID"] == "plain"
    line = json.loads(capfd.readouterr().out.splitlines()[-1])
    assert (line["route"], line["status"], line["request_id"]) == ("/predict", 308, "plain")
    assert 'requests_total{method="POST",route="/predict",status="3xx",version=""} 1.0' in client.get("/metrics").text
