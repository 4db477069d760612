"""The file of a compiled pipeline: what is packed is unpacked, and what another version wrote is refused."""

import io
import json
import subprocess
import sys
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service.artifact.contract import Contract
from service.artifact.manifest import ArtifactError
from service.artifact.reader import Artifact
from service.engines.pipeline.cells import CellCodes, ColumnFill, EncodeOneHot, FillColumns, FillNumbers, NumberCodes
from service.engines.pipeline.models import Labels, Linear, Pipeline, Scores, Target, Transform
from service.engines.pipeline.serialization import DATACLASSES, pack, unpack
from service.engines.pipeline.steps import Arithmetic, Clip, Operation, Stack, Ufunc
from service.engines.registry import COMPILED_TREES, NUMPY, load_engine
from tools import ROOT
from training.engines.equivalence import same_bits

MATRIX = np.random.default_rng(0).normal(size=(3, 4))
PIPELINE = Pipeline(
    steps=(
        FillColumns((ColumnFill(0, "ü"), ColumnFill(1, True), ColumnFill(2, 2.5)), ()),
        Stack(((Clip(-1.0, float("inf")),), (Arithmetic((Operation("add", MATRIX[0]), Operation("divide", 0.1))),))),
        FillNumbers(MATRIX[0], None, np.array([0, 2], np.intp), (1,)),
        EncodeOneHot((CellCodes(("a", "b"), (0, 1), None, -1), NumberCodes(MATRIX[0], np.arange(4), 1, None)), 9),
    ),
    model=Target(
        Linear(
            np.asfortranarray(MATRIX),
            np.array(-0.0),
            sequential=False,
            flat=True,
            outputs=(("decision_function", Scores()), ("predict", Labels(np.array(["yes", "no"], object)))),
        ),
        (Ufunc("exp"),),
        flat=False,
    ),
)


def assert_same(first: Any, second: Any) -> None:
    """Compare values, and their types, and the bits and the memory layout of arrays."""
    assert type(first) is type(second)
    if isinstance(first, tuple):
        for one, other in zip(first, second, strict=True):
            assert_same(one, other)
    elif type(first) in DATACLASSES.values():
        for field in fields(first):
            assert_same(getattr(first, field.name), getattr(second, field.name))
    elif isinstance(first, np.ndarray):
        assert same_bits(first, second)
        assert (first.flags.c_contiguous, first.flags.f_contiguous) == (
            second.flags.c_contiguous, second.flags.f_contiguous
        )  # fmt: skip
    else:
        assert first == second


def rewritten(content: bytes, **members: Any) -> bytes:
    """Return a file with members of its JSON changed."""
    with np.load(io.BytesIO(content)) as file:
        arrays = dict(file)
    data = {**json.loads(arrays["json"].tobytes()), **members}
    written = io.BytesIO()
    np.savez(written, **{**arrays, "json": np.frombuffer(json.dumps(data).encode(), np.uint8)})
    return written.getvalue()


def test_a_pipeline_is_read_as_it_was_written():
    """Steps in steps, text, numbers, None, and arrays of every layout and of objects."""
    assert_same(unpack(pack(PIPELINE)), PIPELINE)


def test_the_same_pipeline_is_the_same_bytes():
    """Also of another process, whose hashes are salted otherwise."""
    assert pack(unpack(pack(PIPELINE))) == pack(PIPELINE)
    code = (
        "import sys; from service.engines.pipeline.serialization import pack, unpack; "
        "sys.stdout.buffer.write(pack(unpack(sys.stdin.buffer.read())))"
    )
    for seed in ("1", "2"):
        again = subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, input=pack(PIPELINE), env={"PYTHONHASHSEED": seed},
            capture_output=True, check=True,
        )  # fmt: skip
        assert again.stdout == pack(PIPELINE)


