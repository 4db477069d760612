"""How long a prediction takes on this machine, measured at the start."""

import json
import time
import warnings

from service.codec.json_response import encode_answer
from service.codec.json_strict import parse_strict
from service.engines.registry import SCIKIT_LEARN
from service.inference.model import Model

# A prediction is quick if other requests can wait for it: Python lets a thread run for 5 ms before others have a turn.
QUICK_SECONDS = 0.002
MANY_ROWS, N_TRIES = 100, 5
TINY_SECONDS = 1e-6

# An estimator fitted on a frame says this once for each process that gives it a matrix. The bake compared the two.
warnings.filterwarnings("ignore", message="X does not have valid feature names", category=UserWarning)


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
        request = parse_strict(body, model.contract, MANY_ROWS)
        encode_answer(model.predict(request.columns, request.outputs), model.contract, model.identity)
        seconds.append(time.thread_time() - started)
    return min(seconds)
