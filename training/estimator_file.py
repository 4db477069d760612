"""The estimator's file: the same bytes for the same estimator, and the list of packages that loading it needs."""

import io
import sys
from collections.abc import Mapping
from functools import cache
from importlib import metadata
from types import FunctionType, ModuleType
from typing import Any

import numpy as np
from joblib.numpy_pickle import NumpyPickler

from service.artifact.manifest import installed_version
from training.errors import BakeError, one_line

MODEL_FILE_MODULE = "bakehouse_model_file"  # what a model file is called once it is imported
ALWAYS = ("python", "scikit-learn", "numpy", "scipy", "joblib")  # scipy holds code that scikit-learn's estimators call


def dump_estimator(estimator: Any) -> tuple[bytes, set[str]]:
    """Return the file's bytes and the top-level modules whose code it refers to.

    Raises:
        BakeError: If the estimator holds something that cannot be pickled.
    """
    file = io.BytesIO()
    pickler = _Pickler(file)
    try:
        pickler.dump(estimator)
    except Exception as error:
        raise BakeError(
            f"The fitted estimator cannot be saved, it must hold no lambda, generator or open file: {one_line(error)}"
        ) from error
    return file.getvalue(), pickler.roots


def libraries_of(roots: set[str], container: str) -> dict[str, str]:
    """Return the versions of the distributions that serving needs, by name.

    Args:
        roots: The top-level modules that the estimator's file refers to.
        container: The contract's; "frame" needs pandas.

    Raises:
        BakeError: If a module belongs to no installed distribution, so that the service could not have it.
    """
    names = {*ALWAYS, *(["pandas"] if container == "frame" else [])}
    for root in sorted(roots - sys.stdlib_module_names - {"builtins"}):
        owners = _owners().get(root)
        if not owners:
            where = "the model file" if root == MODEL_FILE_MODULE else f"the module {root}"
            raise BakeError(
                f"The estimator uses code of {where}, which the service does not have: move that code into a package "
                "that is installed in training and serving alike."
            )
        names.update(owners)
    return {name: installed_version(name) for name in sorted(names)}


@cache
def _owners() -> Mapping[str, list[str]]:
    return metadata.packages_distributions()


class _Pickler(NumpyPickler):
    """joblib's pickler, which also notes the modules it meets, and zeroes the bytes between an array's fields.

    Those bytes are whatever was in memory when joblib loaded the array: trees are arrays of records, and a forest that
    was fitted elsewhere would be written differently each time.
    """

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file)
        self.roots: set[str] = set()

    def save(self, obj: Any) -> Any:
        module = getattr(obj, "__module__", None)  # a class or function has its own, an instance its class's
        if isinstance(module, str):
            self.roots.add(module.partition(".")[0])
        if type(obj) is np.ndarray and obj.dtype.names is not None:
            obj = _without_padding(obj)
        return super().save(obj)


def _without_padding(records: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    clean = np.zeros(records.shape, records.dtype)
    for name in records.dtype.names or ():
        clean[name] = records[name]
    return clean


def force_single_thread(estimator: Any) -> None:
    """Set n_jobs to 1 in an estimator and everything it is made of: requests are served side by side already.

    Args:
        estimator: The fitted estimator; changed in place.
    """
    waiting, seen = [estimator], set()
    while waiting:
        member = waiting.pop()
        if id(member) in seen:
            continue
        seen.add(id(member))
        if isinstance(member, dict):
            waiting.extend(member.values())
        elif isinstance(member, np.ndarray):
            waiting.extend(member.flat if member.dtype == object else ())
        elif isinstance(member, list | tuple):
            waiting.extend(member)
        elif hasattr(member, "__dict__") and not isinstance(member, type | ModuleType | FunctionType):
            if vars(member).get("n_jobs") is not None:
                member.n_jobs = 1
            waiting.extend(vars(member).values())  # not only estimators: a calibrated classifier's parts are none
