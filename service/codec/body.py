"""The bytes of a request's body, within the limit, decompressed; nothing is read that will not be used."""

import io
import re
import zlib
from functools import lru_cache
from typing import IO
from wsgiref.types import WSGIEnvironment

from werkzeug.http import parse_options_header
from werkzeug.wsgi import get_input_stream

from service.codec import npy
from service.problems import BadEncodingError, BodyTooLargeError, IncompleteBodyError, UnsupportedMediaTypeError

JSON = "application/json"
GZIP = 16 + zlib.MAX_WBITS  # zlib's word for its own head and checksum
GZIP_PIECE_BYTES = 64 * 1024  # what zlib is given at once, because it copies what stands behind a member's end
MAX_GZIP_MEMBERS = 10_000  # to begin one takes longer than to decompress the little that so many hold
PADDING = re.compile(rb"\0*")  # may stand behind a member
MOST_DIGITS = 18  # of a length; int() refuses thousands of them
SEND_JSON = f"send the header Content-Type: {JSON}"


def read_body(environ: WSGIEnvironment, max_bytes: int) -> tuple[bytes, str]:
    """Return the body of a request, and its media type: JSON, or that of .npy files.

    Args:
        environ: The request, nothing of its body read.
        max_bytes: The most bytes of the body, both as sent and decompressed.

    Raises:
        UnsupportedMediaTypeError: If it is neither application/json in UTF-8 nor a .npy file, plain or gzip.
        BodyTooLargeError: If it is longer than max_bytes.
        BadEncodingError: If it says gzip and is not.
        IncompleteBodyError: If it ends too early.
    """
    media_type = _media_type(environ.get("CONTENT_TYPE", ""))
    coding = environ.get("HTTP_CONTENT_ENCODING", "identity").strip().lower()
    if coding not in ("identity", "gzip", "x-gzip"):
        raise UnsupportedMediaTypeError(
            "The content coding is not supported: send the body plain or as gzip.", headers={"Accept-Encoding": "gzip"}
        )
    length = environ.get("CONTENT_LENGTH", "")
    if length.isdecimal() and (len(length) > MOST_DIGITS or int(length) > max_bytes):
        raise _too_large(max_bytes)
    # Gunicorn's streams end where the body does; others have to be kept from reading on.
    stream = environ["wsgi.input"] if "wsgi.input_terminated" in environ else get_input_stream(environ)
    sent = _read(stream, max_bytes + 1)
    if len(sent) > max_bytes:
        raise _too_large(max_bytes)
    return (sent if coding == "identity" else _gunzip(sent, max_bytes)), media_type


@lru_cache(maxsize=64)  # a few clients say the same in every request; Gunicorn bounds a header's length
def _media_type(content_type: str) -> str:
    media_type, parameters = parse_options_header(content_type)
    media_type = media_type.lower()
    if media_type == npy.MEDIA_TYPE:
        return media_type
    # No content type at all is taken as JSON: RFC 9110 8.3 lets the recipient look.
    if media_type not in ("", JSON):
        raise UnsupportedMediaTypeError(f"The content type is not supported: {SEND_JSON}.")
    if parameters.get("charset", "utf-8").lower() not in ("utf-8", "utf8"):
        raise UnsupportedMediaTypeError(f"The charset is not supported: send UTF-8, and {SEND_JSON}.")
    return JSON


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
    plain = io.BytesIO()
    n_members = start = 0
    while start < len(sent):
        if n_members == MAX_GZIP_MEMBERS:
            raise BadEncodingError(f"The gzip body has more than {MAX_GZIP_MEMBERS} members: compress it as one.")
        n_members += 1
        end = _gunzip_member(sent, start, plain, max_bytes)
        start = PADDING.match(sent, end).end()  # type: ignore[union-attr] # matches anything
    return plain.getvalue()


def _gunzip_member(sent: bytes, start: int, plain: IO[bytes], max_bytes: int) -> int:
    """Write what the member that begins at start holds, and return where it ends."""
    member = zlib.decompressobj(GZIP)
    while not member.eof:
        piece = memoryview(sent)[start : start + GZIP_PIECE_BYTES]
        if not piece:
            raise BadEncodingError("The gzip body is cut off: send it again.")
        try:
            plain.write(member.decompress(piece, max_bytes + 1 - plain.tell()))
        except zlib.error as error:
            raise BadEncodingError("The body is not gzip, as its Content-Encoding says: send it again.") from error
        if plain.tell() > max_bytes:
            raise _too_large(max_bytes)
        start += len(piece) - len(member.unused_data)
    return start


def _too_large(max_bytes: int) -> BodyTooLargeError:
    return BodyTooLargeError(f"The body is longer than {max_bytes} bytes: send fewer rows in a request.")
