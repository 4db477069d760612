"""The context of one request. The worker creates it, the application fills it in, and the log and metrics read it.

The WSGI environ carries it under one key, because WSGI has no other place for it.
"""

from dataclasses import dataclass
from wsgiref.types import WSGIEnvironment

CONTEXT = "bakehouse.request"
UNMATCHED = "unmatched"  # the route of requests that match no route
OTHER_METHOD = "other"  # stands for any method that is not in METHODS
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", OTHER_METHOD)


@dataclass(slots=True)
class RequestContext:
    """What is known of one request, from its first byte to its log line.

    Args:
        request_id: The caller's X-Request-ID, otherwise a new id.
        route: The pattern of the matched route. Empty before the match.
        model_version: The version of the served model.
        n_samples: How many rows were predicted.
        problem_code: The code of the error response. Empty if the request succeeds.
        queue_seconds: How long the request waited for a thread.
        trace_id: The trace of the request. Empty without a trace.
        span_id: The span of the request. Empty without tracing.
        sampled: Whether the caller or this service records the trace.
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
    """Return the context of a request. Create it if the server has not."""
    context: RequestContext | None = environ.get(CONTEXT)
    if context is None:
        environ[CONTEXT] = context = RequestContext()
    return context
