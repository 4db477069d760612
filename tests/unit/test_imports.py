"""Imports follow the data: from training through the artifact to the service, never the other way."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import MODELS, ROOT, ArtifactOf

SERVICE = sorted(".".join(path.relative_to(ROOT).with_suffix("").parts) for path in (ROOT / "service").rglob("*.py"))
TRAINING = sorted(".".join(path.relative_to(ROOT).with_suffix("").parts) for path in (ROOT / "training").rglob("*.py"))


def loaded_by(modules: list[str]) -> set[str]:
    """Return the packages that a fresh process has loaded once it imported these modules."""
    code = (
        "import importlib, json, sys\n"
        f"for name in {modules!r}: importlib.import_module(name)\n"
        "print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout))


def imported_by(path: Path) -> set[str]:
    """Return the modules that a file names in its import statements, wherever they stand."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return found


def test_training_needs_no_web_server():
    """Not one of its modules loads Flask or Gunicorn; they load what they need to train."""
    loaded = loaded_by([name for name in TRAINING if not name.endswith("__main__")] + ["training.__main__"])
    assert not loaded & {"flask", "gunicorn", "prometheus_client", "werkzeug"}
    assert {"sklearn", "pandas", "training"} <= loaded


def test_the_service_loads_no_more_than_its_model_needs():
    """Whether scikit-learn and pandas are loaded is the artifact's to say: their import takes longer than all else."""
    loaded = loaded_by(
        [name for name in SERVICE if name != "service.observability.tracing"]
    )  # which is loaded where it is wanted
    assert not loaded & {"sklearn", "pandas", "scipy", "skops", "training", "opentelemetry"}
    assert {"flask", "gunicorn", "service"} <= loaded


@pytest.mark.parametrize("name", MODELS)
def test_a_compiled_model_is_served_without_scikit_learn(artifact_of: ArtifactOf, name: str):
    """In a process that loads the artifact and answers for it; what it needs is NumPy."""
    code = (
        "import json, pathlib, sys\n"
        "from service.inference.loading import load_model\n"
        f"load_model(pathlib.Path({str(artifact_of(name))!r}))\n"
        "print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = set(json.loads(done.stdout))
    assert not loaded & {"sklearn", "scipy", "joblib", "pandas", "onnxruntime", "treelite"}
    assert "numpy" in loaded


def test_importing_the_service_package_loads_nothing():
    """So training, which imports two modules of it, needs no web stack."""
    assert not loaded_by(["service.artifact.reader", "service.artifact.contract"]) & {
        "flask",
        "gunicorn",
        "numpy",
        "orjson",
    }


@pytest.mark.parametrize("path", sorted((ROOT / "training").rglob("*.py")), ids=lambda path: path.stem)
def test_training_imports_of_the_service_what_both_need(path: Path):
    """Format and contract, which writer and reader share; the engines, which the bake compares as they serve."""
    of_service = {name for name in imported_by(path) if name.partition(".")[0] == "service"}
    allowed = tuple(f"service.{name}" for name in ("artifact", "columns", "engines"))
    assert all(name == "service" or name.startswith(allowed) for name in of_service)


@pytest.mark.parametrize("path", sorted((ROOT / "service").rglob("*.py")), ids=lambda path: path.stem)
def test_the_service_never_imports_training(path: Path):
    """The image holds no training code."""
    assert not any(name.partition(".")[0] == "training" for name in imported_by(path))


def test_import_statements_are_found_wherever_they_stand(tmp_path: Path):
    """What these tests lean on sees the imports within functions too."""
    (tmp_path / "some.py").write_text("import a.b\ndef f():\n    from c.d import e, g\n")
    assert imported_by(tmp_path / "some.py") == {"a.b", "c.d.e", "c.d.g"}
