"""Ground truth: what is taken, what is refused, and that the counted errors are those of sklearn.metrics."""

import json
import re
import threading
import tracemalloc
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from flask import Flask
from flask.testing import FlaskClient
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.parser import text_string_to_metric_families
from sklearn.cluster import KMeans
from sklearn.linear_model import LinearRegression, LogisticRegression, RidgeClassifier
from sklearn.metrics import accuracy_score, brier_score_loss, log_loss, mean_absolute_error, mean_squared_error
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from service.api.openapi import openapi_document
from service.api.readiness import Lifecycle
from service.codec.json_limits import UNCOUNTED_BYTES
from service.engines.scikit_learn import scikit_learn_engine
from service.feedback.losses import classification_losses, regression_losses
from service.feedback.memory import Memory
from service.feedback.parsing import parse_feedback
from service.inference.loading import load_model
from service.inference.model import Model
from service.observability.metrics import Metrics
from service.problems import BodyTooLargeError, ContractError, Fault
from service.server.composition import compose
from service.settings import Settings
from tests.support.baking import CODES, FRAME, NUMBERS, PRICES, SIGNS, WORDS, bake_whole_way
from tests.support.problem import check_problem

CANARY = 7331373313.25
ONE = "one"
ClientOf = Callable[..., FlaskClient]


def client_for(model: Model, **variables: str) -> FlaskClient:
    """Return a Flask client of a model, with settings by their variables."""
    lifecycle = Lifecycle()
    lifecycle.served = model.artifact
    app = compose(Settings.from_env(variables), model, Metrics(1), lifecycle).app
    assert isinstance(app, Flask)
    return app.test_client()


@pytest.fixture
def client_of_estimator(tmp_path: Path) -> Callable[..., FlaskClient]:
    """Return a function that bakes an estimator and gives a client of it."""

    def make(X: Any, y: Any, estimator: Any, **variables: str) -> FlaskClient:
        bake_whole_way(tmp_path / "baked", X, y, estimator)
        return client_for(load_model(tmp_path / "baked"), **variables)

    return make


def ask(client: FlaskClient, request_id: str, rows: Any, *outputs: str) -> Any:
    """Predict under an id, and return the answer."""
    wanted = {"outputs": list(outputs)} if outputs else {}
    response = client.post("/predict", json={"X": rows, **wanted}, headers={"X-Request-ID": request_id})
    assert response.status_code == 200
    return response.json


def tell(client: FlaskClient, document: Any) -> tuple[int, Any]:
    """Send feedback, and return status and answer; a refusal has the form of all refusals."""
    response = client.post("/feedback", data=json.dumps(document), content_type="application/json")
    if response.status_code != 200:
        check_problem(response.status_code, response.content_type, response.data)
    return response.status_code, response.json


def counted(answer: Any) -> tuple[int, int, int]:
    """Return how many rows were accepted, repeated and unknown."""
    return answer["accepted"], answer["repeated"], answer["unknown"]


def remembered_bytes(client: FlaskClient) -> float:
    """Return how much the service says that it remembers."""
    return float(re.findall(r"^bakehouse_feedback_remembered_bytes (.*)$", client.get("/metrics").text, re.M)[0])


def samples(client: FlaskClient) -> dict[str, float]:
    """Return the feedback's counters by name and labels, without the version."""
    found = {}
    for family in text_string_to_metric_families(client.get("/metrics").text):
        for sample in family.samples:
            if sample.name.startswith("bakehouse_feedback_") and family.type == "counter":
                labels = [value for name, value in sample.labels.items() if name != "version"]
                found[" ".join([sample.name.removeprefix("bakehouse_feedback_"), *labels])] = sample.value
    return found


# What is counted ------------------------------------------------------------------------------------------------------


def test_errors_of_regression_are_those_of_scikit_learn(client_of: ClientOf) -> None:
    """MAE, bias and mean squared error follow from the sums, whichever rows are told together."""
    client = client_of()
    rows = [[1000 + 100 * index, index] for index in range(20)]
    y_pred = np.array(ask(client, "one", rows)["y_pred"])
    y_true = np.round(y_pred + np.linspace(-9000, 17000, 20), 2)
    assert tell(client, {"request_id": "one", "y_true": y_true[:5].tolist(), "rows": [0, 1, 2, 3, 4]})[0] == 200
    rest = list(range(19, 4, -1))
    assert tell(client, {"request_id": "one", "y_true": y_true[rest].tolist(), "rows": rest})[0] == 200
    found = samples(client)
    accepted = found["rows_total accepted"]
    assert accepted == 20
    over, under = found["error_total over"], found["error_total under"]
    assert (over + under) / accepted == pytest.approx(mean_absolute_error(y_true, y_pred), rel=1e-12)
    assert (over - under) / accepted == pytest.approx(np.mean(y_pred - y_true), rel=1e-9)
    assert found["squared_error_total"] / accepted == pytest.approx(mean_squared_error(y_true, y_pred), rel=1e-12)


