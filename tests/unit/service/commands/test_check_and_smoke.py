"""What a rollout asks: the sentences with which check and smoke pass and refuse."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from service.artifact.manifest import ArtifactError
from service.artifact.reader import Artifact, verify
from service.commands import check as check_module
from service.commands import http_client
from service.commands.check import check
from service.commands.http_client import ClientError
from service.commands.release import ReleaseError
from service.commands.smoke import smoke
from service.inference.model import Model
from tests.support.canned import Canned, canned
from tools.local_http import free_port


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_client, "PAUSE_SECONDS", 0)


@pytest.fixture
def artifact(house_prices: Path) -> Artifact:
    """Return the default model's artifact."""
    return verify(house_prices)


def answer(content: Any, status: int = 200) -> tuple[int, dict[str, str], bytes]:
    """Return a canned answer of JSON."""
    return status, {}, json.dumps(content).encode()


def identity(artifact: Artifact) -> dict[str, str]:
    """Return what /version and /contract say of a model."""
    return {"name": artifact.name, "version": artifact.version, "digest": artifact.digest}


def url_of(server: Canned) -> str:
    """Return a canned server's address."""
    return f"http://127.0.0.1:{server.port}"


def test_without_options_only_the_artifact_is_checked(house_prices: Path, artifact: Artifact) -> None:
    """One sentence says what was found to be good."""
    assert check(house_prices) == (
        f"house_prices {artifact.version}: digest, versions and {len(artifact.golden())} golden requests match."
    )


def test_another_version_than_the_tag_is_refused(house_prices: Path, artifact: Artifact) -> None:
    """The tag of an image is its model version, or nobody could tell what serves."""
    assert check(house_prices, version=artifact.version)
    with pytest.raises(ReleaseError) as refused:
        check(house_prices, version="v2")
    assert str(refused.value) == (
        f"The image's model version is {artifact.version}, not v2: "
        "its tag must be the version it was baked with (make image TAG=v2)."
    )


def test_the_latency_of_one_row_is_measured(
    artifact_of: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first golden request, cut down to one row, is answered a few dozen times; the median must fit the budget."""
    house_prices, bodies = artifact_of("house_prices"), []
    original = check_module.Model.answer

    def answer_and_note(model: Any, body: bytes, max_rows: int) -> Any:
        if max_rows == 1:
            bodies.append(json.loads(body))
        return original(model, body, max_rows)

    monkeypatch.setattr(check_module.Model, "answer", answer_and_note)
    assert "one row takes " in check(house_prices, budget_milliseconds=1e6)
    assert len(bodies) == check_module.N_WARM_UP + check_module.N_TIMED
    assert bodies[0]["X"] == verify(house_prices).golden()[0]["request"]["X"][:1]
    with pytest.raises(ReleaseError, match=r"^One row takes [\d.]+ ms \(median of 50\), the budget is 1e-06 ms: "):
        check(house_prices, budget_milliseconds=1e-6)


def test_the_median_ignores_outliers(
    house_prices: Path, monkeypatch: pytest.MonkeyPatch, model_of: Callable[[str], Any]
) -> None:
    """A machine that pauses once is no slow model."""
    clock = iter(
        [
            value
            for n in range(check_module.N_WARM_UP + check_module.N_TIMED)
            for value in (n, n + (9 if n > 50 else 0.002))
        ]
    )
    monkeypatch.setattr(check_module.time, "perf_counter", lambda: next(clock))
    assert "one row takes 2 ms (median of 50) of 3 ms" in check(house_prices, budget_milliseconds=3)


def test_a_live_release_with_the_same_contract_may_be_followed(house_prices: Path, artifact: Artifact) -> None:
    """The sentence names it."""
    live = {"model": {**identity(artifact), "version": "v1"}, "contract": artifact.manifest["contract"]}
    with canned({"/contract": answer(live)}) as server:
        assert check(house_prices, live=url_of(server)).endswith(
            "; clients of the live release (house_prices v1) can go on."
        )


def test_a_contract_that_breaks_clients_is_refused_unless_allowed(
    artifact_of: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """The refusal names every difference, and how to allow them; allowed, they are only printed."""
    live = verify(artifact_of("breast_cancer"))
    contract = {**live.manifest["contract"], "features": live.manifest["contract"]["features"][1:]}
    live_answer = answer({"model": identity(live), "contract": contract})
    first = live.manifest["contract"]["features"][0]["name"]
    with canned({"/contract": live_answer}) as server:
        with pytest.raises(ReleaseError) as refused:
            check(artifact_of("breast_cancer"), live=url_of(server))
        passed = check(artifact_of("breast_cancer"), live=url_of(server), allow_contract_change=True)
    difference = (
        f'The contract differs from the live release\'s (breast_cancer {live.version}): feature "{first}" is new.'
    )
    assert str(refused.value) == (
        f"{difference} Clients would break: keep the contract, or allow the change with gate.allowContractChange=true."
    )
    assert capsys.readouterr().err.splitlines()[-1] == difference
    assert passed.endswith("; the contract may change.")


@pytest.mark.parametrize("status", [404, 503, None])
def test_a_live_release_that_is_down_can_be_replaced(
    house_prices: Path, status: int | None, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not reached, not ready, or older than the path: it is said, and the rest is checked."""
    with canned({"/contract": answer({}, status or 200)}) as server:
        url = url_of(server) if status else f"http://127.0.0.1:{free_port()}"
        assert check(house_prices, live=url).endswith("; no live release to compare with.")
    said = capsys.readouterr().err
    assert said.startswith(f"{url}/contract ")
    assert said.endswith(": the contract is not compared.\n")
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    "broken",
    [
        answer({}, 500),
        answer({}, 403),
        (200, {}, b"<html>"),
        answer([]),
        answer({"model": {"name": "a", "version": "b"}, "contract": {}}),
        answer({"model": "a", "contract": {}}),
    ],
)
def test_what_answers_otherwise_is_no_live_release(house_prices: Path, broken: Any) -> None:
    """A wrong address is a mistake to mend, not a release that is down."""
    with canned({"/contract": broken}) as server:
        with pytest.raises(
            ReleaseError,
            match=r"/contract .*\. See that the check reaches a live release's health port, or allow .*\.$",
        ):
            check(house_prices, live=url_of(server))
        assert check(house_prices, live=url_of(server), allow_contract_change=True)


