"""The two Flask applications: the API of one model, and the application of the health port."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING
from wsgiref.types import WSGIEnvironment

from flask import Flask, Response, request

from service.api.fast_path import with_fast_path
from service.api.feedback import add_feedback_route
from service.api.middleware import with_access_log
from service.api.operations import add_check_route, add_operations_routes
from service.api.predict import PredictionObserver, add_model_routes, predictor, untraced
from service.api.problem_response import problem_response
from service.api.readiness import Lifecycle
from service.api.redirect import came_over_plain_http, redirect_to_https
from service.feedback.collector import Feedback, has_truth
from service.inference.model import Model
from service.observability.metrics import Metrics
from service.observability.request_context import request_context
from service.settings import Settings

if TYPE_CHECKING:
    from service.observability.tracing import Tracing


# Adds routes and hooks to the application, or wraps its wsgi_app: see docs/how-to/extend.md.
Extension = Callable[[Flask], None]


def create_app(
    settings: Settings,
    model: Model,
    metrics: Metrics,
    lifecycle: Lifecycle,
    observers: Sequence[PredictionObserver] = (),
    feedback: "Feedback | str" = "Feedback is turned off.",
    tracing: "Tracing | None" = None,
    extend: Extension | None = None,
) -> Flask:
    """Return the API of one model: /predict, /feedback, /openapi.json, and the routes of the health port.

    Args:
        settings: How to serve.
        model: The model to serve.
        metrics: Counts the requests.
        lifecycle: Whether the server is ready.
        observers: Called after every prediction.
        feedback: Accepts true values. Otherwise a sentence that says why the service accepts none.
        tracing: Traces the requests, or None without tracing.
        extend: Adds your own routes, hooks or middleware.
    """
    app = _bare_app()
    predict = predictor(settings, model, metrics, observers, tracing.stage if tracing else untraced)
    add_operations_routes(app, metrics, lifecycle)
    add_model_routes(app, predict, model, settings.max_rows, isinstance(feedback, Feedback))
    if has_truth(model.artifact):
        add_feedback_route(app, feedback, model, settings.max_body_bytes)
    app.before_request(_set_route)
    if settings.redirect_to_https:
        app.before_request(redirect_to_https)

    def has_route(path: str) -> bool:
        return any(rule.rule == path for rule in app.url_map.iter_rules())

    leave_to_flask = came_over_plain_http if settings.redirect_to_https else _never
    app.wsgi_app = with_fast_path(app.wsgi_app, predict, leave_to_flask)  # type: ignore[assignment, method-assign]
    if extend:  # within the access log, so that what an extension refuses is logged and counted as well
        extend(app)
    application = with_access_log(app.wsgi_app, has_route, model.artifact.version, metrics)
    app.wsgi_app = tracing.traced(application) if tracing else application  # type: ignore[assignment, method-assign]
    return app


def create_health_app(metrics: Metrics, lifecycle: Lifecycle) -> Flask:
    """Return the application of the health port. Its requests are not logged and not counted."""
    app = _bare_app()
    add_operations_routes(app, metrics, lifecycle)
    add_check_route(app, metrics)
    return app


def _bare_app() -> Flask:
    app = Flask("bakehouse", static_folder=None)
    app.register_error_handler(Exception, _answer_error)
    return app


def _answer_error(error: Exception) -> Response:
    status, headers, body = problem_response(error, request_context(request.environ))
    return Response(body, status, headers)


def _set_route() -> None:
    if request.url_rule:
        request_context(request.environ).route = request.url_rule.rule


def _never(_environ: WSGIEnvironment) -> bool:
    return False
