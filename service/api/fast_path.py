"""The fast path answers POST /predict before Flask, because Flask costs more than the prediction itself.

It calls the same function as Flask's route and answers errors in the same way. A test compares the responses of both.
Hooks of the Flask application do not see these requests. Wrap `app.wsgi_app` to see all requests.
"""

from collections.abc import Callable, Iterable
from http import HTTPStatus
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from werkzeug.http import HTTP_STATUS_CODES

from service.api.predict import PREDICT, Predict
from service.api.problem_response import problem_response
from service.observability.request_context import request_context


def with_fast_path(
    flask: WSGIApplication, predict: Predict, leave_to_flask: Callable[[WSGIEnvironment], bool]
) -> WSGIApplication:
    """Return the application with the fast path in front.

    Args:
        flask: Flask's WSGI application.
        predict: The function that Flask's route for predictions calls.
        leave_to_flask: Returns true for prediction requests that Flask must answer.
    """

    def answer(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ["PATH_INFO"] != PREDICT or environ["REQUEST_METHOD"] != "POST" or leave_to_flask(environ):
            return flask(environ, start_response)
        context = request_context(environ)
        context.route = PREDICT
        try:
            body, content_type = predict(environ)
            status, headers = HTTPStatus.OK, {"Content-Type": content_type}
        except Exception as error:  # noqa: BLE001 - as Flask does
            status, headers, body = problem_response(error, context)
        start_response(
            f"{status.value} {HTTP_STATUS_CODES[status].upper()}",
            [*headers.items(), ("Content-Length", str(len(body)))],
        )
        return [body]

    return answer
