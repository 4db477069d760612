"""The log of a real server: every line has the schema, from its start to its end, and none repeats a request."""

import io
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.corpus import CANARY, CASES, SETTINGS
from tests.support.holding import bake_around
from tests.support.log import check_lines
from tests.support.server import RunningServer
from tests.support.speaking import speak
from tests.support.waiting import wait_for
from tools.local_http import exchange, predict, send

Serve = Callable[..., RunningServer]
EXAMPLE = {"X": [[1500, 3]]}
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
C = CANARY.encode()
POST = b"POST /predict HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Type: application/json\r\n"
NPY = b"POST /predict?outputs=%s HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Type: application/x-npy\r\n"


def _npy(array: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


def _with_body(head: bytes, body: bytes) -> bytes:
    return head + b"Content-Length: %d\r\n\r\n" % len(body) + body


# Everything of a request that a client chooses, as bytes; the corpus has the bodies.
REQUESTS = {
    "method": b"C%s /predict HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" % C,
    "path": b"GET /%s HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" % C,
    "path below a route": b"POST /predict/%s HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 0\r\n\r\n" % C,
    "query": b"GET /healthz?%s=%s HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" % (C, C),
    "absolute form": b"GET http://%s.example/healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" % C,
    "version": b"GET /healthz HTTP/%s\r\nHost: a\r\n\r\n" % C,
    "host": b"GET /healthz HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n" % C,
    "header": b"GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\nX-%s: %s\r\n\r\n" % (C, C),
    "header name that is none": b"GET /healthz HTTP/1.1\r\nHost: a\r\nX %s: 1\r\n\r\n" % C,
    "header value that is none": b"GET /healthz HTTP/1.1\r\nHost: a\r\nX: \x00%s\r\n\r\n" % C,
    "folded header": b"GET /healthz HTTP/1.1\r\nHost: a\r\nX: 1\r\n %s\r\n\r\n" % C,
    "authorization": b"GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\nAuthorization: Basic %s\r\n\r\n" % C,
    "cookie": b"GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\nCookie: a=%s\r\n\r\n" % C,
    "ids that are none": b"GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\nX-Request-ID: a b%s\r\n"
    b"traceparent: 00-%s\r\ntracestate: %s,=%s;\r\n\r\n" % (C, C, C, C),
    "accept": _with_body(POST + b"Accept: a/%s\r\n" % C, b'{"X": [[1500, 3]]}'),
    "accept of metrics": b"GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\nAccept: %s;version=%s\r\n\r\n"
    % (C, C),
    "expect": b"POST /predict HTTP/1.1\r\nHost: a\r\nExpect: %s\r\nContent-Length: 0\r\n\r\n" % C,
    "content type": _with_body(POST.replace(b"json", b"x-" + C), b"{}"),
    "length": b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: -%s\r\n\r\n" % C,
    "length that is too much": b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: %s\r\n\r\n" % C,
    "transfer coding": b"POST /predict HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: %s\r\n\r\n" % C,
    "chunk extension": POST + b"Transfer-Encoding: chunked\r\n\r\n2;%s=%s\r\n{}\r\n0\r\n\r\n" % (C, C),
    "chunk size": POST + b"Transfer-Encoding: chunked\r\n\r\nx%s\r\n{}\r\n0\r\n\r\n" % C,
    "trailer": POST + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nX-%s: %s\r\n\r\n" % (C, C),
    "trailer that is none": POST + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n%s\r\n\r\n" % C,
    "body that is cut off": POST + b"Content-Length: 100\r\n\r\n{%s" % C,
    "no http": C + b"\r\n\r\n",
    "line feeds alone": b"GET /%s HTTP/1.1\nHost: a\n\n" % C,
    "tls": b"\x16\x03\x01\x02\x00\x01%s\r\n\r\n" % C,
    "rows as npy": _with_body(NPY % b"predict", _npy(np.array([[float(CANARY), 3.0]]))),
    "outputs of npy": _with_body(NPY % C, _npy(np.array([[1.0, 3.0]]))),
    "npy of text": _with_body(NPY % b"predict", _npy(np.array([[CANARY, "3"]]))),
    "npy of objects": _with_body(NPY % b"predict", _npy(np.array([[CANARY, 3]], object))),
    "npy with a head that is none": _with_body(NPY % b"predict", b"\x93NUMPY\x01\x00\x0e\x00{'%s': 1}\n" % C),
    "npy with names": _with_body(NPY % b"predict", _npy(np.zeros(1, [(f"a{CANARY}", "f8")]))),
}


def messages(server: RunningServer) -> list[str]:
    """Return what the server and Gunicorn had to say so far."""
    return [line["message"] for line in check_lines(server.errors)]


@pytest.mark.parametrize("workers", [1, 2])
def test_every_line_of_a_life_has_the_schema(house_prices: Path, workers: int) -> None:
    """From the start over requests of every kind and a killed process to drain and stop; nothing else is written."""
    variables = {"WEB_CONCURRENCY": str(workers), "BAKEHOUSE_DRAIN_SECONDS": "0.1", **SETTINGS}
    server = RunningServer(house_prices, variables).wait_until_ready()
    cases = [case for case in CASES if case.model == "house_prices"]
    answers = [send(server.port, "POST", "/predict", case.body, case.headers) for case in cases]
    raw = [exchange(server.port, request) for request in REQUESTS.values()]
    assert [name for name, answer in zip(REQUESTS, raw, strict=True) if not answer.startswith(b"HTTP/1.1 ")] == []
    metrics = send(server.health_port, "GET", "/metrics").body
    for request in REQUESTS.values():
        exchange(server.health_port, request)
    os.kill(server.workers()[0], signal.SIGKILL)
    wait_for(lambda: sum("is ready" in message for message in messages(server)) == workers + 1)
    server.terminate()
    assert server.process.wait(timeout=60) == 0

    requests = check_lines(server.output)
    assert {line["event"] for line in requests} == {"request"}
    assert len(requests) >= len(cases) + len(raw)
    by_id = {line["request_id"]: line for line in requests}
    for case, answer in zip(cases, answers, strict=True):
        line = by_id[answer.headers["x-request-id"]]
        assert (line["status"], line.get("code", ""), line["route"]) == (case.status, case.code, "/predict")
    assert {line["event"] for line in check_lines(server.errors)} == {"message"}
    said = "\n".join(messages(server))
    for part in ("Starting gunicorn", "is ready.", "Booting worker", "SIGKILL", "Draining for 0.1 s", "Shutting down"):
        assert part in said

    assert CANARY not in server.output + server.errors
    assert C not in b"".join([metrics, *raw, *(answer.body for answer in answers)])


def test_at_the_level_warning_good_requests_cost_no_line(serve: Serve, house_prices: Path) -> None:
    """What is left is what somebody may have to do something about; /metrics counts all of it."""
    server = serve(house_prices, BAKEHOUSE_LOG_LEVEL="warning")
    assert predict(server.port, EXAMPLE).status == 200
    assert predict(server.port, {"X": []}).status == 422
    wait_for(lambda: server.output)
    assert [line["status"] for line in check_lines(server.output)] == [422]
    assert server.errors == ""
    metrics = send(server.health_port, "GET", "/metrics").body.decode()
    version = send(server.health_port, "GET", "/version").json["model"]["version"]
    assert f'requests_total{{method="POST",route="/predict",status="2xx",version="{version}"}} 1.0' in metrics


def test_a_model_that_says_what_it_is_asked_is_not_repeated(serve: Serve, tmp_path: Path) -> None:
    """Prints, warnings, records and exceptions of an estimator become lines that say where they came from."""
    server = serve(bake_around(tmp_path, speak))
    wait_for(lambda: "is ready." in server.errors)
    before = len(check_lines(server.errors))
    assert predict(server.port, {"X": [[float(CANARY), 2, 3]]}).status == 200
    assert predict(server.port, {"X": [[float(CANARY), 2, -3]]}, X_Request_ID="failing").status == 422
    wait_for(lambda: "refused an instance" in server.errors and '"failing"' in server.output)
    lines = check_lines(server.errors)[before:]
    assert {line["where"][0].partition(":")[0] for line in lines} == {"speaking.py"}
    assert {line.get("error") for line in lines} == {None, "UserWarning", "RuntimeError"}
    assert [line["message"] for line in lines[-1:]] == ["The estimator refused an instance."]
    assert [line["code"] for line in check_lines(server.output)[-1:]] == ["model_refused"]
    assert CANARY not in server.output + server.errors


# What is made to fail, and the path that then does.
BUGS = {
    "on the fast path": ("service.api.predict.parse_request", "/predict"),
    "behind Flask": ("service.api.operations._identity", "/version"),
    "before the application": ("service.server.worker.wsgi.create", "/version"),
}


@pytest.mark.parametrize("bug", BUGS)
def test_a_bug_says_where_it_is_and_not_on_what(house_prices: Path, bug: str) -> None:
    """Whichever part of the service fails, the operator learns the class and the place, and finds the request."""
    part, path = BUGS[bug]
    code = (
        "import sys, service.server.application\n"
        f"def fail(*_arguments): raise KeyError('{CANARY}')\n"
        f"{part} = fail\nservice.server.application.load_model.__globals__['replay_golden'] = lambda _model: 0\n"
        "from service.__main__ import main\nsys.argv[1:] = []\nsys.exit(main())"
    )
    server = RunningServer(house_prices, {}, command=(sys.executable, "-c", code)).wait_until_ready()
    answer = send(server.port, "GET" if path == "/version" else "POST", path, headers={"traceparent": TRACEPARENT})
    server.kill()
    (line,) = check_lines(server.output)
    (bug_line,) = [line for line in check_lines(server.errors) if line["event"] == "bug"]
    identifier = answer.json["request_id"]
    assert (answer.status, line["code"], line["request_id"]) == (500, "internal_server_error", identifier)
    assert (bug_line["error"], bug_line["request_id"]) == ("KeyError", identifier)
    assert bug_line["where"][0].endswith(" fail")
    assert CANARY not in server.output + server.errors + answer.body.decode()
