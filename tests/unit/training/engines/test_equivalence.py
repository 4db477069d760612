"""The equivalence check: a form of the estimator that differs in anything is refused, and said where."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from sklearn import ensemble, impute, linear_model, preprocessing
from sklearn.compose import make_column_transformer
from sklearn.pipeline import make_pipeline

from service.engines.engine_function import EngineFunction
from service.engines.pipeline.cells import FillNumbers
from service.engines.pipeline.models import Pipeline
from service.engines.scikit_learn import scikit_learn_engine
from service.engines.trees import library_file, load_library
from tests.support.baking import FRAME, NUMBERS, PRICES, SIGNS, WORDS, derived
from training.engines.compile_pipeline import compile_pipeline
from training.engines.equivalence import EquivalenceCheck
from training.engines.native_build import compile_library
from training.errors import UnsupportedError

GAPS = FRAME.assign(word=WORDS, a=FRAME["a"].where(FRAME.index % 5 != 0))
MIXED = make_pipeline(
    make_column_transformer(
        (make_pipeline(impute.SimpleImputer(), preprocessing.StandardScaler()), ["a", "b", "c"]),
        (preprocessing.OneHotEncoder(handle_unknown="ignore", sparse_output=False), ["word"]),
    ),
    linear_model.LogisticRegression(),
)
TREES = make_pipeline(preprocessing.StandardScaler(), ensemble.RandomForestClassifier(5, random_state=0))


class Case:
    """A fitted estimator, its compiled pipeline and its equivalence check."""

    def __init__(self, estimator: Any, X: Any, y: Any) -> None:
        self.estimator = estimator.fit(X, y)
        self.contract, frame, _ = derived(self.estimator, X)
        self.pipeline = compile_pipeline(self.estimator, self.contract)
        self.check = EquivalenceCheck(scikit_learn_engine(self.estimator, self.contract), self.contract, frame, 0)

    def engine(self, change: Callable[[Any], Pipeline] = lambda pipeline: pipeline) -> EngineFunction:
        """Return the engine of the compiled pipeline with something changed."""
        changed = change(deepcopy(self.pipeline))
        return changed.function(lambda: load_library(compile_library()[library_file()]))


@pytest.fixture(scope="module")
def mixed() -> Case:
    """Return words, numbers and gaps before a logistic regression."""
    return Case(MIXED, GAPS, SIGNS)


@pytest.fixture(scope="module")
def trees() -> Case:
    """Return scaled numbers before a forest."""
    return Case(TREES, NUMBERS, SIGNS)


def test_a_faithful_form_is_exact(mixed: Case, trees: Case):
    """Trees do not depend on the batch either; a sum may."""
    assert mixed.check.judge(mixed.engine(), 0.0).exact
    verdict = trees.check.judge(trees.engine(), 0.0)
    assert (verdict.exact, verdict.difference, verdict.batch_invariant) == (True, 0.0, True)


def test_every_kind_of_row_is_there(mixed: Case):
    """What can be sent: also what training never saw."""
    kinds = {rows.kind: len(rows.answered) for rows in mixed.check.rows}
    assert set(kinds) == {
        "training rows", "rows of shuffled columns", "rows of each category", "rows with unknown categories",
        "rows with missing values", "rows of unusual magnitude", "boundary rows",
    }  # fmt: skip
    assert min(kinds.values()) > 5


def with_words(pipeline: Any, **changes: Any) -> Pipeline:
    """Return the pipeline of MIXED with changed codes of the words."""
    stack = pipeline.steps[0]
    numbers, (*before, encoder) = stack.branches
    encoder = replace(encoder, columns=(replace(encoder.columns[0], **changes),))
    return replace(pipeline, steps=(replace(stack, branches=(numbers, (*before, encoder))), *pipeline.steps[1:]))


def forget_a_category(pipeline: Any) -> Pipeline:
    """Treat a known category as unknown."""
    codes = pipeline.steps[0].branches[1][-1].columns[0]
    return with_words(pipeline, known=codes.known[1:], codes=codes.codes[1:])


def refuse_unknown(pipeline: Any) -> Pipeline:
    """Refuse what the encoder ignores."""
    return with_words(pipeline, unknown=None)


def know_the_unknown(pipeline: Any) -> Pipeline:
    """Take unknown categories for the first one."""
    return with_words(pipeline, unknown=0)


def fill_with_nothing(pipeline: Any) -> Pipeline:
    """Fill gaps with 0 instead of the mean."""
    (fill,) = (step.fill for step in pipeline.steps[0].branches[0] if isinstance(step, FillNumbers))
    fill[0] = 0.0
    return pipeline


def bend_a_coefficient(pipeline: Any) -> Pipeline:
    """Change a coefficient in the eighth digit."""
    pipeline.model.coefficients[0, 0] *= 1 + 1e-8
    return pipeline


def swap_labels(pipeline: Any) -> Pipeline:
    """Answer the other class."""
    labels = dict(pipeline.model.outputs)["predict"]
    labels.classes[:] = labels.classes[::-1].copy()
    return pipeline


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (forget_a_category, "differ|differs"),
        (refuse_unknown, "fails on rows with unknown categories: ValueError"),
        (know_the_unknown, "differ"),
        (fill_with_nothing, "differ"),
        (bend_a_coefficient, "differ"),
        (swap_labels, "predict differs for .* training rows"),
    ],
    ids=lambda change: getattr(change, "__name__", ""),
)
def test_a_changed_pipeline_is_refused(mixed: Case, change: Callable[[Any], Pipeline], why: str):
    """The check can fail: in each of these the change shows."""
    with pytest.raises(UnsupportedError, match=why):
        mixed.check.judge(mixed.engine(change), 1e-9)


def test_the_last_bit_of_a_coefficient_is_no_longer_exact(mixed: Case):
    """A number within the bound is said; a label that changes on the boundary between two classes is refused."""

    def nudge(pipeline: Any) -> Pipeline:
        coefficients = pipeline.model.coefficients
        coefficients[...] = np.nextafter(coefficients, np.inf)
        return pipeline

    with pytest.raises(UnsupportedError, match=r"predict differs for .* boundary rows"):
        mixed.check.judge(mixed.engine(nudge), 1e-9)
    line = Case(linear_model.LinearRegression(), NUMBERS, PRICES)
    verdict = line.check.judge(line.engine(nudge), 1e-9)
    assert not verdict.exact
    assert 0 < verdict.difference < 1e-12


@pytest.mark.parametrize("way", [-np.inf, np.inf], ids=["below", "above"])
def test_a_threshold_one_float64_off_is_refused(way: float):
    """Moved down it is what < makes of <=; only rows on the threshold itself tell."""
    case = Case(ensemble.HistGradientBoostingClassifier(max_iter=3), np.repeat(NUMBERS, 3, axis=0), np.repeat(SIGNS, 3))
    assert case.check.judge(case.engine(), 0.0).exact

    def shift(pipeline: Any) -> Pipeline:
        thresholds = pipeline.model.nodes["threshold"]
        thresholds[...] = np.nextafter(thresholds, way)
        return pipeline

    with pytest.raises(UnsupportedError, match=r"boundary rows|differ by"):
        case.check.judge(case.engine(shift), 1e-9)


def test_an_answer_where_the_estimator_has_none_is_refused():
    """A label of a row that the estimator refuses would be served."""
    case = Case(make_pipeline(preprocessing.StandardScaler(), linear_model.LogisticRegression()), NUMBERS / 1e5, SIGNS)
    assert not all(rows.answered.all() for rows in case.check.rows)
    assert case.check.judge(case.engine(), 0.0).exact
    faithful = case.engine()

    def careless(columns: Any, outputs: Any) -> Any:
        return faithful(np.clip(columns, -1e300, 1e300), outputs)

    with pytest.raises(UnsupportedError, match="is answered for one of the rows of unusual magnitude"):
        case.check.judge(careless, 1e-9)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda values: values.reshape(-1, 1), "predict of training rows is float64 of shape"),
        (lambda values: values.astype(str), "is <U32 of shape"),
        (lambda values: values * (1 + 1e-7), "differ by 1.0e-07 of their scale, 1e-09 is the bound"),
        (lambda values: np.where(values == values.max(), np.nan, values), "finite where the estimator's is not"),
    ],
    ids=["shape", "type", "values", "gaps"],
)
def test_another_shape_or_type_or_number_is_refused(change: Callable[[Any], Any], why: str):
    """What is served has the form that the contract says."""
    case = Case(linear_model.LinearRegression(), NUMBERS, PRICES)
    faithful = case.engine()
    with pytest.raises(UnsupportedError, match=why):
        case.check.judge(lambda columns, outputs: {"predict": change(faithful(columns, outputs)["predict"])}, 1e-9)


def test_an_engine_whose_bits_depend_on_the_batch_is_told():
    """Merging requests would change answers."""
    case = Case(linear_model.LinearRegression(), NUMBERS, PRICES)
    faithful = case.engine()

    def by_batch(columns: Any, outputs: Any) -> Any:
        return {name: values * (1 + 1e-15 * (len(values) > 1)) for name, values in faithful(columns, outputs).items()}

    assert not case.check.judge(by_batch, 1e-9).batch_invariant
    one_by_one = case.check.judge(lambda columns, outputs: {
        "predict": np.concatenate([faithful(row[None], outputs)["predict"] for row in columns])
    }, 1e-9)  # fmt: skip
    assert one_by_one.batch_invariant


def test_boundary_rows_lie_on_both_sides_of_every_label_change(trees: Case):
    """Neighbouring numbers with different answers, found without looking into the estimator."""
    boundary = next(rows for rows in trees.check.rows if rows.kind == "boundary rows")
    answers = trees.check.ask(trees.check.reference, boundary.columns)["predict_proba"]
    n_pairs = len(answers) // 12  # both sides first, then ten numbers near them
    assert n_pairs > 100
    assert (answers[:n_pairs] != answers[n_pairs : 2 * n_pairs]).any(axis=1).all()
    low, high = (np.array(boundary.columns).T[rows] for rows in (slice(n_pairs), slice(n_pairs, 2 * n_pairs)))
    apart = low != high
    assert (apart.sum(axis=1) == 1).all()
    assert (np.nextafter(low[apart], high[apart]) == high[apart]).all()
