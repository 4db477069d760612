"""The interface of every engine: a function from columns and output names to arrays."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from service.columns import Columns

if TYPE_CHECKING:
    import pandas as pd

    Instances = NDArray[Any] | pd.DataFrame


EngineFunction = Callable[[Columns, Sequence[str]], dict[str, NDArray[Any]]]
ReadFile = Callable[[str], bytes]  # from the name of one of the artifact's files to its content