@pytest.mark.parametrize("name", ["breast_cancer", "digits", "penguins"])
def test_errors_of_classification_are_those_of_scikit_learn(
    name: str, client_of: ClientOf, model_of: Callable[[str], Model]
) -> None:
    """Accuracy, log loss and Brier score of two classes and of many, of labels that are text and that are numbers."""
    client, exchange = client_of(name), model_of(name).artifact.golden()[1]
    classes = model_of(name).contract.classes
    assert classes
    answer = ask(client, "one", exchange["request"]["X"], "predict", "predict_proba")
    y_true = [classes[index % len(classes)] for index in range(len(answer["y_pred"]))]
    status, counts = tell(client, {"request_id": "one", "y_true": y_true})
    assert (status, counted(counts)) == (200, (len(y_true), 0, 0))
    found, shares, n_rows = samples(client), np.array(answer["predict_proba"]), len(y_true)
    shares /= shares.sum(axis=1, keepdims=True)  # the last bits, of which scikit-learn would warn
    labels = sorted(classes)
    assert found["correct_total"] / n_rows == pytest.approx(accuracy_score(y_true, answer["y_pred"]))
    assert found["log_loss_total"] / n_rows == pytest.approx(log_loss(y_true, shares, labels=labels))
    assert found["brier_total"] / n_rows == pytest.approx(brier_score_loss(y_true, shares, labels=labels))


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_a_certain_mistake_costs_as_much_as_scikit_learn_says(dtype: type[np.floating[Any]]) -> None:
    """A probability of 0 for what was right is clipped by the precision of its type, so that no sum is infinite."""
    shares = np.array([[1, 0], [0, 1], [0.25, 0.75]], dtype)
    losses = classification_losses(np.array([1, 1, 0]), np.array([0, 1, 1]), shares)
    assert losses["log_loss"].sum() == pytest.approx(log_loss([1, 1, 0], shares, normalize=False), rel=1e-6)
    assert losses["brier"].mean() == pytest.approx(brier_score_loss([1, 1, 0], shares))
    assert losses["correct"].tolist() == [0, 1, 0]


def test_over_and_under_are_never_negative() -> None:
    """They are counters; what is exactly right adds nothing to either."""
    losses = regression_losses(np.array([1.0, 2, 3]), np.array([1.5, 2, 1]))
    assert losses["over"].tolist() == [0.5, 0, 0]
    assert losses["under"].tolist() == [0, 0, 2]
    assert losses["squared_error"].tolist() == [0.25, 0, 4]


def test_a_classifier_without_probabilities_has_accuracy_only(client_of_estimator: Callable[..., FlaskClient]) -> None:
    """There is no series of what cannot be known."""
    client = client_of_estimator(NUMBERS, SIGNS, RidgeClassifier())
    answer = ask(client, "one", NUMBERS[:3].tolist())
    assert tell(client, {"request_id": "one", "y_true": [1 - label for label in answer["y_pred"]]})[0] == 200
    found = samples(client)
    assert (found["rows_total accepted"], found["correct_total"]) == (3, 0)
    assert not [name for name in found if "loss" in name or "brier" in name or "error" in name]


def test_all_series_are_there_before_the_first_feedback(client_of: ClientOf) -> None:
    """A rate needs a first sample of 0."""
    assert samples(client_of()) == {
        "rows_total accepted": 0,
        "rows_total repeated": 0,
        "rows_total unknown": 0,
        "error_total over": 0,
        "error_total under": 0,
        "squared_error_total": 0,
    }
    assert remembered_bytes(client_of()) == 0
    assert {"correct_total", "log_loss_total", "brier_total"} <= samples(client_of("penguins")).keys()


