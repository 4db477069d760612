"""A loaded model: an engine with its contract."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.artifact.contract import Contract
from service.artifact.reader import Artifact
from service.codec.json_request import parse_request
from service.codec.json_response import encode_answer
from service.columns import Columns
from service.engines.engine_function import EngineFunction
from service.inference.batching import Batcher, CountBatch
from service.observability.logging import log_message, where_raised
from service.problems import Fault, contract_error


class Model:
    """An engine with its contract; safe to use from several threads.

    Args:
        artifact: Where the model comes from.
        engine: What gives the answers.
    """

    def __init__(self, artifact: Artifact, engine: EngineFunction) -> None:
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
