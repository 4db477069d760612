"""POST /predict and the other routes through Flask; the corpus of bodies is in tests/support/corpus.py."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from flask.testing import FlaskClient
from hypothesis import given, settings
from hypothesis import strategies as st

from service import __version__
from service.api.app import create_app
from service.api.readiness import Lifecycle
from service.artifact.contract import Contract
from service.inference.model import Model
from service.observability.metrics import Metrics
from service.settings import Settings
from tests.support.corpus import CANARY, CASES, GOOD, SETTINGS, Case
from tests.support.problem import check_problem

ClientOf = Callable[..., FlaskClient]

# The service ignores this for the whole process; pytest's own filters come after that.

FEW = settings(max_examples=100, deadline=None)
NAMES = st.sampled_from(["X", "outputs", "area", "age", "predict"])
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | NAMES,
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.sampled_from(["X", "outputs", "area", "age"]) | st.text(), inner)
    ),
    max_leaves=10,
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_body_of_the_corpus_gets_its_defined_answer(case: Case, client_of: ClientOf) -> None:
    """Every odd body is answered with its status and code, which is also what is counted."""
    client = client_of(case.model, **SETTINGS)
    response = client.post("/predict", data=case.body, headers=case.headers)
    assert response.status_code == case.status
    if case.status == 200:
        assert response.content_type == "application/json"
        assert len(response.json["y_pred"]) >= 1
        assert b"bakehouse_prediction_errors_total{" not in client.get("/metrics").data
    else:
        problem = check_problem(response.status_code, response.content_type, response.data)
        assert [fault["code"] for fault in problem["errors"][:1]] in ([], [case.code])
        assert f'bakehouse_prediction_errors_total{{code="{case.code}",version=""}} 1.0' in client.get("/metrics").text


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_no_answer_and_no_log_repeats_what_the_caller_sent(
    case: Case, client_of: ClientOf, capfd: pytest.CaptureFixture[str]
) -> None:
    """Values may be secrets: they stand in no answer, no header, no log line and no metric."""
    client = client_of(case.model, **SETTINGS)
    response = client.post("/predict", data=case.body, headers={**case.headers, "X-Request-ID": "test"})
    output = capfd.readouterr()
    said = f"{response.headers}{response.text}{output.out}{output.err}{client.get('/metrics').text}"
    assert '"request_id":"test"' in output.out
    assert CANARY not in said


def test_the_names_of_the_corpus_are_unique() -> None:
    """A failure names one body."""
    names = [case.name for case in CASES]
    assert sorted(set(names)) == sorted(names)


def test_any_bytes_get_json_and_never_a_500(client_of: ClientOf) -> None:
    """Whatever is sent is either answered or refused, in JSON."""
    client = client_of()

    @FEW
    @given(st.binary() | st.text().map(str.encode) | JSON_VALUES.map(lambda value: json.dumps(value).encode()))
    def send(body: bytes) -> None:
        response = client.post("/predict", data=body)
        assert response.status_code in (200, 400, 422)
        assert isinstance(response.get_json(force=True), dict)

    send()


@pytest.mark.parametrize("model", ["house_prices", "penguins"])
def test_any_rows_and_outputs_get_json_and_never_a_500(model: str, client_of: ClientOf) -> None:
    """Whatever stands where rows and outputs belong is either answered or refused, in JSON."""
    client = client_of(model)

    @FEW
    @given(st.fixed_dictionaries({"X": JSON_VALUES | st.lists(JSON_VALUES)}, optional={"outputs": JSON_VALUES}))
    def send(document: object) -> None:
        response = client.post("/predict", data=json.dumps(document))
        assert response.status_code in (200, 400, 422)
        assert isinstance(response.get_json(force=True), dict)

    send()


def test_any_headers_get_json_and_never_a_500(client_of: ClientOf) -> None:
    """Whatever a request says of its body, the answer is JSON."""
    client = client_of()

    @FEW
    @given(st.binary(), st.sampled_from(["gzip", "identity", "br"]), st.text("aj/;=- ", max_size=9))
    def send(body: bytes, coding: str, content_type: str) -> None:
        headers = {"Content-Encoding": coding, "Content-Type": content_type}
        response = client.post("/predict", data=body, headers=headers)
        assert response.status_code in (200, 400, 415, 422)
        assert isinstance(response.get_json(force=True), dict)

    send()


def test_a_prediction_names_its_model(client_of: ClientOf, model_of: Callable[[str], Model]) -> None:
    """The answer holds one prediction for each row, and the model's name and version."""
    answer = client_of().post("/predict", data=b'{"X": [[1500, 3], [2000, 3]]}').json
    artifact = model_of("house_prices").artifact
    assert answer.keys() == {"y_pred", "model"}
    assert 0 < answer["y_pred"][0] < answer["y_pred"][1]
    assert answer["model"] == {"name": "house_prices", "version": artifact.version}


