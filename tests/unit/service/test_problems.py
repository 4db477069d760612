"""The errors a client can cause, and the documents they become."""

from http import HTTPStatus

import orjson
import pytest

from service.problems import (
    MAX_FAULTS,
    BadEncodingError,
    BodyTooLargeError,
    ContractError,
    Fault,
    IncompleteBodyError,
    MalformedBodyError,
    NotReadyError,
    ProblemError,
    UnsupportedMediaTypeError,
    contract_error,
    problem_body,
    raw_problem,
)
from tests.support.problem import check_problem

FAULT = Fault("/X/3/1", "missing_value", "age must not be null")


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (MalformedBodyError, 400, "invalid_json"),
        (BadEncodingError, 400, "invalid_gzip"),
        (IncompleteBodyError, 400, "incomplete_body"),
        (BodyTooLargeError, 413, "too_large"),
        (UnsupportedMediaTypeError, 415, "unsupported_media_type"),
        (ContractError, 422, "contract"),
        (NotReadyError, 503, "not_ready"),
    ],
)
def test_each_condition_has_its_status_and_its_word(error: type[ProblemError], status: int, code: str) -> None:
    """The status is for HTTP, the word is what the error is counted under."""
    assert (error.status, error("").metric_code) == (status, code)


def test_an_error_is_counted_under_its_first_fault() -> None:
    """A fault says more than the condition it belongs to."""
    assert ContractError("", [FAULT, Fault("", "empty", "")]).metric_code == "missing_value"


@pytest.mark.parametrize("status", [400, 404, 405, 413, 415, 422, 500, 503])
def test_a_document_is_a_problem_that_agrees_with_itself(status: int) -> None:
    """The members are those of RFC 9457, with the sentence as "error" for other clients too."""
    body = problem_body(HTTPStatus(status), "Send less.", [FAULT], request_id="abc")
    problem = check_problem(status, "application/problem+json", orjson.dumps(body))
    assert problem["detail"] == "Send less."
    assert problem["errors"] == [{"pointer": "/X/3/1", "code": "missing_value", "detail": "age must not be null"}]
    assert problem["request_id"] == "abc"


def test_a_document_without_a_request_id_has_no_empty_one() -> None:
    """Where no request was read there is nothing to name."""
    assert "request_id" not in problem_body(400, "No HTTP.")


@pytest.mark.parametrize(("pointer", "sentence"), [("/X/3", "at /X/3: too short"), ("", "too short")])
def test_the_sentence_says_where_the_first_fault_is(pointer: str, sentence: str) -> None:
    """Clients that show only the sentence know which row to mend; the whole document has no place in it."""
    assert contract_error([Fault(pointer, "short", "too short"), FAULT]).detail == sentence


def test_no_more_faults_are_named_than_fit() -> None:
    """The answer stays short, whatever the number of faults."""
    assert len(contract_error([FAULT] * (MAX_FAULTS + 1)).faults) == MAX_FAULTS


@pytest.mark.parametrize("close", [True, False])
def test_a_raw_answer_says_whether_its_connection_goes_on(close: bool) -> None:
    """It is a whole HTTP message, with the headers that it was given."""
    raw = raw_problem(HTTPStatus.SERVICE_UNAVAILABLE, "busy", "abc", close, {"Retry-After": "1"})
    head, _, body = raw.decode().partition("\r\n\r\n")
    assert head.startswith("HTTP/1.1 503 Service Unavailable\r\n")
    assert f"\r\nConnection: {'close' if close else 'keep-alive'}\r\n" in head
    assert f"\r\nContent-Length: {len(body)}\r\n" in head
    assert head.endswith("\r\nRetry-After: 1")
    assert orjson.loads(body)["request_id"] == "abc"
