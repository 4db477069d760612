"""Redirects requests to https if a proxy received them over plain HTTP. Not every proxy can redirect."""

import re
from http import HTTPStatus
from urllib.parse import quote
from wsgiref.types import WSGIEnvironment

from flask import Response, request

from service.problems import ProblemError

# RFC 3986 3.2.2, with DNS names.
HOST = re.compile(r"(?P<name>[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?")
PATH_CHARACTERS = "/:@!$&'()*+,;="  # RFC 3986 3.3: characters that a path contains without encoding
QUERY_CHARACTERS = PATH_CHARACTERS + "?%"  # WSGI does not decode the query, so a % is already part of an encoding


def came_over_plain_http(environ: WSGIEnvironment) -> bool:
    """Return whether the client used plain HTTP to the first proxy."""
    # A second proxy appends to the header. The first word is from the proxy that the client connected to.
    scheme: str = environ.get("HTTP_X_FORWARDED_PROTO", "").partition(",")[0]
    return scheme.strip().lower() == "http"


def redirect_to_https() -> Response | None:
    """Return the redirect of the current request, or None if it came over https. It does not read the body.

    Raises:
        ProblemError: If the Host header is neither a name nor an address.
    """
    if not came_over_plain_http(request.environ):
        return None
    host = HOST.fullmatch(request.headers.get("Host", ""))
    if host is None:
        raise ProblemError("The Host header must be a name or an address: correct it, or send the request over https.")
    query = f"?{quote(request.query_string, QUERY_CHARACTERS)}" if request.query_string else ""
    location = f"https://{host['name']}{quote(request.path, PATH_CHARACTERS)}{query}"
    return Response(status=HTTPStatus.PERMANENT_REDIRECT, headers={"Location": location})
