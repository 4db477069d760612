"""Requests that are joined while the engine is busy: whose answer is whose, and what one cannot do to another."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from service.columns import Columns
from service.engines.engine_function import EngineFunction
from service.engines.scikit_learn import scikit_learn_engine
from service.inference.batching import MAX_BATCH_ROWS, Batcher
from service.inference.model import Model

N_THREADS = 16
PREDICT = ("predict",)


class Recorded:
    """An engine that remembers how many rows it was given at once, and can be held while requests queue up.

    Args:
        engine: What answers.
    """

    def __init__(self, engine: EngineFunction) -> None:
        self.engine = engine
        self.sizes: list[int] = []
        self.free = threading.Event()

    def __call__(self, columns: Columns, outputs: Sequence[str]) -> dict[str, NDArray[Any]]:
        """Answer once the engine is free."""
        self.sizes.append(len(columns[0]) if isinstance(columns, list) else len(columns))
        assert self.free.wait(30)
        return self.engine(columns, outputs)


def doubled(columns: Columns, outputs: Sequence[str]) -> dict[str, NDArray[Any]]:
    """Answer twice the first number of each row, and refuse negative ones, as an estimator would: all rows or none."""
    numbers = columns[0] if isinstance(columns, list) else columns[:, 0]
    if (numbers < 0).any():
        raise ValueError("negative")
    return dict.fromkeys(outputs, 2 * numbers)


def ask_while_busy(
    engine: Recorded, requests: Sequence[tuple[Columns, tuple[str, ...]]], batcher: Any = None
) -> list[Any]:
    """Ask in this order, each while those before it wait, and return answers or errors."""
    joined = batcher or Batcher(engine)
    answers: list[Any] = [None] * len(requests)

    def ask(index: int) -> None:
        try:
            answers[index] = joined(*requests[index])
        except (ValueError, RuntimeError, SystemExit) as error:
            answers[index] = error

    threads = []
    for index in range(len(requests)):
        threads.append(threading.Thread(target=ask, args=(index,)))
        threads[-1].start()
        while len(joined.queue) <= index:
            threading.Event().wait(0.001)
    engine.free.set()
    for thread in threads:
        thread.join(30)
    return answers


def rows(*numbers: float) -> NDArray[np.float64]:
    """Return one row for each number."""
    return np.array([[number, 0.0] for number in numbers])


def test_thousands_of_distinct_requests_at_once_each_get_their_own_answer(model_of: Callable[[str], Model]) -> None:
    """Rows of many callers go through the estimator together, and none gets what is another's."""
    artifact = model_of("digits").artifact
    engine = Recorded(scikit_learn_engine(artifact.load_estimator(), artifact.contract))
    engine.free.set()
    joined = Batcher(engine)
    rng = np.random.default_rng(0)
    requests = [rng.integers(0, 17, size=(1 + index % 3, 64)).astype(float) for index in range(2000)]
    expected = engine.engine(np.concatenate(requests), ("predict", "predict_proba"))
    with ThreadPoolExecutor(N_THREADS) as pool:
        answers = list(pool.map(lambda X: joined(X, ("predict", "predict_proba")), requests))
    for name, values in expected.items():
        assert np.concatenate([answer[name] for answer in answers]).tolist() == values.tolist()
    assert all(len(answer["predict"]) == len(X) for answer, X in zip(answers, requests, strict=True))
    assert sum(engine.sizes) == sum(map(len, requests))
    assert len(engine.sizes) < len(requests) / 2


def test_a_request_that_finds_the_engine_idle_is_alone() -> None:
    """Nothing waits for company."""
    engine = Recorded(doubled)
    engine.free.set()
    joined = Batcher(engine)
    assert [joined(rows(number), PREDICT)["predict"].tolist() for number in (1, 2, 3)] == [[2], [4], [6]]
    assert engine.sizes == [1, 1, 1]


def test_those_that_wait_are_answered_together() -> None:
    """One call of the engine for all who came while it was busy."""
    engine = Recorded(doubled)
    answers = ask_while_busy(engine, [(rows(1), PREDICT), (rows(2, 3), PREDICT), (rows(4), PREDICT)])
    assert [answer["predict"].tolist() for answer in answers] == [[2], [4, 6], [8]]
    assert engine.sizes == [1, 3]


