"""The OpenAPI document says what the service does: of every shipped model, and of columns that none of them has."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from service.api.openapi import openapi_document
from service.artifact.contract import Contract, Feature, Output
from service.inference.model import Model
from tests.support.corpus import CASES, Case

MODELS = ("house_prices", "breast_cancer", "digits", "penguins")
MAX_ROWS = 100
# What a schema cannot say: repeated names, digits that get lost, answers that overflow, Python's reading of 1e999.
BEYOND_A_SCHEMA = {"inexact_integer", "no_finite_answer", "not_text", "out_of_range"}
REFUSED = [case for case in CASES if case.status in (413, 422) and case.code not in BEYOND_A_SCHEMA | {"too_large"}]
ACCEPTED = [case for case in CASES if case.status == 200 and "Content-Encoding" not in case.headers]

# The service ignores this for the whole process; pytest's own filters come after that.


@pytest.fixture
def document_of(model_of: Callable[[str], Model]) -> Callable[[str], dict[str, Any]]:
    """Return a function that gives the document of a shipped model."""
    return lambda name: openapi_document(model_of(name).artifact, MAX_ROWS, takes_feedback=True)


def accepts(document: dict[str, Any], schema: str, instance: Any) -> bool:
    """Tell whether one of the document's schemas fits."""
    return Draft202012Validator(document["components"]["schemas"][schema]).is_valid(instance)


@pytest.mark.parametrize("model", MODELS)
def test_the_document_is_valid(model: str, document_of: Callable[[str], dict[str, Any]]) -> None:
    """It is OpenAPI 3.1, and its schemas are JSON Schema."""
    document = document_of(model)
    assert list(OpenAPIV31SpecValidator(json.loads(json.dumps(document))).iter_errors()) == []
    for schema in document["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)


@pytest.mark.parametrize("model", MODELS)
def test_golden_requests_and_their_answers_fit(
    model: str, document_of: Callable[[str], dict[str, Any]], model_of: Callable[[str], Model]
) -> None:
    """What was recorded at bake time, and what is answered now, is what the document promises."""
    document = document_of(model)
    loaded = model_of(model)
    for exchange in loaded.artifact.golden():
        answer, _ = loaded.answer(json.dumps(exchange["request"]).encode(), MAX_ROWS)
        assert accepts(document, "Request", exchange["request"])
        assert accepts(document, "Answer", json.loads(answer))


@pytest.mark.parametrize("model", MODELS)
def test_an_answer_of_another_shape_does_not_fit(
    model: str, document_of: Callable[[str], dict[str, Any]], model_of: Callable[[str], Model]
) -> None:
    """The schema of answers would notice a changed type, a lost column or a missing model."""
    document = document_of(model)
    loaded = model_of(model)
    answer = json.loads(loaded.answer(json.dumps(loaded.artifact.golden()[1]["request"]).encode(), MAX_ROWS)[0])
    damaged = [
        {**answer, "y_pred": [None]},
        {**answer, "y_pred": [[1]]},
        {**answer, "y_pred": 1},
        {**answer, "model": {}},
    ]
    if "predict_proba" in answer:
        damaged += [{**answer, "predict_proba": [[0.5]]}, {**answer, "classes": answer["classes"][::-1]}]
    assert not any(accepts(document, "Answer", item) for item in damaged)


@pytest.mark.parametrize("model", MODELS)
def test_the_examples_are_real(model: str, document_of: Callable[[str], dict[str, Any]]) -> None:
    """The example request and the example answer belong together and fit their schemas."""
    document = document_of(model)
    post = document["paths"]["/predict"]["post"]
    request = post["requestBody"]["content"]["application/json"]["example"]
    answer = post["responses"]["200"]["content"]["application/json"]["example"]
    assert accepts(document, "Request", request)
    assert accepts(document, "Answer", answer)
    assert len(request["X"]) == len(answer["y_pred"])
    assert answer["model"]["name"] == document["info"]["title"] == model


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case.name)
def test_what_breaks_the_contract_does_not_fit(case: Case, document_of: Callable[[str], dict[str, Any]]) -> None:
    """A client that validates first learns of its mistake without a request."""
    assert not accepts(document_of(case.model), "Request", json.loads(case.body))


@pytest.mark.parametrize("case", ACCEPTED, ids=lambda case: case.name)
def test_what_is_accepted_fits(case: Case, document_of: Callable[[str], dict[str, Any]]) -> None:
    """A client that validates first is not stopped from sending what would be answered."""
    body = json.loads(case.body)
    if body.get("outputs", ...) is None:
        del body["outputs"]  # null is taken for nothing, which the document need not advertise
    assert accepts(document_of(case.model), "Request", body)


