"""What a document holds, counted in its bytes, is what json.loads makes of it; brackets in strings are none."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.codec import json_limits
from service.codec.json_limits import MAX_DEPTH, Counts, count, count_excess, count_openers
from service.problems import MalformedBodyError

TEXTS = st.text(st.sampled_from(list('[]{},:"\\u5b/\n\u00e9\U0001f600a')), max_size=8)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=30,
)


def containers(value: Any) -> Iterator[Any]:
    """Yield every list and object of a document, itself included."""
    if isinstance(value, list | dict):
        yield value
        for member in value.values() if isinstance(value, dict) else value:
            yield from containers(member)


def expected(document: Any) -> Counts:
    """Return what there is to be counted, as json.loads has it."""
    found = list(containers(document))
    members = document.values() if isinstance(document, dict) else document if isinstance(document, list) else ()
    lengths = [len(member) for member in members if isinstance(member, list | dict)]
    n_members = sum(max(len(each), 1) for each in found)
    return Counts(len(found), n_members, max([1, *lengths]))


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(document=VALUES, ascii_only=st.booleans(), indent=st.sampled_from([None, 1]), slice_bytes=st.integers(1, 9))
def test_counts_are_those_of_the_decoded_document(
    monkeypatch: pytest.MonkeyPatch, document: Any, ascii_only: bool, indent: int | None, slice_bytes: int
) -> None:
    """Wherever slices end: within a string, behind its end, or in the middle of a list."""
    monkeypatch.setattr(json_limits, "SLICE_BYTES", slice_bytes)
    body = json.dumps(document, ensure_ascii=ascii_only, indent=indent).encode()
    assert count(body) == expected(json.loads(body))
    assert count_openers(body) == body.count(b"[") + body.count(b"{")


@pytest.mark.parametrize(
    "text",
    ["[" * 1000, "{,}" * 1000, '"[' * 1000, "\\" * 1001 + "[", '\\"[,' * 500, "\u00e9[" * 500, "\u005b\x00[" * 500],
    ids=["lists", "objects", "quotes", "backslashes", "both", "accents", "escapes"],
)
def test_what_stands_in_a_string_is_not_counted(text: str) -> None:
    """The quick count is too high there, and is not what decides."""
    body = json.dumps({"X": [[text, 3]]}).encode()
    assert count_openers(body) > 3
    assert count_excess(body, count_openers(body), max_containers=3, max_members=6) is None
    assert count(body) == Counts(3, 4, 1)


@pytest.mark.parametrize(
    ("max_containers", "max_members", "fits"), [(6, 13, True), (5, 13, False), (6, 12, False)], ids=str
)
def test_as_much_as_allowed_fits_and_one_more_does_not(max_containers: int, max_members: int, fits: bool) -> None:
    """Lists and objects have a limit, and so have all values together."""
    body = json.dumps({"X": [[1, 2], [3, 4], [5, 6], {"a": 7, "b": 8}]}).encode()
    counts = count_excess(body, count_openers(body), max_containers, max_members)
    assert counts == (None if fits else Counts(6, 13, 4))


def test_a_few_levels_more_than_are_needed_are_counted_and_many_are_refused() -> None:
    """Those of closed and of open lists alike: a parser goes down before it finds that there is no end."""
    for body in (b"[" * MAX_DEPTH, b"[" * MAX_DEPTH + b"]" * MAX_DEPTH, b'{"":' * MAX_DEPTH, b"[{}, []]" * 100):
        assert count(body).n_containers >= MAX_DEPTH
    for body in (b"[" * (MAX_DEPTH + 1), b'{"[":' * (MAX_DEPTH + 1), b'["]",' * (MAX_DEPTH + 1)):
        with pytest.raises(MalformedBodyError, match="nested too deeply"):
            count(body)
