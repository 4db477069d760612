"""The Gunicorn application: its options, and its hooks in the master and in the serving processes.

The master verifies the artifact, opens both ports, and forks the serving processes. A serving process answers on the
health port at once. It loads the model, replays the golden requests, and only then accepts requests. The master runs no
code of the model's libraries, because OpenMP hangs after a fork if it was used before. SIGTERM starts the drain: the
server is not ready and each response closes its connection, but it still serves every request. Then the server stops.
"""

import json
import mmap
import os
import shlex
import shutil
import socket
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from gunicorn.app.base import BaseApplication
from gunicorn.arbiter import Arbiter

from service.api.app import Extension, create_health_app
from service.api.predict import PREDICT
from service.api.readiness import Lifecycle
from service.artifact.manifest import ArtifactError
from service.artifact.reader import Artifact
from service.host.cpu import request_threads
from service.inference.latency import quick_body_bytes
from service.inference.loading import load_model
from service.observability import metric_definitions
from service.observability.logging import LOGGING, STANDARD_ERROR, log_message, write_text
from service.observability.metrics import Metrics, Samples, forget_gauges, share_series, text_of
from service.observability.prediction_log import check_prediction_log
from service.server import health_port
from service.server.composition import Composition, compose
from service.server.drain import close_while_draining, drain_on_sigterm
from service.server.tls import Certificate
from service.server.worker import Worker
from service.settings import Settings, SettingsError

COUNT_BYTES = 8
MEMORY_DIRECTORY = Path("/dev/shm")  # noqa: S108 - heartbeats on a disk can block; this one is memory


