"""The route that accepts true values."""

import orjson
from flask import Flask, Response, request

from service.api.predict import FEEDBACK
from service.codec.body import JSON, SEND_JSON, read_body
from service.feedback.collector import Feedback
from service.inference.model import Model
from service.problems import NotFoundError, UnsupportedMediaTypeError


def add_feedback_route(app: Flask, feedback: Feedback | str, model: Model, max_body_bytes: int) -> None:
    """Add the route that accepts true values.

    Args:
        app: The application.
        feedback: Accepts true values. Otherwise a sentence that says why the service accepts none.
        model: The model whose predictions get true values.
        max_body_bytes: The size limit of a body.
    """

    @app.post(FEEDBACK)
    def accept_feedback() -> Response:
        if isinstance(feedback, str):
            raise NotFoundError(feedback)
        body, media_type = read_body(request.environ, max_body_bytes)
        if media_type != JSON:
            raise UnsupportedMediaTypeError(f"Feedback must be JSON: {SEND_JSON}.")
        counts = feedback.record_truth(body)
        return Response(orjson.dumps({**vars(counts), "model": model.identity}), content_type=JSON)
