"""The contract: what a model takes and what it answers, derived at bake time and kept in the manifest.

OpenAPI, validation and the conversion of JSON to the estimator's input are all generated from it, so they cannot
disagree. Plain data: nothing here imports more than the standard library.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any, Literal

Kind = Literal["number", "boolean", "string"]

PREDICT = "predict"  # the output that is answered as y_pred
PREDICT_PROBA = "predict_proba"
PER_CLASS_OUTPUTS = (PREDICT_PROBA, "decision_function")
REGRESSION, CLASSIFICATION = "regression", "classification"  # tasks, as the manifest names them
# scikit-learn's names of what an estimator can answer for a matrix of instances, in the order they are preferred in.
OUTPUT_METHODS = (PREDICT, *PER_CLASS_OUTPUTS, "transform", "score_samples")


@dataclass(frozen=True)
class Feature:
    """One column of the model's input.

    Args:
        name: The column's name in the training data, or x0, x1, ... where it had none.
        kind: The JSON type of a cell.
        dtype: The pandas dtype the estimator is given; float64 for every number.
        missing: Whether null is accepted.
        categories: The values seen in training, where the column holds categories that may be listed anywhere.
        unlisted: The known values of a column whose values may not be listed; they never leave the artifact.
        closed: Whether a value that is not known is refused; if not, the estimator handles unknown ones.
        minimum: The least number seen in training; documented, not enforced.
        maximum: The greatest number seen in training; documented, not enforced.
        magnitude: The greatest absolute number the estimator takes, where that is below float64's.
        unit: The unit of the numbers, in words.
        description: What the column means, for people.
    """

    name: str
    kind: Kind
    dtype: str
    missing: bool = False
    categories: tuple[str | float | bool, ...] | None = None
    closed: bool = False
    minimum: float | None = None
    maximum: float | None = None
    magnitude: float | None = None
    unit: str = ""
    description: str = ""
    unlisted: tuple[str | float | bool, ...] | None = field(default=None, repr=False)

    @property
    def known(self) -> tuple[str | float | bool, ...] | None:
        """The values that the estimator knows, listed or not, where the column holds categories."""
        return self.unlisted if self.categories is None else self.categories

    @property
    def is_unlisted(self) -> bool:
        """Whether the column holds text or categories that may not be listed, such as names and identifiers."""
        return self.categories is None and (self.kind == "string" or self.unlisted is not None)


@dataclass(frozen=True)
class Output:
    """One thing the model can answer, named as scikit-learn's method.

    Args:
        name: predict, predict_proba, decision_function, transform or score_samples.
        kind: The JSON type of a value.
        columns: The names of the values of one row, where one row's answer is a list; None for one value a row.
    """

    name: str
    kind: Literal["number", "integer", "boolean", "string"]
    columns: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Contract:
    """What a model takes and answers.

    Args:
        features: The columns, in the order the estimator takes them.
        container: What the estimator is given: "frame" for a pandas DataFrame, else the dtype of one matrix
            of shape (n_samples, n_features): "float64", "bool" or "object".
        outputs: What can be asked for; the first one is answered when nothing is asked for.
        classes: The labels of a classifier in the order of its probabilities.
    """

    features: tuple[Feature, ...]
    container: str
    outputs: tuple[Output, ...]
    classes: tuple[str | float | bool, ...] | None = None

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The names of the features, in the estimator's order."""
        return tuple(feature.name for feature in self.features)

    @cached_property
    def is_numeric(self) -> bool:
        """Whether the cells of every feature are numbers, so that instances are one matrix."""
        return all(feature.kind == "number" for feature in self.features)

    @cached_property
    def accepts_any_number(self) -> bool:
        """Whether every feature takes any number, and nothing else: no null, no closed set of categories."""
        return self.is_numeric and not any(feature.missing or feature.closed for feature in self.features)

    @cached_property
    def default_outputs(self) -> tuple[str, ...]:
        """The output that is answered when nothing is asked for."""
        return (self.outputs[0].name,)

    def to_dict(self) -> dict[str, Any]:
        """Return the contract as JSON data for anyone to see, without the members that say nothing."""
        data = asdict(self)
        data["features"] = [
            {
                key: value
                for key, value in feature.items()
                if key != "unlisted" and not (value is None or value is False or value == "")
            }
            for feature in data["features"]
        ]
        return {key: value for key, value in data.items() if value is not None}

    def unlisted(self) -> dict[str, list[str | float | bool]]:
        """Return the known values that may not be listed, by the name of their feature."""
        return {feature.name: list(feature.unlisted) for feature in self.features if feature.unlisted is not None}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], unlisted: Mapping[str, Sequence[Any]] | None = None) -> "Contract":
        """Return the contract that to_dict wrote, with the values that it left out.

        Raises:
            KeyError, TypeError: If the data were written by something else.
        """
        return cls(
            features=tuple(
                Feature(
                    **{
                        **item,
                        "categories": _as_tuple(item.get("categories")),
                        "unlisted": _as_tuple((unlisted or {}).get(item["name"])),
                    }
                )
                for item in data["features"]
            ),
            container=data["container"],
            outputs=tuple(Output(**{**item, "columns": _as_tuple(item.get("columns"))}) for item in data["outputs"]),
            classes=_as_tuple(data.get("classes")),
        )


def answer_member(output: str) -> str:
    """Return the member of an answer that holds the output of this name."""
    return "y_pred" if output == PREDICT else output


def _as_tuple(value: Any) -> Any:
    return None if value is None else tuple(value)
