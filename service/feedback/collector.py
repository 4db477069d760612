"""Ground truth: what was right for rows that were predicted here is told later, and the model's errors are counted.

A request's cells are remembered for a while, by its id; not its answers, because the model gives them again when the
truth comes, off the hot path. A row has its truth once: whoever tells it again changes nothing. All are sums, so that
error rates over any window, and over all pods, are for Prometheus to divide.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import compress, islice
from typing import NamedTuple

import numpy as np
from prometheus_client import Counter

from service.artifact.contract import CLASSIFICATION, PREDICT, PREDICT_PROBA, REGRESSION
from service.artifact.reader import Artifact
from service.columns import concatenate, n_packed_rows, take, unpack
from service.feedback.losses import LARGEST_LOSS, classification_losses, regression_losses
from service.feedback.memory import Memory, Remembered
from service.feedback.parsing import Truth, parse_feedback
from service.inference.model import Model
from service.observability import metric_definitions
from service.observability.metrics import Metrics
from service.problems import MAX_FAULTS, ContractError, Fault, NotFoundError, contract_error
from service.settings import Settings


def has_truth(artifact: Artifact) -> bool:
    """Return whether there is something to compare a model's predictions with; what a cluster is called is no truth."""
    outputs = [output.name for output in artifact.contract.outputs]
    return artifact.manifest["task"] in (REGRESSION, CLASSIFICATION) and PREDICT in outputs


def why_no_feedback(settings: Settings, artifact: Artifact) -> str:
    """Return why true values are not taken, or nothing."""
    contract, task = artifact.contract, artifact.manifest["task"]
    if not has_truth(artifact):
        return "There is no truth to compare this model's answers with."
    output = next(output for output in contract.outputs if output.name == PREDICT)
    if output.columns is not None or (task == CLASSIFICATION and contract.classes is None):
        return "True values are only taken for models with one prediction a row."
    return "" if settings.feedback_bytes else "Feedback is turned off (BAKEHOUSE_FEEDBACK_BYTES is 0)."


@dataclass(frozen=True)
class FeedbackResult:
    """How many rows that were told of had no truth before, had it already, and are of requests not remembered."""

    accepted: int
    repeated: int
    unknown: int


class Claim(NamedTuple):
    """Rows of a remembered request that get their truth now, and the places of their values in what was told."""

    truth: Truth
    request: Remembered
    rows: list[int]
    places: list[int]


