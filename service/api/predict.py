"""Answers a prediction request, and adds the routes of a model."""

from collections.abc import Callable, Sequence
from typing import Any, ParamSpec, Protocol, TypeVar
from urllib.parse import parse_qs
from wsgiref.types import WSGIEnvironment

import orjson
from flask import Flask, Response, request
from numpy.typing import NDArray

from service.api.middleware import REQUEST_ID, ROWS
from service.api.openapi import openapi_document
from service.codec import npy
from service.codec.body import JSON, read_body
from service.codec.json_request import parse_request
from service.codec.json_response import encode_answer
from service.columns import Columns
from service.inference.model import Model
from service.observability.metrics import Metrics
from service.problems import ProblemError
from service.settings import Settings

PREDICT, FEEDBACK = "/predict", "/feedback"

# From a request to the bytes of its answer and their media type.
Predict = Callable[[WSGIEnvironment], tuple[bytes, str]]
# What looks at every prediction, after it was made: the request's id, the cells, the outputs by name. Never waits.
PredictionObserver = Callable[[str, Columns, dict[str, NDArray[Any]]], None]
Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


class TraceStage(Protocol):
    """Returns a function that does the same as another, under a name, for who wants to know how long it takes."""

    def __call__(self, name: str, function: Callable[Arguments, Result], /) -> Callable[Arguments, Result]:
        """Return the function."""


def untraced(_name: str, function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Return the function as it is."""
    return function


def predictor(
    settings: Settings,
    model: Model,
    metrics: Metrics,
    watches: Sequence[PredictionObserver] = (),
    step: TraceStage = untraced,
) -> Predict:
    """Return what answers a prediction request, whichever way it came here.

    It raises a ProblemError for what cannot be answered.

    Args:
        settings: How to serve.
        model: What answers.
        metrics: Where rows and refusals are counted.
        watches: What looks at every prediction.
        step: What is put around the parts of the work.
    """
    contract = model.contract
    decode_json, decode_array = step("decode", parse_request), step("decode", npy.parse_array)
    answer_for, encode = step("predict", model.predict), step("encode", _encoded)

    def predict(environ: WSGIEnvironment) -> tuple[bytes, str]:
        try:
            body, media_type = read_body(environ, settings.max_body_bytes)
            if media_type == JSON:
                wanted = decode_json(body, contract, settings.max_rows)
            else:
                wanted = decode_array(body, _outputs_of_query(environ), contract, settings.max_rows)
            answers = answer_for(wanted.columns, wanted.outputs)
            answer = encode(model, answers, environ.get("HTTP_ACCEPT", ""))
        except ProblemError as error:
            metrics.count_error(error.metric_code)
            raise
        environ[ROWS] = wanted.n_samples
        metrics.rows.inc(wanted.n_samples)
        for watch in watches:
            watch(environ[REQUEST_ID], wanted.columns, answers)
        return answer

    return predict


def _outputs_of_query(environ: WSGIEnvironment) -> str:
    query = environ.get("QUERY_STRING", "")
    return ",".join(parse_qs(query).get("outputs", [])) if query else ""


def _encoded(model: Model, answers: dict[str, NDArray[Any]], accept: str) -> tuple[bytes, str]:
    if accept.partition(",")[0].partition(";")[0].strip() == npy.MEDIA_TYPE:
        return npy.encode_array(answers), npy.MEDIA_TYPE
    return encode_answer(answers, model.contract, model.identity), JSON


def add_model_routes(app: Flask, predict: Predict, model: Model, max_rows: int, takes_feedback: bool) -> None:
    """Add the routes that answer for a model."""
    openapi = orjson.dumps(openapi_document(model.artifact, max_rows, takes_feedback))

    @app.post(PREDICT, endpoint=PREDICT)
    def predict_route() -> Response:
        body, content_type = predict(request.environ)
        return Response(body, content_type=content_type)

    @app.get("/openapi.json")
    def show_openapi() -> Response:
        return Response(openapi, content_type=JSON)
