"""What an artifact says beside its model adds up, names its sources, and is what scanners read."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from service.artifact.contract import Contract, Feature, Output
from service.artifact.manifest import read_manifest
from tests.conftest import MODELS, ArtifactOf
from training.contract.categories import MAX_CATEGORIES
from training.documents.model_card import model_card
from training.documents.sbom import bill_of_materials
from training.provenance import data_digest
from training.reference import N_BINS, measure_reference

FRAME = pd.DataFrame({"a": [1.0, 2.0], "b": ["x", "y"]})


def bins_of(values: Any, **said: Any) -> dict[str, Any]:
    """Return the reference bins of one column of floats or text."""
    frame = pd.DataFrame({"v": values})
    kind = "number" if frame["v"].dtype.kind == "f" else "string"
    contract = Contract((Feature("v", kind, "", **said),), "frame", (Output("transform", "number"),))
    return measure_reference(contract, frame, {}).features["v"].to_dict()


@pytest.mark.parametrize("name", MODELS)
def test_reference_counts_add_up(artifact_of: ArtifactOf, name: str):
    """Each row of the training data is counted once for each feature, and for the predictions."""
    reference = json.loads((artifact_of(name) / "reference.json").read_bytes())
    manifest = read_manifest(artifact_of(name))
    assert reference["n_samples"] == manifest["data"]["rows"]
    assert list(reference["features"]) == sorted(feature["name"] for feature in manifest["contract"]["features"])
    for bins in [*reference["features"].values(), reference["predictions"]["predict"]]:
        assert sum(bins["counts"]) + bins.get("other", 0) + bins["missing"] == reference["n_samples"]


def test_numbers_are_counted_between_deciles():
    """The edges are the data's own, so that each bin holds about as many."""
    bins = bins_of(np.arange(100.0))
    assert (len(bins["edges"]), bins["edges"][0], bins["edges"][-1]) == (N_BINS + 1, 0, 99)
    assert bins["counts"] == [10] * N_BINS


@pytest.mark.parametrize(
    ("values", "bins"),
    [
        ([2.0, 2.0, np.nan], {"edges": [2.0], "counts": [2], "missing": 1}),
        ([np.nan, np.nan], {"edges": [], "counts": [0], "missing": 2}),
        (["x", "y", "y", None], {"values": [], "counts": [], "other": 3, "missing": 1}),
    ],
)
def test_unusual_columns_are_counted_too(values: Any, bins: dict[str, Any]):
    """One value, none at all, and text with a gap that is not to be listed."""
    assert bins_of(values) == bins


def test_categories_of_numbers_are_counted_by_value():
    """Bins between categories would mean nothing."""
    assert bins_of([1.0, 2.0, 2.0], categories=(1, 2))["values"] == [2.0, 1.0]


def test_categories_that_may_not_be_listed_are_counted_together():
    """Whether the encoder knows words or numbers, and however few there are of them."""
    counted = {"values": [], "counts": [], "other": 40, "missing": 1}
    assert bins_of([1.0, 2.0] * 20 + [np.nan], unlisted=(1, 2)) == counted
    assert bins_of(["Ann", "Bob"] * 20 + [None], unlisted=("Ann", "Bob")) == counted


@pytest.mark.parametrize(
    ("values", "by_value"),
    [
        ([0.0, 1.0] * 10, True),  # a flag
        ([5.0, np.nan] * 10, True),
        ([*range(10)] * 10, True),  # a count of 0 to 9
        ([*range(11)] * 11, False),
        ([*range(10)] * 9, False),  # any ten numbers would look so
        ([7310111.0] * 9 + [0.0] * 91, False),  # a number that few rows have may be an account's
    ],
)
def test_numbers_of_few_values_are_counted_by_value(values: list[float], by_value: bool):
    """A bin between deciles would hold several of them, and a change from one to the other would not show."""
    bins = bins_of([float(value) for value in values])
    assert ("values" in bins) == by_value
    if by_value:
        assert sorted(bins["values"]) == sorted(set(values) - {np.nan})
    assert sum(bins["counts"]) + bins["missing"] == len(values)


def test_rare_labels_are_counted_together():
    """The file stays small however many there are; equal counts are ordered by value."""
    labels = np.array([f"label {number:02}" for number in range(MAX_CATEGORIES + 7)])
    contract = Contract((), "frame", (), classes=tuple(labels.tolist()))
    frame = pd.DataFrame(index=range(len(labels)))
    bins = measure_reference(contract, frame, {"predict": labels}).to_dict()["predictions"]["predict"]
    assert bins["values"] == labels[:MAX_CATEGORIES].tolist()
    assert bins["other"] == 7


