"""Heads that were seen before: the same request is made of them, and nothing of another one's life."""

import pytest
from gunicorn.config import Config
from gunicorn.http.errors import ParseException
from gunicorn.http.message import Request
from gunicorn.http.unreader import IterUnreader

from service.server.request_heads import MAX_CACHED_BYTES, MAX_ENTRIES, RequestHeadCache

CLIENT = ("127.0.0.1", 1)
HEAD = b"POST /predict?a=1 HTTP/1.1\r\nHost: a\r\nX-Request-ID: b\r\nContent-Length: 5\r\n%s\r\n"
PLAIN = HEAD % b""
SECURE = HEAD % b"X-Forwarded-Proto: https\r\n"
PARTS = ("method", "uri", "path", "query", "fragment", "version", "headers", "trailers", "scheme", "must_close")


@pytest.fixture
def heads() -> RequestHeadCache:
    """Return heads of a server behind one proxy."""
    cfg = Config()
    cfg.set("forwarded_allow_ips", "127.0.0.1")
    return RequestHeadCache(cfg)


def parts_of(request: Request) -> list[object]:
    """Return what a request consists of."""
    return [*(getattr(request, name) for name in PARTS), request._expected_100_continue, request.body.reader.length]


@pytest.mark.parametrize(
    "more", [b"", b"Connection: close\r\n", b"Expect: 100-continue\r\n", b"X-Forwarded-Proto: https\r\n"]
)
def test_a_head_that_was_seen_makes_the_request_that_gunicorn_makes(heads: RequestHeadCache, more: bytes) -> None:
    """Whatever is in it."""
    expected = parts_of(Request(heads._cfg, IterUnreader((HEAD % more,)), CLIENT, 1))
    assert [parts_of(heads.parse(HEAD % more, CLIENT, number)) for number in (1, 2, 3)] == [expected] * 3


def test_a_head_is_parsed_once(heads: RequestHeadCache, monkeypatch: pytest.MonkeyPatch) -> None:
    """That is what it is for; another byte is another head."""
    parsed = []
    parse = Request.parse
    monkeypatch.setattr(Request, "parse", lambda request, unreader: parsed.append(1) or parse(request, unreader))
    for head in (PLAIN, PLAIN, SECURE, PLAIN, SECURE):
        heads.parse(head, CLIENT, 1)
    assert len(parsed) == 2


def test_requests_of_one_head_share_nothing_that_changes(heads: RequestHeadCache) -> None:
    """One that is forced to close, or whose body was read, leaves the next one as it should be."""
    first, second = heads.parse(PLAIN, CLIENT, 1), heads.parse(PLAIN, ("127.0.0.1", 2), 7)
    for request in (first, second):
        request.force_close()
        request._expected_100_continue = True
        request.headers.append(("X", "y"))
        request.trailers.append(("X", "y"))
        request.body.read()
    third = heads.parse(PLAIN, CLIENT, 8)
    assert parts_of(third) == parts_of(RequestHeadCache(heads._cfg).parse(PLAIN, CLIENT, 1))
    assert (second.peer_addr, second.req_number) == (("127.0.0.1", 2), 7)


def test_who_says_it_decides_what_it_means(heads: RequestHeadCache) -> None:
    """Only a proxy may say that a request came over https; the same bytes of another client do not."""
    clients = [("127.0.0.1", 1), ("10.0.0.1", 1)] * 2
    assert [heads.parse(SECURE, client, 1).scheme for client in clients] == ["https", "http"] * 2


def test_what_is_refused_is_refused_again(heads: RequestHeadCache) -> None:
    """Nothing of it is kept."""
    for _ in range(2):
        with pytest.raises(ParseException):
            heads.parse(b"GET / HTTP/1.1\r\nHost : a\r\n\r\n", CLIENT, 1)
    assert heads._entries == {}


@pytest.mark.parametrize(
    "head",
    [
        HEAD % (b"X: " + b"x" * MAX_CACHED_BYTES + b"\r\n"),
        PLAIN.replace(b"Content-Length: 5", b"Transfer-Encoding: chunked"),
    ],
)
def test_long_heads_and_those_of_chunked_bodies_are_not_kept(heads: RequestHeadCache, head: bytes) -> None:
    """They would take memory, or hold a body."""
    heads.parse(head, CLIENT, 1)
    assert heads._entries == {}


def test_no_more_heads_are_kept_than_the_limit(heads: RequestHeadCache) -> None:
    """A client that says another one each time makes memory neither grow nor useless."""
    for number in range(2 * MAX_ENTRIES + 10):
        heads.parse(HEAD % b"X: %d\r\n" % number, (f"10.0.{number // 256}.{number % 256}", 1), 1)
    assert 0 < len(heads._entries) <= MAX_ENTRIES
    assert len(heads._trusted) <= MAX_ENTRIES
