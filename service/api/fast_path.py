"""The hot route: a prediction need not go through Flask, which costs more than the prediction itself.

It stands in front of Flask's dispatch and takes POST /predict to the same function as Flask's own route, and errors to
the same answers. Whoever adds hooks, error handlers or listeners to the Flask application, or another view for the
route, gets Flask's way for every request, so nothing that was added is passed by.
"""

from collections.abc import Callable, Iterable
from copy import deepcopy
from http import HTTPStatus
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from flask import Flask, got_request_exception, request_finished, request_started, request_tearing_down
from werkzeug.http import HTTP_STATUS_CODES

from service.api.middleware import ROUTE
from service.api.predict import PREDICT, Predict
from service.api.problem_response import problem_response

SIGNALS = (request_started, request_finished, request_tearing_down, got_request_exception)


def fast_path(app: Flask, predict: Predict, leave_to_flask: Callable[[WSGIEnvironment], bool]) -> WSGIApplication:
    """Return the application's WSGI function with the hot route in front.

    Args:
        app: The Flask application, with all of its own routes and hooks.
        predict: What its route for predictions calls.
        leave_to_flask: Says which requests for a prediction are Flask's all the same.
    """
    flask = app.wsgi_app
    own = _extensions(app)
    untouched: bool | None = None

    def answer(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        nonlocal untouched
        if environ["PATH_INFO"] != PREDICT or environ["REQUEST_METHOD"] != "POST" or leave_to_flask(environ):
            return flask(environ, start_response)
        if untouched is None:  # Flask, too, takes no more hooks after its first request
            untouched = _extensions(app) == own
        if not untouched or any(signal.receivers for signal in SIGNALS):
            return flask(environ, start_response)
        environ[ROUTE] = PREDICT
        try:
            body, content_type = predict(environ)
            status, headers = HTTPStatus.OK, {"Content-Type": content_type}
        except Exception as error:  # noqa: BLE001 - as Flask does
            status, headers, body = problem_response(error, environ)
        start_response(
            f"{status.value} {HTTP_STATUS_CODES[status].upper()}",
            [*headers.items(), ("Content-Length", str(len(body)))],
        )
        return [body]

    return answer


def _extensions(app: Flask) -> list[Any]:
    """Return all that runs with a request beside its view."""
    return [
        deepcopy(dict(functions))
        for functions in (
            app.before_request_funcs,
            app.after_request_funcs,
            app.teardown_request_funcs,
            app.url_value_preprocessors,
            app.error_handler_spec,
        )
    ] + [list(app.teardown_appcontext_funcs), app.view_functions[PREDICT]]
