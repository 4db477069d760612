"""What flows from one step of a compiled pipeline to the next."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from service.artifact.contract import Kind
from service.engines.pipeline.steps import SliceMatrix, Steps, TakeColumns, TakeFromMatrix, ToMatrix
from training.engines.scikit_learn_private import Fitted
from training.errors import UnsupportedError


@dataclass(frozen=True)
class Flow:
    """What flows from one step to the next.

    Args:
        kinds: The kind of each column.
        is_matrix: Whether it is one matrix, not a list of columns.
        is_sparse: Whether scikit-learn has a sparse matrix there, and so adds in another order.
    """

    kinds: tuple[Kind, ...]
    is_matrix: bool
    is_sparse: bool = False

    @property
    def width(self) -> int:
        """How many columns there are."""
        return len(self.kinds)


Compiled = tuple[Steps, Flow]  # steps, and what flows out of them


def matrix(width: int, is_sparse: bool = False) -> Flow:
    """Return the flow of a matrix with so many columns."""
    kind: Kind = "number"
    return Flow((kind,) * width, is_matrix=True, is_sparse=is_sparse)


def to_matrix(flow: Flow) -> Compiled:
    """Return the steps that make one matrix of what flows.

    Raises:
        UnsupportedError: If some of it is text.
    """
    if "string" in flow.kinds:
        raise UnsupportedError("A column of text goes into a step that takes numbers.")
    if flow.is_matrix:
        return (), flow
    return (ToMatrix(),), matrix(flow.width, flow.is_sparse)


def take(places: list[int], flow: Flow, is_slice: bool = False) -> Compiled:
    """Return the steps that choose some columns.

    Args:
        places: The columns.
        flow: What they are chosen of.
        is_slice: Whether scikit-learn chooses by a slice, which makes another memory layout of a matrix.
    """
    kinds = tuple(flow.kinds[place] for place in places)
    taken = replace(flow, kinds=kinds)
    if places == list(range(flow.width)):
        return (), taken
    if not flow.is_matrix:
        step = TakeColumns(tuple(places))
        if set(kinds) != {"number"}:
            return (step,), taken
        return (step, ToMatrix()), replace(taken, is_matrix=True)
    if is_slice:
        return (SliceMatrix(places[0], places[-1] + 1),), taken
    return (TakeFromMatrix(tuple(places)),), taken


def check_float64(dtype: Any, transformer: Fitted) -> None:
    """Raise UnsupportedError if a transformer makes numbers of another type."""
    if np.dtype(dtype) != np.float64:
        raise UnsupportedError(f"{type(transformer).__name__} to {np.dtype(dtype)} cannot be compiled.")
