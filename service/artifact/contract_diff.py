"""Whether a client that works with one contract works with another: contracts as JSON data in, sentences out."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

MAX_NAMED = 3  # a zip code has thousands of categories, and a refusal is one sentence

Data = Mapping[str, Any]


def differences(live: Data, new: Data, unlisted: Mapping[str, Sequence[Any]] | None = None) -> list[str]:
    """Return what would break clients of the live contract once the new one is served; nothing if all go on working.

    Args:
        live: The contract that clients work with, as Contract.to_dict writes it; unknown members are not looked at.
        new: The contract that would take its place.
        unlisted: The known values that the new contract does not list, by the name of their feature.

    Raises:
        KeyError, TypeError, AttributeError, IndexError: If one of them is not a contract.
    """
    return [*_of_features(live["features"], new["features"], unlisted or {}), *_of_outputs(live, new)]


def _of_features(live: Sequence[Data], new: Sequence[Data], unlisted: Mapping[str, Sequence[Any]]) -> Iterator[str]:
    before, after = ({feature["name"]: feature for feature in features} for features in (live, new))
    yield from (f"feature {_shown(name)} is missing" for name in before if name not in after)
    # Clients cannot leave out a new feature: every row has a cell for each of them.
    yield from (f"feature {_shown(name)} is new" for name in after if name not in before)
    shared = [name for name in before if name in after]
    if shared != [name for name in after if name in before]:
        yield "the features have another order"
    for name in shared:
        yield from (
            f"feature {_shown(name)} {what}" for what in _of_feature(before[name], after[name], unlisted.get(name))
        )


def _of_feature(live: Data, new: Data, unlisted: Sequence[Any] | None) -> Iterator[str]:
    """Yield what one feature no longer takes.

    The greatest magnitude is not compared: it tells the estimator's precision (float32 in a forest, float64 in a linear
    model), and no measured value comes near 1e38. Ranges of training are documented, and bind nobody.
    """
    if live["kind"] != new["kind"]:
        yield f"is a {new['kind']} instead of a {live['kind']}"
        return
    if live.get("missing") and not new.get("missing"):
        yield "no longer takes null"
    if not new.get("closed"):
        return
    if not live.get("closed"):
        yield "takes only the categories it knows"
        return
    known = set(new["categories"] if unlisted is None else unlisted)
    lost = [value for value in live.get("categories", ()) if value not in known]  # else they cannot be compared
    if lost and unlisted is not None:
        yield f"no longer takes {len(lost)} of the values it took"
    elif lost:
        more = f" and {len(lost) - MAX_NAMED} more" if len(lost) > MAX_NAMED else ""
        yield f"no longer takes {', '.join(map(_shown, lost[:MAX_NAMED]))}{more}"


def _of_outputs(live: Data, new: Data) -> Iterator[str]:
    after = {output["name"]: output for output in new["outputs"]}
    for output in live["outputs"]:
        name = output["name"]
        if name not in after:
            yield f"output {name} is missing"
        elif output["kind"] != after[name]["kind"]:
            yield f"output {name} is of kind {after[name]['kind']} instead of {output['kind']}"
        elif output.get("columns") != after[name].get("columns"):
            yield f"output {name} has other columns"
    default_before, default_after = live["outputs"][0]["name"], new["outputs"][0]["name"]
    if default_before != default_after and default_before in after:
        yield f"the default output is {default_after} instead of {default_before}"
    # As text, because to Python [0, 1] equals [False, True], and to clients it does not.
    if json.dumps(live.get("classes")) != json.dumps(new.get("classes")):
        yield "the classes, or their order, are others"


def _shown(value: Any) -> str:
    """Return a name as it is, or quoted where it would not read as one word of a sentence."""
    text = value if isinstance(value, str) else json.dumps(value)
    return text if text.replace("_", "").isalnum() else json.dumps(value)
