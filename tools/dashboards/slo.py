"""The dashboard of the objectives: share of good requests, error budget and burn rates."""

from grafana_foundation_sdk.models import units
from grafana_foundation_sdk.models.dashboard import Dashboard

from tools.dashboards.parts import GREEN, RED, YELLOW, Panel, Query, assembled, choice, graph, number

OBJECTIVE = "bakehouse:slo:objective_ratio"
WINDOWS = ("5m", "30m", "1h", "2h", "6h", "1d", "3d")
# Above 1, the objective will be missed, whatever its window. The thresholds of the alerts depend on the window.
BURN = ((None, GREEN), (1, RED))
BUDGET = ((None, RED), (0, YELLOW), (0.25, GREEN))
# As in the rules of the chart: /readyz answers 503 while a pod drains, which is not a failure.
ALL = 'bakehouse_http_requests_total{OF_RELEASE, route!="/readyz"}'
FAILED = 'bakehouse_http_requests_total{OF_RELEASE, route!="/readyz", status="5xx"}'
PREDICTED = 'bakehouse_http_request_duration_seconds_count{OF_RELEASE, route="/predict"}'
FAST = 'bakehouse_http_request_duration_seconds_bucket{OF_RELEASE, route="/predict", le="$le"}'


def dashboard() -> Dashboard:
    """Return the dashboard of the objectives."""
    return assembled(
        "bakehouse-slo",
        "Bakehouse: SLO",
        "Service level objectives: good requests, error budget left, and burn rates.",
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
                "Window of the objectives.",
            ),
            choice(
                "le",
                f'label_values({OBJECTIVE}{{OF_RELEASE, slo="latency"}}, le)',
                "Seconds in which a prediction must be answered.",
                label="fast enough",
            ),
        ],
        since="now-7d",
        refresh="5m",  # queries over the whole window are expensive
    )


def _objective(
    slo: str, recorded: str, word: str, *, bad: str, total: str, bad_by_version: str, total_by_version: str
) -> list[Panel]:
    """Return the panels of one objective.

    Args:
        slo: Its name.
        recorded: The recorded shares of bad requests, without the window at the end.
        word: The name of bad requests in legends.
        bad: The bad requests of the window.
        total: All requests of the window.
        bad_by_version: The bad requests per second of each version.
        total_by_version: All requests per second of each version.
    """
    objective = f'{OBJECTIVE}{{OF_RELEASE, slo="{slo}"}}'
    left = f"1 - {bad} / {total} / scalar(1 - max({objective}))"
    return [
        number(
            f"Objective: {slo}",
            "Share of good requests that the objective requires.",
            units.PercentUnit,
            Query(f"max({objective})", "objective"),
            width=4,
            decimals=2,
        ),
        number(
            f"Good: {slo}",
            "Share of good requests in the objective's window.",
            units.PercentUnit,
            Query(f"1 - {bad} / {total}", "good"),
            width=4,
            decimals=3,
        ),
        number(
            f"Budget left: {slo}",
            "Share of the error budget that is left in the objective's window. Below 0, the objective is missed."
            " If Prometheus keeps series for a shorter time, it covers only that time.",
            units.PercentUnit,
            Query(left, "left"),
            width=4,
            decimals=1,
            marks=BUDGET,
        ),
        *(
            number(
                f"Burn rate over {window}: {slo}",
                "Speed at which the budget is spent. At 1, it lasts exactly for the objective's window.",
                units.NoUnit,
                Query(_burn(recorded, window, objective), window),
                width=4,
                decimals=2,
                marks=BURN,
            )
            for window in ("5m", "1h", "6h")
        ),
        graph(
            f"Budget over time: {slo}",
            "Budget left in the window that ends at each point in time. Prometheus must keep series for the whole"
            " window, otherwise it forgets older failures and shows too much budget.",
            units.PercentUnit,
            Query(left, "left"),
            at_most=1,
            signed=True,
            marks=BUDGET,
            every="1h",
        ),
        graph(
            f"Burn rates: {slo}",
            "Speed at which the budget is spent, by window. Above 1, it ends before the objective's window does."
            " Alerts need a long and a short window above 14.4, 6, 3 or 1 where slo.days is 30. Other days have other"
            " thresholds.",
            units.NoUnit,
            *(Query(_burn(recorded, window, objective), window) for window in WINDOWS),
            marks=BURN,
        ),
        graph(
            f"Requests: {slo}",
            "Good and bad requests per second, by version.",
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