class Feedback:
    """Takes true values, and counts the errors of a model; for use by several threads.

    Args:
        model: What predicted, and predicts again.
        settings: For how long, and in how much memory, requests are remembered.
        metrics: Where the errors are counted.
    """

    def __init__(self, model: Model, settings: Settings, metrics: Metrics) -> None:
        contract = model.contract
        self._model = model
        self._max_rows = settings.max_rows
        self._place_of_class = {label: place for place, label in enumerate(contract.classes or ())}
        self._outputs: tuple[str, ...] = (PREDICT,)
        if contract.classes is not None and any(
            output.name == PREDICT_PROBA and len(output.columns or ()) == len(contract.classes)
            for output in contract.outputs
        ):
            self._outputs += (PREDICT_PROBA,)
        self._counters = _counters(self._outputs, contract.classes is not None, metrics)
        gauge = metrics.metric(metric_definitions.FEEDBACK_REMEMBERED)
        self.memory = Memory(settings.feedback_bytes, settings.feedback_seconds, gauge)

    def update_gauges(self, _openmetrics: bool = False) -> bytes:
        """Set how much memory is used; a source of metrics that has no text of its own."""
        self.memory.look()
        return b""

    def record_truth(self, body: bytes) -> FeedbackResult:
        """Count the errors of what a body tells the truth of; all of it, or nothing if some of it is refused.

        Raises:
            ProblemError: If the body does not fit, as parse_feedback says, or does not fit what was predicted.
            NotFoundError: If nothing that it names is remembered; its rows are counted as unknown all the same.
        """
        truths = parse_feedback(body, self._model.contract, self._max_rows)
        requests = [self.memory.find(truth.request_id) for truth in truths]
        known = [(truth, request) for truth, request in zip(truths, requests, strict=True) if request]
        misfits = filter(None, (_misfit(truth, n_packed_rows(request[0])) for truth, request in known))
        if faults := list(islice(misfits, MAX_FAULTS)):
            raise contract_error(faults)
        counts = self._count(known, sum(len(truth.values) for truth in truths))
        for result, n_told in vars(counts).items():
            self._counters[result].inc(n_told)
        if not counts.accepted + counts.repeated:
            raise NotFoundError(
                "No request of that id is remembered here: it was answered by another pod or process, or before a "
                "restart, or too long ago, or never."
            )
        return counts

    def _count(self, known: Sequence[tuple[Truth, Remembered]], n_told: int) -> FeedbackResult:
        """Count the errors of all rows that have no truth yet."""
        claims: list[Claim] = []
        n_known = 0
        try:
            for truth, request in known:
                rows = truth.rows or list(range(len(truth.values)))
                places = self.memory.claim(truth.request_id, request, rows)
                if places is not None:
                    n_known += len(rows)
                    claims.append(Claim(truth, request, [rows[place] for place in places], places))
            if any(claim.rows for claim in claims):
                for name, total in self._losses([claim for claim in claims if claim.rows]).items():
                    self._counters[name].inc(total)
        except BaseException:
            for claim in claims:
                self.memory.release(claim.truth.request_id, claim.request, claim.rows)
            raise
        n_accepted = sum(len(claim.rows) for claim in claims)
        return FeedbackResult(n_accepted, n_known - n_accepted, n_told - n_known)

    def _losses(self, claims: Sequence[Claim]) -> dict[str, float]:
        """Return the sum of each loss over all rows that were claimed, at least one.

        Raises:
            ContractError: If one is too large to be counted.
        """
        columns = [take(unpack(claim.request[0]), claim.rows) for claim in claims]
        y_true = [claim.truth.values[place] for claim in claims for place in claim.places]
        try:
            answers = self._model.predict(concatenate(columns), self._outputs)
        except ContractError:
            detail = "the model cannot predict for these rows again; the reason is in the service's log"
            raise contract_error([Fault("", "model_refused", detail)]) from None
        if self._place_of_class:
            y_pred = np.array([self._place_of_class.get(label, -1) for label in answers[PREDICT].tolist()])
            losses = classification_losses(np.array(y_true, np.intp), y_pred, answers.get(PREDICT_PROBA))
        else:
            losses = regression_losses(np.array(y_true, np.float64), answers[PREDICT].astype(np.float64))
        countable = np.all([np.abs(values) <= LARGEST_LOSS for values in losses.values()], axis=0)  # not so for NaN
        if not countable.all():
            pointers = (f"{claim.truth.pointer}/y_true/{place}" for claim in claims for place in claim.places)
            refused = islice(compress(pointers, ~countable), MAX_FAULTS)
            detail = "y_true is too far from the prediction to be counted"
            raise contract_error([Fault(pointer, "out_of_range", detail) for pointer in refused])
        return {name: float(values.sum()) for name, values in losses.items()}


def _misfit(truth: Truth, n_samples: int) -> Fault | None:
    """Return how the truth does not fit the request that it is about."""
    if truth.rows is None and len(truth.values) != n_samples:
        detail = f"y_true must have one value for each of the {n_samples} rows of the request, or name rows"
        return Fault(f"{truth.pointer}/y_true", "wrong_length", detail)
    if truth.rows is not None and max(truth.rows) >= n_samples:
        place = next(place for place, row in enumerate(truth.rows) if row >= n_samples)
        detail = f"the request has {n_samples} rows, the first one is 0"
        return Fault(f"{truth.pointer}/rows/{place}", "no_such_row", detail)
    return None


def _counters(outputs: Sequence[str], of_classes: bool, metrics: Metrics) -> dict[str, Counter]:
    """Return what is counted of a model, by the names that are used here; all there from the start, with 0."""
    counters = {
        result: metrics.metric(metric_definitions.FEEDBACK_ROWS, result)
        for result in metric_definitions.FEEDBACK_RESULTS
    }
    if not of_classes:
        counters |= {
            sign: metrics.metric(metric_definitions.FEEDBACK_ERROR, sign) for sign in metric_definitions.ERROR_SIGNS
        }
        return counters | {"squared_error": metrics.metric(metric_definitions.FEEDBACK_SQUARED_ERROR)}
    counters["correct"] = metrics.metric(metric_definitions.FEEDBACK_CORRECT)
    if PREDICT_PROBA in outputs:
        counters["log_loss"] = metrics.metric(metric_definitions.FEEDBACK_LOG_LOSS)
        counters["brier"] = metrics.metric(metric_definitions.FEEDBACK_BRIER)
    return counters
