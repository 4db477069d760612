"""What is known of one request: the worker begins it, the application fills it in, log line and metrics are made of it.

It travels in the WSGI environ under one key, because WSGI gives an application no other place.
"""

from dataclasses import dataclass
from wsgiref.types import WSGIEnvironment

CONTEXT = "bakehouse.request"
UNMATCHED = "unmatched"  # the route of requests that no route answers
OTHER_METHOD = "other"  # the method of requests whose method is the caller's own word
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", OTHER_METHOD)


@dataclass(slots=True)
class RequestContext:
    """What is known of one request, from its first byte to its log line.

    Args:
        request_id: The caller's X-Request-ID, else a new one.
        route: The pattern of the route that answers; empty while none was found.
        model_version: The version of the model that serves.
        n_samples: How many rows were predicted.
        problem_code: The code of the problem that answers; empty if the request succeeds.
        queue_seconds: How long the request waited for a thread.
        trace_id: The trace that the request is part of; empty where there is none.
        span_id: The request's own span, where traces are made.
        sampled: Whether the trace is recorded, by the caller or here.
    """

    request_id: str = ""
    route: str = ""
    model_version: str = ""
    n_samples: int = 0
    problem_code: str = ""
    queue_seconds: float = 0.0
    trace_id: str = ""
    span_id: str = ""
    sampled: bool = False


def request_context(environ: WSGIEnvironment) -> RequestContext:
    """Return the context of a request, a new one where the server began none."""
    context: RequestContext | None = environ.get(CONTEXT)
    if context is None:
        environ[CONTEXT] = context = RequestContext()
    return context
