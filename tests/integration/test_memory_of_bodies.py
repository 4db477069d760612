"""What a long body makes of the serving process's memory: a few times its length, whatever it holds."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from service.settings import Settings
from tests.conftest import ArtifactOf
from tests.support.problem import check_problem
from tests.support.server import RunningServer
from tools.local_http import send

Serve = Callable[..., RunningServer]
JSON = {"Content-Type": "application/json"}
GZIP = {**JSON, "Content-Encoding": "gzip"}
MAX_BYTES = Settings.max_body_bytes
MAX_ROWS = Settings.max_rows
MOST_TIMES = 8
MOST_TIMES_OF_TEXT = 10.5  # its text, and a string of it, take four bytes a character, and the body may be there twice
OTHER_BYTES = 4 * 1024**2
PENGUIN = b'["%b", 39.1, 18.7, 181, 3750, "male"]'

# What a member of each body is, with what stands before and behind all of them; and the status that it gets.
OF_MANY = {
    "nested_objects": ("/predict", b"", b'{"":', b"", 400),
    "nested_lists": ("/predict", b'{"X":', b"[", b"", 400),
    "empty_lists": ("/predict", b"[", b"[],", b"[]]", 422),
    "rows_of_one_object": ("/predict", b'{"X":[', b'{"a":1},', b"{}]}", 413),
    "rows_empty": ("/predict", b'{"X":[', b"[],", b"[]]}", 413),
    "rows_valid": ("/predict", b'{"X":[', b"[1,3],", b"[1,3]]}", 413),
    "cells_of_numbers": ("/predict", b'{"X":[[', b"999,", b"999]]}", 422),
    "cells_of_texts": ("/predict", b'{"X":[[', b'"ab",', b'""]]}', 422),
    "cells_of_objects": ("/predict", b'{"X":[[', b"{},", b"{}]]}", 422),
    "outputs_of_lists": ("/predict", b'{"X":[[1,3]],"outputs":[', b"[],", b"[]]}", 413),
    "members_unknown": ("/predict", b"{", b'"ab":1,', b'"X":[]}', 422),
    "one_number": ("/predict", b'{"X":[[', b"7", b",3]]}", 422),
    "colons": ("/predict", b'{"X":', b":", b"}", 400),
    "text_of_brackets": ("/predict", b'{"X":[["', b"[{,", b'",3]]}', 422),
    "feedback_of_objects": ("/feedback", b'{"feedback":[{}', b",{}", b"]}", 413),
    "feedback_of_numbers": ("/feedback", b'{"feedback":[1', b",1", b"]}", 413),
    "feedback_of_valid_items": ("/feedback", b'{"feedback":[', b'{"request_id":"a","y_true":[1]},', b"{}]}", 413),
    "feedback_of_lists": ("/feedback", b'{"request_id":"a","y_true":[', b"[],", b"[]]}", 413),
    "feedback_nested": ("/feedback", b"", b'{"":', b"", 400),
}


def as_long_as_allowed(head: bytes, member: bytes, tail: bytes) -> bytes:
    """Return a body of as many members as fit."""
    return head + member * ((MAX_BYTES - len(head) - len(tail)) // len(member)) + tail


class Memory:
    """What a server's only serving process takes, beginning now.

    Args:
        server: The server.
    """

    def __init__(self, server: RunningServer) -> None:
        (pid,) = server.workers()
        self._status = Path(f"/proc/{pid}/status")
        Path(f"/proc/{pid}/clear_refs").write_text("5")  # the peak begins anew, see proc_pid_clear_refs(5)
        self._before = self._bytes("VmRSS")

    def growth(self) -> int:
        """Return how many bytes it had more, at its peak."""
        return self._bytes("VmHWM") - self._before

    def _bytes(self, name: str) -> int:
        lines = self._status.read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


def check_status(server: RunningServer, path: str, body: bytes, headers: dict[str, str], status: int) -> None:
    """Fail unless a body gets this status, in the form of all answers."""
    answer = send(server.port, "POST", path, body, headers)
    assert answer.status == status
    if status != 200:
        check_problem(answer.status, answer.headers["content-type"], answer.body)


@pytest.mark.parametrize("compressed", [False, True], ids=["plain", "gzip"])
def test_no_body_takes_more_than_a_few_times_its_length(serve: Serve, house_prices: Path, compressed: bool) -> None:
    """Nothing is made of more lists, objects and values than the most rows have; a gzip body counts decompressed."""
    server = serve(house_prices)
    check_status(server, "/predict", b'{"X":[[1500,3]]}', JSON, 200)
    memory = Memory(server)
    for name, (path, head, member, tail, status) in OF_MANY.items():
        body = as_long_as_allowed(head, member, tail)
        if compressed:
            check_status(server, path, gzip.compress(body), GZIP, status)
        else:
            check_status(server, path, body, JSON, status)
        assert memory.growth() < MOST_TIMES * MAX_BYTES + OTHER_BYTES, name
    assert server.output.count('"status":413') == sum(status == 413 for *_, status in OF_MANY.values())


def test_as_many_gzip_members_as_fit_are_refused(serve: Serve, house_prices: Path) -> None:
    """Four hundred thousand that hold nothing, whose decompression would take seconds."""
    server = serve(house_prices)
    memory = Memory(server)
    check_status(server, "/predict", as_long_as_allowed(b"", gzip.compress(b"", mtime=0), b""), GZIP, 400)
    assert memory.growth() < MOST_TIMES * MAX_BYTES + OTHER_BYTES


def test_the_most_rows_are_answered(serve: Serve, artifact_of: ArtifactOf) -> None:
    """In words that are full of brackets, as long as the body may be, and with no more memory than any other body."""
    server = serve(artifact_of("penguins"))
    memory = Memory(server)
    n_bytes = MAX_BYTES // MAX_ROWS - len(PENGUIN) - 4
    rows = b", ".join([PENGUIN % (b"[{,:" * (n_bytes // 4))] * MAX_ROWS)
    check_status(server, "/predict", b'{"X": [%b]}' % rows, JSON, 200)
    items = [{"request_id": f"{index}", "y_true": ["Gentoo"], "rows": [0]} for index in range(MAX_ROWS)]
    check_status(server, "/feedback", json.dumps({"feedback": items}).encode().ljust(MAX_BYTES), JSON, 404)
    assert memory.growth() < MOST_TIMES * MAX_BYTES + OTHER_BYTES


def test_text_beyond_the_basic_plane_takes_a_little_more(serve: Serve, artifact_of: ArtifactOf) -> None:
    """One such character makes four bytes of every one: in the text that is decoded, and in a string of it."""
    server = serve(artifact_of("penguins"))
    check_status(server, "/predict", b'{"X": [%b]}' % (PENGUIN % b"Torgersen"), JSON, 200)
    memory = Memory(server)
    row = PENGUIN % ("\U0001f427".encode() + b"a" * (MAX_BYTES - 100))
    check_status(server, "/predict", b'{"X": [%b]}' % row.replace(b"39.1", b"true"), JSON, 422)
    assert memory.growth() < MOST_TIMES_OF_TEXT * MAX_BYTES + OTHER_BYTES
