"""The distributions of training in reference.json, written and read here, and the bins that drift counts rows in.

The bins are those of the distributions, and further ones for values that have none.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import chain, pairwise
from typing import Any

import numpy as np

MAX_BINS = 20  # of a feature: its series are bounded
MAX_TEXT = 80  # characters of a category in a label

INSIDE, OUTSIDE, MISSING, UNKNOWN, OTHER = "inside", "outside", "missing", "unknown", "other"


@dataclass(frozen=True)
class NumberDistribution:
    """How the numbers of a column are distributed.

    Args:
        edges: The bounds of the bins in ascending order, as numpy.histogram takes them: none where there is no number,
            and one where all numbers are the same.
        counts: How many rows are in each bin.
        missing: How many rows have no number.
    """

    edges: tuple[float, ...]
    counts: tuple[int, ...]
    missing: int

    def to_dict(self) -> dict[str, Any]:
        """Return the distribution as JSON data."""
        return {"edges": list(self.edges), "counts": list(self.counts), "missing": self.missing}


@dataclass(frozen=True)
class ValueDistribution:
    """How the values of a column are distributed.

    Args:
        values: The most frequent ones.
        counts: How many rows have each of them.
        other: How many rows have another value.
        missing: How many rows have none.
    """

    values: tuple[str | float | bool, ...]
    counts: tuple[int, ...]
    other: int
    missing: int

    def to_dict(self) -> dict[str, Any]:
        """Return the distribution as JSON data."""
        return {
            "values": list(self.values), "counts": list(self.counts), "other": self.other, "missing": self.missing,
        }  # fmt: skip


Distribution = NumberDistribution | ValueDistribution


def distribution_from_dict(data: Mapping[str, Any]) -> Distribution:
    """Return the distribution that to_dict wrote.

    Raises:
        KeyError, TypeError: If the data were written by something else.
    """
    if "edges" in data:
        return NumberDistribution(tuple(data["edges"]), tuple(data["counts"]), data["missing"])
    return ValueDistribution(tuple(data["values"]), tuple(data["counts"]), data["other"], data["missing"])


@dataclass(frozen=True)
class Reference:
    """How features and predictions are distributed in training: what drift is measured against.

    Args:
        n_samples: How many rows there are.
        features: The distribution of each feature, by its name.
        predictions: That of each output that has one, by its name.
        importance: How much the answers depend on each feature, by its name; nothing where that is not known.
    """

    n_samples: int
    features: Mapping[str, Distribution]
    predictions: Mapping[str, Distribution]
    importance: Mapping[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the content of reference.json."""
        return {
            "n_samples": self.n_samples,
            "features": {name: distribution.to_dict() for name, distribution in self.features.items()},
            "predictions": {name: distribution.to_dict() for name, distribution in self.predictions.items()},
            "importance": dict(self.importance),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Reference":
        """Return what to_dict wrote; artifacts baked before importance was measured have none.

        Raises:
            KeyError, TypeError: If the data were written by something else.
        """
        return cls(
            n_samples=data["n_samples"],
            features={name: distribution_from_dict(each) for name, each in data["features"].items()},
            predictions={name: distribution_from_dict(each) for name, each in data["predictions"].items()},
            importance=dict(data.get("importance", {})),
        )


@dataclass(frozen=True)
class Bin:
    """Where rows are counted: its text and kind, both of them labels, and the share of the training rows."""

    text: str
    kind: str
    ratio: float


@dataclass(frozen=True)
class Ranges:
    """The bins of numbers: a number is in the cell that ends at the first bound above it.

    Args:
        bins: The bins.
        bounds: In ascending order, the last one NaN: above all numbers and below no missing one.
        cells: The bin of each cell, one more than bounds.
    """

    bins: tuple[Bin, ...]
    bounds: tuple[float, ...]
    cells: tuple[int, ...]


@dataclass(frozen=True)
class CategoryBins:
    """The bins of text and booleans.

    Args:
        bins: The bins.
        of_value: The bin of each value that is known, and of None.
        of_others: The bin of all others.
    """

    bins: tuple[Bin, ...]
    of_value: Mapping[Any, int]
    of_others: int


def bins_of(
    distribution: Distribution, n_samples: int, known: Iterable[Any] | None, numbers: bool
) -> Ranges | CategoryBins:
    """Return the bins of a feature, or of the predictions.

    Args:
        distribution: That of training.
        n_samples: How many rows that was.
        known: The values that the estimator knows, where it does.
        numbers: Whether what is to be counted are float64 numbers.
    """
    if isinstance(distribution, NumberDistribution):
        return _ranges(distribution, n_samples)
    values = _values(distribution, n_samples, known)
    return _as_ranges(values) if numbers else values


def _ranges(distribution: NumberDistribution, n_samples: int) -> Ranges:
    """Return bins as numpy.histogram has them, the last one closed, one on each side, and one for what is missing."""
    edges, counts = distribution.edges, distribution.counts
    missing = Bin(MISSING, MISSING, distribution.missing / n_samples)
    if not edges:  # no row of the training had a number
        return Ranges((Bin("00: any number", OUTSIDE, 0.0), missing), (np.nan,), (0, 1))
    pairs = list(pairwise(edges))
    texts = [f"{low:.6g} to {high:.6g}" for low, high in pairs] or [f"{edges[0]:.6g}"]
    inside = [
        Bin(f"{number:02}: {text}", INSIDE, count / n_samples)
        for number, (text, count) in enumerate(zip(texts, counts, strict=True), start=1)
    ]
    below = Bin(f"00: below {edges[0]:.6g}", OUTSIDE, 0.0)
    above = Bin(f"{len(inside) + 1:02}: above {edges[-1]:.6g}", OUTSIDE, 0.0)
    bins = (below, *inside, above, missing)
    begins = [low for low, _ in pairs] or edges
    return Ranges(bins, (*begins, _next_after(edges[-1]), np.nan), tuple(range(len(bins))))


def _values(distribution: ValueDistribution, n_samples: int, known: Iterable[Any] | None) -> CategoryBins:
    """Return a bin for each frequent value, and one each for missing, unknown and other ones."""
    seen = [(value, count) for value, count in zip(distribution.values, distribution.counts, strict=True) if count]
    listed, merged = seen[: MAX_BINS - 3], seen[MAX_BINS - 3 :]
    n_other = distribution.other + sum(count for _, count in merged)
    bins = [Bin(_text(value, rank), INSIDE, count / n_samples) for rank, (value, count) in enumerate(listed, start=1)]
    missing, unknown, other = range(len(bins), len(bins) + 3)
    bins += [
        Bin(MISSING, MISSING, distribution.missing / n_samples),
        Bin(UNKNOWN, UNKNOWN, 0.0),
        Bin(OTHER, OTHER, n_other / n_samples),
    ]
    of_value = {
        **dict.fromkeys(known or (), other),
        **dict.fromkeys((value for value, _ in merged), other),
        **{value: number for number, (value, _) in enumerate(listed)},
        None: missing,
    }
    # Of text that the estimator takes whatever it is, nothing is listed: any of it may have been seen.
    return CategoryBins(tuple(bins), of_value, other if known is None and distribution.other else unknown)


def _as_ranges(values: CategoryBins) -> Ranges:
    """Return the same bins for numbers: a number between two values, or beyond them, is one of the others."""
    numbers = sorted((value, number) for value, number in values.of_value.items() if value is not None)
    bounds = chain.from_iterable((value, _next_after(value)) for value, _ in numbers)
    cells = chain.from_iterable((values.of_others, number) for _, number in numbers)
    return Ranges(values.bins, (*bounds, np.nan), (*cells, values.of_others, values.of_value[None]))


def _next_after(value: float) -> float:
    return float(np.nextafter(value, np.inf))


def _text(value: Any, rank: int) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return repr(value).removesuffix(".0")
    text = str(value)
    return text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]}... ({rank})"  # two may begin alike
