"""The fast path: POST /predict is answered in front of Flask, which costs more than the prediction itself.

It calls the same function as Flask's own route and answers errors in the same way; a test holds both to the same
answers. Hooks of the Flask application do not see these requests: see docs/how-to/extend.md for what does.
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
        flask: Flask's WSGI function.
        predict: What Flask's route for predictions calls.
        leave_to_flask: Says which prediction requests Flask answers all the same.
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
