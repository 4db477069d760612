"""The contract and its form in the manifest."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from service.artifact.contract import Contract, Feature, Output, answer_member

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
        Feature("owner", "string", "object", closed=True, unlisted=("Ann", "Bob")),
        Feature("account", "number", "float64", unlisted=(7310111.0, 7310112.0)),
    ),
    container="frame",
    outputs=(Output("predict", "string"), Output("predict_proba", "number", ("low", "high"))),
    classes=("low", "high"),
)


def test_a_contract_survives_the_manifest() -> None:
    """What is written as JSON is read back as the same contract, tuples and all."""
    written, unlisted = json.loads(json.dumps([FULL.to_dict(), FULL.unlisted()]))
    assert Contract.from_dict(written, unlisted) == FULL


def test_values_that_may_not_be_listed_are_written_apart() -> None:
    """What anyone may see says that the column is closed, and no more; nor does what a log would show."""
    for text in (json.dumps(FULL.to_dict()), repr(FULL)):
        assert "Ann" not in text
        assert "7310111" not in text
    assert FULL.unlisted() == {"owner": ["Ann", "Bob"], "account": [7310111.0, 7310112.0]}
    assert FULL.to_dict()["features"][4] == {"name": "owner", "kind": "string", "dtype": "object", "closed": True}


def test_known_values_are_listed_or_not() -> None:
    """Text of which nothing is known is not listed either."""
    note = Feature("note", "string", "object")
    assert [feature.known for feature in (*FULL.features, note)] == [
        None, ("A", "B"), None, (False, True), ("Ann", "Bob"), (7310111.0, 7310112.0), None,
    ]  # fmt: skip
    assert [feature.is_unlisted for feature in (*FULL.features, note)] == [False] * 4 + [True] * 3


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
    assert FULL.names == ("plain", "grade", "size", "new", "owner", "account")


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
