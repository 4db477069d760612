"""create_app: wires model, metrics, logs and errors into one Flask application."""

import re
import sys
import time
import traceback
from http import HTTPStatus
from pathlib import Path
from urllib.parse import quote

import orjson
from flask import Flask, Response, g, request
from werkzeug.exceptions import HTTPException, MethodNotAllowed

from service.config import Settings
from service.errors import PROBLEM_JSON, ProblemError, problem_body
from service.lifecycle import Lifecycle
from service.logs import log_request, request_id
from service.metrics import Metrics
from service.model import Model
from service.views import add_model_routes, add_operations_routes

HOST = re.compile(
    r"(?P<name>[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?"
)  # RFC 3986 3.2.2, names as DNS has them
PATH_CHARACTERS = "/:@!$&'()*+,;="  # RFC 3986 3.3: what may stand in a path as it is
QUERY_CHARACTERS = PATH_CHARACTERS + "?%"  # not decoded by WSGI, so that a % stays what it is
UNMATCHED = "unmatched"  # the route of requests that no route answers; their paths are the callers' own


def create_app(settings: Settings, model: Model, metrics: Metrics, lifecycle: Lifecycle) -> Flask:
    """Return the API of one model: /predict, /openapi.json, and all that the health port answers."""
    app = _bare_app()
    add_operations_routes(app, metrics, lifecycle)
    add_model_routes(app, settings, model, metrics)
    _observe(app, model, metrics)
    if settings.redirect_to_https:
        _redirect_to_https(app)
    return app


def create_health_app(metrics: Metrics, lifecycle: Lifecycle) -> Flask:
    """Return the health port's: /healthz, /readyz, /metrics, /version and /contract; neither logged nor counted."""
    app = _bare_app()
    add_operations_routes(app, metrics, lifecycle)
    return app


def _bare_app() -> Flask:
    app = Flask("bakehouse", static_folder=None)
    app.register_error_handler(ProblemError, _answer_problem)
    app.register_error_handler(HTTPException, _answer_http_exception)
    app.register_error_handler(Exception, _answer_bug)
    return app


def _observe(app: Flask, model: Model, metrics: Metrics) -> None:
    """Log and count every request; give it an id, which goes back to the caller."""

    @app.before_request
    def start() -> None:
        g.started = time.perf_counter()
        g.request_id = request_id(request.headers.get)
        g.rows = 0
        metrics.in_flight.inc()

    @app.after_request
    def finish(response: Response) -> Response:
        seconds = time.perf_counter() - g.started
        route = request.url_rule.rule if request.url_rule else _route_of_path(app)
        response.headers["X-Request-ID"] = g.request_id
        metrics.count_request(route, request.method, response.status_code, seconds)
        log_request(
            request_id=g.request_id,
            route=route,
            method=request.method if route != UNMATCHED else "",
            status=response.status_code,
            duration_seconds=round(seconds, 6),
            rows=g.rows,
            model_version=model.artifact.version,
        )
        return response

    @app.teardown_request
    def end(_error: BaseException | None) -> None:
        metrics.in_flight.dec()


def _redirect_to_https(app: Flask) -> None:
    """Send requests that came to a proxy over plain HTTP to https, as not every proxy can; the body is not read."""

    @app.before_request
    def redirect() -> Response | None:
        # A proxy behind another appends to the header; the first word is of the one that the client spoke to.
        if request.headers.get("X-Forwarded-Proto", "").partition(",")[0].strip().lower() != "http":
            return None
        host = HOST.fullmatch(request.headers.get("Host", ""))
        if host is None:
            raise ProblemError("The Host header is missing or is no name or address: send https requests instead.")
        query = f"?{quote(request.query_string, QUERY_CHARACTERS)}" if request.query_string else ""
        location = f"https://{host['name']}{quote(request.path, PATH_CHARACTERS)}{query}"
        return Response(status=HTTPStatus.PERMANENT_REDIRECT, headers={"Location": location})


def _route_of_path(app: Flask) -> str:
    """Return the route of a request whose method it does not take; other paths are the callers' own."""
    return request.path if any(rule.rule == request.path for rule in app.url_map.iter_rules()) else UNMATCHED


def _answer_problem(error: ProblemError) -> Response:
    body = problem_body(error.status, error.detail, error.faults, g.get("request_id", ""))
    return Response(orjson.dumps(body), error.status, error.headers, content_type=PROBLEM_JSON)


def _answer_http_exception(error: HTTPException) -> Response:
    """Answer what Flask itself refuses; its own words may repeat the caller's, so they are not used."""
    status = HTTPStatus(error.code or HTTPStatus.INTERNAL_SERVER_ERROR)
    headers = {}
    detail = f"{status.phrase}: the API is described at /openapi.json."
    if isinstance(error, MethodNotAllowed) and error.valid_methods:
        headers["Allow"] = ", ".join(sorted(error.valid_methods))
        detail = f"This path takes {headers['Allow']}."
    return Response(
        orjson.dumps(problem_body(status, detail, (), g.get("request_id", ""))),
        status,
        headers,
        content_type=PROBLEM_JSON,
    )


def _answer_bug(error: Exception) -> Response:
    """Answer 500 and write where it happened to standard error; not the message, which may hold the caller's values."""
    frames = "\n".join(
        f"  {Path(frame.filename).name}:{frame.lineno} {frame.name}"
        for frame in traceback.extract_tb(error.__traceback__)
    )
    identifier = g.get("request_id", "")
    sys.stderr.write(f"Request {identifier} failed with {type(error).__name__}:\n{frames}\n")
    detail = "The service failed on this request; its log says where."
    body = problem_body(HTTPStatus.INTERNAL_SERVER_ERROR, detail, (), identifier)
    return Response(orjson.dumps(body), HTTPStatus.INTERNAL_SERVER_ERROR, content_type=PROBLEM_JSON)
