"""Reads a model file: a Python file with load() and estimator()."""

import importlib
import importlib.util
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from sklearn.base import BaseEstimator

from training.errors import BakeError, one_line
from training.estimator_file import MODEL_FILE_MODULE
from training.sources.source import Source

FORMER_NAMES = {"MIN_SCORES": "BAR", "LICENSE": "LICENCE"}  # model files that still have these keep working


def from_model_file(model: str) -> Source:
    """Return what a model file describes.

    Args:
        model: A Python file or a module's name, with the functions load() and estimator(), and optionally NAME,
            DESCRIPTION, MIN_SCORES, FEATURES, SOURCE, LICENSE and EXAMPLE.

    Raises:
        BakeError: If it cannot be imported, a function is missing, or one of them fails.
    """
    module = _import(model)
    load, estimator = (_function(module, model, name) for name in ("load", "estimator"))
    loaded = _call(load, model, "load()")
    if not isinstance(loaded, tuple) or len(loaded) != 2:
        raise BakeError(f"load() in {model} must return two things: the features and the target (or None).")
    unfitted = _call(estimator, model, "estimator()")
    if not isinstance(unfitted, BaseEstimator):
        raise BakeError(f"estimator() in {model} must return a scikit-learn estimator that is not fitted.")
    return Source(
        name=_constant(module, model, "NAME", Path(model).stem if model.endswith(".py") else model.rpartition(".")[2]),
        path=model,
        X=loaded[0],
        y=loaded[1],
        estimator=unfitted,
        description=_constant(module, model, "DESCRIPTION", _first_line(module.__doc__)),
        min_scores=_renamed_constant(module, model, "MIN_SCORES", {}),
        features=_constant(module, model, "FEATURES", {}),
        data_source=_constant(module, model, "SOURCE", ""),
        data_license=_renamed_constant(module, model, "LICENSE", ""),
        example=getattr(module, "EXAMPLE", None),
    )


def _import(model: str) -> ModuleType:
    if not model.endswith(".py") and Path(model).name == model:
        return _call(lambda: importlib.import_module(model), model, "importing it")  # type: ignore[no-any-return]
    if not Path(model).is_file():
        raise BakeError(f"There is no file {model}: name a Python file or module with load() and estimator().")
    spec = importlib.util.spec_from_file_location(MODEL_FILE_MODULE, model)
    if spec is None or spec.loader is None:
        raise BakeError(f"{model} cannot be imported: name a Python file or module with load() and estimator().")
    module = importlib.util.module_from_spec(spec)
    sys.modules[MODEL_FILE_MODULE] = module  # dataclasses and pickle look their module up
    loader = spec.loader
    _call(lambda: loader.exec_module(module), model, "importing it")
    return module


def _function(module: ModuleType, model: str, name: str) -> Callable[[], Any]:
    function = getattr(module, name, None)
    if not callable(function):
        raise BakeError(f"{model} has no function {name}(): a model file has load() and estimator().")
    return function  # type: ignore[no-any-return]


def _constant(module: ModuleType, model: str, name: str, default: Any) -> Any:
    value = getattr(module, name, default)
    if not isinstance(value, type(default)):
        raise BakeError(f"{name} in {model} must be a {type(default).__name__}.")
    return value


def _renamed_constant(module: ModuleType, model: str, name: str, default: Any) -> Any:
    """Return a constant that a model file may also give by its former name."""
    former = FORMER_NAMES[name]
    if not hasattr(module, former):
        return _constant(module, model, name, default)
    if hasattr(module, name):
        raise BakeError(f"{model} has both {name} and {former}, its former name: keep {name} only.")
    sys.stderr.write(f"{former} in {model} is now called {name}: rename it.\n")
    return _constant(module, model, former, default)


def _call(function: Callable[[], Any], model: str, what: str) -> Any:
    """Call code of the model file; its failures become one sentence that names the line."""
    try:
        return function()
    except (Exception, SystemExit) as error:
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename.endswith(model)]
        line = f" at line {frames[-1].lineno}" if frames else ""
        raise BakeError(f"{model}: {what} failed{line} with {type(error).__name__}: {one_line(error)}") from error


def _first_line(doc: str | None) -> str:
    return (doc or "").strip().partition("\n")[0]
