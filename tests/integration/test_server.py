"""A real Gunicorn with a real artifact: every route, every port, and HTTP that is broken."""

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.holding import VARIABLE, held_requests
from tests.support.log import check_lines
from tests.support.server import RunningServer
from tests.support.waiting import wait_for
from tools.local_http import Answer, exchange, predict, send

JSON = {"Content-Type": "application/json"}
EXAMPLE = {"X": [[1500, 3]]}
CANARY = "canary-7391"


@pytest.fixture(scope="module")
def server(house_prices: Path) -> Iterator[RunningServer]:
    """Return a server of the default model."""
    running = RunningServer(house_prices, {"BAKEHOUSE_THREADS": "4", "BAKEHOUSE_MAX_BODY_BYTES": "10000"})
    yield running.wait_until_ready()
    running.kill()
    check_lines(running.output)
    check_lines(running.errors)


def assert_problem(answer: Answer, status: int) -> None:
    """Hold an answer to RFC 9457 and to the status it should have."""
    assert answer.status == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json["status"] == status
    assert answer.json["error"] == answer.json["detail"]


def log_lines(server: RunningServer, request_id: str) -> list[dict[str, object]]:
    """Return the log lines of a request; waits for the first, which is written after the answer."""

    def lines() -> list[dict[str, object]]:
        found = [json.loads(line) for line in server.output.splitlines()]
        return [line for line in found if line.get("request_id") == request_id]

    wait_for(lines)
    return lines()


def test_the_documented_request_is_answered(server: RunningServer) -> None:
    """POST /predict answers one number for one row, and names the model."""
    answer = predict(server.port, EXAMPLE)
    assert answer.status == 200
    assert 50_000 < answer.json["y_pred"][0] < 150_000
    assert answer.json["model"]["name"] == "house_prices"


def test_in_a_terminal_the_welcome_is_a_command_that_works(house_prices: Path) -> None:
    """The server prints the curl to try, with the model's own example; elsewhere, that it is ready is a line."""
    server = RunningServer(house_prices, {}, terminal=True).wait_until_ready()
    version = send(server.port, "GET", "/version").json["model"]["version"]
    command = f"curl -s localhost:{server.port}/predict -H 'Content-Type: application/json' -d '{json.dumps(EXAMPLE)}'"
    wait_for(lambda: f"house_prices {version} is ready. Try:" in server.errors and command in server.errors)
    server.kill()


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics", "/version", "/contract", "/openapi.json"])
def test_every_get_route_answers(server: RunningServer, path: str) -> None:
    """The routes for people, probes and scrapes answer 200."""
    assert send(server.port, "GET", path).status == 200


@pytest.mark.parametrize(
    ("path", "status"),
    [("/healthz", 200), ("/readyz", 200), ("/metrics", 200), ("/version", 200), ("/contract", 200), ("/predict", 404)],
)
def test_the_health_port_answers_for_operations_only(server: RunningServer, path: str, status: int) -> None:
    """The health port has the probes, the metrics and the model's identity, and no predictions."""
    assert send(server.health_port, "GET", path).status == status


@pytest.mark.parametrize("accept", ["application/openmetrics-text;version=abc", "text/plain;version=x.y.z", "*/*", ""])
def test_any_accept_header_gets_metrics(server: RunningServer, accept: str) -> None:
    """A scraper that asks for a version that does not exist gets the usual one, on both ports."""
    for port in (server.port, server.health_port):
        assert send(port, "GET", "/metrics", headers={"Accept": accept}).status == 200


def test_a_refused_method_is_counted_for_its_route(server: RunningServer) -> None:
    """A client with the wrong method is told apart from a scanner of made-up paths."""
    answer = send(server.port, "DELETE", "/version")
    assert_problem(answer, 405)
    assert log_lines(server, answer.headers["x-request-id"])[0]["route"] == "/version"


# One byte longer than is taken, and no more: of a longer one, the answer could be lost to a reset connection.
LONGEST_LINE = f"GET /{CANARY * 6000}"[: 65537 - len("\r\n")]


