"""A loaded model: its answers, its refusals, and its golden requests."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from service.artifact.manifest import GOLDEN, sha256
from service.artifact.reader import verify
from service.engines.scikit_learn import as_array, scikit_learn_engine
from service.inference.golden import GoldenError, replay_golden
from service.inference.loading import load_model
from service.inference.model import Model
from service.problems import ContractError
from tests.support.log import check_lines

MODELS = ("house_prices", "breast_cancer", "digits", "penguins")
CANARY = "canary-7331373313"

# The service ignores this for the whole process; pytest's own filters come after that.


class Failing:
    """An estimator that fails as some do: with the caller's values in its message."""

    def predict(self, X: Any) -> Any:
        """Fail."""
        raise RuntimeError(f"{CANARY} {X}")


@pytest.mark.parametrize("name", MODELS)
def test_a_shipped_model_gives_its_golden_answers(name: str, model_of: Callable[[str], Model]) -> None:
    """Every exchange is replayed, and there are several."""
    model = model_of(name)
    assert replay_golden(model) == len(model.artifact.golden()) >= 3


@pytest.mark.parametrize("name", MODELS)
def test_lists_and_objects_are_answered_alike(name: str, model_of: Callable[[str], Model]) -> None:
    """The second and the third golden request hold the same rows in the two forms."""
    model = model_of(name)
    lists, objects = (json.dumps(exchange["request"]).encode() for exchange in model.artifact.golden()[1:3])
    assert lists != objects
    assert model.answer(lists, max_rows=100) == model.answer(objects, max_rows=100)


def test_an_answer_comes_with_its_number_of_rows(model_of: Callable[[str], Model]) -> None:
    """The number is what is counted and logged."""
    answer, n_samples = model_of("house_prices").answer(b'{"X": [[1500, 3], [1600, 3]]}', max_rows=2)
    assert n_samples == len(json.loads(answer)["y_pred"]) == 2


def test_only_what_was_asked_for_is_computed(model_of: Callable[[str], Model]) -> None:
    """The outputs come in the order they were asked for."""
    model = model_of("breast_cancer")
    body = json.dumps(model.artifact.golden()[0]["request"] | {"outputs": ["decision_function", "predict"]}).encode()
    assert list(json.loads(model.answer(body, max_rows=1)[0])) == [
        "decision_function",
        "y_pred",
        "classes",
        "model",
    ]


def test_a_refusal_of_the_estimator_is_the_requests_fault_and_says_nothing_of_it(
    model_of: Callable[[str], Model], capfd: pytest.CaptureFixture[str]
) -> None:
    """The caller learns that these rows cannot be answered, the operator where; the message may hold values."""
    artifact = model_of("house_prices").artifact
    model = Model(artifact, scikit_learn_engine(Failing(), artifact.contract))
    with pytest.raises(ContractError) as refused:
        model.predict(np.zeros((1, 2)), ["predict"])
    errors = capfd.readouterr().err
    assert [(fault.pointer, fault.code) for fault in refused.value.faults] == [("/X", "model_refused")]
    (line,) = check_lines(errors)
    assert (line["message"], line["error"]) == ("The estimator refused an instance.", "RuntimeError")
    assert line["where"][0].startswith("test_model.py:")
    assert CANARY not in refused.value.detail + errors


@pytest.mark.parametrize(
    "answer", [[1.0, 2.0], np.array([1.0, 2.0]), csr_matrix([1.0, 2.0])], ids=["list", "array", "sparse"]
)
def test_an_answer_becomes_a_dense_array(answer: Any) -> None:
    """Estimators answer with lists and sparse matrices too."""
    assert as_array(answer).reshape(-1).tolist() == [1.0, 2.0]


def with_golden(model: Model, directory: Path, change: Callable[[dict[str, Any]], None]) -> Model:
    """Return the model with golden requests of which the second was changed."""
    exchanges = model.artifact.golden()
    change(exchanges[1])
    content = "".join(json.dumps(exchange) + "\n" for exchange in exchanges).encode()
    (directory / GOLDEN).write_bytes(content)
    manifest = {**model.artifact.manifest, "files": {GOLDEN: sha256(content)}}
    return Model(replace(model.artifact, directory=directory, manifest=manifest), model._engine)


@pytest.mark.parametrize(
    ("name", "member", "place", "value"),
    [
        ("house_prices", "y_pred", 3, lambda was: was * (1 + 2e-6)),
        ("house_prices", "y_pred", 3, str),
        ("penguins", "y_pred", 0, lambda _was: "Gentoo"),
        ("digits", "y_pred", 0, float),
        ("digits", "classes", 9, lambda _was: 10),
    ],
    ids=["another number", "a string", "another label", "another type", "another class"],
)
def test_another_answer_than_the_golden_one_is_refused(
    name: str, member: str, place: int, value: Callable[[Any], Any], model_of: Callable[[str], Model], tmp_path: Path
) -> None:
    """A model that answers differently here takes no traffic; the message leads to the first difference."""

    def change(exchange: dict[str, Any]) -> None:
        exchange["response"][member][place] = value(exchange["response"][member][place])

    with pytest.raises(GoldenError, match=f"{GOLDEN} line 2, /{member}/{place} is "):
        replay_golden(with_golden(model_of(name), tmp_path, change))


def test_another_number_of_answers_is_refused(model_of: Callable[[str], Model], tmp_path: Path) -> None:
    """A row too few is a difference like any other."""
    with pytest.raises(GoldenError, match="line 2, /y_pred is "):
        replay_golden(
            with_golden(model_of("house_prices"), tmp_path, lambda exchange: exchange["response"]["y_pred"].pop())
        )


def test_a_golden_request_that_is_refused_is_no_answer(model_of: Callable[[str], Model], tmp_path: Path) -> None:
    """The message says which request it was, and why it was refused."""

    def change(exchange: dict[str, Any]) -> None:
        exchange["request"]["X"] = [[1500, None]]

    with pytest.raises(GoldenError, match=f"{GOLDEN} line 2, at /X/0/1: age must not be null"):
        replay_golden(with_golden(model_of("house_prices"), tmp_path, change))


def test_rounding_is_no_difference(model_of: Callable[[str], Model], tmp_path: Path) -> None:
    """Another processor may add in another order."""

    def change(exchange: dict[str, Any]) -> None:
        exchange["response"]["y_pred"] = [value * (1 + 1e-9) for value in exchange["response"]["y_pred"]]

    assert replay_golden(with_golden(model_of("house_prices"), tmp_path, change)) >= 3


def test_loading_verifies_and_replays(house_prices: Path) -> None:
    """A loaded model is the artifact's own."""
    model = load_model(house_prices)
    assert model.artifact == verify(house_prices)
    assert model.contract == model.artifact.contract
    assert model.identity == {"name": "house_prices", "version": model.artifact.version}
