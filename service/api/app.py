"""create_app: wires model, metrics, logs and errors into one Flask application."""

import re
from collections.abc import Sequence
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import quote
from wsgiref.types import WSGIEnvironment

from flask import Flask, Response, request

from service.api.fast_path import fast_path
from service.api.feedback import add_feedback_route
from service.api.middleware import ROUTE, with_access_log
from service.api.operations import add_check_route, add_operations_routes
from service.api.predict import PredictionObserver, add_model_routes, predictor, untraced
from service.api.problem_response import problem_response
from service.api.readiness import Lifecycle
from service.feedback.collector import Feedback, has_truth, why_no_feedback
from service.inference.model import Model
from service.observability.metrics import Metrics
from service.problems import ProblemError
from service.settings import Settings

if TYPE_CHECKING:
    from service.observability.tracing import Tracing


HOST = re.compile(
    r"(?P<name>[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?"
)  # RFC 3986 3.2.2, names as DNS has them
PATH_CHARACTERS = "/:@!$&'()*+,;="  # RFC 3986 3.3: what may stand in a path as it is
QUERY_CHARACTERS = PATH_CHARACTERS + "?%"  # not decoded by WSGI, so that a % stays what it is


def create_app(
    settings: Settings,
    model: Model,
    metrics: Metrics,
    lifecycle: Lifecycle,
    watches: Sequence[PredictionObserver] = (),
    tracing: "Tracing | None" = None,
) -> Flask:
    """Return the API of one model: /predict, /feedback, /openapi.json, and all that the health port answers.

    Args:
        settings: How to serve.
        model: What is served.
        metrics: Where requests are counted.
        lifecycle: Whether it is ready.
        watches: What looks at every prediction.
        tracing: What makes traces of requests, if they are wanted.
    """
    app = _bare_app()
    missing = why_no_feedback(settings, model.artifact)
    feedback = None if missing else Feedback(model, settings, metrics)
    watches = [*watches, *([feedback.memory.remember] if feedback else [])]
    predict = predictor(settings, model, metrics, watches, tracing.step if tracing else untraced)
    add_operations_routes(app, metrics, lifecycle)
    add_model_routes(app, predict, model, settings.max_rows, bool(feedback))
    if has_truth(model.artifact):
        add_feedback_route(app, feedback or missing, model, settings.max_body_bytes)
    app.before_request(_tell_route)
    if settings.redirect_to_https:
        app.before_request(_redirect_to_https)
    hot = fast_path(app, predict, leave_to_flask=_came_over_plain_http if settings.redirect_to_https else _never)

    def has_route(path: str) -> bool:
        return any(rule.rule == path for rule in app.url_map.iter_rules())

    application = with_access_log(hot, has_route, model.artifact.version, metrics)
    app.wsgi_app = tracing.traced(application) if tracing else application  # type: ignore[assignment, method-assign]
    return app


def create_health_app(metrics: Metrics, lifecycle: Lifecycle) -> Flask:
    """Return what the health port answers; its requests are neither logged nor counted."""
    app = _bare_app()
    add_operations_routes(app, metrics, lifecycle)
    add_check_route(app, metrics)
    return app


def _bare_app() -> Flask:
    app = Flask("bakehouse", static_folder=None)
    app.register_error_handler(Exception, _answer_error)
    return app


def _answer_error(error: Exception) -> Response:
    status, headers, body = problem_response(error, request.environ)
    return Response(body, status, headers)


def _tell_route() -> None:
    if request.url_rule:
        request.environ[ROUTE] = request.url_rule.rule


def _never(_environ: WSGIEnvironment) -> bool:
    return False


def _came_over_plain_http(environ: WSGIEnvironment) -> bool:
    # A proxy behind another appends to the header; the first word is of the one that the client spoke to.
    scheme: str = environ.get("HTTP_X_FORWARDED_PROTO", "").partition(",")[0]
    return scheme.strip().lower() == "http"


def _redirect_to_https() -> Response | None:
    """Send requests that came to a proxy over plain HTTP to https, as not every proxy can; the body is not read."""
    if not _came_over_plain_http(request.environ):
        return None
    host = HOST.fullmatch(request.headers.get("Host", ""))
    if host is None:
        raise ProblemError("The Host header is missing or is no name or address: send https requests instead.")
    query = f"?{quote(request.query_string, QUERY_CHARACTERS)}" if request.query_string else ""
    location = f"https://{host['name']}{quote(request.path, PATH_CHARACTERS)}{query}"
    return Response(status=HTTPStatus.PERMANENT_REDIRECT, headers={"Location": location})