@pytest.mark.parametrize("line", [f"{CANARY} foo bar baz", f"GET /{CANARY} HTTP/9.9", LONGEST_LINE])
def test_broken_http_on_the_health_port_is_refused_in_the_same_form(server: RunningServer, line: str) -> None:
    """The health port repeats nothing either."""
    answer = exchange(server.health_port, f"{line}\r\n\r\n".encode())
    assert b"application/problem+json" in answer
    assert CANARY.encode() not in answer


def test_version_metrics_log_and_answer_name_the_same_model(server: RunningServer) -> None:
    """The model version is one fact, wherever it is told."""
    answer = predict(server.port, EXAMPLE, X_Request_ID="same-model")
    version = send(server.port, "GET", "/version").json
    assert version["model"]["version"] == answer.json["model"]["version"]
    assert log_lines(server, "same-model")[0]["model_version"] == version["model"]["version"]
    metrics = send(server.health_port, "GET", "/metrics").body.decode()
    assert f'digest="{version["model"]["digest"]}"' in metrics


def test_a_chunked_body_is_answered(server: RunningServer) -> None:
    """A body without a length, sent in pieces, is put together."""
    pieces = [json.dumps(EXAMPLE)[:7].encode(), json.dumps(EXAMPLE)[7:].encode()]
    answer = send(server.port, "POST", "/predict", iter(pieces), JSON)
    assert answer.status == 200


def test_a_chunked_body_over_the_limit_is_refused(server: RunningServer) -> None:
    """The limit holds for bodies that do not tell their length."""
    answer = send(server.port, "POST", "/predict", iter([b"[" * 1000] * 11), JSON)
    assert_problem(answer, 413)


def test_a_body_over_the_limit_is_refused_and_the_connection_stays_in_step(server: RunningServer) -> None:
    """What is left of a refused body is never taken for the next request."""
    big = b'{"X": [[' + b"1" * 20_000 + b"]]}"
    request = b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"
    follow_up = b"GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    answers = exchange(server.port, request % (len(big), big) + follow_up)
    assert answers.startswith(b"HTTP/1.1 413 ")
    assert answers.count(b"HTTP/1.1 ") in (1, 2)  # closed after the refusal, or the follow-up was answered as well
    assert b"HTTP/1.1 400" not in answers


