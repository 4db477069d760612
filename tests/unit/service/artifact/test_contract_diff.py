"""Which contracts may follow which: what breaks clients is named, what does not passes."""

import copy
from collections.abc import Callable
from typing import Any

import pytest

from service.artifact.contract_diff import differences
from service.inference.model import Model

LIVE: dict[str, Any] = {
    "features": [
        {"name": "area", "kind": "number", "dtype": "float64", "minimum": 1.0, "maximum": 9.0},
        {"name": "age", "kind": "number", "dtype": "float64", "missing": True},
        {"name": "island", "kind": "string", "dtype": "str", "categories": ["A", "B"], "closed": True},
        {"name": "colour", "kind": "string", "dtype": "str", "categories": ["red"]},
    ],
    "container": "frame",
    "outputs": [
        {"name": "predict", "kind": "integer"},
        {"name": "predict_proba", "kind": "number", "columns": ["0", "1"]},
    ],
    "classes": [0, 1],
}
AREA, AGE, ISLAND, COLOUR = LIVE["features"]
PREDICT, PROBA = LIVE["outputs"]


def with_feature(old: dict[str, Any], **changed: Any) -> dict[str, Any]:
    """Return the live contract with one feature changed."""
    features = [{**feature, **changed} if feature is old else feature for feature in LIVE["features"]]
    return {**LIVE, "features": features}


BREAKING = {
    "a feature less": ({**LIVE, "features": [AREA, ISLAND, COLOUR]}, ["feature age is missing"]),
    "a feature more": (
        {**LIVE, "features": [*LIVE["features"], {**AREA, "name": "rooms"}]},
        ["feature rooms is new"],
    ),
    "another name": (with_feature(AGE, name="years"), ["feature age is missing", "feature years is new"]),
    "an odd name": (with_feature(AGE, name="in\n years"), ["feature age is missing", 'feature "in\\n years" is new']),
    "another order": ({**LIVE, "features": [AGE, AREA, ISLAND, COLOUR]}, ["the features have another order"]),
    "another kind": (with_feature(AREA, kind="string"), ["feature area is a string instead of a number"]),
    "no null": (with_feature(AGE, missing=False), ["feature age no longer takes null"]),
    "a category less": (with_feature(ISLAND, categories=["B", "C"]), ["feature island no longer takes A"]),
    "closed": (with_feature(COLOUR, closed=True), ["feature colour takes only the categories it knows"]),
    "categories where there were none": (
        with_feature(AREA, closed=True, categories=[1.0]),
        ["feature area takes only the categories it knows"],
    ),
    "an output less": ({**LIVE, "outputs": [PREDICT]}, ["output predict_proba is missing"]),
    "the default output gone": ({**LIVE, "outputs": [PROBA]}, ["output predict is missing"]),
    "another default output": (
        {**LIVE, "outputs": [PROBA, PREDICT]},
        ["the default output is predict_proba instead of predict"],
    ),
    "another kind of output": (
        {**LIVE, "outputs": [{**PREDICT, "kind": "number"}, PROBA]},
        ["output predict is of kind number instead of integer"],
    ),
    "other columns": (
        {**LIVE, "outputs": [PREDICT, {**PROBA, "columns": ["1", "0"]}]},
        ["output predict_proba has other columns"],
    ),
    "another order of classes": ({**LIVE, "classes": [1, 0]}, ["the classes, or their order, are others"]),
    "a class more": ({**LIVE, "classes": [0, 1, 2]}, ["the classes, or their order, are others"]),
    "classes of another type": ({**LIVE, "classes": [False, True]}, ["the classes, or their order, are others"]),
    "no classes": ({**LIVE, "classes": None}, ["the classes, or their order, are others"]),
    "several at once": (
        {**LIVE, "features": [ISLAND, {**AREA, "kind": "boolean"}, COLOUR], "outputs": [PREDICT]},
        [
            "feature age is missing",
            "the features have another order",
            "feature area is a boolean instead of a number",
            "output predict_proba is missing",
        ],
    ),
}

