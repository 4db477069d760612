"""The bytes of a request's body, within the limit, decompressed; nothing is read that will not be used."""

import gzip
import io
import zlib
from typing import IO

from flask import Request

from service.errors import (
    BadEncodingError,
    BodyTooLargeError,
    IncompleteBodyError,
    UnsupportedMediaTypeError,
)

SEND_JSON = "send the header Content-Type: application/json"


def read_body(request: Request, max_bytes: int) -> bytes:
    """Return the body of a JSON request.

    Args:
        request: The request, nothing of its body read.
        max_bytes: The most bytes of the body, both as sent and decompressed.

    Raises:
        UnsupportedMediaTypeError: If it is not application/json in UTF-8, plain or gzip.
        BodyTooLargeError: If it is longer than max_bytes.
        BadEncodingError: If it says gzip and is not.
        IncompleteBodyError: If it ends too early.
    """
    _check_media_type(request)
    coding = request.headers.get("Content-Encoding", "identity").strip().lower()
    if coding not in ("identity", "gzip", "x-gzip"):
        raise UnsupportedMediaTypeError(
            "The content coding is not supported: send the body plain or as gzip.", headers={"Accept-Encoding": "gzip"}
        )
    if (request.content_length or 0) > max_bytes:
        raise _too_large(max_bytes)
    sent = _read(request.stream, max_bytes + 1)
    if len(sent) > max_bytes:
        raise _too_large(max_bytes)
    return sent if coding == "identity" else _gunzip(sent, max_bytes)


def _check_media_type(request: Request) -> None:
    # No content type at all is taken as JSON: RFC 9110 8.3 lets the recipient look.
    if request.mimetype not in ("", "application/json"):
        raise UnsupportedMediaTypeError(f"The content type is not supported: {SEND_JSON}.")
    if request.mimetype_params.get("charset", "utf-8").lower() not in ("utf-8", "utf8"):
        raise UnsupportedMediaTypeError(f"The charset is not supported: send UTF-8, and {SEND_JSON}.")


def _read(stream: IO[bytes], n_bytes: int) -> bytes:
    """Return up to n_bytes; a stream may answer in smaller pieces."""
    pieces = []
    try:
        while n_bytes > 0 and (piece := stream.read(n_bytes)):
            pieces.append(piece)
            n_bytes -= len(piece)
    except Exception as error:
        raise IncompleteBodyError("The body ended before it was complete: send it again.") from error
    return b"".join(pieces)


def _gunzip(sent: bytes, max_bytes: int) -> bytes:
    """Return the decompressed body; a gzip file may have several members (RFC 1952 2.2)."""
    try:
        with gzip.open(io.BytesIO(sent)) as file:
            plain = file.read(max_bytes + 1)
    except EOFError as error:
        raise BadEncodingError("The gzip body is cut off: send it again.") from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise BadEncodingError("The body is not gzip, as its Content-Encoding says: send it again.") from error
    if len(plain) > max_bytes:
        raise _too_large(max_bytes)
    return plain


def _too_large(max_bytes: int) -> BodyTooLargeError:
    return BodyTooLargeError(f"The body is longer than {max_bytes} bytes: send fewer rows in a request.")