BROKEN = {
    "no HTTP": b"%s\r\n\r\n" % CANARY.encode(),
    "bad version": b"GET /%s HTTP/9.9\r\n\r\n" % CANARY.encode(),
    "bad method": b"G\x00T /%s HTTP/1.1\r\n\r\n" % CANARY.encode(),
    "bad header": b"GET / HTTP/1.1\r\nHost: a\r\n%s\r\n\r\n" % CANARY.encode(),
    "bad header name": b"GET / HTTP/1.1\r\nHost: a\r\n%s x: 1\r\n\r\n" % CANARY.encode(),
    "long line": b"GET /%s HTTP/1.1\r\nHost: a\r\n\r\n" % (CANARY.encode() * 1000),
    "many headers": b"GET / HTTP/1.1\r\nHost: a\r\n" + b"".join(b"h%d: 1\r\n" % n for n in range(200)) + b"\r\n",
    "long header": b"GET / HTTP/1.1\r\nHost: a\r\nh: %s\r\n\r\n" % (CANARY.encode() * 2000),
    "two lengths": b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n12",
    "negative length": b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
    "length and chunks": b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "unknown transfer coding": b"POST /predict HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: canary-7391\r\n\r\n",
    "bad chunk size": b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
    b"Transfer-Encoding: chunked\r\n\r\ncanary-7391\r\n\r\n",
    "bad chunk end": b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n3\r\nabcX\r\n0\r\n\r\n",
    "expectation": b"POST /predict HTTP/1.1\r\nHost: a\r\nExpect: canary-7391\r\nContent-Length: 0\r\n\r\n",
    "short body": b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 50\r\n\r\n{",
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_http_is_refused_in_the_same_form(server: RunningServer, case: str) -> None:
    """HTTP that cannot be parsed is answered with a problem document, never as our failure, and never repeated."""
    answer = exchange(server.port, BROKEN[case])
    head, _, body = answer.partition(b"\r\n\r\n")
    status = int(head.split()[1])
    assert 400 <= status < 500
    assert b"application/problem+json" in head
    problem = json.loads(body)
    assert problem["status"] == status
    assert problem["error"] == problem["detail"]
    assert f"X-Request-ID: {problem['request_id']}".encode() in head
    assert log_lines(server, problem["request_id"])[0]["status"] == status
    assert CANARY.encode() not in answer
    assert CANARY not in server.errors + server.output


def test_the_callers_id_is_logged_and_sent_back(server: RunningServer) -> None:
    """A request is found again by the id that its caller gave."""
    answer = predict(server.port, {"X": [[1, 2], [3, 4]]}, X_Request_ID="order-17")
    assert answer.headers["x-request-id"] == "order-17"
    line = log_lines(server, "order-17")[-1]
    assert line["route"] == "/predict"
    assert line["status"] == 200
    assert line["rows"] == 2


def test_a_request_is_one_log_line_without_its_values(server: RunningServer) -> None:
    """The log tells what happened to a request, and nothing that was in it."""
    answer = predict(server.port, {"X": [[1500, CANARY]], CANARY: CANARY}, X_Request_ID="one-line")
    assert_problem(answer, 422)
    (line,) = log_lines(server, "one-line")
    check_lines(json.dumps(line))
    assert line["code"] == "unknown_member"
    assert CANARY not in server.output + server.errors
    assert CANARY.encode() not in answer.body


def test_paths_that_callers_make_up_are_no_label(server: RunningServer) -> None:
    """The route of an unknown path is "unmatched", in the metrics and in the log."""
    assert_problem(send(server.port, "GET", f"/{CANARY}"), 404)
    metrics = send(server.health_port, "GET", "/metrics").body.decode()
    assert 'route="unmatched"' in metrics
    assert CANARY not in metrics + server.output


def test_the_health_port_answers_while_every_thread_is_busy(
    serve: Callable[..., RunningServer], held: Path, tmp_path: Path
) -> None:
    """Probes and scrapes do not wait for predictions."""
    server = serve(held, BAKEHOUSE_THREADS="4", **{VARIABLE: str(tmp_path / "hold")})
    with held_requests(server.port, tmp_path / "hold", 4):
        for _ in range(200):
            metrics = send(server.health_port, "GET", "/metrics").body.decode()
            if "bakehouse_http_requests_in_flight 4.0" in metrics:
                break
        assert "bakehouse_http_requests_in_flight 4.0" in metrics
        assert send(server.health_port, "GET", "/healthz").status == 200
        assert send(server.health_port, "GET", "/readyz").status == 200
        with closing(socket.create_connection(("127.0.0.1", server.port), timeout=1)) as waiting:
            waiting.sendall(b"GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            with pytest.raises(TimeoutError):
                waiting.recv(1)  # the API's own port has no thread left: this is what the health port is for


def test_concurrent_answers_are_never_mixed(server: RunningServer) -> None:
    """Each of many requests at the same time gets the answers for its own rows."""
    alone = {n: predict(server.port, {"X": [[1000 + n, n]]}).json["y_pred"] for n in range(20)}
    wrong: list[int] = []

    def repeat(n: int) -> None:
        for _ in range(10):
            if predict(server.port, {"X": [[1000 + n, n]]}).json["y_pred"] != alone[n]:
                wrong.append(n)

    threads = [threading.Thread(target=repeat, args=(n,)) for n in alone]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_penguins_are_served_with_words_and_gaps(
    serve: Callable[..., RunningServer], artifact_of: Callable[[str], Path]
) -> None:
    """A model of mixed columns takes strings, null where it may, and answers names and probabilities."""
    server = serve(artifact_of("penguins"))
    row = {"island": "Dream", "bill_length_mm": None, "bill_depth_mm": 18.0, "flipper_length_mm": 190,
           "body_mass_g": 3700, "sex": None}  # fmt: skip
    answer = predict(server.port, {"X": [row], "outputs": ["predict", "predict_proba"]})
    assert answer.status == 200
    assert answer.json["classes"] == ["Adelie", "Chinstrap", "Gentoo"]
    assert answer.json["y_pred"][0] in answer.json["classes"]
    assert sum(answer.json["predict_proba"][0]) == pytest.approx(1)
    assert_problem(predict(server.port, {"X": [{**row, "island": None}]}), 422)
