"""The chart's rules on series that a test makes up, a sample a minute, evaluated by Prometheus' own promtool."""

import json
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from tests.support.promtool import promtool
from tools.helm import one, render

NAMESPACE, RELEASE = "models", "house"
TARGET = {"namespace": NAMESPACE, "release": RELEASE}
VALUES = {"image": {"tag": "v1"}, "metrics": {"monitor": {"kind": "PodMonitor"}, "rules": {"enabled": True}}}

Values = list[float | None]
# What happened for how many minutes, one after the other; a number alone is for all the time.
Phases = float | Sequence[tuple[int, float | None]]
Series = dict[str, str]


def groups(**values: Any) -> list[dict[str, Any]]:
    """Return the groups of rules of the release, with further values of the chart."""
    return list(
        one(render({**VALUES, **values}, name=RELEASE, namespace=NAMESPACE), "PrometheusRule")["spec"]["groups"]
    )


def over(phases: Phases, minutes: int) -> Values:
    """Return the value of each minute; None where there is none, and after the last phase the last one's value."""
    if isinstance(phases, int | float):
        return [phases] * minutes
    values = [value for length, value in phases for _ in range(length)]
    return (values + [values[-1]] * minutes)[:minutes]


def counted(rates: Values, present: Values) -> Values:
    """Return a counter that grows by a rate a minute, and begins with 0 wherever its process does."""
    values: Values = []
    for rate, here in zip(rates, present, strict=True):
        before = values[-1] if values else None
        values.append(None if not here else 0.0 if before is None else before + (rate or 0.0))
    return values


def series(metric: str, values: Iterable[float | None], step: int = 1, **labels: str) -> Series:
    """Return a series of the release for promtool, a sample each step minutes; where there is no value, it ends."""
    given = json_labels({**TARGET, **labels})
    words = ["stale" if value is None else f"{value:.12g}" for value in values]
    return {"series": f"{metric}{given}", "values": " ".join(words[::step])}


def json_labels(labels: Mapping[str, str]) -> str:
    """Return labels as PromQL writes them."""
    return "{" + ", ".join(f"{name}={json.dumps(value)}" for name, value in labels.items()) + "}"


def pod(
    name: str,
    up: Phases,
    minutes: int,
    version: str = "v1",
    *,
    requests: Phases = 600.0,
    failed: Phases = 0.0,
    slow: Phases = 0.0,
    refused: Phases = 0.0,
    reason: str = "queue_full",
    waits: float = 0.0,
    waiting: float = 1.0,
    throttled: Phases = 0.0,
    started: Phases = 0.0,
    certificate_days: float = 90.0,
    loaded: bool = True,
    step: int = 1,
    release: str = RELEASE,
) -> Iterator[Series]:
    """Yield the series of a pod.

    Args:
        name: The pod's name.
        up: 1 while it answers scrapes, 0 while it does not, None while there is no such pod.
        minutes: How long the story is.
        version: The model version.
        requests: Predictions a minute; None until the first one.
        failed: Those among them that are answered 5xx.
        slow: Those among them that take longer than a quarter of a second.
        refused: Requests a minute that are refused for a reason.
        reason: Which one.
        waits: Seconds that a request waits for a thread, on average over those that wait.
        waiting: Share of the requests that wait for a thread.
        throttled: Share of the periods in which the CPU limit stopped it.
        started: Serving processes a minute that are started beside the first.
        certificate_days: From the begin of the story to the end of the certificate.
        loaded: Whether it has loaded its model.
        step: Minutes between two samples.
        release: The release's name.
    """
    target = {"pod": name, "release": release}
    of_version = {**target, "version": version}
    targeted = over(up, minutes)
    here: Values = [1.0 if value else None for value in targeted]
    asked = over(requests, minutes)
    present: Values = [1.0 if value and rate is not None else None for value, rate in zip(here, asked, strict=True)]
    begins = [minute if value and (minute == 0 or not here[minute - 1]) else 0 for minute, value in enumerate(here)]
    since = [max(begins[: minute + 1]) for minute in range(minutes)]

    def add(metric: str, rates: Phases, labels: Mapping[str, str], seen: Values = here) -> Series:
        return series(metric, counted(over(rates, minutes), seen), step, **labels)

    def gauge(metric: str, values: Iterable[float], labels: Mapping[str, str]) -> Series:
        shown = (value if seen else None for value, seen in zip(values, here, strict=True))
        return series(metric, shown, step, **labels)

    route = {**of_version, "route": "/predict"}
    yield series("up", targeted, step, **target)
    if loaded:
        yield gauge("bakehouse_model_info", over(1.0, minutes), {**of_version, "name": "house_prices"})
        yield gauge("bakehouse_model_score", over(-10.0, minutes), {**of_version, "score": "neg_mean_absolute_error"})
        yield gauge("bakehouse_model_score", over(0.9, minutes), {**of_version, "score": "accuracy"})
    yield gauge("process_start_time_seconds", (60.0 * minute + 1 for minute in since), target)
    yield gauge("bakehouse_tls_certificate_expiry_timestamp_seconds", over(certificate_days * 86400, minutes), target)
    yield series(
        "bakehouse_processes_started_total",
        (None if value is None else value + 1 for value in counted(over(started, minutes), here)),
        step,
        **target,
    )
    succeeded = [(every or 0.0) - (bad or 0.0) for every, bad in zip(asked, over(failed, minutes), strict=True)]
    fast = [(every or 0.0) - (late or 0.0) for every, late in zip(asked, over(slow, minutes), strict=True)]
    requests_total, duration = "bakehouse_http_requests_total", "bakehouse_http_request_duration_seconds"
    yield series(requests_total, counted(list(succeeded), present), step, **route, method="POST", status="2xx")
    yield series(requests_total, counted(over(failed, minutes), present), step, **route, method="POST", status="5xx")
    yield series(f"{duration}_bucket", counted(list(fast), present), step, **route, le="0.25")
    yield series(f"{duration}_count", counted(asked, present), step, **route)
    yield add("bakehouse_http_requests_refused_total", refused, {**target, "reason": reason})
    queued: Values = [(rate or 0.0) * waiting for rate in asked]
    yield series("bakehouse_queue_wait_seconds_count", counted(queued, present), step, **target)
    waited: Values = [(rate or 0.0) * waits for rate in queued]
    yield series("bakehouse_queue_wait_seconds_sum", counted(waited, present), step, **target)
    yield add("bakehouse_cpu_periods_total", 600.0, target)
    stopped: Values = [600.0 * (share or 0.0) for share in over(throttled, minutes)]
    yield series("bakehouse_cpu_throttled_periods_total", counted(stopped, here), step, **target)