@pytest.mark.parametrize(
    ("predictions", "contract", "members"),
    [
        (np.array([0.5, 1.5]), {}, {"edges", "counts", "missing"}),
        (np.array([1.0, 2.0]), {"classes": (1.0, 2.0)}, {"values", "counts", "other", "missing"}),
        (np.array([True, False]), {}, {"values", "counts", "other", "missing"}),
    ],
)
def test_predictions_are_counted_as_what_they_are(predictions: Any, contract: Any, members: set[str]):
    """Labels by value, even those that are floats; numbers in bins."""
    made = Contract((), "frame", (), **contract)
    reference = measure_reference(made, pd.DataFrame(index=range(2)), {"predict": predictions})
    bins = reference.predictions["predict"].to_dict()
    assert set(bins) == members
    assert json.dumps(bins)


def test_several_predictions_a_row_are_not_counted():
    """There is no one distribution of them."""
    answers = {"predict": np.zeros((2, 2))}
    assert measure_reference(Contract((), "frame", ()), pd.DataFrame(index=range(2)), answers).predictions == {}


@pytest.mark.parametrize(
    ("frame", "y"),
    [
        (FRAME, [1, 1]),
        (FRAME, None),
        (FRAME.rename(columns={"a": "c"}), [1, 0]),
        (FRAME[["b", "a"]], [1, 0]),
        (FRAME[::-1], [1, 0]),
        (FRAME.astype({"b": "category"}), [1, 0]),
        (FRAME.assign(a=[1.0, np.nan]), [1, 0]),
    ],
)
def test_the_data_digest_changes_with_the_data(frame: pd.DataFrame, y: Any):
    """With every value, name, type and the order of both."""
    assert data_digest(frame, y) != data_digest(FRAME, [1, 0])


def test_the_data_digest_does_not_depend_on_the_index():
    """Row labels are no data."""
    assert data_digest(FRAME.set_index(pd.Index([7, 8])), [1, 0]) == data_digest(FRAME, [1, 0])


@pytest.mark.parametrize("name", MODELS)
def test_the_card_names_source_license_and_scores(artifact_of: ArtifactOf, name: str):
    """A person finds what to know before trusting the model."""
    manifest = read_manifest(artifact_of(name))
    card = (artifact_of(name) / "MODEL_CARD.md").read_text()
    assert card.startswith(f"# {name}\n")
    assert manifest["data"]["source"] in card
    assert f"License of the data: {manifest['data']['licence']}\n" in card
    for score, least in manifest["scores"]["bar"].items():
        assert f"| {score} | {manifest['scores']['held_out'][score]:.4g} |" in card
        assert f"| {least} |" in card
    assert all(f"\n| {feature['name']} | " in card for feature in manifest["contract"]["features"])


@pytest.fixture
def manifest(house_prices: Path) -> dict[str, Any]:
    """Return the default model's manifest, to be changed."""
    return read_manifest(house_prices)


def test_the_card_says_what_was_not_said(manifest: dict[str, Any]):
    """Nothing is left empty: a reader would not know whether it was forgotten."""
    manifest["data"].update(source="", licence="")
    manifest["scores"] = {"held_out": {}, "cross_validation": {}, "bar": {}, "refitted": False}
    card = model_card({**manifest, "description": "", "source_commit": ""})
    for sentence in (
        "No description was given.",
        "The source was not stated.",
        "License of the data: not stated",
        "Source commit: unknown",
        "None: there was no target to score with.",
        "The estimator was fitted elsewhere; it may have seen the rows that it was scored on.",
    ):
        assert sentence in card


@pytest.mark.parametrize("name", MODELS)
def test_the_bill_of_materials_is_cyclone_dx(artifact_of: ArtifactOf, name: str):
    """It holds against the schema of CycloneDX 1.6, with nothing that the schema does not know."""
    bill = (artifact_of(name) / "bom.cdx.json").read_text()
    assert json.loads(bill)["specVersion"] == "1.6"
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(bill) is None


def test_the_bill_of_materials_says_when_only_if_it_was_said(manifest: dict[str, Any]):
    """SOURCE_DATE_EPOCH is the only clock; with it the bill still holds against the schema."""
    assert "timestamp" not in bill_of_materials({**manifest, "created": ""}, "0" * 64)["metadata"]
    dated = bill_of_materials({**manifest, "created": "2026-01-01T00:00:00Z"}, "0" * 64)
    assert dated["metadata"]["timestamp"] == "2026-01-01T00:00:00Z"
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(dated)) is None


def test_the_bill_of_materials_lists_what_is_served(manifest: dict[str, Any]):
    """The model with its hash and scores, and each library with the address scanners look it up by."""
    bill = bill_of_materials({**manifest, "version": ""}, "a" * 64)
    model = bill["metadata"]["component"]
    assert (model["name"], model["version"], model["hashes"][0]["content"]) == ("house_prices", "a" * 12, "a" * 64)
    metrics = model["modelCard"]["quantitativeAnalysis"]["performanceMetrics"]
    assert [metric["type"] for metric in metrics] == list(manifest["scores"]["held_out"])
    libraries = {name: version for name, version in manifest["libraries"].items() if name != "python"}
    assert [part["purl"] for part in bill["components"]] == [f"pkg:pypi/{n}@{v}" for n, v in libraries.items()]