class Server(BaseApplication):
    """The Gunicorn application of one artifact.

    Args:
        settings: How to serve.
        artifact: The verified artifact. A process that finds a different artifact later refuses to serve it.
        extend: Adds routes, hooks or middleware to the application of each serving process.

    Raises:
        SettingsError: If a port is not available, the certificate is invalid, or the prediction log is not writable.
    """

    quick_body_bytes = 0  # until it is known how long the model takes
    composition: Composition | None = None  # until the model is loaded

    def __init__(self, settings: Settings, artifact: Artifact, extend: Extension | None = None) -> None:
        check_prediction_log(settings, artifact.contract)
        self.settings, self.extend = settings, extend
        self.digest, self.model_version = artifact.digest, artifact.version
        self.lifecycle = Lifecycle()
        self.processes_started = mmap.mmap(-1, COUNT_BYTES)  # shared with the processes, counted by the master
        self.series_directory: Path | None = None
        _listen(settings.host, settings.http_port).close()  # Gunicorn would try five times and say so in twelve lines
        self.health_listener = _listen(settings.host, settings.health_port)
        self.certificate = Certificate(settings.tls_certificate, settings.tls_key) if settings.tls_certificate else None
        if settings.workers > 1:
            self.series_directory = Path(tempfile.mkdtemp(prefix="bakehouse-", dir=_memory_directory()))
        super().__init__()

    def load_config(self) -> None:
        """Set Gunicorn's options."""
        for name, value in self._options().items():
            self.cfg.set(name, value)

    def _options(self) -> dict[str, Any]:
        settings = self.settings
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        options = {
            "bind": f"{host}:{settings.http_port}",
            "worker_class": Worker,
            "workers": settings.workers,
            "threads": settings.threads or request_threads(settings.workers),
            "worker_connections": settings.max_connections,
            "keepalive": settings.keep_alive_seconds,
            "graceful_timeout": settings.graceful_timeout_seconds,
            "timeout": settings.worker_timeout_seconds,
            "sendfile": False,  # the worker writes answers itself, as fast as their clients read them
            "worker_tmp_dir": _memory_directory(),
            "control_socket_disable": True,  # it would write into the home directory, which is read-only in a pod
            "proc_name": "bakehouse",
            "logconfig_dict": LOGGING,
            "when_ready": self.when_ready,
            "pre_fork": self.pre_fork,
            "post_fork": self.post_fork,
            "pre_request": self.pre_request,
            "worker_exit": self.worker_exit,
            "child_exit": self.child_exit,
            "on_exit": self.on_exit,
        }
        if certificate := self.certificate:
            options |= {
                "certfile": settings.tls_certificate,  # these two only tell Gunicorn that there is TLS
                "keyfile": settings.tls_key,
                "ssl_context": lambda _config, _default: certificate.context(),
            }
        return options

    # In the master ------------------------------------------------------------------------------------------

    def when_ready(self, arbiter: Arbiter) -> None:
        """Make SIGTERM begin with a drain."""
        drain_on_sigterm(arbiter, self.lifecycle, self.settings.drain_seconds)

    def pre_fork(self, arbiter: Arbiter, worker: Worker) -> None:
        """Give a new process the first slot that no other has, and count it."""
        taken = {other.slot for other in arbiter.WORKERS.values()}
        worker.slot = next(slot for slot in range(1, len(taken) + 2) if slot not in taken)
        self.processes_started[:] = (self.n_processes_started + 1).to_bytes(COUNT_BYTES)

    def child_exit(self, _arbiter: Arbiter, worker: Worker) -> None:
        """Remove the gauges of a process that ended."""
        if self.series_directory:
            forget_gauges(self.series_directory, worker.slot)

    def on_exit(self, _arbiter: Arbiter) -> None:
        """Clean up."""
        if self.series_directory:
            shutil.rmtree(self.series_directory, ignore_errors=True)

    # In a serving process -----------------------------------------------------------------------------------

    def post_fork(self, arbiter: Arbiter, worker: Worker) -> None:
        """Answer probes from now on. The process is live, and it is not ready until the model is loaded."""
        self.slot = worker.slot
        if self.series_directory:
            share_series(self.series_directory, worker.slot)
        self.metrics = Metrics(arbiter.pid, self.series_directory, self.model_version)
        self.metrics.add_source(text_of(self.server_samples))
        health_port.serve_in_background(self.health_listener, create_health_app(self.metrics, self.lifecycle))

    @property
    def n_processes_started(self) -> int:
        """How many serving processes the master has started."""
        return int.from_bytes(self.processes_started[:])

    def server_samples(self) -> Samples:
        """Yield the samples that are the same in all processes."""
        yield metric_definitions.PROCESSES_STARTED, self.n_processes_started
        if self.certificate and (expiry := self.certificate.expiry()):
            yield metric_definitions.TLS_EXPIRY, expiry

    def load(self) -> Any:
        """Return the WSGI application; called by Gunicorn in each serving process."""
        started = time.perf_counter()
        try:
            model = load_model(self.settings.artifact)
            if model.artifact.digest != self.digest:
                raise ArtifactError("The artifact was replaced while the server ran: start the server again.")
            artifact = model.artifact
            self.metrics.model_loaded(artifact, time.perf_counter() - started)
            self.quick_body_bytes = quick_body_bytes(model)
            self.composition = compose(
                self.settings, model, self.metrics, self.lifecycle, self.series_directory, self.slot, self.extend
            )
        except (ArtifactError, SettingsError) as error:
            log_message("error", str(error))
            sys.exit(Arbiter.WORKER_BOOT_ERROR)  # the master ends with the same code instead of trying again for ever
        self.lifecycle.served = artifact
        if os.isatty(STANDARD_ERROR):
            write_text(_welcome(artifact, self.settings))
        else:
            log_message("info", f"{artifact.name} {artifact.version} is ready.")
        return self.composition.app

    def worker_exit(self, _arbiter: Arbiter, _worker: Worker) -> None:
        """Write the rest of the prediction log, and send the last traces."""
        if self.composition:
            self.composition.stop()

    def answers_at_once(self, method: str, path: str, n_body_bytes: int) -> bool:
        """Return whether the event loop answers the request itself, because a hand-over would take longer."""
        return n_body_bytes <= self.quick_body_bytes and path == PREDICT and method == "POST"

    def pre_request(self, _worker: Worker, request: Any) -> None:
        """Close connections while draining."""
        close_while_draining(request, self.lifecycle)


def _listen(host: str, port: int) -> socket.socket:
    try:
        return health_port.listen(host, port)
    except OSError as error:
        raise SettingsError(
            f"The server cannot listen on BAKEHOUSE_HOST {host}, port {port} ({error.strerror}): "
            "set another host or port, or stop the process that listens there."
        ) from error


def _memory_directory() -> str | None:
    return str(MEMORY_DIRECTORY) if MEMORY_DIRECTORY.is_dir() else None


def _welcome(artifact: Artifact, settings: Settings) -> str:
    example = artifact.example()
    if example is None:
        return f"{artifact.name} {artifact.version} is ready.\n"
    url = f"{'--insecure https://' if settings.tls_certificate else ''}localhost:{settings.http_port}/predict"
    body = shlex.quote(json.dumps(example["request"]))
    return (
        f"{artifact.name} {artifact.version} is ready. Try:\n"
        f"  curl -s {url} -H 'Content-Type: application/json' -d {body}\n"
    )
