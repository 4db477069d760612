"""The redirect to https of requests that a proxy received over plain HTTP, since not every proxy can redirect."""

import re
from http import HTTPStatus
from urllib.parse import quote
from wsgiref.types import WSGIEnvironment

from flask import Response, request

from service.problems import ProblemError

# RFC 3986 3.2.2, with names as DNS has them.
HOST = re.compile(r"(?P<name>[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?")
PATH_CHARACTERS = "/:@!$&'()*+,;="  # RFC 3986 3.3: what may stand in a path as it is
QUERY_CHARACTERS = PATH_CHARACTERS + "?%"  # not decoded by WSGI, so that a % stays what it is


def came_over_plain_http(environ: WSGIEnvironment) -> bool:
    """Return whether the client spoke plain HTTP to the first proxy."""
    # A proxy behind another one appends to the header; the first word is from the proxy that the client spoke to.
    scheme: str = environ.get("HTTP_X_FORWARDED_PROTO", "").partition(",")[0]
    return scheme.strip().lower() == "http"


def redirect_to_https() -> Response | None:
    """Return the redirect of the current request, None if it came over https; the body is not read.

    Raises:
        ProblemError: If the Host header is not a name or an address.
    """
    if not came_over_plain_http(request.environ):
        return None
    host = HOST.fullmatch(request.headers.get("Host", ""))
    if host is None:
        raise ProblemError("The Host header is missing or is no name or address: send https requests instead.")
    query = f"?{quote(request.query_string, QUERY_CHARACTERS)}" if request.query_string else ""
    location = f"https://{host['name']}{quote(request.path, PATH_CHARACTERS)}{query}"
    return Response(status=HTTPStatus.PERMANENT_REDIRECT, headers={"Location": location})
