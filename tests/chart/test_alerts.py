"""Which alerts fire for what happens to a release: promtool evaluates the chart's rules on each story."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

from tests.support.rules import (
    TARGET,
    Phases,
    PodHistory,
    Series,
    evaluate,
    feedback,
    groups,
    needed_for,
    rows_by_bin,
    series,
)
from tools.helm import CHART

RULES = groups()
ALERT_RULES = [(rule["alert"], rule) for group in RULES for rule in group["rules"] if "alert" in rule]
ALERTS = {name for name, _ in ALERT_RULES}
RUNBOOKS = CHART.parents[1] / "docs/runbooks"
HEADINGS = ["What it means", "What to look at", "What to do", "When it is not what it seems"]
FIRING = 'group by (alertname, severity, cause, long, feature, score) (ALERTS{alertstate="firing"})'
HOUR, DAY = 60, 1440


@dataclass(frozen=True)
class Story:
    """What happens to a release, and which alerts fire at which minutes. None fires before them in the first hour.

    Args:
        title: What happens, in a few words.
        minutes: How long the story is.
        given: The series.
        fires: The alerts by minute, each with the labels that distinguish it.
        silent: Alerts that must not fire, although the story is about them.
        step: Minutes between two samples.
        only: The only group of rules to evaluate, for long stories.
    """

    title: str
    minutes: int
    given: list[Series]
    fires: Mapping[int, list[dict[str, str]]] = field(default_factory=dict)
    silent: tuple[str, ...] = ()
    step: int = 1
    only: str = ""


def alert(name: str, severity: str = "ticket", **labels: str) -> dict[str, str]:
    """Return the labels that distinguish an alert from others."""
    return {"alertname": name, "severity": severity, **labels}


def pods(minutes: int, up: Phases = 1.0, names: str = "ab", step: int = 1, **history: Any) -> list[Series]:
    """Return the series of pods with the same history."""
    return list(chain.from_iterable(PodHistory(name, up, **history).series(minutes, step) for name in names))


# Objectives -----------------------------------------------------------------------------------------------------------

# The burn rate, its minutes after a healthy hour, and the alerts that fire at the end.
BURNS = [
    (50.0, 30, [("page", "1h"), ("page", "6h")]),
    (10.0, 120, [("page", "6h"), ("ticket", "1d")]),
    (4.0, 250, [("ticket", "1d"), ("ticket", "3d")]),
    (1.5, 310, [("ticket", "3d")]),
]
BURN_STORIES = [
    Story(
        f"{share * times:.2%} of the requests are {kind} for {lasts} minutes",
        HOUR + lasts + 2,
        pods(HOUR + lasts + 2, **{kind: [(HOUR, 0.0), (1, 600 * share * times)], "step": 2}),
        {HOUR + lasts: [alert(name, severity, long=long) for severity, long in fires]},
        step=2,
    )
    for name, kind, share in (
        ("BakehouseErrorBudgetBurn", "failed", 0.001),
        ("BakehouseLatencyBudgetBurn", "slow", 0.01),
    )
    for times, lasts, fires in BURNS
]
BOTH = ("BakehouseErrorBudgetBurn", "BakehouseLatencyBudgetBurn")
OBJECTIVES = [
    *BURN_STORIES,
    Story(
        "a burst of failures is over, and so is the page",
        HOUR + 80,
        pods(HOUR + 80, failed=[(HOUR, 0.0), (10, 120.0), (1, 0.0)]),
        {
            HOUR + 9: [alert("BakehouseErrorBudgetBurn", "page", long="1h")],
            # The release is young, so its window of a day is an hour so far.
            HOUR + 70: [alert("BakehouseErrorBudgetBurn", long="1d")],
        },
    ),
    Story(
        "the budgets are spent exactly in their time",
        5 * HOUR,
        pods(5 * HOUR, failed=0.59, slow=5.9),
        silent=BOTH,
    ),
    Story(
        "a few requests arrive, and most of them fail and are slow",
        3 * HOUR,
        pods(
            3 * HOUR, requests=0.5, failed=[(HOUR, 0.0), (18, 0.25), (1, 0.0)], slow=[(HOUR, 0.0), (18, 0.25), (1, 0.0)]
        ),
        silent=BOTH,
    ),
    Story("there was never a request", 2 * HOUR, pods(2 * HOUR, requests=[(1, None)]), silent=BOTH),
    Story(
        "clients send invalid requests, and a load balancer probes draining pods",
        2 * HOUR,
        [
            *pods(2 * HOUR),
            series("bakehouse_http_requests_total", range(0, 12000, 100), pod="a", route="/predict", status="4xx"),
            series("bakehouse_http_requests_total", range(0, 12000, 100), pod="a", route="/readyz", status="5xx"),
        ],
        silent=BOTH,
    ),
]

# Pods -----------------------------------------------------------------------------------------------------------------


def rollout(minutes: int, begins: int = HOUR, lasts: int = 10, **new: Any) -> list[Series]:
    """Return the series of two pods that two pods of version v2 replace, one after the other."""
    half = begins + lasts // 2
    return [
        *PodHistory("a", [(half, 1.0), (1, None)]).series(minutes),
        *PodHistory("b", [(begins + lasts, 1.0), (1, None)]).series(minutes),
        *PodHistory("c", [(begins, None), (1, 0.0), (1, 1.0)], version="v2", **new).series(minutes),
        *PodHistory("d", [(half, None), (1, 0.0), (1, 1.0)], version="v2", **new).series(minutes),
    ]


STARTS = [(1, 1.0), (1, 1.0), (1, 1.0), (1, 0.0)]  # three more processes, in three scrapes
ALL_OF_PODS = (
    "BakehouseDown",
    "BakehouseTrafficGone",
    "BakehouseVersionSkew",
    "BakehouseCrashLoop",
    "BakehouseSaturated",
)
DOWN = alert("BakehouseDown", "page")
PODS = [
    Story("a rollout", 3 * HOUR, rollout(3 * HOUR), silent=(*BOTH, *ALL_OF_PODS)),
    Story(
        "five rollouts within an hour, each with new pods",
        75,
        [
            given
            for number in range(5)
            for given in pods(
                75,
                [(15 * number, None), (1, 0.0), (18, 1.0), (1, None)],
                f"{2 * number}{2 * number + 1}",
                version=f"v{number}",
            )
        ],
        silent=ALL_OF_PODS,
    ),
    Story(
        "a scale-down from four pods to one, which takes all requests",
        3 * HOUR,
        [
            *PodHistory("a", requests=[(HOUR, 600.0), (1, 2400.0)]).series(3 * HOUR),
            *pods(3 * HOUR, [(HOUR, 1.0), (1, None)], "bcd"),
        ],
        silent=ALL_OF_PODS,
    ),
    Story(
        "one pod of two restarts once, and so does the other half an hour later",
        3 * HOUR,
        [
            *PodHistory("a", [(HOUR, 1.0), (2, 0.0), (1, 1.0)]).series(3 * HOUR),
            *PodHistory("b", [(HOUR + 30, 1.0), (2, 0.0), (1, 1.0)]).series(3 * HOUR),
        ],
        silent=("BakehouseDown", "BakehouseCrashLoop"),
    ),
    Story(
        "both pods restart at once",
        3 * HOUR,
        pods(3 * HOUR, [(HOUR, 1.0), (2, 0.0), (1, 1.0)]),
        silent=("BakehouseDown", "BakehouseCrashLoop"),
    ),
    Story(
        "no pod answers any more",
        HOUR + 20,
        pods(HOUR + 20, [(HOUR, 1.0), (1, 0.0)]),
        {HOUR + 5: [DOWN], HOUR + 19: [DOWN, alert("BakehouseCrashLoop", cause="silence")]},
    ),
    Story(
        "all pods are gone",
        HOUR + 20,
        pods(HOUR + 20, [(HOUR, 1.0), (1, None)]),
        {HOUR + 5: [DOWN], HOUR + 19: [DOWN]},
    ),
    Story(
        "pods answer, but none has loaded its model", HOUR, pods(HOUR, loaded=False, requests=[(1, None)]), {5: [DOWN]}
    ),
    Story(
        "only pods of another release exist",
        HOUR,
        pods(HOUR, release="other"),
        {5: [DOWN]},
    ),
    Story(
        "requests stop while pods exist",
        2 * HOUR + 80,
        pods(2 * HOUR + 80, requests=[(2 * HOUR, 600.0), (1, 0.0)]),
        {2 * HOUR + 17: [alert("BakehouseTrafficGone")], 2 * HOUR + 78: []},
    ),
    Story(
        "requests stop with a rollout, and its pods never receive one",
        2 * HOUR + 30,
        rollout(2 * HOUR + 30, begins=2 * HOUR, requests=[(1, None)]),
        {2 * HOUR + 29: [alert("BakehouseTrafficGone")]},
    ),
    Story(
        "a few requests an hour, at times none",
        4 * HOUR,
        pods(4 * HOUR, requests=[(10, 0.2), (50, 0.0), (10, 0.2), (50, 0.0), (10, 0.2), (1, 0.0)]),
        silent=("BakehouseTrafficGone",),
    ),
    Story(
        "every evening requests stop",
        2 * DAY - HOUR,
        pods(2 * DAY - HOUR, requests=[(8 * HOUR, 600.0), (16 * HOUR, 0.0), (8 * HOUR, 600.0), (1, 0.0)], step=5),
        # On the first evening there is no history yet.
        {8 * HOUR + 25: [alert("BakehouseTrafficGone")], DAY: [], DAY + 8 * HOUR + 25: [], DAY + 10 * HOUR: []},
        step=5,
        only="-pods",
    ),
    Story(
        "every Saturday requests stop",
        8 * DAY,
        pods(
            8 * DAY,
            requests=[(DAY, 0.0), (6 * DAY + 12 * HOUR, 600.0), (1, 0.0)],
            step=5,
        ),
        {7 * DAY + 12 * HOUR + 25: []},
        step=5,
        only="-pods",
    ),
    Story(
        "half of the pods stay at the old model version",
        2 * HOUR,
        [*PodHistory("a").series(2 * HOUR), *PodHistory("b", [(HOUR, None), (1, 1.0)], version="v2").series(2 * HOUR)],
        {HOUR + 10: [], HOUR + 16: [alert("BakehouseVersionSkew")]},
    ),
    Story(
        "another release in the namespace serves another version",
        2 * HOUR,
        [*pods(2 * HOUR), *pods(2 * HOUR, names="xy", version="v9", release="other")],
        silent=("BakehouseVersionSkew",),
    ),
    Story(
        "one pod restarts every ten minutes",
        2 * HOUR,
        [
            *PodHistory("a").series(2 * HOUR),
            *PodHistory("b", [(HOUR, 1.0), *[(1, 0.0), (9, 1.0)] * 4, (1, 1.0)]).series(2 * HOUR),
        ],
        {HOUR + 15: [], HOUR + 25: [alert("BakehouseCrashLoop", cause="container")]},
    ),
    Story(
        "a serving process of a pod is killed every ten minutes",
        2 * HOUR,
        [
            *PodHistory("a").series(2 * HOUR),
            *PodHistory("b", started=[(HOUR, 0.0), *[(1, 1.0), (9, 0.0)] * 4]).series(2 * HOUR),
        ],
        {HOUR + 15: [], HOUR + 25: [alert("BakehouseCrashLoop", cause="process")]},
    ),
    Story(
        "pods of four processes start, and one of them restarts once",
        2 * HOUR,
        [
            *PodHistory("a", started=[(1, 0.0), *STARTS]).series(2 * HOUR),
            *PodHistory(
                "b", [(40, 1.0), (1, 0.0), (1, 1.0)], started=[(1, 0.0), *STARTS[:-1], (39, 0.0), *STARTS]
            ).series(2 * HOUR),
        ],
        silent=("BakehouseCrashLoop",),
    ),
    Story(
        "a new pod ends before its first scrape",
        2 * HOUR,
        [*pods(2 * HOUR), *PodHistory("c", [(HOUR, None), (1, 0.0)]).series(2 * HOUR)],
        {HOUR + 14: [], HOUR + 20: [alert("BakehouseCrashLoop", cause="silence")]},
    ),
]

# Saturation and certificates ------------------------------------------------------------------------------------------

FULL = [
    Story(
        "requests are refused, because the queue is full, for half an hour",
        HOUR + 30,
        pods(HOUR + 30, refused=[(HOUR, 0.0), (1, 5.0)]),
        {HOUR + 10: [], HOUR + 20: [alert("BakehouseSaturated", cause="refused")]},
    ),
    Story(
        "requests wait for a thread for half an hour",
        HOUR,
        pods(HOUR, waits=0.1),
        {10: [], 20: [alert("BakehouseSaturated", cause="queue")]},
    ),
    Story(
        "the CPU limit stops the pods most of the time",
        HOUR,
        pods(HOUR, throttled=0.6),
        {25: [], 35: [alert("BakehouseSaturated", cause="cpu")]},
    ),
    Story(
        "a burst of requests is refused",
        2 * HOUR,
        pods(2 * HOUR, refused=[(HOUR, 0.0), (2, 500.0), (1, 0.0)]),
        silent=("BakehouseSaturated",),
    ),
    Story(
        "slow clients get an error, requests wait a little, and the CPU limit is reached at times",
        2 * HOUR,
        pods(2 * HOUR, refused=5.0, reason="slow_body", waits=0.05, throttled=0.4),
        silent=("BakehouseSaturated",),
    ),
    Story(
        "one request in ten minutes waits for a second",
        2 * HOUR,
        pods(2 * HOUR, requests=0.1, waits=1.0),
        silent=("BakehouseSaturated",),
    ),
    Story(
        "a few of many requests wait for a thread, and one is refused every now and then",
        2 * HOUR,
        pods(2 * HOUR, waits=0.1, waiting=0.002, refused=0.1),
        silent=("BakehouseSaturated",),
    ),
    Story(
        "the certificate expires in less than two weeks",
        2 * HOUR,
        pods(2 * HOUR, certificate_days=13.9),
        {30: [], HOUR + 10: [alert("BakehouseCertificateExpiring")]},
    ),
    Story(
        "the certificate expires tomorrow",
        2 * HOUR,
        pods(2 * HOUR, certificate_days=1.0),
        {
            10: [],
            20: [alert("BakehouseCertificateExpiring", "page")],
            HOUR + 10: [alert("BakehouseCertificateExpiring", "page"), alert("BakehouseCertificateExpiring")],
        },
    ),
    Story(
        "the certificate expires in a month",
        2 * HOUR,
        pods(2 * HOUR, certificate_days=30.0),
        silent=("BakehouseCertificateExpiring",),
    ),
]

# The model ------------------------------------------------------------------------------------------------------------

TRAINED = {"00: below 1": 0.0, "01: 1 to 2": 0.5, "02: 2 to 3": 0.5, "03: above 3": 0.0, "missing": 0.0}
AS_TRAINED: dict[str, Phases] = {"01: 1 to 2": 100.0, "02: 2 to 3": 100.0}
SHIFTED: dict[str, Phases] = {"01: 1 to 2": [(HOUR, 100.0), (1, 20.0)], "02: 2 to 3": [(HOUR, 100.0), (1, 180.0)]}
DRIFT = ("BakehouseFeatureDrift", "BakehousePredictionDrift")


def watched(
    minutes: int, area: Mapping[str, Phases] = AS_TRAINED, y: Mapping[str, Phases] = AS_TRAINED
) -> list[Series]:
    """Return the series of two pods whose feature area and whose predictions are compared with training."""
    return [
        *pods(minutes),
        *chain.from_iterable(rows_by_bin(name, minutes, TRAINED, area, feature="area") for name in "ab"),
        *chain.from_iterable(rows_by_bin(name, minutes, TRAINED, {**AS_TRAINED}, feature="age") for name in "ab"),
        *chain.from_iterable(rows_by_bin(name, minutes, TRAINED, y) for name in "ab"),
    ]


MODEL = [
    Story(
        "the values of one feature shift",
        3 * HOUR,
        watched(3 * HOUR, area=SHIFTED),
        {HOUR + 30: [], HOUR + 90: [alert("BakehouseFeatureDrift", feature="area")]},
    ),
    Story(
        "the values of one feature shift, and requests ask for probabilities only",
        3 * HOUR,
        watched(3 * HOUR, area=SHIFTED, y=dict.fromkeys(AS_TRAINED, 0.0)),
        {HOUR + 30: [], HOUR + 90: [alert("BakehouseFeatureDrift", feature="area")]},
    ),
    Story(
        "one value in twenty of a feature is missing, but none was in training",
        3 * HOUR,
        watched(3 * HOUR, area={**AS_TRAINED, "missing": [(HOUR, 0.0), (1, 12.0)]}),
        {HOUR + 110: [alert("BakehouseFeatureDrift", feature="area")]},
    ),
    Story(
        "the predictions shift",
        3 * HOUR,
        watched(3 * HOUR, y=SHIFTED),
        {HOUR + 30: [], HOUR + 90: [alert("BakehousePredictionDrift")]},
    ),
    Story(
        "requests differ a little from the training data",
        3 * HOUR,
        watched(3 * HOUR, area={"01: 1 to 2": 130.0, "02: 2 to 3": 70.0}, y={"01: 1 to 2": 70.0, "02: 2 to 3": 130.0}),
        silent=DRIFT,
    ),
    Story(
        "a few hundred rows an hour are all in one bin",
        3 * HOUR,
        watched(3 * HOUR, area={"01: 1 to 2": 8.0}, y={"01: 1 to 2": 8.0}),
        silent=DRIFT,
    ),
    Story(
        "for ten minutes all rows are in one bin",
        3 * HOUR,
        watched(3 * HOUR, area={**AS_TRAINED, "01: 1 to 2": [(HOUR, 100.0), (10, 200.0), (1, 100.0)]}),
        silent=DRIFT,
    ),
    Story("there was never a row", 2 * HOUR, watched(2 * HOUR, area={}, y={}), silent=DRIFT),
    Story(
        "the error of predictions is a quarter larger than on the held-out data",
        3 * HOUR,
        [*pods(3 * HOUR), *feedback("a", 3 * HOUR, 60.0, error_of_over=60 * 7.5, error_of_under=60 * 5.0)],
        {2 * HOUR + 30: [alert("BakehouseBadFeedback", score="mean_absolute_error")]},
    ),
    Story(
        "fewer predictions are correct than on the held-out data",
        3 * HOUR,
        [*pods(3 * HOUR), *feedback("a", 3 * HOUR, 60.0, correct=60 * 0.78)],
        {2 * HOUR + 30: [alert("BakehouseBadFeedback", score="accuracy")]},
    ),
    Story(
        "predictions are a little worse than on the held-out data",
        3 * HOUR,
        [
            *pods(3 * HOUR),
            *feedback("a", 3 * HOUR, 60.0, error_of_over=60 * 5.4, error_of_under=60 * 5.4, correct=60 * 0.82),
        ],
        silent=("BakehouseBadFeedback",),
    ),
    Story(
        "all predictions are wrong, but few true values are known",
        3 * HOUR,
        [*pods(3 * HOUR), *feedback("a", 3 * HOUR, 2.0, error_of_over=200.0, error_of_under=0.0, correct=0.0)],
        silent=("BakehouseBadFeedback",),
    ),
    Story(
        "the next model version has no true values yet",
        3 * HOUR,
        [*rollout(3 * HOUR), *feedback("a", 3 * HOUR, 60.0, error_of_over=60 * 5.0, error_of_under=60 * 5.0)],
        silent=("BakehouseBadFeedback",),
    ),
]

STORIES = [*OBJECTIVES, *PODS, *FULL, *MODEL]


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.title)
def test_exactly_the_expected_alerts_fire(story: Story, tmp_path: Path):
    """The expected alerts fire at their minutes, and no other alert fires at any time that is checked."""
    until = min(HOUR, *story.fires) if story.fires else story.minutes
    silence = [(FIRING, minute, {}) for minute in range(0, until, 5)]
    firing = [(FIRING, minute, {_labels(each): 1.0 for each in fires}) for minute, fires in sorted(story.fires.items())]
    rules = [group for group in RULES if group["name"].endswith(story.only)]
    done = evaluate(tmp_path, rules, story.given, silence + firing, step=story.step)
    assert done.returncode == 0, done.stdout + done.stderr


def _labels(labels: Mapping[str, str]) -> str:
    return "{" + ", ".join(f'{name}="{value}"' for name, value in sorted(labels.items())) + "}"


# One alert of each kind: its story, minute, labels and description.
DESCRIPTIONS = [
    (
        "a burst of failures is over, and so is the page",
        HOUR + 9,
        {"alertname": "BakehouseErrorBudgetBurn", "severity": "page", "long": "1h", "short": "5m"},
        "3.335% of the requests to house failed within 1h. The objective allows 0.1%.",
    ),
    (
        "1.50% of the requests are slow for 310 minutes",
        HOUR + 310,
        {"alertname": "BakehouseLatencyBudgetBurn", "severity": "ticket", "long": "3d", "short": "6h"},
        "1.261% of the predictions of house took longer than 0.25 s within 3d. The objective allows 1%.",
    ),
    (
        "all pods are gone",
        HOUR + 5,
        {"alertname": "BakehouseDown", "severity": "page"},
        "Prometheus finds no pod of house in models that answers scrapes and has loaded its model.",
    ),
    (
        "requests stop while pods exist",
        2 * HOUR + 17,
        {"alertname": "BakehouseTrafficGone", "severity": "ticket"},
        "house received 12k prediction requests in ten minutes an hour ago, and none in the last ten minutes.",
    ),
    (
        "half of the pods stay at the old model version",
        HOUR + 16,
        {"alertname": "BakehouseVersionSkew", "severity": "ticket"},
        "The pods of house have served 2 model versions for longer than a rollout may take.",
    ),
    (
        "one pod restarts every ten minutes",
        HOUR + 25,
        {"alertname": "BakehouseCrashLoop", "severity": "ticket", "cause": "container", "pod": "b"},
        "The server in b restarted 3 times within an hour.",
    ),
    (
        "a serving process of a pod is killed every ten minutes",
        HOUR + 25,
        {"alertname": "BakehouseCrashLoop", "severity": "ticket", "cause": "process", "pod": "b"},
        "b replaced serving processes 3 times within half an hour.",
    ),
    (
        "a new pod ends before its first scrape",
        HOUR + 20,
        {"alertname": "BakehouseCrashLoop", "severity": "ticket", "cause": "silence", "pod": "c"},
        "c has answered no scrape for 15 minutes.",
    ),
    (
        "requests are refused, because the queue is full, for half an hour",
        HOUR + 20,
        {"alertname": "BakehouseSaturated", "severity": "ticket", "cause": "refused"},
        "house refused 100 requests in ten minutes, and has refused requests for a quarter of an hour.",
    ),
    (
        "requests wait for a thread for half an hour",
        20,
        {"alertname": "BakehouseSaturated", "severity": "ticket", "cause": "queue"},
        "Requests to house wait 100ms for a thread on average. "
        "That is more than a quarter of the 0.25 s that a prediction may take.",
    ),
    (
        "the CPU limit stops the pods most of the time",
        35,
        {"alertname": "BakehouseSaturated", "severity": "ticket", "cause": "cpu"},
        "The CPU limit stopped the pods of house in 60% of the periods in which they ran.",
    ),
    (
        "the certificate expires in less than two weeks",
        HOUR + 10,
        {"alertname": "BakehouseCertificateExpiring", "severity": "ticket"},
        "The TLS certificate of house expires in 13d 20h 26m 0s.",
    ),
    (
        "the values of one feature shift",
        HOUR + 90,
        {"alertname": "BakehouseFeatureDrift", "severity": "ticket", "version": "v1", "feature": "area"},
        "The values of area in requests to house differ from the training data of version v1: PSI 0.88 over 1h.",
    ),
    (
        "the predictions shift",
        HOUR + 90,
        {"alertname": "BakehousePredictionDrift", "severity": "ticket", "version": "v1"},
        "The predictions of house differ from those of version v1 on its training data: PSI 0.88 over 1h.",
    ),
    (
        "the error of predictions is a quarter larger than on the held-out data",
        2 * HOUR + 30,
        {"alertname": "BakehouseBadFeedback", "severity": "ticket", "version": "v1", "score": "mean_absolute_error"},
        "Predictions of version v1 of house are off by 12.5 on average over 1d, more than on the held-out data.",
    ),
    (
        "fewer predictions are correct than on the held-out data",
        2 * HOUR + 30,
        {"alertname": "BakehouseBadFeedback", "severity": "ticket", "version": "v1", "score": "accuracy"},
        "78% of the predictions of version v1 of house are correct over 1d, fewer than on the held-out data.",
    ),
]


@pytest.mark.parametrize(
    ("title", "minute", "labels", "description"), DESCRIPTIONS, ids=[each[3] for each in DESCRIPTIONS]
)
def test_descriptions_name_the_release_and_its_problem(
    title: str, minute: int, labels: dict[str, str], description: str, tmp_path: Path
):
    """Numbers are rounded for people."""
    (story,) = [each for each in STORIES if each.title == title]
    given = {name: value for name, value in labels.items() if name != "alertname"}
    rules = [
        {
            **group,
            "rules": [rule for rule in group["rules"] if rule.get("alert") != labels["alertname"] or _has(rule, given)],
        }
        for group in needed_for([labels["alertname"]], RULES)
    ]
    (rule,) = [each for group in rules for each in group["rules"] if each.get("alert") == labels["alertname"]]
    expected = {
        "exp_labels": {**TARGET, **given},
        "exp_annotations": {"summary": rule["annotations"]["summary"], "description": description},
    }
    test = {"eval_time": f"{minute}m", "alertname": labels["alertname"], "exp_alerts": [expected]}
    done = evaluate(tmp_path, rules, story.given, [], [test], step=story.step)
    assert done.returncode == 0, done.stdout + done.stderr


def _has(rule: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    return rule["labels"].items() <= labels.items()


def test_every_kind_of_alert_has_a_tested_description():
    """One of the four windows is enough for a budget."""
    described = {(labels["alertname"], labels.get("cause"), labels.get("score")) for _, _, labels, _ in DESCRIPTIONS}
    assert described == {(name, rule["labels"].get("cause"), rule["labels"].get("score")) for name, rule in ALERT_RULES}


def test_every_alert_fires_in_a_story_and_is_silent_in_another():
    """A new alert needs both stories."""
    fire = {each["alertname"] for story in STORIES for fires in story.fires.values() for each in fires}
    silent = {name for story in STORIES for name in story.silent if not story.fires}
    assert fire == ALERTS
    assert silent == ALERTS


def test_every_alert_of_several_kinds_fires_in_each():
    """Kinds differ in severity, cause, window or score."""
    kinds = {tuple(sorted({**rule["labels"], "alertname": name}.items())) for name, rule in ALERT_RULES}
    seen = {
        tuple(sorted((name, value) for name, value in each.items() if name != "feature"))
        for story in STORIES
        for fires in story.fires.values()
        for each in fires
    }
    assert {tuple(each for each in kind if each[0] != "short") for kind in kinds} == seen


@pytest.mark.parametrize("name", sorted(ALERTS))
def test_every_alert_has_a_runbook(name: str):
    """Its headings are always the same."""
    page = (RUNBOOKS / f"{name}.md").read_text()
    assert page.startswith(f"# {name}\n")
    assert re.findall(r"^## (.*)$", page, re.MULTILINE) == HEADINGS


def test_every_runbook_is_of_an_alert():
    """Remove the page with its alert."""
    assert {file.stem for file in RUNBOOKS.glob("*.md")} == ALERTS