@pytest.mark.parametrize(
    "value", [1j, ["a list"], {"a": "dictionary"}, object()], ids=lambda value: type(value).__name__
)
def test_what_no_file_holds_is_not_packed(value: Any):
    """The bake fails where it would write something that reads differently."""
    with pytest.raises(TypeError, match="A compiled pipeline cannot hold"):
        pack(Pipeline((Clip(value, 1.0),), Transform()))


CLIP = {"type": "Clip", "fields": {"low": 0.0, "high": 1.0}}
TRANSFORM = {"type": "Transform", "fields": {}}


def pipeline(*steps: Any) -> dict[str, Any]:
    """Return the JSON of a pipeline."""
    return {"type": "Pipeline", "fields": {"steps": list(steps), "model": TRANSFORM}}


@pytest.mark.parametrize(
    ("members", "why"),
    [
        ({"format": 0}, "its format is not 1"),
        ({"pipeline": CLIP}, "it holds no pipeline"),
        ({"pipeline": pipeline({**CLIP, "type": "Trim"})}, "it names 'Trim'"),
        ({"pipeline": pipeline({**CLIP, "type": "Any"})}, "it names 'Any'"),
        ({"pipeline": pipeline({**CLIP, "fields": {"low": 0.0}})}, "Clip has other fields"),
        ({"pipeline": pipeline({**CLIP, "fields": {**CLIP["fields"], "step": 1.0}})}, "Clip has other fields"),
    ],
    ids=["format", "no pipeline", "unknown name", "not a dataclass", "missing field", "unknown field"],
)
def test_what_another_version_wrote_is_refused(members: dict[str, Any], why: str):
    """Names and fields are checked before anything is built."""
    content = pack(Pipeline((Clip(0.0, 1.0),), Transform()))
    unpack(rewritten(content, pipeline=pipeline(CLIP)))
    with pytest.raises(
        ArtifactError, match=rf"written by another version of the service \({why}\): bake the model again\."
    ):
        unpack(rewritten(content, **members))


def test_a_file_without_json_is_refused():
    """As those are that older versions wrote."""
    older = io.BytesIO()
    np.savez(older, plan=np.zeros(3))
    with pytest.raises(ArtifactError, match="bake the model again"):
        unpack(older.getvalue())


@pytest.mark.parametrize("step", [Ufunc("seterr"), Ufunc("no_such_name"), Ufunc("add"), Ufunc("modf")])
def test_only_functions_of_numpy_that_fit_are_called(step: Ufunc):
    """A file names them; that of another version of NumPy may know more."""
    with pytest.raises(ArtifactError, match=r"NumPy has no function .* of 1 arrays: bake the model again"):
        step.function()


def test_no_class_has_the_name_of_another():
    """A name in a file stands for one class."""
    names = [kind.__name__ for kind in DATACLASSES.values()]
    assert names == list(DATACLASSES)
    assert {"Pipeline", "Linear", "CompiledTrees", "EncodeOneHot", "Stack"} <= set(names)


@dataclass(frozen=True)
class Own:
    """A step that the service does not have."""

    def function(self) -> Any:
        """Return nothing of use."""


def test_what_the_service_does_not_know_is_refused():
    """The bake reads its own file before it serves, so that it is refused there."""
    with pytest.raises(ArtifactError, match="it names 'Own'"):
        unpack(pack(Pipeline((Own(),), Transform())))


@pytest.mark.parametrize("engine", [NUMPY, COMPILED_TREES])
def test_an_artifact_of_an_older_version_is_refused(engine: str, tmp_path: Path):
    """Its engine is in a file of another name, so the sentence names the file and what to do."""
    artifact = Artifact(tmp_path, {"engine": engine, "files": {"engine/plan.npz": ""}}, Contract((), "float64", ()))
    message = f"The engine {engine} needs engine/pipeline.npz, which the artifact lacks: bake the model again."
    with pytest.raises(ArtifactError) as refused:
        load_engine(artifact)
    assert str(refused.value) == message
