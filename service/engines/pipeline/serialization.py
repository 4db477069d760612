"""The file of a compiled pipeline: an .npz with JSON and numbered arrays; nothing in it is unpickled."""

import io
import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.artifact.manifest import ArtifactError
from service.engines import trees
from service.engines.pipeline import cells, models, steps
from service.engines.pipeline.models import Pipeline

PIPELINE_FILE = "engine/pipeline.npz"
FORMAT = 1  # raise it when a field means something else under the same name

# All that a file may name. Other names, and other fields, come from another version of the service.
DATACLASSES: Mapping[str, Any] = {
    name: kind for module in (steps, cells, models, trees) for name, kind in vars(module).items() if is_dataclass(kind)
}


def pack(pipeline: Pipeline) -> bytes:
    """Return the file of a pipeline; the same bytes for the same pipeline."""
    arrays: dict[str, NDArray[Any]] = {}
    content = {"format": FORMAT, "pipeline": _plain(pipeline, arrays)}
    file = io.BytesIO()
    np.savez(file, allow_pickle=False, json=np.frombuffer(json.dumps(content).encode(), np.uint8), **arrays)
    return file.getvalue()


def _plain(value: object, arrays: dict[str, NDArray[Any]]) -> object:
    """Return a value as JSON data, with its arrays added to arrays."""
    if is_dataclass(value):
        members = {field.name: _plain(getattr(value, field.name), arrays) for field in fields(value)}
        return {"type": type(value).__name__, "fields": members}
    if isinstance(value, np.ndarray) and value.dtype == object:
        return {"objects": [_plain(item, arrays) for item in value]}
    if isinstance(value, np.ndarray):
        arrays[str(len(arrays))] = value
        return {"array": str(len(arrays) - 1)}
    if isinstance(value, tuple):
        return [_plain(item, arrays) for item in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"A compiled pipeline cannot hold {type(value).__name__}.")


def unpack(content: bytes) -> Pipeline:
    """Return the pipeline that pack wrote.

    Raises:
        ArtifactError: If another version of the service wrote it.
    """
    with np.load(io.BytesIO(content), allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    data = json.loads(arrays.pop("json").tobytes()) if "json" in arrays else {}
    if data.get("format") != FORMAT:
        raise _other_version(f"its format is not {FORMAT}")
    pipeline = _rebuilt(data["pipeline"], arrays)
    if not isinstance(pipeline, Pipeline):
        raise _other_version("it holds no pipeline")
    return pipeline


def _rebuilt(data: Any, arrays: dict[str, NDArray[Any]]) -> Any:
    if isinstance(data, list):
        return tuple(_rebuilt(item, arrays) for item in data)
    if not isinstance(data, dict):
        return data
    if "array" in data:
        return arrays[data["array"]]
    if "objects" in data:
        return np.array(data["objects"], dtype=object)
    name = data["type"]
    if name not in DATACLASSES:
        raise _other_version(f"it names {name!r:.40}")
    kind, members = DATACLASSES[name], data["fields"]
    if members.keys() != {field.name for field in fields(kind)}:
        raise _other_version(f"{name} has other fields")
    return kind(**{member: _rebuilt(value, arrays) for member, value in members.items()})


def _other_version(difference: str) -> ArtifactError:
    return ArtifactError(
        f"{PIPELINE_FILE} was written by another version of the service ({difference}): bake the model again."
    )
