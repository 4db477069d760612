"""The chart's rules record what NumPy, SciPy and scikit-learn compute from the same data."""

import re
from collections.abc import Callable, Iterable
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import yaml
from scipy.spatial.distance import jensenshannon
from sklearn.metrics import accuracy_score, brier_score_loss, log_loss, mean_absolute_error

from tests.chart.conftest import SETUPS
from tests.support.rules import (
    NAMESPACE,
    RELEASE,
    Phases,
    PodHistory,
    Series,
    evaluate,
    feedback,
    groups,
    json_labels,
    needed_for,
    rows_by_bin,
    run_promtool,
)
from tools.helm import CHART, one, render

ROOT = CHART.parents[1]
RULES = groups()
BINS = [
    "00: below 1",
    *(f"{number:02}: {number} to {number + 1}" for number in range(1, 11)),
    "11: above 11",
    "missing",
]
FLOOR = 0.0001
Expect = Callable[..., None]


@pytest.fixture
def expect(tmp_path: Path) -> Expect:
    """Return a function that evaluates rules on series, and compares recorded series with numbers."""

    def compare(given: Iterable[Series], minute: int, numbers: dict[str, float], within: float = 1e-6) -> None:
        # Each query has one series near the number. A missing or distant one would not be counted.
        near = {
            query: f"abs({query} - {number!r}) <= {within * (abs(number) or 1.0)!r}"
            for query, number in zip(numbers, map(float, numbers.values()), strict=True)
        }
        queries = [(f"count({check}) == count({query})", minute, {"{}": 1.0}) for query, check in near.items()]
        records = re.findall(r"bakehouse:[\w:]+", " ".join(numbers))
        done = evaluate(tmp_path, needed_for(records, RULES), given, queries)
        assert done.returncode == 0, done.stdout + done.stderr

    return compare


def of(record: str, **labels: str) -> str:
    """Return the query of a recorded series."""
    return f"bakehouse:{record}{json_labels(labels)}"


# Drift ----------------------------------------------------------------------------------------------------------------


def shares(counts: np.ndarray) -> np.ndarray:
    """Return counts as shares of their sum."""
    return np.asarray(counts / counts.sum())


def psi(p: np.ndarray, q: np.ndarray) -> float:
    """Return the population stability index of shares."""
    p, q = np.maximum(p, FLOOR), np.maximum(q, FLOOR)
    return float(np.sum((p - q) * np.log(p / q)))


def jumps_to(count: float) -> Phases:
    """Return the rates of a counter that jumps from 0 to this."""
    return [(40, 0.0), (1, float(count)), (1, 0.0)]


def test_drift_is_what_numpy_computes(expect: Expect):
    """There are two versions with several pods, and bins that are empty now or in training."""
    random = np.random.default_rng(7)
    given: list[Series] = []
    numbers: dict[str, float] = {}
    for version, feature in (("v1", "area"), ("v1", None), ("v2", "area"), ("v2", "age")):
        trained = random.multinomial(5000, random.dirichlet(np.ones(len(BINS))))
        trained[[0, -1]] = 0
        by_pod = random.multinomial(2000, random.dirichlet(np.ones(len(BINS))), size=3)
        by_pod[:, 4] = 0
        for number, counts in enumerate(by_pod):
            rows = {place: jumps_to(count) for place, count in zip(BINS, counts, strict=True)}
            reference = dict(zip(BINS, shares(trained).tolist(), strict=True))
            given += rows_by_bin(f"{version}-{number}", 100, reference, rows, version=version, feature=feature)
        p, q = shares(by_pod.sum(axis=0)), shares(trained)
        what, own = ("prediction", {}) if feature is None else ("feature", {"feature": feature})
        numbers[of(f"{what}_drift_rows", version=version, **own)] = int(by_pod.sum())
        numbers[of(f"{what}_drift_psi", version=version, **own)] = psi(p, q)
        numbers[of(f"{what}_drift_js_distance", version=version, **own)] = float(jensenshannon(p, q, base=2))
        numbers[of(f"{what}_bin_ratio", version=version, bin=BINS[1], **own)] = float(p[1])
        if feature:
            numbers[of("feature_missing_ratio", version=version, feature=feature)] = float(p[-1])
    expect(given, 90, numbers)


def test_equal_shares_are_no_drift(expect: Expect):
    """A rounding error in the last bit must not become a distance or NaN by the square root."""
    reference = dict.fromkeys(("a", "b", "c"), 1 / 3)
    given = rows_by_bin("a", 100, reference, dict.fromkeys(reference, jumps_to(1000)), feature="area")
    expect(given, 90, {of("feature_drift_psi"): 0.0, of("feature_drift_js_distance"): 0.0})


def test_rows_of_a_pod_that_is_gone_count(expect: Expect):
    """increase() extrapolates from the last scrape to the end of the pod."""
    reference = {"a": 0.5, "b": 0.5}
    gone = [
        {**each, "values": " ".join([*each["values"].split()[:70], "stale"])}
        for each in rows_by_bin("old", 100, reference, {"a": jumps_to(3000)}, feature="area")
    ]
    given = [*gone, *rows_by_bin("new", 100, reference, {"b": jumps_to(1000)}, feature="area")]
    expect(given, 90, {of("feature_bin_ratio", bin="a"): 0.75, of("feature_drift_rows"): 4000.0}, within=0.03)


# Objectives -----------------------------------------------------------------------------------------------------------


