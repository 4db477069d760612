"""The routes: /predict /openapi.json of a model; probes, metrics and identity for those who look after it."""

import orjson
from flask import Flask, Response, g, request

from service import __version__
from service.artifact import Artifact
from service.body import read_body
from service.config import Settings
from service.errors import NotReadyError, ProblemError
from service.lifecycle import Lifecycle
from service.metrics import Metrics
from service.model import Model
from service.openapi import openapi_document

JSON = "application/json"


def add_model_routes(app: Flask, settings: Settings, model: Model, metrics: Metrics) -> None:
    """Add the routes that answer for a model."""
    openapi = orjson.dumps(openapi_document(model.artifact, settings.max_rows))

    @app.post("/predict")
    def predict() -> Response:
        try:
            answer, n_samples = model.answer(read_body(request, settings.max_body_bytes), settings.max_rows)
        except ProblemError as error:
            metrics.count_error(error.metric_code)
            raise
        g.rows = n_samples
        metrics.rows.inc(n_samples)
        return Response(answer, content_type=JSON)

    @app.get("/openapi.json")
    def show_openapi() -> Response:
        return Response(openapi, content_type=JSON)


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


def _served(lifecycle: Lifecycle) -> Artifact:
    """Return what is served; a server that drains still serves it."""
    if lifecycle.served is None:
        raise NotReadyError(lifecycle.not_ready_because())
    return lifecycle.served


def _identity(artifact: Artifact) -> dict[str, str]:
    return {"name": artifact.name, "version": artifact.version, "digest": artifact.digest}
