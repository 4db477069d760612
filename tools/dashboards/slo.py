"""Whether the release keeps what it promised: share of good requests, and how fast the error budget goes."""

from grafana_foundation_sdk.models import units
from grafana_foundation_sdk.models.dashboard import Dashboard

from tools.dashboards.parts import GREEN, RED, YELLOW, Panel, Query, assembled, choice, graph, number

OBJECTIVE = "bakehouse:slo:objective_ratio"
WINDOWS = ("5m", "30m", "1h", "2h", "6h", "1d", "3d")
# Above 1 the promise breaks, whatever its window is; the burn rates of alerts depend on the window.
BURN = ((None, GREEN), (1, RED))
BUDGET = ((None, RED), (0, YELLOW), (0.25, GREEN))
# As the chart's rules have it: /readyz says 503 as long as a pod drains, which is an answer and no failure.
ALL = 'bakehouse_http_requests_total{OF_RELEASE, route!="/readyz"}'
FAILED = 'bakehouse_http_requests_total{OF_RELEASE, route!="/readyz", status="5xx"}'
PREDICTED = 'bakehouse_http_request_duration_seconds_count{OF_RELEASE, route="/predict"}'
FAST = 'bakehouse_http_request_duration_seconds_bucket{OF_RELEASE, route="/predict", le="$le"}'


def dashboard() -> Dashboard:
    """Return it."""
    return assembled(
        "bakehouse-slo",
        "Bakehouse: SLO",
        "Is the promise kept, how much of the error budget is left, and how fast does it go.",
        {
            "Availability: requests that did not fail": _objective(
                "availability",
                "bakehouse:http_requests:ratio_failed_rate",
                "failed",
                bad=f"(sum(increase({FAILED}[$window])) or vector(0))",
                total=f"(sum(increase({ALL}[$window])) > 0)",
                bad_by_version=f"(sum by (version) ({_rate(FAILED)}) or 0 * sum by (version) ({_rate(ALL)}))",
                total_by_version=f"sum by (version) ({_rate(ALL)})",
            ),
            "Latency: predictions that were fast enough": _objective(
                "latency",
                "bakehouse:predict_latency:ratio_slow_rate",
                "slow",
                bad=f"(sum(increase({PREDICTED}[$window])) - sum(increase({FAST}[$window])))",
                total=f"(sum(increase({PREDICTED}[$window])) > 0)",
                bad_by_version=f"(sum by (version) ({_rate(PREDICTED)}) - sum by (version) ({_rate(FAST)}))",
                total_by_version=f"sum by (version) ({_rate(PREDICTED)})",
            ),
        },
        more=[
            choice(
                "window",
                f"label_values({OBJECTIVE}{{OF_RELEASE}}, window)",
                "The time over which the objectives hold.",
            ),
            choice(
                "le",
                f'label_values({OBJECTIVE}{{OF_RELEASE, slo="latency"}}, le)',
                "Seconds within which a prediction is fast enough.",
                label="fast enough",
            ),
        ],
        since="now-7d",
        refresh="5m",  # a query over the whole window is no small thing
    )


def _objective(
    slo: str, recorded: str, word: str, *, bad: str, total: str, bad_by_version: str, total_by_version: str
) -> list[Panel]:
    """Return the panels of one objective.

    Args:
        slo: Its name.
        recorded: What the recorded shares of bad requests begin with; the window follows.
        word: What bad requests are called.
        bad: The bad requests of the window.
        total: All requests of the window.
        bad_by_version: The bad requests a second of each version.
        total_by_version: All requests a second of each version.
    """
    objective = f'{OBJECTIVE}{{OF_RELEASE, slo="{slo}"}}'
    left = f"1 - {bad} / {total} / scalar(1 - max({objective}))"
    return [
        number(
            f"Objective of {slo}",
            "The share of good requests that is promised.",
            units.PercentUnit,
            Query(f"max({objective})", "objective"),
            width=4,
            decimals=2,
        ),
        number(
            f"Good by {slo}",
            "The share of good requests over the objective's whole window.",
            units.PercentUnit,
            Query(f"1 - {bad} / {total}", "good"),
            width=4,
            decimals=3,
        ),
        number(
            f"Budget left of {slo}",
            "Of the requests that may be bad over the objective's window, the share that has not been so far; below 0"
            " the promise is broken. Where Prometheus keeps series for less than that, it is of the time kept only.",
            units.PercentUnit,
            Query(left, "left"),
            width=4,
            decimals=1,
            marks=BUDGET,
        ),
        *(
            number(
                f"Burn of {slo} over {window}",
                "How fast the budget goes: at 1 it lasts exactly for the objective's window.",
                units.NoUnit,
                Query(_burn(recorded, window, objective), window),
                width=4,
                decimals=2,
                marks=BURN,
            )
            for window in ("5m", "1h", "6h")
        ),
        graph(
            f"Budget of {slo}",
            "The budget left, over the window that ends at each moment. Prometheus has to keep series for at least that"
            " window: with less, older failures are forgotten, and what seems to be left is wrong.",
            units.PercentUnit,
            Query(left, "left"),
            at_most=1,
            signed=True,
            marks=BUDGET,
            every="1h",
        ),
        graph(
            f"Burn rates of {slo}",
            "How fast the budget goes, by window; above 1 it ends before the objective's window does. Alerts need a"
            " long and a short window above 14.4, 6, 3 or 1 where slo.days is 30, or others where it is not.",
            units.NoUnit,
            *(Query(_burn(recorded, window, objective), window) for window in WINDOWS),
            marks=BURN,
        ),
        graph(
            f"Requests by {slo}",
            "Good and bad requests a second, by the version that answered: which one burns the budget.",
            units.RequestsPerSecond,
            Query(f"{total_by_version} - {bad_by_version}", "good {{version}}"),
            Query(bad_by_version, f"{word} {{{{version}}}}"),
            stacked=True,
        ),
    ]


def _burn(recorded: str, window: str, objective: str) -> str:
    return f"max({recorded}{window}{{OF_RELEASE}}) / scalar(1 - max({objective}))"


def _rate(counter: str) -> str:
    return f"rate({counter.replace('OF_RELEASE', 'OF_VERSION')}[$__rate_interval])"
