"""The image holds what serves and nothing else, says which model it is, and is built again to the same digest."""

import gzip
import io
import json
import os
import re
import shutil
import subprocess
import tarfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.image.conftest import base_image, need
from tests.support.cluster import ROOT, Json, run, wait_until
from tests.support.documents import commands, files

HARDENED = ("--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges")
LARGEST_LAYERS_BYTES = 110_000_000  # gzipped and above the base, for the default model
BAD_MODEL = """
from sklearn.dummy import DummyRegressor
from training.models.house_prices import load
MIN_SCORES = {"r2": 0.5}
def estimator():
    return DummyRegressor()
"""
ASK = """
import json, sys, urllib.request
url, body = sys.argv[1:]
request = urllib.request.Request(url, body.encode() or None, {"Content-Type": "application/json"})
print(urllib.request.urlopen(request, timeout=30).read().decode())
"""
Start = Callable[..., str]


@pytest.fixture
def start() -> Iterator[Start]:
    """Return a function that starts a hardened container, waits until it is healthy and gives its id."""
    started: list[str] = []

    def healthy(image: str, *options: str) -> str:
        # The health check is the image's own, only sooner than after ten seconds.
        sooner = ("--health-interval", "1s")
        container = run("docker", "run", "--detach", *HARDENED, *sooner, *options, image).stdout.strip()
        started.append(container)
        wait_until("healthy", lambda: inspect(container)["State"]["Health"]["Status"] == "healthy")
        return container

    yield healthy
    for container in started:
        run("docker", "rm", "--force", "--volumes", container)


def inspect(thing: str) -> Any:
    """Return what the engine says of an image or a container."""
    return json.loads(run("docker", "inspect", thing).stdout)[0]


def manifest(image: str) -> Json:
    """Return the manifest of the artifact in an image."""
    return dict(json.loads(inside(image, "cat", "/srv/artifact/manifest.json")))


def inside(image: str, program: str, *arguments: str) -> str:
    """Run another program than the service in an image and return what it prints."""
    return run("docker", "run", "--rm", "--entrypoint", program, image, *arguments).stdout


def ask(container: str, path: str, body: Json | None = None, port: int = 8080) -> str:
    """Return what a container answers itself: no port needs to be published."""
    given = json.dumps(body) if body else ""
    return run("docker", "exec", container, "python", "-c", ASK, f"http://127.0.0.1:{port}{path}", given).stdout


def test_nothing_that_builds_is_in_the_image(image: str) -> None:
    """Whoever gets in finds no compiler, no installer, no trainer and no tests."""
    names = "gcc g++ cc c++ clang ld make pip pip3 git curl wget"
    assert inside(image, "sh", "-c", f"for name in {names}; do command -v $name || true; done") == ""
    modules = ["pip", "ensurepip", "training", "tests", "pytest", "skops"]
    code = f"import importlib.util as u; print([m for m in {modules} if u.find_spec(m)])"
    assert inside(image, "python", "-c", code).strip() == "[]"
    assert sorted(inside(image, "ls", "/srv").split()) == ["artifact", "service"]
    writable = inside(image, "find", "/srv", "/opt", "-writable", "-not", "-type", "l")
    assert writable == ""


def test_it_serves_hardened_and_drains(image: str, start: Start) -> None:
    """Without a file system to write to and without rights: it answers, turns healthy, drains and exits with 0."""
    assert inspect(image)["Config"]["User"] == "65532:65532"
    container = start(image, "--env", "BAKEHOUSE_DRAIN_SECONDS=1")
    assert json.loads(ask(container, "/predict", {"X": [[1500, 3]]}))["y_pred"] == [pytest.approx(78308.895)]
    first = run("docker", "exec", container, "cat", "/proc/1/cmdline").stdout.split("\0")
    assert first[:3] == ["python", "-m", "service"]
    assert run("docker", "exec", container, "readlink", "/proc/1/exe").stdout.startswith("/usr/local/bin/python3")
    run("docker", "stop", "--time", "60", container)
    state = inspect(container)["State"]
    assert (state["ExitCode"], state["OOMKilled"]) == (0, False)
    assert "Draining for 1" in run("docker", "logs", container).stderr


def test_one_version_everywhere(image: str, start: Start) -> None:
    """Tag, labels, manifest, /version, log lines and metrics name the same model."""
    made, labels = manifest(image), inspect(image)["Config"]["Labels"]
    version, digest = made["version"], made["digest"]
    assert image.endswith(f":{version}")
    assert labels == {
        "org.opencontainers.image.version": version,
        "org.opencontainers.image.revision": made["source_commit"],
        "bakehouse.model.name": made["name"],
        "bakehouse.model.digest": digest,
    }
    container = start(image)
    answer = json.loads(ask(container, "/predict", {"X": [[1500, 3]]}))
    assert answer["model"] == {"name": made["name"], "version": version}
    said = json.loads(ask(container, "/version"))["model"]
    assert (said["version"], said["digest"]) == (version, digest)
    lines = [json.loads(line) for line in run("docker", "logs", container).stdout.splitlines()]
    assert lines
    assert {line["model_version"] for line in lines} == {version}
    metrics = ask(container, "/metrics", port=8081)
    assert re.search(rf'^bakehouse_model_info{{.*digest="{digest}".*version="{version}"', metrics, re.MULTILINE)


