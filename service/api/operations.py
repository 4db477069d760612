"""The routes for probes, metrics and identity."""

from http import HTTPStatus

import orjson
from flask import Flask, Response, request

from service import __version__
from service.api.readiness import Lifecycle
from service.artifact.reader import Artifact
from service.codec.body import JSON
from service.observability.metric_definitions import CHECKS, RESULTS
from service.observability.metrics import Metrics
from service.problems import ContractError, NotReadyError

MAX_CHECK_BYTES = 200  # four times the size of a valid body


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
    """Add the route where release checks report their result. Only the health port has it, not the API port."""

    @app.post("/checks")
    def count_check() -> Response:
        request.max_content_length = MAX_CHECK_BYTES
        try:
            report = orjson.loads(request.get_data())
            metrics.count_check(report["check"], report["result"])
        except (ValueError, TypeError, KeyError):  # the error does not repeat the body
            members = f"check (one of {', '.join(CHECKS)}) and result (one of {', '.join(RESULTS)})"
            raise ContractError(f"The body must be a JSON object with {members}.") from None
        return Response(status=HTTPStatus.NO_CONTENT)


def _served(lifecycle: Lifecycle) -> Artifact:
    """Return the served artifact. A draining server still serves it."""
    if lifecycle.served is None:
        raise NotReadyError(lifecycle.not_ready_because())
    return lifecycle.served


def _identity(artifact: Artifact) -> dict[str, str]:
    return {"name": artifact.name, "version": artifact.version, "digest": artifact.digest}
