"""The interface of every engine: a function from columns and output names to arrays."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.columns import Columns

Floats = NDArray[np.float64]
Outputs = dict[str, NDArray[Any]]  # by name, each of shape (n_samples,) or (n_samples, n_columns)

EngineFunction = Callable[[Columns, Sequence[str]], Outputs]
MatrixFunction = Callable[[Floats, Sequence[str]], Outputs]  # an engine's, or a model's, that takes a matrix only
ReadFile = Callable[[str], bytes]  # from the name of one of the artifact's files to its content