def test_shares_of_requests_exist_from_the_first_scrape_on(expect: Expect):
    """Without failures or without requests, the share is 0 over every window."""
    windows = ("5m", "30m", "1h", "2h", "6h", "1d", "3d")
    ratios = ("http_requests:ratio_failed_rate", "predict_latency:ratio_slow_rate")
    zero = {of(f"{ratio}{window}"): 0.0 for ratio in ratios for window in windows}
    expect(PodHistory("a", requests=[(1, None)]).series(20), 0, zero)
    expect(PodHistory("a").series(20), 10, zero)
    given = chain(PodHistory("a", failed=6.0, slow=60.0).series(90), PodHistory("b").series(90))
    expect(
        given,
        80,
        {
            of(f"{ratio}{window}"): share
            for window in windows
            for ratio, share in zip(ratios, (0.005, 0.05), strict=True)
        },
    )


def test_dashboards_find_the_objectives(expect: Expect):
    """They exist before the first request, with the shares, the days and the bucket."""
    promised = {"namespace": NAMESPACE, "release": RELEASE, "window": "30d"}
    numbers = {
        of("slo:objective_ratio", **promised, slo="availability"): 0.999,
        of("slo:objective_ratio", **promised, slo="latency", le="0.25"): 0.99,
        "count(bakehouse:slo:objective_ratio)": 2.0,
    }
    expect([], 0, numbers)


# Feedback -------------------------------------------------------------------------------------------------------------


def test_errors_of_a_regression_are_those_of_scikit_learn(expect: Expect):
    """Two pods count the sums."""
    random = np.random.default_rng(3)
    y_true = random.normal(100, 20, size=500)
    y_pred = y_true + random.normal(2, 10, size=500)
    given: list[Series] = []
    for name, some in (("a", slice(0, 200)), ("b", slice(200, 500))):
        off = (y_pred - y_true)[some]
        sums = {"error_of_over": off[off > 0].sum(), "error_of_under": -off[off < 0].sum()}
        given += feedback(name, 100, jumps_to(len(off)), **{what: jumps_to(total) for what, total in sums.items()})
    numbers = {
        of("feedback_mean_absolute_error"): mean_absolute_error(y_true, y_pred),
        of("feedback_bias"): float(np.mean(y_pred - y_true)),
        of("feedback_rows"): 500.0,
    }
    expect(given, 90, numbers)


def test_scores_of_a_classification_are_those_of_scikit_learn(expect: Expect):
    """The scores are accuracy, log loss and Brier score of two classes."""
    random = np.random.default_rng(5)
    probability = random.uniform(0.01, 0.99, size=400)
    y_true = (random.uniform(size=400) < probability).astype(int)
    given: list[Series] = []
    for name, some in (("a", slice(0, 100)), ("b", slice(100, 400))):
        p, y = probability[some], y_true[some]
        correct = ((p > 0.5) == y).sum()
        loss = -np.log(np.where(y == 1, p, 1 - p)).sum()
        sums = {"correct": correct, "log_loss": loss, "brier": ((p - y) ** 2).sum()}
        given += feedback(name, 100, jumps_to(len(p)), **{what: jumps_to(total) for what, total in sums.items()})
    numbers = {
        of("feedback_accuracy"): accuracy_score(y_true, probability > 0.5),
        of("feedback_log_loss"): log_loss(y_true, probability),
        of("feedback_brier"): brier_score_loss(y_true, probability),
    }
    expect(given, 90, numbers)


# The rules as such ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("setup", ["monitoring", "everything"])
def test_promtool_finds_nothing_wrong(setup: str, tmp_path: Path):
    """There is no invalid expression, and no two rules have one name and labels."""
    rule = one(render(SETUPS[setup]), "PrometheusRule")
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(rule["spec"]))
    done = run_promtool("check", "rules", "--lint=all", "--lint-fatal", tmp_path / "rules.yaml")
    assert done.returncode == 0, done.stdout + done.stderr


def test_queries_of_runbooks_are_valid(tmp_path: Path):
    """People on call copy them."""
    queries = [query for page in sorted((ROOT / "docs/runbooks").glob("*.md")) for query in _queries(page.read_text())]
    assert len(queries) > 20
    rules = [{"record": f"query{number}", "expr": query} for number, query in enumerate(queries)]
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": [{"name": "runbooks", "rules": rules}]}))
    done = run_promtool("check", "rules", tmp_path / "rules.yaml")
    assert done.returncode == 0, done.stdout + done.stderr
    recorded = {rule["record"] for group in RULES for rule in group["rules"] if "record" in rule}
    assert {name for query in queries for name in re.findall(r"bakehouse:\w+(?::\w+)*", query)} <= recorded


def _queries(page: str) -> list[str]:
    return [
        line
        for block in re.findall(r"^```text\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
        for line in block.splitlines()
    ]


def test_rules_and_runbooks_use_existing_metrics():
    """Rename a metric here too."""
    tables = "\n".join(page.read_text() for page in (ROOT / "docs/reference").glob("*.md"))
    known = set(re.findall(r"^\| `(\w+)", tables, re.MULTILINE)) | {"up"}
    pages = [query for page in (ROOT / "docs/runbooks").glob("*.md") for query in _queries(page.read_text())]
    expressions = [rule["expr"] for group in RULES for rule in group["rules"]] + pages
    used = {name for text in expressions for name in re.findall(r"\b(?:bakehouse|process)_\w+", text)}
    histograms = {name: re.sub(r"_(bucket|count|sum)$", "", name) for name in used}
    assert {name for name in used if name not in known and histograms[name] not in known} == set()