@pytest.mark.parametrize("case", [case for case in CASES if case.status == 422], ids=lambda case: case.name)
def test_refusals_fit_the_schema_of_problems(
    case: Case, client_of: Callable[..., Any], document_of: Callable[[str], dict[str, Any]]
) -> None:
    """Every refusal is the document that clients were promised, under a status they were told of."""
    document = document_of(case.model)
    problem = client_of(case.model).post("/predict", data=case.body).json
    assert accepts(document, "Problem", problem)
    assert not accepts(document, "Problem", {**problem, "errors": [{"pointer": "/X"}]})
    assert str(problem["status"]) in document["paths"]["/predict"]["post"]["responses"]


def test_every_route_is_described(client_of: Callable[..., Any], document_of: Callable[[str], dict[str, Any]]) -> None:
    """The document and the application have the same paths and methods."""
    described = {
        (path, method.upper()) for path, item in document_of("house_prices")["paths"].items() for method in item
    }
    served = {
        (rule.rule, method)
        for rule in client_of().application.url_map.iter_rules()
        for method in rule.methods - {"HEAD", "OPTIONS"}
    }
    assert described == served


# ---------------------------------------------------------------------------------------------- single columns


def cell_schema(feature: Feature, model: Model) -> dict[str, Any]:
    """Return the schema of one column's cells, in a model that has only this one."""
    contract = Contract((feature,), "frame", (Output("predict", "number"),))
    document = openapi_document(replace(model.artifact, contract=contract), MAX_ROWS, takes_feedback=False)
    by_name = document["components"]["schemas"]["Request"]["properties"]["X"]["oneOf"][1]
    schema: dict[str, Any] = by_name["items"]["properties"][feature.name]
    return schema


@pytest.mark.parametrize(
    ("feature", "fitting", "unfitting"),
    [
        (Feature("a", "number", "float64"), [1, 1.5, -1e300], [True, "1", None]),
        (Feature("a", "number", "float64", missing=True), [1, None], [True, "1"]),
        (Feature("a", "number", "float64", minimum=0.0, maximum=1.0), [0.5, 99, -99], []),
        (Feature("a", "number", "float64", magnitude=1e38), [1e38, -1e38], [1.1e38, -1.1e38]),
        (Feature("a", "boolean", "bool"), [True, False], [0, 1, "true", None]),
        (Feature("a", "string", "str", categories=("x", "y")), ["x", "z", ""], [1, None]),
        (Feature("a", "string", "str", categories=("x", "y"), closed=True), ["x", "y"], ["z", None]),
        (Feature("a", "string", "str", True, ("x", "y"), closed=True), ["x", None], ["z"]),
        (Feature("a", "number", "category", categories=(1.0, 2.0), closed=True), [1, 2.0], [3, "1"]),
        (Feature("a", "string", "str", closed=True, unlisted=("x", "y")), ["x", "z"], [1, None]),
    ],
    ids=lambda value: repr(value)[:60] if isinstance(value, Feature) else "",
)
def test_a_cell_fits_as_the_contract_says(
    feature: Feature, fitting: list[Any], unfitting: list[Any], model_of: Callable[[str], Model]
) -> None:
    """Types, null, closed categories and hard bounds are enforced; what was seen in training is not."""
    validator = Draft202012Validator(cell_schema(feature, model_of("house_prices")))
    assert [validator.is_valid(cell) for cell in fitting] == [True] * len(fitting)
    assert [validator.is_valid(cell) for cell in unfitting] == [False] * len(unfitting)


@pytest.mark.parametrize(
    ("feature", "words"),
    [
        (Feature("a", "number", "float64", unit="years", description="Its age."), "Its age. Unit: years."),
        (Feature("a", "number", "float64", minimum=0.0, maximum=189.0), "From 0 to 189 in training."),
        (Feature("a", "string", "str", categories=("x", "y")), "Known: x, y."),
        (
            Feature("a", "string", "str", closed=True, unlisted=("x", "y")),
            "Only values from training, which are not listed here.",
        ),
    ],
    ids=["unit", "range", "categories", "unlisted"],
)
def test_what_is_not_enforced_is_told(feature: Feature, words: str, model_of: Callable[[str], Model]) -> None:
    """People read what the column means and what was seen in training."""
    assert cell_schema(feature, model_of("house_prices"))["description"] == words


def test_a_column_of_which_nothing_is_known_has_no_description(model_of: Callable[[str], Model]) -> None:
    """An empty one would only be noise."""
    assert cell_schema(Feature("a", "number", "float64"), model_of("house_prices")) == {"title": "a", "type": "number"}