def test_batches_are_counted(model_of: Callable[[str], Model]) -> None:
    """How many requests and rows each had, and how long each request waited for it."""
    engine = Recorded(doubled)
    model = Model(model_of("digits").artifact, Batcher(engine))
    counted: list[Any] = []
    model.count_batches(lambda *batch: counted.append(batch))
    requests = [(rows(1), PREDICT), (rows(2, 3), PREDICT), (rows(4), PREDICT)]
    ask_while_busy(engine, requests, model._engine)
    assert [batch[:2] for batch in counted] == [(1, 1), (2, 3)]
    (alone,), (longer, shorter) = (batch[2] for batch in counted)
    assert 0 <= alone < shorter < longer


def test_columns_are_joined_one_by_one() -> None:
    """Instances with words come as a list of columns."""
    engine = Recorded(doubled)
    requests: list[Any] = [
        ([np.array([number]), [word]], PREDICT) for number, word in ((1.0, "a"), (2.0, "b"), (3.0, None))
    ]
    assert [answer["predict"].tolist() for answer in ask_while_busy(engine, requests)] == [[2], [4], [6]]
    assert engine.sizes == [1, 2]


def test_a_row_that_the_engine_refuses_is_refused_alone() -> None:
    """Whoever waited with it gets an answer all the same."""
    engine = Recorded(doubled)
    answers = ask_while_busy(engine, [(rows(number), PREDICT) for number in (1, 2, -1, 3)])
    assert [type(answer) for answer in answers] == [dict, dict, ValueError, dict]
    assert [answer["predict"].tolist() for answer in answers if isinstance(answer, dict)] == [[2], [4], [6]]


def test_other_outputs_wait_for_their_own_turn() -> None:
    """Nobody pays for, or is given, outputs that another asked for; the order stays."""
    engine = Recorded(doubled)
    answers = ask_while_busy(
        engine, [(rows(1), PREDICT), (rows(2), PREDICT), (rows(3), ("transform",)), (rows(4), PREDICT)]
    )
    assert [dict(answer) for answer in answers[2:]] == [{"transform": [6]}, {"predict": [8]}]
    assert engine.sizes == [1, 1, 1, 1]


@pytest.mark.parametrize(
    ("n_rows", "sizes"), [(MAX_BATCH_ROWS // 2, [1, MAX_BATCH_ROWS]), (MAX_BATCH_ROWS, [1] + 2 * [MAX_BATCH_ROWS])]
)
def test_a_batch_is_bounded(n_rows: int, sizes: list[int]) -> None:
    """The first of a queue does not wait for all the rest; one request may be as long as it is allowed to be."""
    engine = Recorded(doubled)
    long = np.ones((n_rows, 2))
    answers = ask_while_busy(engine, [(rows(1), PREDICT), (long, PREDICT), (long, PREDICT)])
    assert engine.sizes == sizes
    assert [len(answer["predict"]) for answer in answers] == [1, n_rows, n_rows]


def test_an_engine_that_ends_its_thread_leaves_nobody_waiting() -> None:
    """Those behind it are answered, those with it are told."""

    def ending(columns: Columns, outputs: Sequence[str]) -> dict[str, NDArray[Any]]:
        if isinstance(columns, np.ndarray) and columns[0, 0] == 0:
            raise SystemExit
        return doubled(columns, outputs)

    joined = Batcher(ending)
    with pytest.raises(SystemExit):
        joined(rows(0), PREDICT)
    assert joined(rows(1), PREDICT)["predict"].tolist() == [2]
    engine = Recorded(ending)
    answers = ask_while_busy(
        engine, [(rows(1), PREDICT), (rows(0), PREDICT), (rows(2), PREDICT), (rows(3), ("transform",))]
    )
    assert isinstance(answers[2], RuntimeError)
    assert [answer for answer in answers if isinstance(answer, dict)] == [{"predict": [2]}, {"transform": [6]}]
