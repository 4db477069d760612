"""A model that says what it is asked, in every way that Python code has; it fails where the last cell is negative."""

import logging
import sys
import warnings
from typing import Any


def speak(X: Any) -> Any:
    """Return the features as they are, after they were said."""
    said = str(X.tolist())
    print(said)
    sys.stderr.write(f"{said}\n")
    warnings.warn(said, stacklevel=1)
    logging.getLogger("speaking").error("asked %s", said)
    if X[0, -1] < 0:
        raise RuntimeError(said)
    return X
