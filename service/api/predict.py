"""Answers prediction requests, and adds the routes of a model."""

from collections.abc import Callable, Sequence
from typing import Any, ParamSpec, Protocol, TypeVar
from urllib.parse import parse_qs
from wsgiref.types import WSGIEnvironment

import orjson
from flask import Flask, Response, request
from numpy.typing import NDArray

from service.api.openapi import openapi_document
from service.codec import npy
from service.codec.body import JSON, read_body
from service.codec.json_request import parse_request
from service.codec.json_response import encode_answer
from service.columns import Columns
from service.inference.model import Model
from service.observability.metrics import Metrics
from service.observability.request_context import request_context
from service.problems import ProblemError
from service.settings import Settings

PREDICT, FEEDBACK = "/predict", "/feedback"

# Takes a request and returns the body of the response and its media type.
Predict = Callable[[WSGIEnvironment], tuple[bytes, str]]
# Called after every prediction with the request's id, its cells and the outputs by name. It must not block.
PredictionObserver = Callable[[str, Columns, dict[str, NDArray[Any]]], None]
Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


class TraceStage(Protocol):
    """Wraps a function so that each call is a stage of a trace, under a name."""

    def __call__(self, name: str, function: Callable[Arguments, Result], /) -> Callable[Arguments, Result]:
        """Return the wrapped function."""


def untraced(_name: str, function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Return the function unchanged."""
    return function


def predictor(
    settings: Settings,
    model: Model,
    metrics: Metrics,
    observers: Sequence[PredictionObserver] = (),
    trace_stage: TraceStage = untraced,
) -> Predict:
    """Return the function that answers a prediction request. The fast path and Flask's route both call it.

    The function raises a ProblemError if it cannot answer the request.

    Args:
        settings: How to serve.
        model: The model to serve.
        metrics: Counts rows and errors.
        observers: Called after every prediction.
        trace_stage: Wraps decode, predict and encode.
    """
    contract = model.contract
    decode_json, decode_array = trace_stage("decode", parse_request), trace_stage("decode", npy.parse_array)
    model_predict, encode = trace_stage("predict", model.predict), trace_stage("encode", _encode)

    def predict(environ: WSGIEnvironment) -> tuple[bytes, str]:
        try:
            body, media_type = read_body(environ, settings.max_body_bytes)
            if media_type == JSON:
                decoded = decode_json(body, contract, settings.max_rows)
            else:
                decoded = decode_array(body, _outputs_of_query(environ), contract, settings.max_rows)
            outputs = model_predict(decoded.columns, decoded.outputs)
            answer = encode(model, outputs, environ.get("HTTP_ACCEPT", ""))
        except ProblemError as error:
            metrics.count_error(error.metric_code)
            raise
        context = request_context(environ)
        context.n_samples = decoded.n_samples
        metrics.rows.inc(decoded.n_samples)
        for observe in observers:
            observe(context.request_id, decoded.columns, outputs)
        return answer

    return predict


def _outputs_of_query(environ: WSGIEnvironment) -> str:
    query = environ.get("QUERY_STRING", "")
    return ",".join(parse_qs(query).get("outputs", [])) if query else ""


def _encode(model: Model, outputs: dict[str, NDArray[Any]], accept: str) -> tuple[bytes, str]:
    if accept.partition(",")[0].partition(";")[0].strip() == npy.MEDIA_TYPE:
        return npy.encode_array(outputs), npy.MEDIA_TYPE
    return encode_answer(outputs, model.contract, model.identity), JSON


def add_model_routes(app: Flask, predict: Predict, model: Model, max_rows: int, takes_feedback: bool) -> None:
    """Add the routes /predict and /openapi.json of a model."""
    openapi = orjson.dumps(openapi_document(model.artifact, max_rows, takes_feedback))

    @app.post(PREDICT, endpoint=PREDICT)
    def predict_route() -> Response:
        body, content_type = predict(request.environ)
        return Response(body, content_type=content_type)

    @app.get("/openapi.json")
    def show_openapi() -> Response:
        return Response(openapi, content_type=JSON)