COMPATIBLE = {
    "the same": LIVE,
    "null more": with_feature(AREA, missing=True),
    "a category more, in another order": with_feature(ISLAND, categories=["C", "B", "A"]),
    "open": with_feature(ISLAND, closed=False),
    "no categories": with_feature(ISLAND, closed=False, categories=None),
    "other known categories of an open feature": with_feature(COLOUR, categories=["blue"]),
    "another range of training": with_feature(AREA, minimum=5.0, maximum=6.0),
    "another greatest magnitude": with_feature(AREA, magnitude=3.4e38),
    "another dtype, unit and description": with_feature(AREA, dtype="str", unit="feet", description="How big."),
    "another container": {**LIVE, "container": "float64"},
    "an output more": {**LIVE, "outputs": [PREDICT, PROBA, {"name": "decision_function", "kind": "number"}]},
    "outputs in another order after the first": {**LIVE, "outputs": [PREDICT, {"name": "x", "kind": "number"}, PROBA]},
    "a member of later versions": {**LIVE, "colour": "blue", "features": [{**f, "x": 1} for f in LIVE["features"]]},
}


@pytest.mark.parametrize("case", BREAKING)
def test_what_breaks_clients_is_named(case: str) -> None:
    """Each difference is a sentence of its own, and nothing else is said."""
    new, sentences = BREAKING[case]
    assert differences(LIVE, new) == sentences


@pytest.mark.parametrize("case", COMPATIBLE)
def test_what_clients_do_not_notice_passes(case: str) -> None:
    """A contract that takes and answers all that the live one did may follow it."""
    before = copy.deepcopy(COMPATIBLE[case])
    assert differences(LIVE, COMPATIBLE[case]) == []
    assert COMPATIBLE[case] == before


def test_many_lost_categories_are_counted() -> None:
    """A refusal is one sentence, however many there are."""
    live = with_feature(ISLAND, categories=["A", "B", "C d", True, 5, "F"])
    new = with_feature(ISLAND, categories=["F"])
    assert differences(live, new) == ['feature island no longer takes A, B, "C d" and 2 more']


def without_list(contract: dict[str, Any]) -> dict[str, Any]:
    """Return a contract whose island is closed and lists nothing."""
    island = {name: value for name, value in ISLAND.items() if name != "categories"}
    return {**contract, "features": [island if f["name"] == "island" else f for f in contract["features"]]}


def test_lost_values_that_may_not_be_listed_are_counted_only() -> None:
    """The new artifact knows them, and the log of a refusal does not show them."""
    new = without_list(LIVE)
    assert differences(LIVE, new, {"island": ["C", "A", "B"]}) == []
    assert differences(LIVE, new, {"island": ["B"]}) == ["feature island no longer takes 1 of the values it took"]


def test_what_the_live_contract_does_not_list_is_not_compared() -> None:
    """Nobody but the live release knows it."""
    assert differences(without_list(LIVE), LIVE) == []
    assert differences(without_list(LIVE), without_list(LIVE), {"island": ["A"]}) == []
    closed = without_list(with_feature(COLOUR, closed=True))
    assert differences(without_list(LIVE), closed, {"island": ["A"]}) == [
        "feature colour takes only the categories it knows"
    ]


@pytest.mark.parametrize("name", ["house_prices", "breast_cancer", "digits", "penguins"])
def test_a_shipped_model_may_follow_itself_and_no_other(name: str, model_of: Callable[[str], Model]) -> None:
    """Real contracts, as the manifests hold them."""
    contracts = {
        other: model_of(other).artifact.manifest["contract"]
        for other in ("house_prices", "breast_cancer", "digits", "penguins")
    }
    assert [other for other in contracts if not differences(contracts[name], contracts[other])] == [name]


@pytest.mark.parametrize("broken", [None, [], {}, {"features": 1}, {**LIVE, "outputs": []}, {**LIVE, "features": [1]}])
def test_what_is_no_contract_is_an_error(broken: Any) -> None:
    """Another service may listen there."""
    with pytest.raises((KeyError, TypeError, AttributeError, IndexError)):
        differences(broken, LIVE)