def test_the_same_inputs_give_the_same_digest(clone: Path, image: str) -> None:
    """With another builder as well, and with nothing cached."""
    buildkit = docker_with_buildkit()
    need(buildkit, "no docker command on the PATH builds with BuildKit")
    assert train_from_nothing(clone, image, buildkit) == manifest(image)["digest"]


def docker_with_buildkit() -> str:
    """Return the first docker command on the PATH that BuildKit works with, or nothing: a newer one needs a plugin."""
    for folder in os.get_exec_path():
        docker = shutil.which("docker", path=folder)
        probe = [docker or "false", "build", "-"]
        environ = {**os.environ, "DOCKER_BUILDKIT": "1"}
        if run(*probe, environ=environ, given="FROM scratch\nLABEL a=b\n", check=False).returncode == 0:
            return str(docker)
    return ""


def train_from_nothing(clone: Path, image: str, docker: str) -> str:
    """Build the train stage by BuildKit for the version and commit of an image, and return the artifact's digest."""
    made = manifest(image)
    committed = subprocess.run(["git", "log", "-1", "--format=%ct"], cwd=clone, capture_output=True, text=True)
    arguments = {
        "MODEL_VERSION": made["version"],
        "REVISION": made["source_commit"],
        "SOURCE_DATE_EPOCH": committed.stdout.strip(),
    }
    tag = f"bakehouse-tested-train:{uuid.uuid4().hex[:8]}"
    options = [word for name, value in arguments.items() for word in ("--build-arg", f"{name}={value}")]
    run(docker, "build", "--no-cache", "--target", "train", "--tag", tag, *options, str(clone),
        environ={**os.environ, "DOCKER_BUILDKIT": "1"})  # fmt: skip
    digest = json.loads(run("docker", "run", "--rm", tag, "inspect", "artifact", "--json").stdout)["digest"]
    run("docker", "rmi", "--no-prune", tag)
    return str(digest)


def build(clone: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Build in a clone and return how that went."""
    return run("docker", "build", *options, str(clone), check=False)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["MODEL=below.py"], "r2"),
        (["MODEL_VERSION=not/a-tag"], "becomes an image's tag"),
    ],
)
def test_what_must_not_be_served_does_not_build(clone: Path, arguments: list[str], reason: str) -> None:
    """A model below its minimum score, or a version that is no tag, ends the build and says why."""
    (clone / "below.py").write_text(BAD_MODEL)
    options = [word for argument in arguments for word in ("--build-arg", argument)]
    done = build(clone, *options, "--target", "train")
    assert done.returncode != 0
    assert reason in done.stdout + done.stderr


def test_the_image_is_small(image: str) -> None:
    """What a node pulls above the base image, compressed as a registry keeps it."""
    base = set(inspect(base_image())["RootFS"]["Layers"])
    own = [layer for layer in inspect(image)["RootFS"]["Layers"] if layer not in base]
    with subprocess.Popen(["docker", "save", image], stdout=subprocess.PIPE) as saving:
        assert saving.stdout
        content = saving.stdout.read()
    with tarfile.open(fileobj=io.BytesIO(content)) as saved:
        names = json.load(member(saved, "manifest.json"))[0]["Layers"][-len(own) :]
        sizes = [len(gzip.compress(member(saved, name).read(), 6)) for name in names]
    print(f"\n{sum(sizes) / 1e6:.1f} MB compressed above the base, by layer: {[f'{size / 1e6:.1f}' for size in sizes]}")
    assert sum(sizes) <= LARGEST_LAYERS_BYTES


def member(archive: tarfile.TarFile, name: str) -> Any:
    """Return a file of an archive."""
    found = archive.extractfile(name)
    assert found
    return found


# The commands of docs/how-to/image.md, in its order, run in a clone ---------------------------------------------------


@pytest.fixture(scope="module")
def documented(clone: Path) -> str:
    """Run every command of the page on images and return all that they printed."""
    texts = [command.text for command in commands(ROOT / "docs/how-to/image.md")]
    assert len(texts) >= 5
    for name, text in files(ROOT / "README.md").items():
        (clone / name).write_text(text)
    printed = ""
    for command in texts:
        done = subprocess.run(["bash", "-euo", "pipefail", "-c", command], cwd=clone, capture_output=True, text=True)
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        printed += done.stdout
    return printed


def test_the_page_says_what_takes_the_space(documented: str) -> None:
    """The biggest packages, by the command for it."""
    sizes = [line for line in documented.splitlines() if "site-packages/" in line]
    print("\n" + "\n".join(sizes))
    assert [line for line in sizes if line.endswith("/scipy")]


def test_another_model_by_the_page(documented: str, start: Start) -> None:
    """Plain docker build with MODEL serves penguins, whose contract is a frame."""
    container = start("penguins")
    assert manifest("penguins")["contract"]["container"] == "frame"
    golden = json.loads(inside("penguins", "cat", "/srv/artifact/golden.jsonl").splitlines()[0])
    assert json.loads(ask(container, "/predict", golden["request"]))["y_pred"] == golden["response"]["y_pred"]


def test_an_artifact_from_elsewhere_by_the_page(documented: str, start: Start) -> None:
    """Two lines make an image of a folder, with the labels of its manifest."""
    made, labels = manifest("wine:v1"), inspect("wine:v1")["Config"]["Labels"]
    assert (made["name"], made["version"]) == ("wine", "v1")
    assert labels["bakehouse.model.digest"] == made["digest"]
    assert labels["org.opencontainers.image.version"] == "v1"
    container = start("wine:v1")
    assert json.loads(ask(container, "/version"))["model"]["digest"] == made["digest"]
