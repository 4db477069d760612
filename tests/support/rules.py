"""The chart's rules on made-up series, a sample a minute, as promtool evaluates them."""

import json
import os
import re
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

from tests.support.promtool import promtool
from tools.helm import one, render

NAMESPACE, RELEASE = "models", "house"
TARGET = {"namespace": NAMESPACE, "release": RELEASE}
VALUES = {"image": {"tag": "v1"}, "metrics": {"monitor": {"kind": "PodMonitor"}, "rules": {"enabled": True}}}

Values = list[float | None]
# Values by their minutes, one after the other. A number alone is for the whole time.
Phases = float | Sequence[tuple[int, float | None]]
Series = dict[str, str]


def groups(**values: Any) -> list[dict[str, Any]]:
    """Return the rule groups of the release, with further values of the chart."""
    return list(
        one(render({**VALUES, **values}, name=RELEASE, namespace=NAMESPACE), "PrometheusRule")["spec"]["groups"]
    )


def needed_for(names: Iterable[str], rules: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the groups that define these records and alerts, and the groups whose records those use."""
    wanted: set[str] = set()
    more = set(names)
    while more - wanted:
        wanted |= more
        more = {
            record
            for group in rules
            if wanted & _defined(group)
            for rule in group["rules"]
            for record in re.findall(r"bakehouse:[\w:]+", rule["expr"])
        }
    return [group for group in rules if wanted & _defined(group)]


def _defined(group: Mapping[str, Any]) -> set[str]:
    return {rule.get("record") or rule["alert"] for rule in group["rules"]}


def over(phases: Phases, minutes: int) -> Values:
    """Return the value of each minute. The last phase goes on, and None means no sample."""
    if isinstance(phases, int | float):
        return [phases] * minutes
    values = [value for length, value in phases for _ in range(length)]
    return (values + [values[-1]] * minutes)[:minutes]


def counted(rates: Values, present: Values) -> Values:
    """Return a counter that grows by these rates, and begins with 0 whenever it is present again."""
    values: Values = []
    for rate, now in zip(rates, present, strict=True):
        before = values[-1] if values else None
        values.append(None if not now else 0.0 if before is None else before + (rate or 0.0))
    return values


def series(metric: str, values: Iterable[float | None], step: int = 1, **labels: str) -> Series:
    """Return a series of the release for promtool, one sample per step minutes. It ends where there is no value."""
    matchers = json_labels({**TARGET, **labels})
    words = ["stale" if value is None else f"{value:.12g}" for value in values]
    return {"series": f"{metric}{matchers}", "values": " ".join(words[::step])}


def json_labels(labels: Mapping[str, str]) -> str:
    """Return labels as PromQL writes them."""
    return "{" + ", ".join(f"{name}={json.dumps(value)}" for name, value in labels.items()) + "}"


@dataclass(frozen=True)
class PodHistory:
    """What happens to one pod of the release, minute by minute.

    Args:
        name: The pod's name.
        up: 1 while it answers scrapes, 0 while it does not, None while the pod does not exist.
        version: The model version.
        release: The release's name.
        loaded: Whether it has loaded its model.
        requests: Predictions per minute. None until the first one.
        failed: Those of them that get a 5xx.
        slow: Those of them that take longer than a quarter of a second.
        refused: Requests per minute that are refused.
        reason: Why they are refused.
        waiting: Share of the requests that wait for a thread.
        waits: Seconds that a waiting request waits, on average.
        throttled: Share of the periods in which the CPU limit stopped the pod.
        started: Serving processes started per minute, beside the first.
        certificate_days: Days from the first minute until the certificate expires.
    """

    name: str
    up: Phases = 1.0
    version: str = "v1"
    release: str = RELEASE
    loaded: bool = True
    requests: Phases = 600.0
    failed: Phases = 0.0
    slow: Phases = 0.0
    refused: Phases = 0.0
    reason: str = "queue_full"
    waiting: float = 1.0
    waits: float = 0.0
    throttled: Phases = 0.0
    started: Phases = 0.0
    certificate_days: float = 90.0

    def series(self, minutes: int, step: int = 1) -> list[Series]:
        """Return the pod's series for promtool.

        Args:
            minutes: How long they are.
            step: Minutes between two samples.
        """
        clock = _Clock(self, minutes, step)
        return [*_state(clock), *_requests(clock), *_saturation(clock)]


class _Clock:
    """The minutes of a pod's history: when it answers scrapes, and since when it counts requests."""

    def __init__(self, pod: PodHistory, minutes: int, step: int) -> None:
        self.pod, self.minutes, self.step = pod, minutes, step
        self.target = {"pod": pod.name, "release": pod.release}
        self.of_version = {**self.target, "version": pod.version}
        self.up = self.over(pod.up)
        self.alive: Values = [1.0 if value else None for value in self.up]
        self.requests = self.over(pod.requests)
        pairs = zip(self.alive, self.requests, strict=True)
        self.serving: Values = [1.0 if value and rate is not None else None for value, rate in pairs]

    def over(self, phases: Phases) -> Values:
        """Return the value of each minute."""
        return over(phases, self.minutes)

    def counter(self, metric: str, rates: Values, present: Values, **labels: str) -> Series:
        """Return a counter of these rates a minute, which begins with 0 whenever it is present again."""
        return series(metric, counted(rates, present), self.step, **labels)

    def gauge(self, metric: str, values: Iterable[float | None], **labels: str) -> Series:
        """Return a gauge that exists while the pod is alive."""
        shown = (value if alive else None for value, alive in zip(values, self.alive, strict=True))
        return series(metric, shown, self.step, **labels)


def _state(clock: _Clock) -> Iterator[Series]:
    """Yield the series of the pod itself: whether it is up, its model, its processes and its certificate."""
    pod, alive = clock.pod, clock.alive
    starts = [minute if now and (minute == 0 or not alive[minute - 1]) else 0 for minute, now in enumerate(alive)]
    last_start = accumulate(starts, max)
    expiry = clock.over(pod.certificate_days * 86400)
    started = counted(clock.over(pod.started), alive)
    yield series("up", clock.up, clock.step, **clock.target)
    if pod.loaded:
        scores = {"neg_mean_absolute_error": -10.0, "accuracy": 0.9}
        yield clock.gauge("bakehouse_model_info", clock.over(1.0), **clock.of_version, name="house_prices")
        for score, value in scores.items():
            yield clock.gauge("bakehouse_model_score", clock.over(value), **clock.of_version, score=score)
    yield clock.gauge("process_start_time_seconds", (60.0 * minute + 1 for minute in last_start), **clock.target)
    yield clock.gauge("bakehouse_tls_certificate_expiry_timestamp_seconds", expiry, **clock.target)
    processes = (None if value is None else value + 1 for value in started)
    yield series("bakehouse_processes_started_total", processes, clock.step, **clock.target)


def _requests(clock: _Clock) -> Iterator[Series]:
    """Yield the predictions: how many succeeded, failed, and were fast."""
    failed, slow = clock.over(clock.pod.failed), clock.over(clock.pod.slow)
    route = {**clock.of_version, "route": "/predict"}
    total, duration = "bakehouse_http_requests_total", "bakehouse_http_request_duration_seconds"
    succeeded = _minus(clock.requests, failed)
    yield clock.counter(total, succeeded, clock.serving, **route, method="POST", status="2xx")
    yield clock.counter(total, failed, clock.serving, **route, method="POST", status="5xx")
    yield clock.counter(f"{duration}_bucket", _minus(clock.requests, slow), clock.serving, **route, le="0.25")
    yield clock.counter(f"{duration}_count", clock.requests, clock.serving, **route)


def _saturation(clock: _Clock) -> Iterator[Series]:
    """Yield what shows that a pod is full: refused and waiting requests, and CPU periods."""
    pod, target = clock.pod, clock.target
    refused = clock.over(pod.refused)
    yield clock.counter("bakehouse_http_requests_refused_total", refused, clock.alive, **target, reason=pod.reason)
    queued = _times(clock.requests, pod.waiting)
    yield clock.counter("bakehouse_queue_wait_seconds_count", queued, clock.serving, **target)
    yield clock.counter("bakehouse_queue_wait_seconds_sum", _times(queued, pod.waits), clock.serving, **target)
    periods = 600.0
    stopped = _times(clock.over(pod.throttled), periods)
    yield clock.counter("bakehouse_cpu_periods_total", clock.over(periods), clock.alive, **target)
    yield clock.counter("bakehouse_cpu_throttled_periods_total", stopped, clock.alive, **target)


def _minus(values: Values, others: Values) -> Values:
    return [(value or 0.0) - (other or 0.0) for value, other in zip(values, others, strict=True)]


def _times(values: Values, factor: float) -> Values:
    return [(value or 0.0) * factor for value in values]


def rows_by_bin(
    name: str,
    minutes: int,
    reference: Mapping[str, float],
    rows: Mapping[str, Phases],
    version: str = "v1",
    feature: str | None = None,
) -> Iterator[Series]:
    """Yield a pod's rows per minute by bin, and the bins' shares in training. Without a feature, of predictions."""
    subject = "prediction" if feature is None else "feature"
    labels = {"pod": name, "version": version, **({} if feature is None else {"feature": feature})}
    for place, share in reference.items():
        own = {**labels, "bin": place, "kind": place if place in ("missing", "unknown", "other") else "inside"}
        counts = counted(over(rows.get(place, 0.0), minutes), over(1.0, minutes))
        yield series(f"bakehouse_{subject}_rows_total", counts, **own)
        yield series(f"bakehouse_{subject}_reference_ratio", over(share, minutes), **own)


def feedback(name: str, minutes: int, rows: Phases, version: str = "v1", **sums: Phases) -> Iterator[Series]:
    """Yield a pod's true values per minute, and the sums that grow with them: error_of_over, correct, and so on."""
    always = over(1.0, minutes)
    own = {"pod": name, "version": version}
    yield series("bakehouse_feedback_rows_total", counted(over(rows, minutes), always), **own, result="accepted")
    for name_and_sign, rates in sums.items():
        metric, _, sign = name_and_sign.partition("_of_")
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
    """Evaluate rules on series with promtool.

    Args:
        folder: A folder for promtool's files.
        rules: The groups.
        given: The series.
        expected: A query, a minute, and the query's values at that minute by their series, as in PromQL.
        alerts: Tests of promtool's alert_rule_test.
        step: Minutes between two samples and two evaluations.

    Returns:
        The finished promtool. Its exit code is 0 if all values are as expected.
    """
    (folder / "rules.yaml").write_text(json.dumps({"groups": rules}))
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
        "group_eval_order": [group["name"] for group in rules],  # otherwise the order is random
        "tests": [test],
    }
    file = folder / "test.yaml"
    file.write_text(json.dumps(content))
    return run_promtool("test", "rules", file)


def run_promtool(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run promtool and return its result. Without promtool, the test is skipped."""
    command = [promtool(), *map(str, arguments)]
    # Its garbage collection takes a fifth of its time, and its memory is small.
    environ = {**os.environ, "GOGC": "400"}
    return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=300, check=False)
