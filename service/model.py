"""A loaded model: its engine's answers, and the proof that they are the ones it gave when it was baked."""

import json
import math
import sys
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.artifact import GOLDEN, Artifact, ArtifactError, verify
from service.batch import Batcher, CountBatch
from service.contract import Contract
from service.engine import SCIKIT_LEARN, Engine, load_engine
from service.errors import Fault, ProblemError, contract_error
from service.logs import log_message, where_raised
from service.schema import Columns, encode_answer, parse_carefully, parse_request

# Golden answers may differ by rounding between processors: a sum of float64 in another order moves the last digits.
GOLDEN_RELATIVE_TOLERANCE = 1e-6
GOLDEN_ABSOLUTE_TOLERANCE = 1e-9
BOUND_TIMES = 10  # an engine that rounds more did so within its bound on the machine of the bake

# A prediction is quick if other requests can wait for it: Python lets a thread run for 5 ms before others have a turn.
QUICK_SECONDS = 0.002
MANY_ROWS, N_TRIES = 100, 5
TINY_SECONDS = 1e-6

# An estimator fitted on a frame says this once for each process that gives it a matrix. The bake compared the two.
warnings.filterwarnings("ignore", message="X does not have valid feature names", category=UserWarning)


class GoldenError(ArtifactError):
    """The model answers its golden requests differently from when it was baked."""


class Model:
    """An engine with its contract; safe to use from several threads.

    Args:
        artifact: Where the model comes from.
        engine: What gives the answers.
    """

    def __init__(self, artifact: Artifact, engine: Engine) -> None:
        self.artifact = artifact
        self._engine = engine
        self.identity = {"name": artifact.name, "version": artifact.version}

    @property
    def contract(self) -> Contract:
        """What the model takes and answers."""
        return self.artifact.contract

    def count_batches(self, count: CountBatch) -> None:
        """Have every batch counted from now on, where requests are answered in batches."""
        if isinstance(self._engine, Batcher):
            self._engine.count = count

    def predict(self, columns: Columns, outputs: Sequence[str]) -> dict[str, NDArray[Any]]:
        """Return the outputs by name, each of shape (n_samples,) or (n_samples, n_columns).

        Args:
            columns: The cells of n_samples instances.
            outputs: Names of outputs that the contract offers.

        Raises:
            ContractError: If the engine refuses these instances.
        """
        try:
            with np.errstate(all="ignore"):  # what overflows is refused below, by row
                return self._engine(columns, outputs)
        except Exception as error:  # noqa: BLE001 - an estimator refuses with whatever its own code raises
            _log_refusal(error)
            detail = "the model cannot answer for these rows; the reason is in the service's log"
            raise contract_error([Fault("/X", "model_refused", detail)]) from None

    def answer(self, body: bytes, max_rows: int) -> tuple[bytes, int]:
        """Return the JSON answer to a JSON body, and how many rows it holds.

        Raises:
            ProblemError: If the body cannot be answered; says why.
        """
        request = parse_request(body, self.contract, max_rows)
        answers = self.predict(request.columns, request.outputs)
        return encode_answer(answers, self.contract, self.identity), request.n_samples


def _log_refusal(error: Exception) -> None:
    """Write where the estimator failed; not its message, which may hold the caller's values."""
    log_message("warning", "The estimator refused an instance.", type(error).__name__, where_raised(error))


def load_model(directory: Path) -> Model:
    """Return the model in an artifact, once it was verified, loaded, and gave its golden answers again.

    Raises:
        ArtifactError: If a digest, the format, a library version or a golden answer does not fit.
    """
    artifact = verify(directory)
    engine = load_engine(artifact)
    model = Model(artifact, Batcher(engine) if artifact.manifest["batching"] else engine)
    replay_golden(model)
    return model


