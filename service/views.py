"""The routes: /predict /openapi.json of a model; probes, metrics and identity for those who look after it."""

from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import Any, ParamSpec, Protocol, TypeVar
from urllib.parse import parse_qs
from wsgiref.types import WSGIEnvironment

import orjson
from flask import Flask, Response, request
from numpy.typing import NDArray

from service import __version__, npy
from service.artifact import Artifact
from service.body import JSON, SEND_JSON, read_body
from service.config import Settings
from service.errors import ContractError, NotFoundError, NotReadyError, ProblemError, UnsupportedMediaTypeError
from service.feedback import Feedback
from service.lifecycle import Lifecycle
from service.metrics import Metrics
from service.model import Model
from service.observe import REQUEST_ID, ROWS
from service.openapi import openapi_document
from service.schema import Columns, encode_answer, parse_request
from service.series import CHECKS, RESULTS

PREDICT, FEEDBACK = "/predict", "/feedback"
MAX_CHECK_BYTES = 200  # four times what is sent

# From a request to the bytes of its answer and their media type.
Predict = Callable[[WSGIEnvironment], tuple[bytes, str]]
# What looks at every prediction, after it was made: the request's id, the cells, the outputs by name. Never waits.
Watch = Callable[[str, Columns, dict[str, NDArray[Any]]], None]
Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


class Step(Protocol):
    """Returns a function that does the same as another, under a name, for who wants to know how long it takes."""

    def __call__(self, name: str, function: Callable[Arguments, Result], /) -> Callable[Arguments, Result]:
        """Return the function."""


def unmeasured(_name: str, function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Return the function as it is."""
    return function


def predictor(
    settings: Settings,
    model: Model,
    metrics: Metrics,
    watches: Sequence[Watch] = (),
    step: Step = unmeasured,
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


def add_feedback_route(app: Flask, feedback: Feedback | str, model: Model, max_body_bytes: int) -> None:
    """Add the route that takes true values.

    Args:
        app: The application.
        feedback: What takes them, or a sentence that says why none are taken.
        model: What the values are about.
        max_body_bytes: The longest body.
    """

    @app.post(FEEDBACK)
    def tell() -> Response:
        if isinstance(feedback, str):
            raise NotFoundError(feedback)
        body, media_type = read_body(request.environ, max_body_bytes)
        if media_type != JSON:
            raise UnsupportedMediaTypeError(f"True values are taken as JSON only: {SEND_JSON}.")
        counts = feedback.tell(body)
        return Response(orjson.dumps({**vars(counts), "model": model.identity}), content_type=JSON)


def add_operations_routes(app: Flask, metrics: Metrics, lifecycle: Lifecycle) -> None:
    """Add the routes for probes, scrapes and rollouts."""

    @app.get("/healthz")
    def live() -> Response:
        return Response(b'{"status":"live"}', content_type=JSON)

    @app.get("/readyz")
    def ready() -> Response:
        if reason := lifecycle.not_ready_because():
            raise NotReadyError(reason)
        return Response(b'{"status":"ready"}', content_type=JSON)

    @app.get("/metrics")
    def scrape() -> Response:
        body, content_type = metrics.exposition(request.headers.get("Accept", ""))
        return Response(body, content_type=content_type)

    @app.get("/version")
    def version() -> Response:
        artifact = _served(lifecycle)
        body = {
            "service_version": __version__,
            "model": {
                **_identity(artifact),
                "engine": artifact.engine["name"],
                "exact": artifact.engine["exact"],
            },
            "source_commit": artifact.manifest["source_commit"],
        }
        return Response(orjson.dumps(body), content_type=JSON)

    @app.get("/contract")
    def contract() -> Response:
        artifact = _served(lifecycle)
        body = {"model": _identity(artifact), "contract": artifact.manifest["contract"]}
        return Response(orjson.dumps(body), content_type=JSON)


def add_check_route(app: Flask, metrics: Metrics) -> None:
    """Add the route by which a check of a release tells how it ended; not for the port that clients reach."""

    @app.post("/checks")
    def count_check() -> Response:
        request.max_content_length = MAX_CHECK_BYTES
        try:
            told = orjson.loads(request.get_data())
            metrics.count_check(told["check"], told["result"])
        except (ValueError, TypeError, KeyError):  # neither repeated nor counted
            words = f"check one of {', '.join(CHECKS)}, and result one of {', '.join(RESULTS)}"
            raise ContractError(f"The body must be a JSON object with {words}.") from None
        return Response(status=HTTPStatus.NO_CONTENT)


def _served(lifecycle: Lifecycle) -> Artifact:
    """Return what is served; a server that drains still serves it."""
    if lifecycle.served is None:
        raise NotReadyError(lifecycle.not_ready_because())
    return lifecycle.served


def _identity(artifact: Artifact) -> dict[str, str]:
    return {"name": artifact.name, "version": artifact.version, "digest": artifact.digest}
