"""Images of models that differ: artifacts baked in the train image, each put into the serving image."""

import json
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from service.artifact import manifest
from tests.support.cluster import Json, run

# Bakes several models in one process, because the imports take longer than a bake.
BAKE_ALL = """
import json, sys
from training.__main__ import main
for words in json.loads(sys.argv[1]):
    if main(["bake", *words]):
        sys.exit(f"not baked: {words}")
"""
# Passes every check and exits when it starts to serve.
CRASHING = """
FROM {image}
ENTRYPOINT ["python", "-c", "import runpy, sys; sys.argv[1:] or exit(9); runpy.run_module('service', None, '__main__')"]
"""


def bake_in(image: str, directory: Path, models: Mapping[str, str], options: Mapping[str, Sequence[str]] = {}) -> None:
    """Bake models in the train image, each into a folder of its version.

    Args:
        image: The train image.
        directory: Where the folders are made.
        models: The code of each model file, by model version.
        options: Further options of `bake`, by model version.
    """
    directory.chmod(0o777)
    commands = []
    for version, code in models.items():
        (directory / f"{version}.py").write_text(code)
        files = [f"/models/{version}.py", "--output", f"/models/{version}"]
        commands.append([*files, "--model-version", version, *options.get(version, ())])

    def bake(share: list[list[str]]) -> None:
        run("docker", "run", "--rm", "--user", f"{os.getuid()}:{os.getgid()}", "--volume", f"{directory}:/models",
            "--entrypoint", "python", image, "-c", BAKE_ALL, json.dumps(share))  # fmt: skip

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(bake, (commands[::2], commands[1::2])))


def put_into(runtime: str, artifact: Path, tag: str) -> None:
    """Make an image of an artifact and the serving image, by the two lines that the README shows."""
    lines = f"FROM {runtime}\nCOPY . /srv/artifact\n"
    run("docker", "build", "--file", "-", "--tag", tag, str(artifact), given=lines)


def make_crashing(image: str, tag: str) -> None:
    """Make an image of the same artifact that passes every check and exits when it starts to serve."""
    run("docker", "build", "--tag", tag, "-", given=CRASHING.format(image=image))


def golden(artifact: Path) -> Json:
    """Return the first golden request of an artifact, with its answer: `request` and `response`."""
    return dict(json.loads((artifact / manifest.GOLDEN).read_text().splitlines()[0]))
