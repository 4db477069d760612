"""Every malformed and every unusual body, sent to a real Gunicorn: framing, headers and limits included."""

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.support.corpus import CANARY, CASES, SETTINGS, Case
from tests.support.problem import check_problem
from tests.support.server import RunningServer
from tools.local_http import send


@pytest.fixture(scope="module")
def server_of(artifact_of: Callable[[str], Path]) -> Iterator[Callable[[str], RunningServer]]:
    """Return a function that gives a server of a shipped model, started once."""
    running: list[RunningServer] = []

    def start(name: str) -> RunningServer:
        running.append(RunningServer(artifact_of(name), SETTINGS))
        return running[-1].wait_until_ready()

    yield cache(start)
    for server in running:
        server.kill()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunks"])
def test_a_body_gets_its_defined_answer(server_of: Callable[[str], RunningServer], case: Case, chunked: bool) -> None:
    """The answer is the same whether the body tells its length or comes in chunks, and repeats nothing of it."""
    server = server_of(case.model)
    body = iter([case.body[:10], case.body[10:]]) if chunked else case.body
    answer = send(server.port, "POST", "/predict", body, case.headers)
    assert answer.status == case.status
    if case.status != 200:
        problem = check_problem(answer.status, answer.headers["content-type"], answer.body)
        assert problem["status"] == case.status
    assert CANARY.encode() not in answer.body
    assert CANARY not in server.output + server.errors
