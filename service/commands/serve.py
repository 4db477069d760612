"""Serves the artifact until SIGTERM."""

import argparse
import os

from service.artifact.reader import verify
from service.host.malloc import tune_malloc
from service.settings import Settings


def run(settings: Settings, _options: argparse.Namespace) -> int:
    """Serve the artifact of the settings, and return the exit code.

    Raises:
        ArtifactError: If the artifact is refused.
        SettingsError: If the settings do not fit it.
    """
    tune_malloc()
    artifact = verify(settings.artifact)
    os.environ.pop("PROMETHEUS_MULTIPROC_DIR", None)  # another program's; ours is set where processes share series
    # Now only: prometheus_client reads that variable once, and a refusal need not wait for the imports.
    from service.observability.logging import begin as begin_log
    from service.server.application import Server

    server = Server(settings, artifact)
    begin_log(settings.log_level)  # until here, what goes wrong is one sentence for people
    server.run()
    return 0