def test_a_model_served_in_batches_takes_feedback(tmp_path: Path) -> None:
    """The predictions are asked for as any others are."""
    bake_whole_way(tmp_path / "baked", FRAME, PRICES, LinearRegression())
    model = load_model(tmp_path / "baked")
    from service.inference.batching import Batcher

    batched = Model(model.artifact, Batcher(model._engine))
    client = client_for(batched)
    y_pred = ask(client, "one", FRAME[:4].to_numpy().tolist())["y_pred"]
    assert tell(client, {"request_id": "one", "y_true": [value - 1 for value in y_pred]})[0] == 200
    assert samples(client)["error_total over"] == pytest.approx(4)


def test_an_estimator_that_writes_to_its_input_changes_nothing_that_is_remembered(tmp_path: Path) -> None:
    """With copy=False scikit-learn scales the matrix it is given; predicting again must start from what was sent."""
    artifact = bake_whole_way(tmp_path / "baked", NUMBERS, PRICES, LinearRegression())
    estimator = make_pipeline(StandardScaler(copy=False), LinearRegression()).fit(NUMBERS.copy(), PRICES)
    client = client_for(Model(artifact, scikit_learn_engine(estimator, artifact.contract)))
    y_pred = ask(client, "one", NUMBERS[:5].tolist())["y_pred"]
    for row in range(5):
        assert tell(client, {"request_id": "one", "y_true": [y_pred[row]], "rows": [row]})[0] == 200
    assert samples(client)["error_total over"] == pytest.approx(0, abs=1e-9)
    assert samples(client)["error_total under"] == pytest.approx(0, abs=1e-9)


# Once for each row ----------------------------------------------------------------------------------------------------


def test_a_row_gets_its_truth_once(client_of: ClientOf) -> None:
    """Told again, with the same value or another one, it is repeated and changes nothing."""
    client = client_of()
    ask(client, "one", [[1500, 3], [2000, 10]])
    assert counted(tell(client, {"request_id": "one", "y_true": [90000], "rows": [1]})[1]) == (1, 0, 0)
    before = samples(client)
    assert counted(tell(client, {"request_id": "one", "y_true": [1], "rows": [1]})[1]) == (0, 1, 0)
    after = samples(client)
    assert after.pop("rows_total repeated") == before.pop("rows_total repeated") + 1
    assert after == before
    assert counted(tell(client, {"request_id": "one", "y_true": [90000, 5]})[1]) == (1, 1, 0)


def test_several_requests_are_told_of_at_once(client_of: ClientOf) -> None:
    """Those that are not known are counted, and stop none of the others; one may be named twice."""
    client = client_of()
    ask(client, "one", [[1500, 3], [2000, 10]])
    ask(client, "two", [[1500, 3]])
    told = [
        {"request_id": "one", "y_true": [1, 2]},
        {"request_id": "never", "y_true": [1, 2, 3]},
        {"request_id": "two", "y_true": [3]},
        {"request_id": "one", "y_true": [9], "rows": [1]},
    ]
    status, answer = tell(client, {"feedback": told})
    assert (status, counted(answer)) == (200, (3, 1, 3))
    assert answer["model"].keys() == {"name", "version"}
    found = samples(client)
    assert [found[f"rows_total {result}"] for result in ("accepted", "repeated", "unknown")] == [3, 1, 3]


def test_the_latest_of_two_requests_with_one_id_counts(client_of: ClientOf) -> None:
    """A retry, or a row that is predicted anew, starts from nothing."""
    client = client_of()
    ask(client, "one", [[1500, 3]])
    assert counted(tell(client, {"request_id": "one", "y_true": [1]})[1]) == (1, 0, 0)
    (latest,) = ask(client, "one", [[3000, 3]])["y_pred"]
    before = samples(client)["error_total over"]
    assert counted(tell(client, {"request_id": "one", "y_true": [latest - 5]})[1]) == (1, 0, 0)
    assert samples(client)["error_total over"] - before == pytest.approx(5)


def test_many_who_tell_the_same_at_once_are_counted_once(model_of: Callable[[str], Model]) -> None:
    """Idempotent also where the same body arrives in several threads."""
    client = client_for(model_of("penguins"))
    rows = model_of("penguins").artifact.golden()[1]["request"]["X"]
    y_true = ask(client, "one", rows)["y_pred"]
    together = threading.Barrier(8)

    def send(_number: int) -> tuple[int, int, int]:
        together.wait(30)
        return counted(client.application.test_client().post("/feedback", json=document).json)

    document = {"request_id": "one", "y_true": y_true}
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(send, range(8)))
    assert sum(accepted for accepted, _, _ in results) == len(rows)
    assert sum(repeated for _, repeated, _ in results) == 7 * len(rows)
    assert samples(client)["correct_total"] == len(rows)


