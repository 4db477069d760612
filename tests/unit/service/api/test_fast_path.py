"""The fast path gives the answers of Flask's own route, and leaves all other requests to Flask."""

import json
import re
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import flask
import pytest
from flask import Flask, Response
from flask.testing import FlaskClient

from service.api.app import create_app
from service.api.readiness import Lifecycle
from service.inference.model import Model
from service.observability.metrics import Metrics
from service.settings import Settings
from tests.support.corpus import CASES, SETTINGS, Case

EXAMPLE = {"X": [[1500, 3]]}
JSON = {"Content-Type": "application/json"}
OF_THE_MOMENT = re.compile(
    r'"(request_id|time|duration_seconds)":("[^"]*"|[0-9.e-]+)|_(sum|bucket)\{.*|^process_.*', re.MULTILINE
)


@pytest.fixture
def app_of(model_of: Callable[[str], Model]) -> Callable[..., Flask]:
    """Return a function that gives an application of a shipped model, with settings by their variables."""

    def make(name: str = "house_prices", **variables: str) -> Flask:
        lifecycle = Lifecycle()
        lifecycle.served = model_of(name).artifact
        return create_app(Settings.from_env(variables), model_of(name), Metrics(1), lifecycle)

    return make


@pytest.fixture
def slow_app_of(app_of: Callable[..., Flask], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Flask]:
    """Return the same function for applications without the fast path, whose requests all go through Flask."""

    def make(name: str = "house_prices", **variables: str) -> Flask:
        with monkeypatch.context() as patch:
            patch.setattr("service.api.app.with_fast_path", lambda application, *_: application)
            return app_of(name, **variables)

    return make


def said_by(client: FlaskClient, capfd: pytest.CaptureFixture[str], **request: Any) -> tuple[Any, ...]:
    """Return all that a request leaves behind, without what differs from one moment to the next."""
    capfd.readouterr()
    response = client.post("/predict", **request)
    output = capfd.readouterr()
    headers = sorted((name, value) for name, value in response.headers if name != "X-Request-ID")
    written = (response.text, output.out, output.err, client.get("/metrics").text)
    return response.status, headers, *(OF_THE_MOMENT.sub("", text) for text in written)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_both_ways_give_the_same_answer_log_and_counts(
    case: Case, app_of: Callable[..., Flask], slow_app_of: Callable[..., Flask], capfd: pytest.CaptureFixture[str]
) -> None:
    """Status, headers, body, log line and every counter are the same for each body of the corpus."""
    one, other = (
        said_by(make(case.model, **SETTINGS).test_client(), capfd, data=case.body, headers=case.headers)
        for make in (app_of, slow_app_of)
    )
    assert one == other


def test_a_bug_is_answered_the_same_way(
    app_of: Callable[..., Flask], slow_app_of: Callable[..., Flask], model_of: Callable[[str], Model],
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """What nobody expected is a 500 in the same form, and its place is in the log."""
    monkeypatch.setattr(model_of("house_prices"), "predict", lambda *_: {}["x"])
    (*one, errors, one_counts), (*other, other_errors, other_counts) = (
        said_by(make().test_client(), capfd, json=EXAMPLE) for make in (app_of, slow_app_of)
    )
    assert (one, one_counts) == (other, other_counts)
    assert one[0] == "500 INTERNAL SERVER ERROR"
    for lines in (errors, other_errors):
        assert '"event":"bug"' in lines
        assert '"error":"KeyError"' in lines


@pytest.fixture
def flask_asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the paths that Flask dispatches from now on."""
    asked: list[str] = []
    dispatch = Flask.full_dispatch_request

    def noting(app: Flask) -> Response:
        asked.append(flask.request.path)
        return dispatch(app)

    monkeypatch.setattr(Flask, "full_dispatch_request", noting)
    return asked


def test_a_prediction_does_not_go_through_flask(app_of: Callable[..., Flask], flask_asked: list[str]) -> None:
    """That is what it is for; all else does."""
    client = app_of().test_client()
    assert client.post("/predict", json=EXAMPLE).status_code == 200
    assert client.get("/predict").status_code == 405
    assert client.post("/predict/", json=EXAMPLE).status_code == 404
    assert client.get("/version").status_code == 200
    assert flask_asked == ["/predict", "/predict/", "/version"]


def test_hooks_of_flask_see_every_request_but_predictions(app_of: Callable[..., Flask]) -> None:
    """Code that must see predictions wraps the application instead."""
    app, seen = app_of(), []
    app.before_request(lambda: seen.append(flask.request.path))
    client = app.test_client()
    assert client.post("/predict", json=EXAMPLE).status_code == 200
    assert client.get("/version").status_code == 200
    assert seen == ["/version"]


def test_routes_that_are_added_work_and_are_logged_by_their_pattern(
    app_of: Callable[..., Flask], capfd: pytest.CaptureFixture[str]
) -> None:
    """The path is the caller's own, the pattern is not."""
    app = app_of()
    app.add_url_rule("/mine/<name>", view_func=lambda name: Response(iter([name, "!"])))
    capfd.readouterr()
    response = app.test_client().get("/mine/secret")
    assert response.text == "secret!"
    assert json.loads(capfd.readouterr().out)["route"] == "/mine/<name>"


def test_middleware_around_the_application_sees_predictions(app_of: Callable[..., Flask]) -> None:
    """Extensions wrap wsgi_app; the fast path is within."""
    app = app_of()
    inner, seen = app.wsgi_app, []

    def middleware(environ: Any, start_response: Any) -> Any:
        seen.append(environ["PATH_INFO"])
        return inner(environ, start_response)

    app.wsgi_app = middleware  # type: ignore[method-assign]
    assert app.test_client().post("/predict", json=EXAMPLE).status_code == 200
    assert seen == ["/predict"]


@pytest.mark.parametrize(("scheme", "status"), [("http", 308), ("https", 200)])
def test_a_prediction_over_plain_http_is_redirected(scheme: str, status: int, app_of: Callable[..., Flask]) -> None:
    """The redirect is Flask's, and comes first."""
    client = app_of(BAKEHOUSE_REDIRECT_TO_HTTPS="true").test_client()
    response = client.post("/predict", json=EXAMPLE, headers={"X-Forwarded-Proto": scheme})
    assert response.status_code == HTTPStatus(status)
