"""Serves the artifact until SIGTERM."""

import argparse
import os
from typing import TYPE_CHECKING

from service.artifact.reader import verify
from service.host.cpu import compute_threads, set_thread_budget
from service.host.malloc import tune_malloc
from service.settings import Settings

if TYPE_CHECKING:
    from service.api.app import Extension


def run(settings: Settings, _options: argparse.Namespace) -> int:
    """Run the command; see serve()."""
    return serve(settings)


def serve(settings: Settings, extend: "Extension | None" = None) -> int:
    """Serve the artifact of the settings until SIGTERM, and return the exit code.

    Args:
        settings: How to serve.
        extend: Adds routes, hooks or middleware to the Flask application: see docs/how-to/extend.md.

    Raises:
        ArtifactError: If the artifact is refused.
        SettingsError: If the settings do not fit it.
    """
    set_thread_budget(compute_threads(settings.compute_threads, settings.workers))
    tune_malloc()
    artifact = verify(settings.artifact)
    os.environ.pop("PROMETHEUS_MULTIPROC_DIR", None)  # another program's; ours is set where processes share series
    # Now only: prometheus_client reads that variable once, and a refusal need not wait for the imports.
    from service.observability.logging import begin as begin_log
    from service.server.application import Server

    server = Server(settings, artifact, extend)
    begin_log(settings.log_level)  # until here, an error is one sentence for people
    server.run()
    return 0