def test_a_live_release_with_ready_pods_must_answer(house_prices: Path) -> None:
    """A check that cannot reach what serves has compared nothing."""
    url = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(ReleaseError, match=r"does not answer, though .* or allow the change with .*\.$"):
        check(house_prices, live=url, live_must_answer=True)
    assert check(house_prices, live=url, live_must_answer=True, allow_contract_change=True)


def test_the_live_release_is_told_how_the_gate_ended(house_prices: Path, artifact: Artifact, tmp_path: Path) -> None:
    """So that a refusal is seen where the service is watched; whether the release listens makes no difference."""
    contract = answer({"model": identity(artifact), "contract": artifact.manifest["contract"]})
    for status in (204, 404, 405, 500):
        with canned({"/contract": contract, "/checks": (status, {}, b"")}) as server:
            check(house_prices, live=url_of(server))
            with pytest.raises(ReleaseError):
                check(house_prices, version="v2", live=url_of(server))
            with pytest.raises(ArtifactError):
                check(tmp_path, live=url_of(server))
            assert told(server) == [{"check": "gate", "result": result} for result in ("passed", "refused", "refused")]


def test_a_check_that_fails_for_another_reason_tells_nothing(
    house_prices: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Being interrupted says nothing of the release."""

    def interrupted(_directory: Path) -> Model:
        raise KeyboardInterrupt

    monkeypatch.setattr(check_module, "load_model", interrupted)
    with canned({}) as server:
        with pytest.raises(KeyboardInterrupt):
            check(house_prices, live=url_of(server))
        assert server.seen == []


def release(artifact: Artifact, **changed: Any) -> dict[str, Any]:
    """Return the answers of a release of this artifact, some of them changed."""
    model = {"name": artifact.name, "version": artifact.version}
    info = f'bakehouse_model_info{{digest="{artifact.digest}",name="x",version="{artifact.version}"}} 1.0\n'
    good = {
        "version": answer({"model": identity(artifact)}),
        "predict": [answer({**exchange["response"], "model": model}) for exchange in artifact.golden()],
        "metrics": (200, {}, info.encode()),
    }
    return {f"/{name}": given for name, given in {**good, **changed}.items()}


def told(server: Canned) -> list[Any]:
    """Return what a release was told of how checks ended."""
    return [json.loads(body) for method, path, _, body in server.seen if (method, path) == ("POST", "/checks")]


def smoked(artifact: Artifact, answers: dict[str, Any], **options: Any) -> list[str]:
    """Return the lines with which a release of these answers passes."""
    said: list[str] = []
    with canned(answers) as server:
        smoke(artifact, url_of(server), said.append, url_of(server), **options)
        posted = [json.loads(body) for _, path, _, body in server.seen if path == "/predict"]
        assert posted == [exchange["request"] for exchange in artifact.golden()]
        assert told(server) == [{"check": "smoke", "result": "passed"}]
    return [line.replace(url_of(server), "URL") for line in said]


def test_a_release_of_the_artifact_passes(artifact: Artifact) -> None:
    """A line for each thing; every golden request was sent."""
    assert smoked(artifact, release(artifact), version=artifact.version) == [
        f"URL serves house_prices {artifact.version}, with the digest of this image.",
        f"URL/predict gives all {len(artifact.golden())} golden answers.",
        f"URL/metrics names house_prices {artifact.version}.",
    ]


def test_a_release_is_given_time_to_become_ready(artifact: Artifact) -> None:
    """Routes and addresses may take a moment longer than the pods."""
    ready = answer({"model": identity(artifact)})
    assert len(smoked(artifact, release(artifact, version=[answer({}, 503), ready]))) == 3


OTHER = {"name": "house_prices", "version": "v0"}


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"version": answer({"model": {**OTHER, "digest": "0"}})}, "URL serves house_prices v0 with another digest"),
        ({"version": answer({"model": {"name": "house_prices"}})}, "URL/version does not say which model is served."),
        ({"version": answer([])}, "URL/version does not say which model is served."),
        ({"predict": answer({"model": OTHER, "y_pred": []})}, "URL answers with several models: a rollout is going on"),
        ({"metrics": (200, {}, b"")}, "URL/metrics has no bakehouse_model_info of version"),
        ({"metrics": (200, {}, b'bakehouse_model_info{digest="0",version="v0"} 1.0')}, "URL/metrics has no bakehouse"),
    ],
)
def test_a_release_of_something_else_is_refused(artifact: Artifact, changed: dict[str, Any], sentence: str) -> None:
    """One sentence says what is served instead."""
    with canned(release(artifact, **changed)) as server, pytest.raises(ReleaseError) as refused:
        smoke(artifact, url_of(server), lambda _line: None, url_of(server))
    assert told(server) == [{"check": "smoke", "result": "refused"}]
    assert sentence in str(refused.value).replace(url_of(server), "URL")
    assert str(refused.value).endswith(".")


def test_a_release_of_another_tag_is_refused(artifact: Artifact) -> None:
    """What is asked for by name must be what serves."""
    with canned(release(artifact)) as server, pytest.raises(ReleaseError, match="not v2: the rollout is not complete"):
        smoke(artifact, url_of(server), lambda _line: None, version="v2")


def test_patience_outlasts_the_end_of_a_rollout(artifact: Artifact) -> None:
    """What is wrong at first is said and asked for again, until it is right."""
    old, new = answer({"model": {**OTHER, "digest": "0"}}), answer({"model": identity(artifact)})
    said = smoked(artifact, release(artifact, version=[old, new]), version=artifact.version, patience_seconds=60)
    refusal = f"URL serves house_prices v0, not {artifact.version}: the rollout is not complete, or was undone."
    assert said == [f"{refusal} Asking again.", *smoked(artifact, release(artifact))]


def test_where_only_predictions_are_reached_nothing_else_is_asked(artifact: Artifact) -> None:
    """An edge may lead to /predict alone."""
    assert len(smoked(artifact, release(artifact, version=answer({}, 404)), predict_only=True)) == 2


def test_another_answer_than_the_golden_one_is_refused(artifact: Artifact) -> None:
    """By more than rounding; the sentence leads to the place."""
    golden, model = artifact.golden(), {"name": artifact.name, "version": artifact.version}
    for factor, passes in ((1 + 1e-9, True), (1 + 1e-5, False)):
        answers = [
            answer({"y_pred": [value * factor for value in exchange["response"]["y_pred"]], "model": model})
            for exchange in golden
        ]
        if passes:
            assert smoked(artifact, release(artifact, predict=answers))
        else:
            with pytest.raises(ReleaseError, match=r"golden.jsonl line 1, /y_pred/0 is .* and was "):
                smoked(artifact, release(artifact, predict=answers))


def test_a_refused_golden_request_is_an_error(artifact: Artifact) -> None:
    """Such as by a limit that is too low, or a proxy in between."""
    with pytest.raises(ClientError, match="/predict answers 413 instead of 200"):
        smoked(artifact, release(artifact, predict=answer({}, 413)))
