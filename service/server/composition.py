"""The composition root: builds all parts of a serving process, and stops them."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from wsgiref.types import WSGIApplication

from service.api.app import Extension, create_app
from service.api.predict import PredictionObserver
from service.api.readiness import Lifecycle
from service.artifact.manifest import REFERENCE
from service.artifact.reference import Reference
from service.feedback.collector import Feedback, why_no_feedback
from service.inference.model import Model
from service.observability.drift import Drift
from service.observability.metrics import Metrics
from service.observability.prediction_log import PredictionLog
from service.settings import Settings, SettingsError

if TYPE_CHECKING:
    from service.observability.tracing import Tracing


@dataclass(frozen=True)
class Composition:
    """The API of a serving process, and the parts that it must stop at its end.

    Args:
        app: The API.
        prediction_log: Logs predictions, or None without a log.
        tracing: Sends traces, or None without tracing.
    """

    app: WSGIApplication
    prediction_log: PredictionLog | None
    tracing: "Tracing | None"

    def stop(self) -> None:
        """Write the rest of the prediction log, and send the last traces."""
        if self.prediction_log:
            self.prediction_log.close()
        if self.tracing:
            self.tracing.stop()


def compose(
    settings: Settings,
    model: Model,
    metrics: Metrics,
    lifecycle: Lifecycle,
    directory: Path | None = None,
    slot: int = 1,
    extend: Extension | None = None,
) -> Composition:
    """Return all parts of a serving process.

    Args:
        settings: How to serve.
        model: The model to serve.
        metrics: Counts the requests.
        lifecycle: Whether the server is ready.
        directory: The folder where serving processes share their counts, or None for a single process.
        slot: The number of this serving process.
        extend: Adds routes, hooks or middleware to the application.

    Raises:
        SettingsError: If OpenTelemetry's variables are invalid.
    """
    artifact = model.artifact
    if artifact.manifest["batching"]:
        model.count_batches(metrics.batch_counter())
    observers: list[PredictionObserver] = []
    if settings.drift_features:
        reference = Reference.from_dict(json.loads(artifact.read(REFERENCE)))
        drift = Drift(reference, artifact.contract, artifact.version, settings, directory, slot)
        metrics.add_source(drift.exposition)
        observers.append(drift)
    prediction_log = PredictionLog(settings, artifact, metrics) if settings.prediction_log else None
    if prediction_log:
        observers.append(prediction_log)
    feedback = why_no_feedback(settings, artifact) or Feedback(model, settings, metrics)
    if isinstance(feedback, Feedback):
        metrics.add_source(feedback.update_gauges)
        observers.append(feedback.memory.remember)
    tracing = _tracing(model) if settings.tracing else None
    app = create_app(settings, model, metrics, lifecycle, observers, feedback, tracing, extend)
    return Composition(app, prediction_log, tracing)


def _tracing(model: Model) -> "Tracing":
    from service.observability.tracing import Tracing  # imports a lot and starts a thread, so only after the fork

    try:
        return Tracing(model.artifact)
    except ValueError as error:
        raise SettingsError(f"The server cannot send traces ({error}): correct the variables OTEL_...") from error