def replay_golden(model: Model) -> int:
    """Send every golden request through the way that client requests take, and return how many there were.

    Raises:
        GoldenError: If an answer differs; names the first difference.
    """
    exchanges = model.artifact.golden()
    tolerances = golden_tolerances(model.artifact)
    for number, exchange in enumerate(exchanges, start=1):
        try:
            answer, _ = model.answer(json.dumps(exchange["request"]).encode(), max_rows=sys.maxsize)
        except ProblemError as error:
            raise GoldenError(
                f"The model refuses its own golden request, {GOLDEN} line {number}, {error.detail}: "
                "bake it again where it is to be served."
            ) from error
        if difference := first_difference(json.loads(answer), exchange["response"], tolerances=tolerances):
            raise GoldenError(
                f"The model does not give its golden answers: {GOLDEN} line {number}, {difference}: "
                "bake it again where it is to be served."
            )
    return len(exchanges)


def quick_body_bytes(model: Model) -> int:
    """Return up to how many bytes of a body a prediction takes at most QUICK_SECONDS on this machine; 0 for none.

    Whatever is in the body: it is measured by decoding golden rows cell by cell, as odd bodies are. What an estimator's
    own code does with other rows is not known, so scikit-learn itself is never quick; nor is it quick to wait for those
    that are to be joined.
    """
    if model.artifact.engine["name"] == SCIKIT_LEARN or model.artifact.manifest["batching"]:
        return 0
    rows = model.artifact.golden()[1]["request"]["X"]
    one, many = (
        json.dumps({"X": [rows[index % len(rows)] for index in range(n_rows)]}).encode() for n_rows in (1, MANY_ROWS)
    )
    seconds_one, seconds_many = (_least_seconds(model, body) for body in (one, many))
    seconds_a_byte = max(seconds_many - seconds_one, TINY_SECONDS) / (len(many) - len(one))
    return max(0, int(len(one) + (QUICK_SECONDS - seconds_one) / seconds_a_byte))


def _least_seconds(model: Model, body: bytes) -> float:
    """Return the CPU time of a prediction that nothing disturbs, its body decoded the long way."""
    seconds = []
    for _ in range(N_TRIES):
        started = time.thread_time()
        request = parse_carefully(body, model.contract, MANY_ROWS)
        encode_answer(model.predict(request.columns, request.outputs), model.contract, model.identity)
        seconds.append(time.thread_time() - started)
    return min(seconds)


def golden_tolerances(artifact: Artifact) -> dict[str, float]:
    """Return by how much the numbers of each member of the answers may differ: an engine's bound is of their scale."""
    bound = artifact.engine.get("bound", 0.0)
    scales: dict[str, float] = {}
    for exchange in artifact.golden():
        for member, values in exchange["response"].items():
            numbers = np.ravel(np.array(values))
            if numbers.dtype.kind == "f":
                scales[member] = max(scales.get(member, 0.0), float(np.abs(numbers).max(initial=0)))
    return {member: max(GOLDEN_ABSOLUTE_TOLERANCE, BOUND_TIMES * bound * scale) for member, scale in scales.items()}


def first_difference(
    given: Any, expected: Any, pointer: str = "", tolerances: Mapping[str, float] | None = None
) -> str:
    """Return the first place at which an answer differs from the golden one by more than rounding, or nothing.

    Args:
        given: An answer, or a part of it, as JSON data; members that are not expected are not looked at.
        expected: What the golden answer holds there.
        pointer: JSON Pointer to that place.
        tolerances: By how much numbers may differ, by member of the answer; where it says nothing, by rounding.
    """
    if isinstance(expected, dict) and isinstance(given, dict):
        members = ((given.get(name), value, f"{pointer}/{name}") for name, value in expected.items())
        return next(filter(None, (first_difference(*member, tolerances) for member in members)), "")
    if isinstance(expected, list) and isinstance(given, list) and len(given) == len(expected):
        pairs = enumerate(zip(given, expected, strict=True))
        return next(
            filter(None, (first_difference(*pair, f"{pointer}/{index}", tolerances) for index, pair in pairs)), ""
        )
    if isinstance(expected, float) and isinstance(given, float):
        absolute = (tolerances or {}).get(pointer.split("/")[1] if pointer else "", GOLDEN_ABSOLUTE_TOLERANCE)
        same = math.isclose(given, expected, rel_tol=GOLDEN_RELATIVE_TOLERANCE, abs_tol=absolute)
    else:
        same = type(given) is type(expected) and given == expected
    return "" if same else f"{pointer} is {given!r} and was {expected!r}"