# What is forgotten ----------------------------------------------------------------------------------------------------


def test_nothing_known_is_a_404_that_says_why_and_is_counted(client_of: ClientOf) -> None:
    """The share of unknown rows shows that truth goes to the wrong pod, or comes too late."""
    client = client_of()
    status, problem = tell(client, {"request_id": "never", "y_true": [1, 2]})
    assert status == 404
    assert "Another pod or process" in problem["detail"]
    assert samples(client)["rows_total unknown"] == 2
    assert tell(client, {"feedback": [{"request_id": f"n{index}", "y_true": [1]} for index in range(3)]})[0] == 404


def test_the_oldest_is_forgotten_first(client_of: ClientOf) -> None:
    """Memory is bounded; what was predicted last stays."""
    client = client_of(BAKEHOUSE_FEEDBACK_BYTES="3000")
    for index in range(20):
        ask(client, f"r{index}", [[1500, 3]])
    known = [index for index in range(20) if tell(client, {"request_id": f"r{index}", "y_true": [1]})[0] == 200]
    assert 3 <= len(known) <= 8
    assert known == list(range(20 - len(known), 20))
    assert 0 < remembered_bytes(client) <= 3000


def test_a_request_larger_than_the_memory_is_not_remembered(client_of: ClientOf) -> None:
    """It pushes out nothing, but what had its id: that is no longer the latest."""
    client = client_of(BAKEHOUSE_FEEDBACK_BYTES="3000")
    ask(client, "one", [[1500, 3]])
    ask(client, "two", [[1500, 3]])
    ask(client, "one", [[1500, 3]] * 1000)
    assert tell(client, {"request_id": "one", "y_true": [1], "rows": [0]})[0] == 404
    assert tell(client, {"request_id": "two", "y_true": [1]})[0] == 200


