"""Bins: numbers as numpy.histogram has them, values by frequency, and a place for all that has none."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.artifact import reference
from service.artifact.reference import MAX_BINS, MAX_TEXT, CategoryBins, Ranges, Reference, distribution_from_dict
from service.observability.histogram import CategoryPlaces, NumberCounter

NUMBERS = {"edges": [1.0, 2.0, 4.0], "counts": [3, 5], "missing": 2}
WORDS = {"values": ["red", "green"], "counts": [6, 3], "other": 0, "missing": 1}
N_SAMPLES = 10


def bins_of(
    distribution: Mapping[str, Any], n_samples: int, known: Iterable[Any] | None, numbers: bool
) -> Ranges | CategoryBins:
    """Return the bins of a distribution, given as it stands in reference.json."""
    return reference.bins_of(distribution_from_dict(distribution), n_samples, known, numbers)


def test_what_is_written_is_read():
    """Writer and reader agree on each kind of distribution, on empty ones, and on the types of values."""
    content = {
        "n_samples": N_SAMPLES,
        "features": {
            "a": NUMBERS,
            "b": {"values": ["red", 1.0, True], "counts": [6, 2, 1], "other": 0, "missing": 1},
            "c": {"edges": [], "counts": [0], "missing": 10},
        },
        "predictions": {"predict": WORDS},
        "importance": {"a": 0.5},
    }
    read = Reference.from_dict(content)
    assert repr(read.to_dict()) == repr(content)
    assert Reference.from_dict(read.to_dict()) == read
    without_importance = {name: value for name, value in content.items() if name != "importance"}
    assert Reference.from_dict(without_importance).importance == {}


def counted(bins: Ranges | CategoryBins, values: list[Any]) -> dict[str, int]:
    """Return how many of these values are in each bin, by its text; bins with none are left out."""
    if isinstance(bins, Ranges):
        counts = NumberCounter([(bins, 0)]).counts(np.array([values], dtype=np.float64), len(bins.bins)).tolist()
    else:
        places = CategoryPlaces(bins, 0)
        found = Counter(places[value] for value in values)
        counts = [found[place] for place in range(len(bins.bins))]
    return {each.text: count for each, count in zip(bins.bins, counts, strict=True) if count}


def shares(bins: Ranges | CategoryBins) -> list[tuple[str, str, float]]:
    """Return texts, kinds and ratios."""
    return [(each.text, each.kind, each.ratio) for each in bins.bins]


def test_ranges_are_those_of_the_reference_with_one_on_each_side_and_one_for_missing():
    """Two digits to sort by, then the range; what training cannot have had has the share 0."""
    assert shares(bins_of(NUMBERS, N_SAMPLES, None, True)) == [
        ("00: below 1", "outside", 0.0),
        ("01: 1 to 2", "inside", 0.3),
        ("02: 2 to 4", "inside", 0.5),
        ("03: above 4", "outside", 0.0),
        ("missing", "missing", 0.2),
    ]


def test_a_number_on_an_edge_is_in_the_bin_that_begins_there_and_the_greatest_in_the_last():
    """As numpy.histogram counted the training rows."""
    bins = bins_of(NUMBERS, N_SAMPLES, None, True)
    after = np.nextafter(4.0, 5.0)
    assert counted(bins, [0.9, 1.0, 2.0, 4.0, after, np.nan]) == {
        "00: below 1": 1,
        "01: 1 to 2": 1,
        "02: 2 to 4": 2,
        "03: above 4": 1,
        "missing": 1,
    }


@given(
    edges=st.lists(st.floats(allow_nan=False, allow_infinity=False, width=32), min_size=2, max_size=11, unique=True),
    values=st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=50),
)
def test_numbers_are_counted_as_numpy_does(edges: list[float], values: list[float]):
    """The same function counted them at the bake, so that what is compared is the same thing."""
    edges = sorted(edges)
    values = values + edges
    bins = bins_of({"edges": edges, "counts": [1] * (len(edges) - 1), "missing": 0}, 1, None, True)
    assert isinstance(bins, Ranges)
    counts = NumberCounter([(bins, 0)]).counts(np.array([values]), len(bins.bins)).tolist()
    assert counts[1:-2] == np.histogram(values, edges)[0].tolist()
    assert counts[0] == sum(value < edges[0] for value in values)
    assert counts[-2] == sum(value > edges[-1] for value in values)
    assert sum(counts) == len(values)


def test_a_constant_feature_has_one_bin_of_one_number():
    """All else is outside."""
    bins = bins_of({"edges": [2.0], "counts": [10], "missing": 0}, N_SAMPLES, None, True)
    assert counted(bins, [1.0, 2.0, 2.0, np.nextafter(2.0, 3.0), np.nan]) == {
        "00: below 2": 1,
        "01: 2": 2,
        "02: above 2": 1,
        "missing": 1,
    }


def test_a_feature_that_training_never_saw_takes_any_number_as_outside():
    """There is no range to be in."""
    bins = bins_of({"edges": [], "counts": [0], "missing": 10}, N_SAMPLES, None, True)
    assert shares(bins) == [("00: any number", "outside", 0.0), ("missing", "missing", 1.0)]
    assert counted(bins, [-1.0, 1.0, np.nan]) == {"00: any number": 2, "missing": 1}


def test_columns_of_any_number_of_bins_are_counted_together():
    """Each by its own bounds, its counts beginning where it was told."""
    constant = bins_of({"edges": [2.0], "counts": [10], "missing": 0}, N_SAMPLES, None, True)
    other = bins_of(NUMBERS, N_SAMPLES, None, True)
    assert isinstance(constant, Ranges)
    assert isinstance(other, Ranges)
    numbers = NumberCounter([(constant, 1), (other, 6)])
    counts = numbers.counts(np.array([[2.0, np.nan, 3.0], [3.0, np.nan, 0.0]]), 12)
    assert counts.tolist() == [0, *(0, 1, 1, 1), 0, *(1, 0, 1, 0, 1), 0]


def test_a_category_is_known_to_training_or_to_the_contract_or_unknown():
    """An encoder may know more than the training rows had."""
    bins = bins_of(WORDS, N_SAMPLES, ("red", "green", "blue"), False)
    assert shares(bins) == [
        ("red", "inside", 0.6),
        ("green", "inside", 0.3),
        ("missing", "missing", 0.1),
        ("unknown", "unknown", 0.0),
        ("other", "other", 0.0),
    ]
    assert counted(bins, ["red", "blue", "mauve", "missing", None, "red"]) == {
        "red": 2,
        "other": 1,
        "unknown": 2,
        "missing": 1,
    }


def test_a_category_of_the_contract_without_rows_is_another():
    """What pandas lists with a count of 0 was not seen."""
    bins = bins_of({**WORDS, "counts": [9, 0]}, N_SAMPLES, ("red", "green"), False)
    assert counted(bins, ["green"]) == {"other": 1}


def test_rare_categories_are_counted_together():
    """A feature has no more than 20 bins, and they add up to all training rows."""
    words = [f"word {number}" for number in range(30)]
    reference = {"values": words, "counts": [2] * 30, "other": 4, "missing": 0}
    bins = bins_of(reference, 64, tuple(words), False)
    assert len(bins.bins) == MAX_BINS
    assert sum(each.ratio for each in bins.bins) == pytest.approx(1)
    expected = {**dict.fromkeys(words[:17], 1), "other": 13, "unknown": 1}
    assert counted(bins, [*words, "new"]) == expected
    assert counted(bins_of({**reference, "other": 0}, 60, None, False), [*words, "new"]) == expected


def test_free_text_that_is_not_listed_is_another_and_not_unknown():
    """Of very many values the reference lists the most frequent ones only, and the contract none."""
    assert counted(bins_of({**WORDS, "other": 5}, N_SAMPLES, None, False), ["mauve"]) == {"other": 1}
    assert counted(bins_of(WORDS, N_SAMPLES, None, False), ["mauve"]) == {"unknown": 1}


@pytest.mark.parametrize(("known", "numbers"), [(("Ann", "Bob"), False), ((1.0, 2.0), True)])
def test_values_that_are_not_listed_are_others_or_unknown(known: tuple[Any, ...], numbers: bool):
    """The reference has none of them; what the model knows still tells the new from the known."""
    bins = bins_of({"values": [], "counts": [], "other": 9, "missing": 1}, N_SAMPLES, known, numbers)
    assert shares(bins) == [("missing", "missing", 0.1), ("unknown", "unknown", 0.0), ("other", "other", 0.9)]
    values = [*known, np.nan if numbers else None, 1.5 if numbers else "new"]
    assert counted(bins, values) == {"other": 2, "missing": 1, "unknown": 1}


def test_categories_that_are_numbers_are_counted_by_value():
    """A number between two of them is neither."""
    reference = {"values": [3.0, 1.0], "counts": [6, 3], "other": 0, "missing": 1}
    bins = bins_of(reference, N_SAMPLES, (1, 3, 4.5), True)
    values = [1.0, 3.0, 3.0, 2.0, np.nextafter(3.0, 4.0), 4.5, -9.0, 9.0, np.nan]
    assert counted(bins, values) == {"3": 2, "1": 1, "other": 1, "unknown": 4, "missing": 1}


def test_booleans_and_labels_are_named_as_json_has_them():
    """They are labels of series, which people choose from."""
    assert [
        bins_of({"values": [value], "counts": [1], "other": 0, "missing": 0}, 1, None, False).bins[0].text
        for value in (True, False, 2, 2.0, 0.1, 1e300, "yes")
    ] == ["true", "false", "2", "2", "0.1", "1e+300", "yes"]


def test_long_text_is_cut_and_stays_apart():
    """Two categories that begin alike must not become one series."""
    words = ["x" * 200 + "a", "x" * 200 + "b"]
    bins = bins_of({"values": words, "counts": [1, 1], "other": 0, "missing": 0}, 2, None, False)
    texts = [each.text for each in bins.bins[:2]]
    assert len(set(texts)) == 2
    assert all(len(text) <= MAX_TEXT + 10 for text in texts)