@pytest.mark.parametrize(
    ("model", "label_type"), [("house_prices", float), ("breast_cancer", str), ("digits", int), ("penguins", str)]
)
def test_labels_keep_their_own_type(
    model: str, label_type: type, client_of: ClientOf, model_of: Callable[[str], Model]
) -> None:
    """A digit is answered as an integer, a species as a string."""
    example = model_of(model).artifact.golden()[0]
    answer = client_of(model).post("/predict", json=example["request"]).json
    assert [type(label) for label in answer["y_pred"]] == [label_type]


def test_probabilities_come_with_the_classes_they_belong_to(client_of: ClientOf) -> None:
    """Asked for probabilities only, the answer holds no predictions, and says which column is which class."""
    row = ["Torgersen", 39.1, 18.7, 181, 3750, "male"]
    answer = client_of("penguins").post("/predict", json={"X": [row], "outputs": ["predict_proba"]}).json
    assert answer.keys() == {"predict_proba", "classes", "model"}
    assert answer["classes"] == ["Adelie", "Chinstrap", "Gentoo"]
    assert sum(answer["predict_proba"][0]) == pytest.approx(1)


def test_objects_are_read_by_name(client_of: ClientOf) -> None:
    """The order of the names does not matter, which taking columns by position would get wrong."""
    client = client_of()
    by_position = client.post("/predict", data=GOOD).json["y_pred"]
    by_name = client.post("/predict", data=b'{"X": [{"age": 3, "area": 1500}]}').json["y_pred"]
    assert by_name == by_position


def test_rows_are_counted(client_of: ClientOf) -> None:
    """The metric of predicted rows counts rows, not requests, and only those that were answered."""
    client = client_of()
    client.post("/predict", data=b'{"X": [[1500, 3], [2000, 3], [2500, 3]]}')
    client.post("/predict", data=b'{"X": [[1500, 3], [2000]]}')
    assert 'bakehouse_predicted_rows_total{version=""} 3.0' in client.get("/metrics").text


def test_version_tells_service_and_model(client_of: ClientOf, model_of: Callable[[str], Model]) -> None:
    """GET /version says which service serves which model, down to the digest and the commit."""
    artifact = model_of("house_prices").artifact
    assert client_of().get("/version").json == {
        "service_version": __version__,
        "model": {
            "name": "house_prices",
            "version": artifact.version,
            "digest": artifact.digest,
            "engine": "numpy",
            "exact": True,
        },
        "source_commit": artifact.manifest["source_commit"],
    }


def test_the_contract_is_the_manifests_own(client_of: ClientOf, model_of: Callable[[str], Model]) -> None:
    """GET /contract says for which model it holds; it can be read back as the contract it is."""
    artifact = model_of("penguins").artifact
    answer = client_of("penguins").get("/contract").json
    assert answer == {
        "model": {"name": "penguins", "version": artifact.version, "digest": artifact.digest},
        "contract": artifact.manifest["contract"],
    }
    assert Contract.from_dict(answer["contract"]) == artifact.contract


def test_the_openapi_document_is_served_with_the_limit_of_the_settings(client_of: ClientOf) -> None:
    """GET /openapi.json describes this model under these settings."""
    document = client_of(BAKEHOUSE_MAX_ROWS="7").get("/openapi.json").json
    rows = document["components"]["schemas"]["Request"]["properties"]["X"]["oneOf"]
    assert document["info"]["title"] == "house_prices"
    assert [way["maxItems"] for way in rows] == [7, 7]


def test_live_and_ready(client_of: ClientOf) -> None:
    """A loaded model is live and ready."""
    client = client_of()
    assert client.get("/healthz").json == {"status": "live"}
    assert client.get("/readyz").json == {"status": "ready"}


def test_metrics_come_in_the_format_that_is_asked_for(client_of: ClientOf) -> None:
    """Prometheus asks for OpenMetrics, curl gets the plain text format."""
    client = client_of()
    asked = client.get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    assert asked.content_type.startswith("application/openmetrics-text")
    assert asked.text.endswith("# EOF\n")
    assert client.get("/metrics").content_type.startswith("text/plain")


def test_whatever_watches_sees_each_prediction_and_no_refusal(model_of: Callable[[str], Model]) -> None:
    """Drift and feedback are about predictions that were answered: with their id, their cells and their outputs."""
    seen: list[Any] = []
    app = create_app(
        Settings(), model_of("house_prices"), Metrics(1), Lifecycle(), [lambda *prediction: seen.append(prediction)]
    )
    client = app.test_client()
    answer = client.post("/predict", json={"X": [[1500, 3]]}, headers={"X-Request-ID": "one"})
    assert client.post("/predict", json={"X": [[1500]]}).status_code == 422
    [(identifier, columns, answers)] = seen
    assert (identifier, columns.tolist()) == ("one", [[1500.0, 3.0]])
    assert answers["predict"].tolist() == answer.json["y_pred"]
