"""The contract and its form in the manifest."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from service.contract import Contract, Feature, Output, answer_member

FULL = Contract(
    features=(
        Feature("plain", "number", "float64"),
        Feature(
            "grade",
            "string",
            "category",
            missing=True,
            categories=("A", "B"),
            closed=True,
            unit="letters",
            description="How good it is.",
        ),
        Feature("size", "number", "float64", minimum=-1.5, maximum=2.5, magnitude=3.4e38),
        Feature("new", "boolean", "bool", categories=(False, True)),
    ),
    container="frame",
    outputs=(Output("predict", "string"), Output("predict_proba", "number", ("low", "high"))),
    classes=("low", "high"),
)


def test_a_contract_survives_the_manifest() -> None:
    """What is written as JSON is read back as the same contract, tuples and all."""
    assert Contract.from_dict(json.loads(json.dumps(FULL.to_dict()))) == FULL


@pytest.mark.parametrize("model", ["house_prices", "breast_cancer", "digits", "penguins"])
def test_the_contracts_of_shipped_models_survive_the_manifest(model: str, artifact_of: Callable[[str], Path]) -> None:
    """Reading what training wrote and writing it again changes nothing."""
    written = json.loads((artifact_of(model) / "manifest.json").read_bytes())["contract"]
    assert json.loads(json.dumps(Contract.from_dict(written).to_dict())) == written


def test_members_that_say_nothing_are_left_out() -> None:
    """The manifest of a plain column is short, so that people can read it."""
    contract = Contract((Feature("area", "number", "float64"),), "float64", (Output("predict", "number"),))
    data = contract.to_dict()
    assert data["features"] == [{"name": "area", "kind": "number", "dtype": "float64"}]
    assert data.keys() == {"features", "container", "outputs"}


def test_a_least_value_of_zero_says_something() -> None:
    """Zero is a bound like any other; only what is absent is left out."""
    contract = Contract((Feature("age", "number", "float64", minimum=0.0),), "float64", ())
    assert contract.to_dict()["features"][0]["minimum"] == 0.0


def test_names_keep_the_order_of_the_features() -> None:
    """The estimator takes columns by position, so their order is part of the contract."""
    assert FULL.names == ("plain", "grade", "size", "new")


@pytest.mark.parametrize(
    "damaged",
    [
        {"features": [], "container": "frame"},
        {"features": [], "outputs": []},
        {"features": [{"name": "area"}], "container": "frame", "outputs": []},
        {"features": [{"name": "a", "kind": "number", "dtype": "f", "shade": 1}], "container": "frame", "outputs": []},
        {"features": 1, "container": "frame", "outputs": []},
    ],
    ids=["no outputs", "no container", "half a feature", "unknown member", "no list"],
)
def test_what_something_else_wrote_is_no_contract(damaged: dict[str, object]) -> None:
    """Missing and unknown members are an error instead of a guess."""
    with pytest.raises((KeyError, TypeError)):
        Contract.from_dict(damaged)


def test_the_prediction_is_answered_as_y_pred() -> None:
    """Predict has the member scikit-learn users expect, every other output its own name."""
    assert [answer_member(name) for name in ("predict", "predict_proba")] == ["y_pred", "predict_proba"]
