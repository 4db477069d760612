"""The declarations of all series, the page made of them, and the words that labels may have."""

import ast
import re
from collections.abc import Callable

import pytest
from flask.testing import FlaskClient

from service.codec.predict_request import JSON_TYPES
from service.observability.metric_definitions import (
    COUNTER,
    ERROR_CODES,
    GAUGE,
    HISTOGRAM,
    ROUTES,
    UNMATCHED,
    VERSION,
    LabelValues,
    MetricDefinition,
)
from service.problems import ProblemError
from tests.conftest import ROOT
from tests.support.corpus import CASES
from tools.metrics import PAGE, SERIES, page


def test_the_page_is_the_one_of_the_code() -> None:
    """Make docs would change nothing."""
    assert PAGE.read_text() == page()


def test_no_series_is_declared_twice() -> None:
    """A name is one family."""
    names = [declared.name for declared in SERIES]
    assert sorted(set(names)) == sorted(names)


@pytest.mark.parametrize("declared", SERIES, ids=lambda declared: declared.name)
def test_names_follow_the_conventions(declared: MetricDefinition[COUNTER]) -> None:
    """Counters end in _total, bounds belong to histograms, base units are said, help is a sentence."""
    assert declared.name.endswith("_total") == (declared.kind is COUNTER)
    assert bool(declared.buckets) == (declared.kind is HISTOGRAM)
    assert re.fullmatch(r"[A-Z].*[^.]\.", declared.help)
    for unit in ("seconds", "bytes"):
        assert (unit in declared.unit) == declared.name.removesuffix("_total").endswith(unit)
    assert "version" not in declared.labels or next(iter(declared.labels.items())) == ("version", VERSION)


def test_the_number_of_series_is_bounded_by_what_labels_may_be() -> None:
    """Each bucket of a histogram is one, and infinity, count and sum are."""
    labels = {"version": VERSION, "a": ("x", "y"), "b": LabelValues("anything", 5)}
    assert MetricDefinition(GAUGE, "g", "", "Some.").at_most == 1
    assert MetricDefinition(GAUGE, "g", "", "Some.", labels).at_most == 10
    assert MetricDefinition(HISTOGRAM, "h", "", "Some.", labels, buckets=(1, 2)).at_most == 50


def test_a_row_of_the_page_says_all_that_is_declared() -> None:
    """Name, type, unit, labels, the most there can be, and where there is one."""
    labels = {"version": VERSION, "a": ("x", "y")}
    text = page([MetricDefinition(COUNTER, "c_total", "rows", "Rows.", labels, only="at sea")])
    assert text.endswith(
        "| `c_total` | counter | rows | `version`: the model version; `a`: `x`, `y` | 2 | Rows. Only at sea. |\n"
    )
    assert "together that is 2." in text.replace("\n", " ")


def test_routes_are_those_of_the_application(client_of: Callable[..., FlaskClient]) -> None:
    """A new one has to be declared, or the number of series would be wrong."""
    rules = {rule.rule for rule in client_of().application.url_map.iter_rules()}
    assert rules | {UNMATCHED} == set(ROUTES)


def test_codes_of_errors_are_those_that_clients_are_told() -> None:
    """Those in the code, and those that the corpus of odd bodies is answered with."""
    assert {case.code for case in CASES if case.code} <= set(ERROR_CODES)
    words = re.findall(r"[a-z_]+", " ".join(strings("codec") + strings("inference")))
    faults = {word for word in words if "_" in word} & set(ERROR_CODES)
    classes = [ProblemError, *subclasses(ProblemError)]
    conditions = {found.code for found in classes} - {"not_ready", "not_found"}  # which no prediction is refused with
    kinds = {f"not_a_{kind}" for kind in JSON_TYPES}
    assert faults | conditions | kinds | {"empty"} == set(ERROR_CODES)


def subclasses(parent: type[ProblemError]) -> list[type[ProblemError]]:
    """Return all classes below this one."""
    return [found for child in parent.__subclasses__() for found in (child, *subclasses(child))]


def strings(package: str) -> list[str]:
    """Return every literal string of a package of the service."""
    trees = [ast.parse(path.read_text()) for path in sorted((ROOT / "service" / package).glob("*.py"))]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    return [node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)]
