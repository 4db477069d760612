"""Ground truth: what was right for rows that were predicted here is told later, and the model's errors are counted.

A request's cells are remembered for a while, by its id; not its answers, because the model gives them again when the
truth comes, off the hot path. A row has its truth once: whoever tells it again changes nothing. All are sums, so that
error rates over any window, and over all pods, are for Prometheus to divide.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import compress, islice
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from prometheus_client import Counter, Gauge

from service import series
from service.artifact import Artifact
from service.batch import joined
from service.config import Settings
from service.contract import CLASSIFICATION, PREDICT, PREDICT_PROBA, REGRESSION, Contract, Feature
from service.errors import (
    MAX_FAULTS,
    BodyTooLargeError,
    ContractError,
    Fault,
    MalformedBodyError,
    NotFoundError,
    contract_error,
)
from service.json_limits import UNCOUNTED_BYTES, count_excess, count_openers
from service.kept import Kept, keep, n_rows, restore, rows_of
from service.logs import REQUEST_ID
from service.metrics import Metrics
from service.model import Model
from service.schema import JSON_TYPES, Columns, cell_problem, loads_carefully

ENTRY_BYTES = 320  # what remembering a request takes beside its id and its cells
TOLD_BYTES = 200  # the same for a request of which some rows have their truth
LOOK_SECONDS = 1.0  # how often is looked for what is too old, and the gauge is told: each takes time
LARGEST_LOSS = 1e200  # so that the sum of any number of them is finite: a counter would never come back from infinity


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


# ---------------------------------------------------------------------------------------------- what is told


@dataclass(frozen=True)
class Truth:
    """What was right for rows of one request.

    Args:
        request_id: Of the request.
        rows: Which rows it is about, each once; None for all of them.
        values: For each row the true number, or the place of the true class among the contract's.
        pointer: JSON Pointer to where this stands in the body.
    """

    request_id: str
    rows: list[int] | None
    values: list[float]
    pointer: str


def parse_feedback(body: bytes, contract: Contract, max_rows: int) -> list[Truth]:
    """Return what a body such as {"request_id": "...", "y_true": [1.5]} tells, or {"feedback": [...]} with several.

    Args:
        body: The bytes of the JSON document, decompressed.
        contract: What the model answers, one prediction a row.
        max_rows: The most rows that one body may tell of.

    Raises:
        MalformedBodyError: If the body is no JSON, or repeats a name.
        BodyTooLargeError: If it tells of more than max_rows rows.
        ContractError: If something in it does not fit; names the first places at fault.
    """
    if not body:
        raise MalformedBodyError('The body is empty: send JSON such as {"request_id": "...", "y_true": [...]}.')
    if len(body) > UNCOUNTED_BYTES:
        _refuse_excess(body, max_rows)
    feature = _truth_feature(contract)
    place_of_class = {label: place for place, label in enumerate(contract.classes or ())}
    truths: list[Truth] = []
    faults: list[Fault] = []
    n_told = 0
    for pointer, item in _items(loads_carefully(body)):
        if found := _item_fault(item, pointer):
            faults.append(found)
        else:
            n_told += len(item["y_true"])
            if n_told > max_rows:
                raise _too_many_rows(max_rows, f"{pointer}/y_true")
            faults += islice(_value_faults(item["y_true"], feature, place_of_class, f"{pointer}/y_true"), MAX_FAULTS)
            values = [place_of_class.get(value, value) for value in item["y_true"]] if not faults else []
            truths.append(Truth(item["request_id"], item.get("rows"), values, pointer))
        if len(faults) >= MAX_FAULTS:
            break
    if faults:
        raise contract_error(faults)
    return truths


def _refuse_excess(body: bytes, max_rows: int) -> None:
    """Refuse a body that holds more than telling of the most rows needs, before it is decoded."""
    # An item is an object with two lists, which have a value for each of its rows, and it has a row at least.
    most_containers, most_members = 3 * max_rows + 2, 6 * max_rows + 2
    if count_excess(body, count_openers(body), most_containers, most_members):
        raise _too_many_rows(max_rows, "")


def _items(document: Any) -> Iterator[tuple[str, Any]]:
    """Yield what a document tells of each request, with the JSON Pointer to it."""
    if not isinstance(document, dict) or "feedback" not in document:
        yield "", document
        return
    if len(document) > 1:
        raise contract_error([Fault("", "unknown_member", "beside feedback, the body takes no other member")])
    items = document["feedback"]
    if not isinstance(items, list) or not items:
        raise contract_error([Fault("/feedback", "not_a_list", "feedback must be a list of at least one object")])
    for index, item in enumerate(items):
        yield f"/feedback/{index}", item


def _too_many_rows(max_rows: int, pointer: str) -> BodyTooLargeError:
    return BodyTooLargeError(
        f"More than {max_rows} rows are told of, so many are taken: send several requests.",
        [Fault(pointer, "too_many_rows", f"at most {max_rows} rows")],
    )


def _item_fault(item: Any, pointer: str) -> Fault | None:
    """Return what is wrong with the form of what is told of one request."""
    if not isinstance(item, dict):
        return Fault(pointer, "not_an_object", 'it must be an object such as {"request_id": "...", "y_true": [...]}')
    if item.keys() - {"request_id", "y_true", "rows"}:
        return Fault(pointer, "unknown_member", "the members are request_id, y_true and rows, and there are others")
    request_id, values, rows = item.get("request_id"), item.get("y_true"), item.get("rows", ...)
    if not isinstance(request_id, str) or not REQUEST_ID.fullmatch(request_id):
        detail = "request_id must be the X-Request-ID of an answer: 1 to 128 letters, digits and . _ : / + = @ -"
        return Fault(f"{pointer}/request_id" if "request_id" in item else pointer, "not_a_request_id", detail)
    if not isinstance(values, list) or not values:
        detail = "y_true must be a list of one value for each row"
        return Fault(f"{pointer}/y_true" if "y_true" in item else pointer, "not_values", detail)
    if rows is ...:
        return None
    if not isinstance(rows, list) or any(type(row) is not int or row < 0 for row in rows):
        return Fault(f"{pointer}/rows", "not_rows", "rows must be a list of row numbers, the first row is 0")
    if len(rows) != len(values):
        return Fault(
            f"{pointer}/y_true", "wrong_length", f"y_true must have one value for each of the {len(rows)} rows"
        )
    if len(set(rows)) < len(rows):
        return Fault(f"{pointer}/rows", "repeated_row", "rows must name each row once")
    return None


def _truth_feature(contract: Contract) -> Feature:
    """Return the column of true values, to hold cells to it as those of any other."""
    if contract.classes is None:
        return Feature("y_true", "number", "float64")
    kind = next(kind for kind, types in JSON_TYPES.items() if isinstance(contract.classes[-1], types))
    kind = "boolean" if isinstance(contract.classes[-1], bool) else kind
    return Feature("y_true", kind, "", categories=contract.classes, closed=True)  # type: ignore[arg-type]


def _value_faults(
    values: list[Any], feature: Feature, place_of_class: Mapping[Any, int], pointer: str
) -> Iterator[Fault]:
    types = JSON_TYPES[feature.kind]
    for index, value in enumerate(values):
        if type(value) in types and value in place_of_class:
            continue
        if problem := cell_problem(value, feature):
            yield Fault(f"{pointer}/{index}", *problem)


# ---------------------------------------------------------------------------------------------- what is remembered


# The cells of a request, when they came (seconds of a monotonic clock), and how many bytes they take.
Remembered = tuple[Kept, float, int]


class Memory:
    """The cells of the latest requests by their ids; for use by several threads.

    Args:
        max_bytes: How much they may take, with all that goes with them.
        max_seconds: For how long each is remembered.
        gauge: Is told how much they take.
    """

    def __init__(self, max_bytes: int, max_seconds: float, gauge: Gauge) -> None:
        self._max_bytes = max_bytes
        self._max_seconds = max_seconds
        self._gauge = gauge
        self._lock = threading.Lock()  # is never held for long, because every prediction needs it
        self._requests: OrderedDict[str, Remembered] = OrderedDict()  # the oldest first
        self._look_again_at = 0.0
        self._told: dict[str, bytearray] = {}  # of some of them, for each row whether it has its truth
        self.n_bytes = 0

    def remember(self, request_id: str, columns: Columns, _answers: Mapping[str, NDArray[Any]]) -> None:
        """Keep the cells of a request; of several with one id, the latest."""
        cells, n_bytes = keep(columns)
        n_bytes += ENTRY_BYTES + len(request_id)
        now = time.monotonic()
        with self._lock:
            if request_id in self._requests:
                self._forget(request_id, self._requests.pop(request_id))
            if n_bytes <= self._max_bytes:
                self._requests[request_id] = cells, now, n_bytes
                self.n_bytes += n_bytes
            if self.n_bytes > self._max_bytes:
                self._make_room()
            if now > self._look_again_at:
                self._forget_old(now)

    def find(self, request_id: str) -> Remembered | None:
        """Return a request, unless it never was here, was forgotten, or is too old."""
        self.look()
        with self._lock:
            return self._requests.get(request_id)

    def look(self) -> None:
        """Forget what is too old, and tell how much memory is used."""
        with self._lock:
            self._forget_old(time.monotonic())

    def claim(self, request_id: str, request: Remembered, rows: Sequence[int]) -> list[int] | None:
        """Return the places in rows of those that had no truth so far, as they now have; None if it is forgotten."""
        with self._lock:
            if self._requests.get(request_id) is not request:
                return None
            told = self._told.get(request_id)
            if told is None:
                told = self._told[request_id] = bytearray(n_rows(request[0]))
                self.n_bytes += TOLD_BYTES + len(told)
            places = [place for place, row in enumerate(rows) if not told[row]]
            for place in places:
                told[rows[place]] = True
            self._make_room()
            return places

    def release(self, request_id: str, request: Remembered, rows: Sequence[int]) -> None:
        """Take back that rows have their truth."""
        with self._lock:
            if self._requests.get(request_id) is request:
                for row in rows:
                    self._told[request_id][row] = False

    def _make_room(self) -> None:
        while self.n_bytes > self._max_bytes:
            self._forget(*self._requests.popitem(last=False))

    def _forget_old(self, now: float) -> None:
        """Forget what is too old."""
        self._look_again_at = now + LOOK_SECONDS
        while self._requests and next(iter(self._requests.values()))[1] < now - self._max_seconds:
            self._forget(*self._requests.popitem(last=False))
        self._gauge.set(self.n_bytes)

    def _forget(self, request_id: str, request: Remembered) -> None:
        self.n_bytes -= request[2]
        if self._told and (told := self._told.pop(request_id, None)):
            self.n_bytes -= TOLD_BYTES + len(told)


# ---------------------------------------------------------------------------------------------- what is counted


def regression_losses(y_true: NDArray[np.float64], y_pred: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """Return for each row by how much the prediction is over the truth, by how much under it, and the square of that.

    Args:
        y_true: The true numbers, of shape (n_samples,).
        y_pred: The predictions, of shape (n_samples,).
    """
    with np.errstate(over="ignore", invalid="ignore"):
        errors = y_pred - y_true
        return {"over": np.maximum(errors, 0), "under": np.maximum(-errors, 0), "squared_error": errors**2}


def classification_losses(
    y_true: NDArray[np.intp], y_pred: NDArray[np.intp], probabilities: NDArray[np.floating[Any]] | None
) -> dict[str, NDArray[np.float64]]:
    """Return for each row whether the prediction is right, and log loss and Brier loss where there are probabilities.

    Args:
        y_true: Places of the true classes among the model's, of shape (n_samples,).
        y_pred: The same of the predicted classes.
        probabilities: Of shape (n_samples, n_classes).
    """
    losses = {"correct": (y_pred == y_true).astype(np.float64)}
    if probabilities is not None:
        of_truth = np.arange(len(y_true)), y_true
        # As sklearn.metrics.log_loss: a probability of 0 costs much, but not everything.
        smallest = np.finfo(probabilities.dtype).eps
        losses["log_loss"] = -np.log(np.clip(probabilities[of_truth], smallest, 1 - smallest), dtype=np.float64)
        distances = -probabilities.astype(np.float64)
        distances[of_truth] += 1
        squares = distances**2
        losses["brier"] = squares[:, 1] if probabilities.shape[1] == 2 else squares.sum(axis=1)
    return losses


@dataclass(frozen=True)
class Counts:
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
        gauge = metrics.of(series.FEEDBACK_REMEMBERED)
        self.memory = Memory(settings.feedback_bytes, settings.feedback_seconds, gauge)
        metrics.before_scrape(self.memory.look)

    def tell(self, body: bytes) -> Counts:
        """Count the errors of what a body tells the truth of; all of it, or nothing if some of it is refused.

        Raises:
            ProblemError: If the body does not fit, as parse_feedback says, or does not fit what was predicted.
            NotFoundError: If nothing that it names is remembered; its rows are counted as unknown all the same.
        """
        truths = parse_feedback(body, self._model.contract, self._max_rows)
        requests = [self.memory.find(truth.request_id) for truth in truths]
        known = [(truth, request) for truth, request in zip(truths, requests, strict=True) if request]
        misfits = filter(None, (_misfit(truth, n_rows(request[0])) for truth, request in known))
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

    def _count(self, known: Sequence[tuple[Truth, Remembered]], n_told: int) -> Counts:
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
        return Counts(n_accepted, n_known - n_accepted, n_told - n_known)

    def _losses(self, claims: Sequence[Claim]) -> dict[str, float]:
        """Return the sum of each loss over all rows that were claimed, at least one.

        Raises:
            ContractError: If one is too large to be counted.
        """
        columns = [rows_of(restore(claim.request[0]), claim.rows) for claim in claims]
        y_true = [claim.truth.values[place] for claim in claims for place in claim.places]
        try:
            answers = self._model.predict(joined(columns), self._outputs)
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
    counters = {result: metrics.of(series.FEEDBACK_ROWS, result) for result in series.FEEDBACK_RESULTS}
    if not of_classes:
        counters |= {sign: metrics.of(series.FEEDBACK_ERROR, sign) for sign in series.ERROR_SIGNS}
        return counters | {"squared_error": metrics.of(series.FEEDBACK_SQUARED_ERROR)}
    counters["correct"] = metrics.of(series.FEEDBACK_CORRECT)
    if PREDICT_PROBA in outputs:
        counters["log_loss"] = metrics.of(series.FEEDBACK_LOG_LOSS)
        counters["brier"] = metrics.of(series.FEEDBACK_BRIER)
    return counters
