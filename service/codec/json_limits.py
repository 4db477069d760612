"""How much a JSON document holds, counted in its bytes before any object is made of them.

An empty list takes three bytes in a body and eighty in memory, an object with a member more than two hundred. So lists,
objects and their members are counted first, and a body with more of them than its protocol needs is not decoded. The
first count is quick and includes what stands in strings; only where it is above the limits, the strings are left out.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from service.problems import MalformedBodyError

UNCOUNTED_BYTES = 64 * 1024  # shorter bodies are not counted: whatever they hold, it takes a few megabytes
MAX_DEPTH = 16  # a protocol needs 3 or 4; a little more gets the error that says what is wrong there
SLICE_BYTES = 128 * 1024  # what is computed for each byte fits into the processor's cache

OPENERS, CLOSERS, COMMA, QUOTE = b"[{", b"]}", ord(","), ord('"')
OTHERS = bytes(set(range(256)) - set(OPENERS + CLOSERS) - {COMMA, QUOTE})
LOWER_CASE = 0x20  # the bit that makes { of [
STEPS = np.zeros(256, np.int8)
STEPS[list(OPENERS)], STEPS[list(CLOSERS)] = 1, -1


@dataclass(frozen=True)
class Counts:
    """What a document holds, strings left out; of one that is no JSON, at least what a parser finds before the error.

    Args:
        n_containers: Lists and objects.
        n_members: Members of all of them; an empty one counts as if it had one.
        n_rows: Members of the longest list or object that is itself a member of the document, as X is of {"X": [...]};
            at least 1.
    """

    n_containers: int
    n_members: int
    n_rows: int


def count_openers(body: bytes) -> int:
    """Return how many brackets and braces open something in a body, or stand in its strings."""
    return sum(int(np.count_nonzero((part | LOWER_CASE) == ord("{"))) for part in _slices(body))


def count_excess(body: bytes, n_openers: int, max_containers: int, max_members: int) -> Counts | None:
    """Return what a document holds if that is more than the limits, else None.

    Args:
        body: The bytes of the document.
        n_openers: What count_openers says of it.
        max_containers: The most lists and objects.
        max_members: The most members of all of them together.

    Raises:
        MalformedBodyError: If it holds more, and more than MAX_DEPTH lists and objects are inside each other.
    """
    most_commas = len(body) // 2  # because a member and its comma take two bytes
    if n_openers + most_commas > max_members:
        most_commas = sum(int(np.count_nonzero(part == COMMA)) for part in _slices(body))
    if n_openers <= max_containers and n_openers + most_commas <= max_members:
        return None
    counts = count(body)
    return counts if counts.n_containers > max_containers or counts.n_members > max_members else None


def count(body: bytes) -> Counts:
    """Return what a document holds.

    Raises:
        MalformedBodyError: If more than MAX_DEPTH lists and objects are inside each other.
    """
    if b"\\" in body:
        body = body.replace(b"\\\\", b"").replace(b'\\"', b"")  # what is left of quotes begins and ends a string
    quoted = depth = n_containers = n_commas = n_open = 0
    n_rows = 1
    for part in _slices(body.translate(None, delete=OTHERS)):
        n_quotes = quoted + np.cumsum(part == QUOTE, dtype=np.int32)
        quoted = int(n_quotes[-1]) % 2
        marks = part[n_quotes % 2 == 0]
        if not len(marks):
            continue
        steps = STEPS[marks]
        depths = depth + np.cumsum(steps, dtype=np.int32)
        depth = int(depths[-1])
        if depths.max() > MAX_DEPTH:
            raise nested_too_deeply()
        commas = marks == COMMA
        n_containers += int(np.count_nonzero(steps > 0))
        n_commas += int(np.count_nonzero(commas))
        lengths = _lengths(commas & (depths == 2), (steps < 0) & (depths == 1), n_open)
        n_open = int(lengths[-1])
        n_rows = max(n_rows, int(lengths.max()) + 1)
    return Counts(n_containers, n_commas + n_containers, n_rows)


def nested_too_deeply() -> MalformedBodyError:
    """Return the error for lists and objects that are inside too many others."""
    return MalformedBodyError("The body is nested too deeply: the API is described at /openapi.json.")


def _slices(body: bytes) -> Iterator[NDArray[np.uint8]]:
    array = np.frombuffer(body, np.uint8)
    return (array[start : start + SLICE_BYTES] for start in range(0, len(array), SLICE_BYTES))


def _lengths(commas: NDArray[np.bool_], ends: NDArray[np.bool_], n_before: int) -> NDArray[np.int32]:
    """Return how many commas each list has; the last one goes on behind this slice.

    Args:
        commas: Where there is a comma between members of such lists.
        ends: Where one of them ends.
        n_before: How many commas the first one had before this slice.
    """
    totals = n_before + np.cumsum(commas, dtype=np.int32)
    at_ends = totals[ends]
    return np.diff(at_ends, prepend=0, append=totals[-1])
