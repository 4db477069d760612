"""The composition root: everything that a serving process works with is built here, and stopped here."""

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
    """What answers in a serving process, and what has to be stopped at its end.

    Args:
        app: The API.
        prediction_log: Writes predictions down, if that is wanted.
        tracing: Sends traces, if that is wanted.
    """

    app: WSGIApplication
    prediction_log: PredictionLog | None
    tracing: "Tracing | None"

    def stop(self) -> None:
        """Write what is still to be logged, and send the last traces."""
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
    """Return everything that a serving process works with.

    Args:
        settings: How to serve.
        model: What is served.
        metrics: Where requests are counted.
        lifecycle: Whether the server is ready.
        directory: Where serving processes share their counts; None for one process.
        slot: This process's place among them.
        extend: Adds routes, hooks or middleware to the application.

    Raises:
        SettingsError: If traces cannot be made as OpenTelemetry's variables say.
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
    from service.observability.tracing import Tracing  # which imports a lot, and starts a thread: after the fork

    try:
        return Tracing(model.artifact)
    except ValueError as error:
        raise SettingsError(f"Traces cannot be made ({error}): mend the variables OTEL_...") from error