def rows_by_bin(
    name: str,
    minutes: int,
    reference: Mapping[str, float],
    rows: Mapping[str, Phases],
    version: str = "v1",
    feature: str | None = None,
) -> Iterator[Series]:
    """Yield a pod's rows a minute by bin, and the bins' shares in training; of predictions, if no feature is named."""
    what = "prediction" if feature is None else "feature"
    labels = {"pod": name, "version": version, **({} if feature is None else {"feature": feature})}
    for place, share in reference.items():
        own = {**labels, "bin": place, "kind": place if place in ("missing", "unknown", "other") else "inside"}
        counts = counted(over(rows.get(place, 0.0), minutes), over(1.0, minutes))
        yield series(f"bakehouse_{what}_rows_total", counts, **own)
        yield series(f"bakehouse_{what}_reference_ratio", over(share, minutes), **own)


def feedback(name: str, minutes: int, rows: Phases, version: str = "v1", **sums: Phases) -> Iterator[Series]:
    """Yield a pod's true values a minute, and what else grows with them: error_over, error_under, correct, ..."""
    always = over(1.0, minutes)
    own = {"pod": name, "version": version}
    yield series("bakehouse_feedback_rows_total", counted(over(rows, minutes), always), **own, result="accepted")
    for what, rates in sums.items():
        metric, _, sign = what.partition("_of_")
        labels = {**own, "sign": sign} if sign else own
        yield series(f"bakehouse_feedback_{metric}_total", counted(over(rates, minutes), always), **labels)


def evaluate(
    folder: Path,
    rules: list[dict[str, Any]],
    given: Iterable[Series],
    expected: Iterable[tuple[str, int, Mapping[str, float]]],
    alerts: Sequence[dict[str, Any]] = (),
    step: int = 1,
) -> subprocess.CompletedProcess[str]:
    """Have promtool evaluate rules on series.

    Args:
        folder: Where the files of promtool may be.
        rules: The groups.
        given: The series.
        expected: A query, a minute, and the values that the query has then by their series, written as in PromQL.
        alerts: What promtool takes as alert_rule_test.
        step: Minutes between two samples and two evaluations.

    Returns:
        What promtool said; its exit code is 0 if all is as expected.
    """
    (folder / "rules.yaml").write_text(yaml.safe_dump({"groups": rules}))
    queries = [
        {
            "expr": query,
            "eval_time": f"{minute}m",
            "exp_samples": [{"labels": labels, "value": value} for labels, value in samples.items()],
        }
        for query, minute, samples in expected
    ]
    test = {
        "interval": f"{step}m",
        "input_series": list(given),
        "promql_expr_test": queries,
        "alert_rule_test": list(alerts),
    }
    content = {
        "rule_files": ["rules.yaml"],
        "evaluation_interval": f"{step}m",
        "group_eval_order": [group["name"] for group in rules],  # else it is another one each time
        "tests": [test],
    }
    file = folder / "test.yaml"
    file.write_text(json.dumps(content))
    return run_promtool("test", "rules", file)


def run_promtool(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Return what promtool says; skips the test where there is none."""
    command = [promtool(), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
