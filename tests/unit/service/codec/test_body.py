"""Bytes of a body, read within the limit; the corpus of bodies is sent in test_views.py."""

import gzip
import io
import itertools
import random
from typing import IO, Any

import pytest
from werkzeug.exceptions import ClientDisconnected

from service.codec.body import GZIP_PIECE_BYTES, JSON, MAX_GZIP_MEMBERS, read_body
from service.problems import BadEncodingError, BodyTooLargeError, IncompleteBodyError, UnsupportedMediaTypeError

LIMIT = 1000


class Pieces(io.RawIOBase):
    """A stream that answers as a network does: in pieces, and sometimes not to its end.

    Args:
        pieces: What each read gives; an exception is raised.
    """

    def __init__(self, *pieces: bytes | Exception) -> None:
        self._pieces = list(pieces)
        self.n_reads = 0

    def read(self, _size: int = -1) -> bytes:
        """Return the next piece."""
        self.n_reads += 1
        piece = self._pieces.pop(0) if self._pieces else b""
        if isinstance(piece, Exception):
            raise piece
        return piece


def request_of(stream: IO[bytes] | Pieces, **environ: str) -> dict[str, Any]:
    """Return a request with this body; its length is not known, as with a chunked one, unless environ says it."""
    return {
        "REQUEST_METHOD": "POST",
        "CONTENT_TYPE": "application/json",
        "wsgi.input": stream,
        "wsgi.input_terminated": True,
        **environ,
    }


def test_a_body_that_comes_in_pieces_is_put_together() -> None:
    """A stream may answer with less than it was asked for."""
    assert read_body(request_of(Pieces(b'{"X"', b": [[15", b"00, 3]]}")), LIMIT) == (b'{"X": [[1500, 3]]}', JSON)


def test_no_more_is_read_than_the_limit_needs() -> None:
    """An endless body without a length is refused as soon as it is too long."""
    stream = Pieces(*[b" " * LIMIT] * 100)
    with pytest.raises(BodyTooLargeError, match="longer than 1000 bytes"):
        read_body(request_of(stream), LIMIT)
    assert stream.n_reads == 2


def test_a_length_above_the_limit_is_refused_before_anything_is_read() -> None:
    """The client says how much comes; there is no need to wait for it."""
    stream = Pieces(b" ")
    with pytest.raises(BodyTooLargeError):
        read_body(request_of(stream, CONTENT_LENGTH=str(LIMIT + 1)), LIMIT)
    assert stream.n_reads == 0


@pytest.mark.parametrize("error", [ClientDisconnected(), OSError("gone"), ValueError("bad chunk")], ids=repr)
def test_a_body_that_breaks_off_is_the_clients_fault(error: Exception) -> None:
    """Whatever the server's stream raises, the answer is 400 and says to send again."""
    with pytest.raises(IncompleteBodyError, match="send it again") as refused:
        read_body(request_of(Pieces(b'{"X"', error)), LIMIT)
    assert refused.value.status == 400


def test_the_coding_that_would_be_taken_is_named() -> None:
    """A 415 for a content coding carries Accept-Encoding (RFC 9110 15.5.16)."""
    with pytest.raises(UnsupportedMediaTypeError) as refused:
        read_body(request_of(Pieces(), HTTP_CONTENT_ENCODING="br"), LIMIT)
    assert refused.value.headers == {"Accept-Encoding": "gzip"}


def test_a_refused_body_is_not_read() -> None:
    """What will not be used is not waited for."""
    stream = Pieces(b" ")
    with pytest.raises(UnsupportedMediaTypeError):
        read_body(request_of(stream, CONTENT_TYPE="text/csv"), LIMIT)
    assert stream.n_reads == 0


@pytest.mark.parametrize("n_members", [1, 2, 50])
def test_a_gzip_body_may_have_many_members(n_members: int) -> None:
    """Members are decompressed one after the other, and the limit is for all of them."""
    sent = gzip.compress(b"abc", mtime=0) * n_members
    request = request_of(io.BytesIO(sent), HTTP_CONTENT_ENCODING="gzip")
    assert read_body(request, max(len(sent), 3 * n_members))[0] == b"abc" * n_members


def test_zeros_may_stand_behind_a_gzip_member() -> None:
    """Tapes and block devices leave them, and gzip passes over them."""
    sent = gzip.compress(b"abc") + bytes(100) + gzip.compress(b"def") + bytes(3)
    assert read_body(request_of(io.BytesIO(sent), HTTP_CONTENT_ENCODING="gzip"), LIMIT)[0] == b"abcdef"


@pytest.mark.parametrize("level", [0, 9])
def test_a_gzip_body_is_decompressed_piece_by_piece(level: int) -> None:
    """Members begin and end anywhere in the pieces."""
    plain = random.Random(1).randbytes(3 * GZIP_PIECE_BYTES)
    ends = [0, 1, GZIP_PIECE_BYTES - 23, 2 * GZIP_PIECE_BYTES, len(plain)]
    sent = b"".join(gzip.compress(plain[start:end], level) for start, end in itertools.pairwise(ends))
    request = request_of(io.BytesIO(sent), HTTP_CONTENT_ENCODING="gzip")
    assert read_body(request, 2 * len(plain))[0] == plain


def test_more_gzip_members_than_anybody_needs_are_refused() -> None:
    """Each takes its time, even if there is nothing in it."""
    sent = gzip.compress(b"", mtime=0) * MAX_GZIP_MEMBERS
    assert read_body(request_of(io.BytesIO(sent), HTTP_CONTENT_ENCODING="gzip"), len(sent))[0] == b""
    sent += gzip.compress(b"", mtime=0)
    with pytest.raises(BadEncodingError, match="more than 10000 members: compress it as one"):
        read_body(request_of(io.BytesIO(sent), HTTP_CONTENT_ENCODING="gzip"), len(sent))


@pytest.mark.parametrize("n_bytes", [LIMIT, LIMIT + 1])
def test_the_limit_is_for_the_decompressed_body_too(n_bytes: int) -> None:
    """As many bytes as allowed are taken, one more is not, however short they were as sent."""
    request = request_of(io.BytesIO(gzip.compress(bytes(n_bytes))), HTTP_CONTENT_ENCODING="gzip")
    if n_bytes <= LIMIT:
        assert read_body(request, LIMIT)[0] == bytes(n_bytes)
    else:
        with pytest.raises(BodyTooLargeError):
            read_body(request, LIMIT)