def test_what_is_too_old_is_forgotten(model_of: Callable[[str], Model], monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock that nobody sets; the window is a setting."""
    now = 1000.0
    monkeypatch.setattr("service.feedback.memory.time.monotonic", lambda: now)
    client = client_for(model_of("house_prices"), BAKEHOUSE_FEEDBACK_SECONDS="60")
    ask(client, "one", [[1500, 3]])
    now += 30
    ask(client, "two", [[1500, 3]])
    now += 31
    assert tell(client, {"request_id": "one", "y_true": [1]})[0] == 404
    assert tell(client, {"request_id": "two", "y_true": [1]})[0] == 200
    now += 30
    ask(client, "three", [[1500, 3]])  # also where nobody asks for it
    assert 0 < remembered_bytes(client) < 1000


@pytest.mark.parametrize("name", ["house_prices", "penguins"])
@pytest.mark.parametrize("n_rows", [1, 60])
def test_memory_is_accounted_for_honestly(name: str, n_rows: int, model_of: Callable[[str], Model]) -> None:
    """What Python allocates for it is no more than it says, ids and bookkeeping included, and not far less."""
    from service.codec.json_request import parse_request

    limit = 2 * 1024**2
    contract, rows = model_of(name).contract, model_of(name).artifact.golden()[1]["request"]["X"]
    body = json.dumps({"X": [rows[index % len(rows)] for index in range(n_rows)]}).encode()
    memory = Memory(limit, 1e9, Gauge("a", "a", registry=CollectorRegistry()))
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        index = 0
        while memory.find(f"{0:032x}") or index == 0:
            memory.remember(f"{index:032x}", parse_request(body, contract, 100).columns, {})
            index += 1
        taken = tracemalloc.get_traced_memory()[0] - before
        assert 0.6 * limit < taken < 1.05 * limit
        for number in range(1, index):
            if request := memory.find(f"{number:032x}"):
                memory.claim(f"{number:032x}", request, [0])
        assert tracemalloc.get_traced_memory()[0] - before < 1.05 * limit
        assert memory.n_bytes <= limit
    finally:
        tracemalloc.stop()


def test_what_was_forgotten_or_replaced_in_between_is_claimed_by_nobody() -> None:
    """Predictions go on while feedback is counted; nothing is kept for a request that is gone."""
    memory = Memory(10_000, 1e9, Gauge("a", "a", registry=CollectorRegistry()))
    memory.remember(ONE, np.zeros((2, 3)), {})
    old = memory.find(ONE)
    assert old
    memory.remember(ONE, np.ones((2, 3)), {})
    before = memory.n_bytes
    assert memory.claim(ONE, old, [0]) is None
    assert memory.n_bytes == before
    new = memory.find(ONE)
    assert new
    assert memory.claim(ONE, new, [1, 0]) == [0, 1]
    memory.release(ONE, old, [0, 1])
    assert memory.claim(ONE, new, [1, 0]) == []
    memory.release(ONE, new, [1])
    assert memory.claim(ONE, new, [1, 0]) == [0]
    memory.remember(ONE, np.zeros((10_000, 3)), {})
    assert memory.claim(ONE, new, [0]) is None
    assert memory.n_bytes == 0


# What is refused ------------------------------------------------------------------------------------------------------

BAD = [
    ("no_object", [1], 422, "not_an_object", ""),
    ("text", "x", 422, "not_an_object", ""),
    ("null", None, 422, "not_an_object", ""),
    ("nothing", {}, 422, "not_a_request_id", ""),
    ("unknown_member", {"request_id": ONE, "y_true": [1, 2], "why": 1}, 422, "unknown_member", ""),
    ("beside_feedback", {"feedback": [], "request_id": ONE}, 422, "unknown_member", ""),
    ("no_list", {"feedback": {}}, 422, "not_a_list", "/feedback"),
    ("empty_list", {"feedback": []}, 422, "not_a_list", "/feedback"),
    ("item_no_object", {"feedback": [{"request_id": ONE, "y_true": [1, 2]}, 1]}, 422, "not_an_object", "/feedback/1"),
    ("no_id", {"y_true": [1]}, 422, "not_a_request_id", ""),
    ("id_no_text", {"request_id": 1, "y_true": [1]}, 422, "not_a_request_id", "/request_id"),
    ("id_of_no_answer", {"request_id": "a b", "y_true": [1]}, 422, "not_a_request_id", "/request_id"),
    ("no_values", {"request_id": ONE}, 422, "not_values", ""),
    ("values_no_list", {"request_id": ONE, "y_true": 1}, 422, "not_values", "/y_true"),
    ("empty_values", {"request_id": ONE, "y_true": []}, 422, "not_values", "/y_true"),
    ("too_few_values", {"request_id": ONE, "y_true": [1]}, 422, "wrong_length", "/y_true"),
    ("too_many_values", {"request_id": ONE, "y_true": [1, 2, 3]}, 422, "wrong_length", "/y_true"),
    ("null_value", {"request_id": ONE, "y_true": [1, None]}, 422, "missing_value", "/y_true/1"),
    ("text_value", {"request_id": ONE, "y_true": ["1", 2]}, 422, "not_a_number", "/y_true/0"),
    ("boolean_value", {"request_id": ONE, "y_true": [1, True]}, 422, "not_a_number", "/y_true/1"),
    ("list_value", {"request_id": ONE, "y_true": [1, [2]]}, 422, "not_a_number", "/y_true/1"),
    ("lost_digits", {"request_id": ONE, "y_true": [1, 2**53 + 1]}, 422, "inexact_integer", "/y_true/1"),
    ("large_integer", {"request_id": ONE, "y_true": [1, 10**400]}, 422, "out_of_range", "/y_true/1"),
    ("square_overflows", {"request_id": ONE, "y_true": [1, 1e200]}, 422, "out_of_range", "/y_true/1"),
    ("sums_would_overflow", {"request_id": ONE, "y_true": [-1e110], "rows": [1]}, 422, "out_of_range", "/y_true/0"),
    ("rows_no_list", {"request_id": ONE, "y_true": [1], "rows": 0}, 422, "not_rows", "/rows"),
    ("rows_null", {"request_id": ONE, "y_true": [1], "rows": None}, 422, "not_rows", "/rows"),
    ("row_negative", {"request_id": ONE, "y_true": [1], "rows": [-1]}, 422, "not_rows", "/rows"),
    ("row_boolean", {"request_id": ONE, "y_true": [1], "rows": [True]}, 422, "not_rows", "/rows"),
    ("row_fraction", {"request_id": ONE, "y_true": [1], "rows": [0.0]}, 422, "not_rows", "/rows"),
    ("rows_and_values", {"request_id": ONE, "y_true": [1, 2], "rows": [0]}, 422, "wrong_length", "/y_true"),
    ("no_rows", {"request_id": ONE, "y_true": [1], "rows": []}, 422, "wrong_length", "/y_true"),
    ("repeated_row", {"request_id": ONE, "y_true": [1, 2], "rows": [1, 1]}, 422, "repeated_row", "/rows"),
    ("no_such_row", {"request_id": ONE, "y_true": [1, 2], "rows": [0, 2]}, 422, "no_such_row", "/rows/1"),
    ("too_many", {"request_id": ONE, "y_true": [1] * 101}, 413, "too_many_rows", "/y_true"),
    (
        "too_many_together",
        {"feedback": [{"request_id": "a", "y_true": [1] * 60}, {"request_id": "b", "y_true": [1] * 60}]},
        413,
        "too_many_rows",
        "/feedback/1/y_true",
    ),
]


@pytest.mark.parametrize(("document", "status", "code", "pointer"), [case[1:] for case in BAD], ids=[x[0] for x in BAD])
def test_what_does_not_fit_is_refused_by_its_place_and_counts_nothing(
    document: Any, status: int, code: str, pointer: str, client_of: ClientOf
) -> None:
    """Nor does a good part beside it; once it was mended, all of it counts."""
    client = client_of(BAKEHOUSE_MAX_ROWS="100")
    ask(client, ONE, [[1500, 3], [2000, 10]])
    ask(client, "other", [[1500, 3]])
    before = samples(client)
    found, problem = tell(client, document)
    assert (found, problem["errors"][0]["code"], problem["errors"][0]["pointer"]) == (status, code, pointer)
    if isinstance(document, dict) and "request_id" in document and "feedback" not in document and status == 422:
        several = {"feedback": [{"request_id": "other", "y_true": [1]}, document]}
        found, problem = tell(client, several)
        assert (found, problem["errors"][0]["code"]) == (status, code)
        assert problem["errors"][0]["pointer"] == f"/feedback/1{pointer}"
    assert samples(client) == before
    assert counted(tell(client, {"request_id": ONE, "y_true": [1, 2]})[1]) == (2, 0, 0)


@pytest.mark.parametrize("item", ["{}", "[]", "1", '{"request_id": "a", "y_true": [1]}', '{"[": "]"}'])
def test_a_long_body_of_too_many_items_is_refused_before_it_is_decoded(
    monkeypatch: pytest.MonkeyPatch, item: str, model_of: Callable[[str], Model]
) -> None:
    """Each item tells of a row at least, so that as many items as rows are taken."""
    monkeypatch.setattr("service.feedback.parsing.loads_strict", None)
    body = f'{{"feedback": [{", ".join([item] * UNCOUNTED_BYTES)}]}}'.encode()
    with pytest.raises(BodyTooLargeError, match="The feedback has more than 100 rows: send several requests"):
        parse_feedback(body, model_of("house_prices").contract, max_rows=100)


def test_the_most_rows_are_never_too_much(model_of: Callable[[str], Model]) -> None:
    """Of one request, and of as many requests as rows."""
    contract, n_rows = model_of("house_prices").contract, UNCOUNTED_BYTES // 5
    one = {"request_id": "a", "y_true": [1] * n_rows, "rows": list(range(n_rows))}
    assert len(parse_feedback(json.dumps(one).encode(), contract, n_rows)[0].values) == n_rows
    many = {"feedback": [{"request_id": "a", "y_true": [1], "rows": [0]}] * n_rows}
    assert len(parse_feedback(json.dumps(many).encode(), contract, n_rows)) == n_rows


def test_only_the_faults_that_are_answered_are_put_into_words(
    monkeypatch: pytest.MonkeyPatch, model_of: Callable[[str], Model]
) -> None:
    """One value is as wrong as the other ten thousand."""
    made: list[str] = []
    monkeypatch.setattr("service.feedback.parsing.Fault", lambda *words: made.append(words[0]) or Fault(*words))
    body = json.dumps({"request_id": "a", "y_true": ["wrong"] * 10_000}).encode()
    with pytest.raises(ContractError) as refused:
        parse_feedback(body, model_of("house_prices").contract, max_rows=10_000)
    assert [fault.pointer for fault in refused.value.faults] == made == [f"/y_true/{place}" for place in range(20)]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "invalid_json"),
        (b"{", "invalid_json"),
        (b'{"request_id": "one", "request_id": "one", "y_true": [1]}', "duplicate_name"),
        (b'{"request_id": "one", "y_true": [NaN]}', "not_finite"),
        (b'{"request_id": "one", "y_true": [1, 1e999]}', "out_of_range"),
        (b"\xff", "invalid_json"),
    ],
)
def test_odd_bytes_are_refused_as_those_of_a_prediction(body: bytes, code: str, client_of: ClientOf) -> None:
    """No JSON, repeated names, what is no JSON number."""
    response = client_of().post("/feedback", data=body)
    problem = check_problem(response.status_code, response.content_type, response.data)
    assert response.status_code == (422 if code == "out_of_range" else 400)
    assert [fault["code"] for fault in problem["errors"][:1]] in ([], [code])


@pytest.mark.parametrize(
    ("y", "good", "bad"),
    [
        (WORDS, ["red", "blue"], [("pink", "unknown_category"), (1, "not_a_string"), (None, "missing_value")]),
        (CODES, [2, 1.0], [(3, "unknown_category"), (True, "not_a_number"), ("1", "not_a_number")]),
        (SIGNS.astype(bool), [True, False], [(1, "not_a_boolean"), ("true", "not_a_boolean")]),
        (SIGNS.astype(float), [0, 1.0], [(0.5, "unknown_category"), (False, "not_a_number")]),
    ],
    ids=["text", "whole_numbers", "booleans", "floats"],
)
def test_the_truth_of_a_classifier_is_one_of_its_classes(
    y: Any, good: Any, bad: Any, client_of_estimator: Callable[..., FlaskClient]
) -> None:
    """In the JSON type that it answers with; 1 and 1.0 are one number in JSON."""
    client = client_of_estimator(NUMBERS, y, LogisticRegression())
    ask(client, "one", NUMBERS[:2].tolist())
    for value, code in bad:
        status, problem = tell(client, {"request_id": "one", "y_true": [value], "rows": [0]})
        assert (status, problem["errors"][0]["code"]) == (422, code)
    assert counted(tell(client, {"request_id": "one", "y_true": good})[1]) == (2, 0, 0)


def test_nothing_that_was_told_is_said_again(client_of: ClientOf, capfd: pytest.CaptureFixture[str]) -> None:
    """Neither a value nor an id of the body stands in an answer, a log line or a metric."""
    client = client_of()
    ask(client, ONE, [[1500, 3]])
    said = ""
    for document in (
        {"request_id": ONE, "y_true": [CANARY]},
        {"request_id": f"id-{CANARY}", "y_true": [1]},
        {"request_id": ONE, "y_true": [f"{CANARY}"]},
        {"request_id": ONE, "y_true": [CANARY], f"m{CANARY}": 1},
        {"request_id": ONE, "y_true": [-CANARY * 1e110]},
    ):
        said += client.post("/feedback", json=document, headers={"X-Request-ID": "told"}).text
    output = capfd.readouterr()
    assert '"route":"/feedback"' in output.out
    # Of one row, sums are the row; that is what metrics are for.
    for text in (said, output.out, output.err):
        assert "7331373313" not in text


def test_any_document_gets_json_and_never_a_500(client_of: ClientOf) -> None:
    """Whatever stands where ids, values and rows belong is either counted or refused, in JSON."""
    client = client_of()
    ask(client, ONE, [[1500, 3], [2000, 10]])
    anything = st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.just(ONE),
        lambda inner: st.lists(inner, max_size=4),
        max_leaves=6,
    )
    item = st.fixed_dictionaries({"request_id": anything, "y_true": anything}, optional={"rows": anything})

    @settings(max_examples=150, deadline=None)
    @given(anything | item | st.fixed_dictionaries({"feedback": st.lists(item) | anything}))
    def send(document: object) -> None:
        response = client.post("/feedback", data=json.dumps(document))
        assert response.status_code in (200, 400, 404, 422)
        assert isinstance(response.get_json(force=True), dict)

    send()


def test_arrays_are_not_taken(client_of: ClientOf) -> None:
    """True values come as JSON; the other formats of /predict are for rows."""
    response = client_of().post("/feedback", data=b"x", headers={"Content-Type": "application/x-npy"})
    assert check_problem(response.status_code, response.content_type, response.data)["status"] == 415


# Where there is none --------------------------------------------------------------------------------------------------


def paths(client: FlaskClient) -> Iterable[str]:
    """Return the paths of the client's OpenAPI document."""
    found: dict[str, Any] = client.get("/openapi.json").json["paths"]
    return found


def test_a_clusterer_has_no_such_route(client_of_estimator: Callable[..., FlaskClient]) -> None:
    """What a cluster is called is no truth; a transformer does not predict."""
    client = client_of_estimator(NUMBERS, None, KMeans(2, random_state=0))
    assert "/feedback" not in {rule.rule for rule in client.application.url_map.iter_rules()}
    assert "/feedback" not in paths(client)
    assert not samples(client)


def test_a_transformer_has_no_such_route(client_of_estimator: Callable[..., FlaskClient]) -> None:
    """There is no prediction to compare with."""
    client = client_of_estimator(NUMBERS, None, MinMaxScaler())
    assert client.post("/feedback", json={}).status_code == 404


def test_several_predictions_a_row_are_not_compared(client_of_estimator: Callable[..., FlaskClient]) -> None:
    """The route says so, whatever is sent, and the API's description does not offer it."""
    client = client_of_estimator(NUMBERS, np.stack([PRICES, -PRICES], axis=1), LinearRegression())
    status, problem = tell(client, {})
    assert (status, problem["detail"]) == (404, "Feedback is accepted only for models with one prediction per row.")
    assert "/feedback" not in paths(client)


def test_it_can_be_turned_off(client_of: ClientOf) -> None:
    """Then nothing watches predictions, nothing is counted, and the route says how it is turned on."""
    client = client_of(BAKEHOUSE_FEEDBACK_BYTES="0")
    ask(client, ONE, [[1500, 3]])
    status, problem = tell(client, {"request_id": ONE, "y_true": [1]})
    assert status == 404
    assert "BAKEHOUSE_FEEDBACK_BYTES" in problem["detail"]
    assert not samples(client)
    assert "/feedback" not in paths(client)


# What is described ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["house_prices", "penguins", "digits"])
def test_the_description_has_a_real_example(name: str, client_of: ClientOf, model_of: Callable[[str], Model]) -> None:
    """The example fits its schema, and is answered as the document says after the example of /predict."""
    document = openapi_document(model_of(name).artifact, 100, takes_feedback=True)
    post = document["paths"]["/feedback"]["post"]
    body = post["requestBody"]["content"]["application/json"]["example"]
    client = client_of(name)
    example = document["paths"]["/predict"]["post"]["requestBody"]["content"]["application/json"]["example"]
    ask(client, body["request_id"], example["X"])
    status, answer = tell(client, body)
    assert (status, answer) == (200, post["responses"]["200"]["content"]["application/json"]["example"])
    schemas = document["components"]["schemas"]
    assert Draft202012Validator(schemas["Feedback"]).is_valid(body)
    assert Draft202012Validator(schemas["Feedback"]).is_valid({"feedback": [body]})
    assert Draft202012Validator(schemas["FeedbackAnswer"]).is_valid(answer)


# What a schema cannot say: of which request there are how many rows, digits that get lost, what is too far away.
BEYOND = {"wrong_length", "no_such_row", "inexact_integer", "out_of_range", "too_many_rows", "not_rows"}


@pytest.mark.parametrize("document", [case[1] for case in BAD if case[3] not in BEYOND])
def test_what_is_refused_does_not_fit_the_description(document: Any, model_of: Callable[[str], Model]) -> None:
    """A client that validates first learns of its mistake without a request."""
    schema = openapi_document(model_of("house_prices").artifact, 100, takes_feedback=True)
    assert not Draft202012Validator(schema["components"]["schemas"]["Feedback"]).is_valid(document)


def test_rows_of_every_kind_are_remembered_as_they_were(tmp_path: Path) -> None:
    """Text, booleans, numbers and gaps in one row: the prediction made again is the one that was answered."""
    frame = pd.DataFrame({"n": NUMBERS[:, 0], "w": WORDS, "b": SIGNS.astype(bool)})
    from sklearn.compose import make_column_transformer
    from sklearn.impute import SimpleImputer
    from sklearn.preprocessing import OneHotEncoder

    frame.loc[3, "n"] = np.nan
    estimator = make_pipeline(
        make_column_transformer(
            (SimpleImputer(), ["n"]), (OneHotEncoder(handle_unknown="ignore"), ["w"]), remainder="passthrough"
        ),
        LinearRegression(),
    )
    bake_whole_way(tmp_path / "baked", frame, PRICES, estimator)
    client = client_for(load_model(tmp_path / "baked"))
    rows = [[1.5, "red", True], [None, 'gr"een, ünknown', False], [-2, "", True]]
    y_pred = ask(client, ONE, rows)["y_pred"]
    assert counted(tell(client, {"request_id": ONE, "y_true": y_pred[1:], "rows": [1, 2]})[1]) == (2, 0, 0)
    assert counted(tell(client, {"request_id": ONE, "y_true": y_pred})[1]) == (1, 2, 0)
    assert samples(client)["squared_error_total"] == pytest.approx(0, abs=1e-12)
