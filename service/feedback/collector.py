"""Compares predictions with true values that clients send later, and counts the errors of the model.

The process remembers the cells of each request for some time, by the request's id. It does not remember predictions:
the model repeats them when the true values arrive, so that requests do not pay for them. The first true value of a row
counts, and repeated ones change nothing. All counters are sums. So Prometheus can compute error rates over any window
and over all pods.
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
from service.feedback.memory import Memory, RememberedRequest
from service.feedback.parsing import Truth, parse_feedback
from service.inference.model import Model
from service.observability import metric_definitions
from service.observability.metrics import Metrics
from service.problems import MAX_FAULTS, ContractError, Fault, NotFoundError, contract_error
from service.settings import Settings


def has_truth(artifact: Artifact) -> bool:
    """Return whether predictions of the model can have true values. Cluster labels have no ground truth."""
    outputs = [output.name for output in artifact.contract.outputs]
    return artifact.manifest["task"] in (REGRESSION, CLASSIFICATION) and PREDICT in outputs


def why_no_feedback(settings: Settings, artifact: Artifact) -> str:
    """Return why the service accepts no true values for this artifact, or an empty text if it accepts them."""
    contract, task = artifact.contract, artifact.manifest["task"]
    if not has_truth(artifact):
        return "Predictions of this model have no ground truth, so it accepts no feedback."
    output = next(output for output in contract.outputs if output.name == PREDICT)
    if output.columns is not None or (task == CLASSIFICATION and contract.classes is None):
        return "Feedback is accepted only for models with one prediction per row."
    return "" if settings.feedback_bytes else "Feedback is turned off (BAKEHOUSE_FEEDBACK_BYTES is 0)."


@dataclass(frozen=True)
class FeedbackResult:
    """How many rows of the feedback were accepted, were repeated, and belong to requests that are not remembered."""

    accepted: int
    repeated: int
    unknown: int


class Claim(NamedTuple):
    """Rows of a remembered request that get their true values now.

    Args:
        truth: The true values.
        request: The remembered request.
        rows: The rows in the request.
        places: The places of their values in truth.values.
    """

    truth: Truth
    request: RememberedRequest
    rows: list[int]
    places: list[int]


class Feedback:
    """Accepts true values and counts the errors of a model. Several threads can use it.

    Args:
        model: The model. It predicts again when true values arrive.
        settings: How long, and in how much memory, to remember requests.
        metrics: Counts the errors.
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
        """Set the gauge of used memory. It is a source of metrics without text."""
        self.memory.expire()
        return b""

    def record_truth(self, body: bytes) -> FeedbackResult:
        """Count the errors of all rows in the body. If one row is invalid, no row counts.

        Raises:
            ProblemError: If the body is invalid (see parse_feedback) or does not match the remembered requests.
            NotFoundError: If none of its requests is remembered. Its rows still count as unknown.
        """
        truths = parse_feedback(body, self._model.contract, self._max_rows)
        requests = [self.memory.find(truth.request_id) for truth in truths]
        known = [(truth, request) for truth, request in zip(truths, requests, strict=True) if request]
        mismatches = filter(None, (_mismatch(truth, n_packed_rows(request[0])) for truth, request in known))
        if faults := list(islice(mismatches, MAX_FAULTS)):
            raise contract_error(faults)
        counts = self._count(known, sum(len(truth.values) for truth in truths))
        for result, n_rows in vars(counts).items():
            self._counters[result].inc(n_rows)
        if not counts.accepted + counts.repeated:
            raise NotFoundError(
                "No such request is remembered here. Another pod or process answered it, the server restarted, or the "
                "request is too old or unknown. Retry: another pod may remember it."
            )
        return counts

    def _count(self, known: Sequence[tuple[Truth, RememberedRequest]], n_rows: int) -> FeedbackResult:
        """Count the errors of all rows that have no true value yet.

        Args:
            known: The true values of remembered requests.
            n_rows: The number of rows in the feedback, including those of unknown requests.
        """
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
        return FeedbackResult(n_accepted, n_known - n_accepted, n_rows - n_known)

    def _losses(self, claims: Sequence[Claim]) -> dict[str, float]:
        """Return the sum of each loss over all claimed rows, at least one.

        Raises:
            ContractError: If a loss is too large to count, or the model refuses the rows.
        """
        columns = [take(unpack(claim.request[0]), claim.rows) for claim in claims]
        y_true = [claim.truth.values[place] for claim in claims for place in claim.places]
        try:
            answers = self._model.predict(concatenate(columns), self._outputs)
        except ContractError:
            detail = "the model cannot repeat its predictions for these rows: see the service's log"
            raise contract_error([Fault("", "model_refused", detail)]) from None
        if self._place_of_class:
            y_pred = np.array([self._place_of_class.get(label, -1) for label in answers[PREDICT].tolist()])
            losses = classification_losses(np.array(y_true, np.intp), y_pred, answers.get(PREDICT_PROBA))
        else:
            losses = regression_losses(np.array(y_true, np.float64), answers[PREDICT].astype(np.float64))
        countable = np.all([np.abs(values) <= LARGEST_LOSS for values in losses.values()], axis=0)  # False for NaN
        if not countable.all():
            pointers = (f"{claim.truth.pointer}/y_true/{place}" for claim in claims for place in claim.places)
            refused = islice(compress(pointers, ~countable), MAX_FAULTS)
            detail = "y_true is too far from the prediction: its error is too large to count"
            raise contract_error([Fault(pointer, "out_of_range", detail) for pointer in refused])
        return {name: float(values.sum()) for name, values in losses.items()}


def _mismatch(truth: Truth, n_samples: int) -> Fault | None:
    """Return how the true values do not match their request of n_samples rows, or None if they match."""
    if truth.rows is None and len(truth.values) != n_samples:
        detail = (
            f"y_true must have one value for each of the {n_samples} rows of the request, or rows must list its rows"
        )
        return Fault(f"{truth.pointer}/y_true", "wrong_length", detail)
    if truth.rows is not None and max(truth.rows) >= n_samples:
        place = next(place for place, row in enumerate(truth.rows) if row >= n_samples)
        detail = f"the request has {n_samples} rows: use row numbers from 0 to {n_samples - 1}"
        return Fault(f"{truth.pointer}/rows/{place}", "no_such_row", detail)
    return None


def _counters(outputs: Sequence[str], is_classifier: bool, metrics: Metrics) -> dict[str, Counter]:
    """Return the counters of a model by result and loss. All exist from the start, with the value 0."""
    counters = {
        result: metrics.metric(metric_definitions.FEEDBACK_ROWS, result)
        for result in metric_definitions.FEEDBACK_RESULTS
    }
    if not is_classifier:
        counters |= {
            sign: metrics.metric(metric_definitions.FEEDBACK_ERROR, sign) for sign in metric_definitions.ERROR_SIGNS
        }
        return counters | {"squared_error": metrics.metric(metric_definitions.FEEDBACK_SQUARED_ERROR)}
    counters["correct"] = metrics.metric(metric_definitions.FEEDBACK_CORRECT)
    if PREDICT_PROBA in outputs:
        counters["log_loss"] = metrics.metric(metric_definitions.FEEDBACK_LOG_LOSS)
        counters["brier"] = metrics.metric(metric_definitions.FEEDBACK_BRIER)
    return counters
