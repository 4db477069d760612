"""Golden requests: a model must give the answers that the estimator gave when it was baked."""

import json
import math
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np

from service.artifact.manifest import GOLDEN, ArtifactError
from service.artifact.reader import Artifact
from service.inference.model import Model
from service.problems import ProblemError

# Golden answers may differ by rounding between processors: a sum of float64 in another order moves the last digits.
GOLDEN_RELATIVE_TOLERANCE = 1e-6
GOLDEN_ABSOLUTE_TOLERANCE = 1e-9
BOUND_TIMES = 10  # an engine that rounds more did so within its bound on the machine of the bake


class GoldenError(ArtifactError):
    """The model answers its golden requests differently from when it was baked."""


def replay_golden(model: Model) -> int:
    """Send every golden request through the way that client requests take, and return how many there were.

    Raises:
        GoldenError: If an answer differs; names the first difference.
    """
    exchanges = model.artifact.golden()
    tolerances = golden_tolerances(model.artifact)
    for number, exchange in enumerate(exchanges, start=1):
        try:
            answer, _ = model.answer(json.dumps(exchange["request"]).encode(), max_rows=sys.maxsize)
        except ProblemError as error:
            raise GoldenError(
                f"The model refuses its own golden request, {GOLDEN} line {number}, {error.detail}: "
                "bake it again where it is to be served."
            ) from error
        if difference := first_difference(json.loads(answer), exchange["response"], tolerances=tolerances):
            raise GoldenError(
                f"The model does not give its golden answers: {GOLDEN} line {number}, {difference}: "
                "bake it again where it is to be served."
            )
    return len(exchanges)


def golden_tolerances(artifact: Artifact) -> dict[str, float]:
    """Return by how much the numbers of each member of the answers may differ: an engine's bound is of their scale."""
    bound = artifact.engine.get("bound", 0.0)
    scales: dict[str, float] = {}
    for exchange in artifact.golden():
        for member, values in exchange["response"].items():
            numbers = np.ravel(np.array(values))
            if numbers.dtype.kind == "f":
                scales[member] = max(scales.get(member, 0.0), float(np.abs(numbers).max(initial=0)))
    return {member: max(GOLDEN_ABSOLUTE_TOLERANCE, BOUND_TIMES * bound * scale) for member, scale in scales.items()}


def first_difference(
    given: Any, expected: Any, pointer: str = "", tolerances: Mapping[str, float] | None = None
) -> str:
    """Return the first place at which an answer differs from the golden one by more than rounding, or nothing.

    Args:
        given: An answer, or a part of it, as JSON data; members that are not expected are not looked at.
        expected: What the golden answer holds there.
        pointer: JSON Pointer to that place.
        tolerances: By how much numbers may differ, by member of the answer; where it says nothing, by rounding.
    """
    if isinstance(expected, dict) and isinstance(given, dict):
        members = ((given.get(name), value, f"{pointer}/{name}") for name, value in expected.items())
        return next(filter(None, (first_difference(*member, tolerances) for member in members)), "")
    if isinstance(expected, list) and isinstance(given, list) and len(given) == len(expected):
        pairs = enumerate(zip(given, expected, strict=True))
        return next(
            filter(None, (first_difference(*pair, f"{pointer}/{index}", tolerances) for index, pair in pairs)), ""
        )
    if isinstance(expected, float) and isinstance(given, float):
        absolute = (tolerances or {}).get(pointer.split("/")[1] if pointer else "", GOLDEN_ABSOLUTE_TOLERANCE)
        same = math.isclose(given, expected, rel_tol=GOLDEN_RELATIVE_TOLERANCE, abs_tol=absolute)
    else:
        same = type(given) is type(expected) and given == expected
    return "" if same else f"{pointer} is {given!r} and was {expected!r}"
