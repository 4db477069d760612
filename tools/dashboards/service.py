"""The dashboard of the service: requests, saturation, batches and pods."""

from grafana_foundation_sdk.models import units
from grafana_foundation_sdk.models.dashboard import Dashboard

from tools.dashboards.parts import (
    GRAPH_HEIGHT,
    GREEN,
    RED,
    WIDTH,
    YELLOW,
    Column,
    Panel,
    Query,
    assembled,
    graph,
    listed,
    number,
)

NOT_BATCHED = "the model is not served in batches"


def dashboard() -> Dashboard:
    """Return the dashboard of the service."""
    return assembled(
        "bakehouse-service",
        "Bakehouse: service",
        "Requests, errors, latency and saturation of a release.",
        {
            "Now": _now(),
            "Requests": _requests(),
            "Saturation": _saturation(),
            "Batches": _batches(),
            "Pods and rollouts": _pods(),
        },
    )


def _quantiles(
    metric: str, matchers: str, legend: str = "", by: str = "le", of: tuple[float, ...] = (0.5, 0.99)
) -> list[Query]:
    return [
        Query(
            f"histogram_quantile({q}, sum by ({by}) (rate({metric}_bucket{{{matchers}}}[$__rate_interval])))",
            f"p{q * 100:g}{legend}",
        )
        for q in of
    ]


def _now() -> list[Panel]:
    return [
        number(
            "Request rate",
            "Requests answered per second, with any status.",
            units.RequestsPerSecond,
            Query("sum(rate(bakehouse_http_requests_total{OF_VERSION}[$__rate_interval]))", "requests"),
            decimals=1,
        ),
        number(
            "Failed requests",
            "Share of requests answered with 5xx.",
            units.PercentUnit,
            Query(
                '(sum(rate(bakehouse_http_requests_total{OF_VERSION, status="5xx"}[$__rate_interval])) or vector(0))'
                " / (sum(rate(bakehouse_http_requests_total{OF_VERSION}[$__rate_interval])) > 0)",
                "failed",
            ),
            decimals=2,
            marks=((None, GREEN), (0.001, YELLOW), (0.01, RED)),
        ),
        number(
            "Latency, p99",
            "99th percentile of the time from the complete request to its answer, for /predict.",
            units.Seconds,
            _quantiles("bakehouse_http_request_duration_seconds", 'OF_VERSION, route="/predict"', of=(0.99,))[0],
        ),
        number(
            "Pods up",
            "Pods that Prometheus can scrape.",
            units.Short,
            Query("sum(up{OF_RELEASE})", "up"),
            marks=((None, RED), (1, GREEN)),
        ),
        number(
            "Model versions",
            "Model versions that the pods serve now. More than one is normal during a rollout only.",
            units.Short,
            Query("count(count by (version) (bakehouse_model_info{OF_RELEASE}))", "versions"),
            marks=((None, GREEN), (2, YELLOW)),
        ),
        number(
            "Certificate",
            "Time until the first certificate of a pod expires.",
            units.DurationSeconds,
            Query("min(bakehouse_tls_certificate_expiry_timestamp_seconds{OF_RELEASE}) - time()", "left"),
            marks=((None, RED), (7 * 86400, YELLOW), (21 * 86400, GREEN)),
            empty="the pods speak plain HTTP",
        ),
    ]


def _requests() -> list[Panel]:
    return [
        graph(
            "Rate by route and status",
            "Requests answered per second. 4xx is an error of the client, 5xx one of the service.",
            units.RequestsPerSecond,
            Query(
                "sum by (route, status) (rate(bakehouse_http_requests_total{OF_VERSION}[$__rate_interval]))",
                "{{route}} {{status}}",
            ),
            stacked=True,
        ),
        graph(
            "Errors",
            "Share of requests answered with 5xx or 4xx.",
            units.PercentUnit,
            *(
                Query(
                    f'(sum(rate(bakehouse_http_requests_total{{OF_VERSION, status="{status}"}}[$__rate_interval]))'
                    " or vector(0)) / (sum(rate(bakehouse_http_requests_total{OF_VERSION}[$__rate_interval])) > 0)",
                    status,
                )
                for status in ("5xx", "4xx")
            ),
        ),
        graph(
            "Latency by version",
            "Time from the complete request to its answer, for /predict: median, 95th and 99th percentile.",
            units.Seconds,
            *_quantiles(
                "bakehouse_http_request_duration_seconds",
                'OF_VERSION, route="/predict"',
                " {{version}}",
                "le, version",
                (0.5, 0.95, 0.99),
            ),
        ),
        graph(
            "Body bytes",
            "Bytes of request and response bodies per second.",
            units.BytesPerSecondSI,
            Query("sum(rate(bakehouse_http_request_body_bytes_total{OF_RELEASE}[$__rate_interval]))", "requests"),
            Query("sum(rate(bakehouse_http_response_body_bytes_total{OF_RELEASE}[$__rate_interval]))", "responses"),
        ),
        graph(
            "Refused requests",
            "Requests refused per second before a prediction was tried, by reason.",
            units.RequestsPerSecond,
            Query(
                "sum by (reason) (rate(bakehouse_http_requests_refused_total{OF_RELEASE}[$__rate_interval]))",
                "{{reason}}",
            ),
        ),
        graph(
            "Connections",
            "Open connections, by state.",
            units.Short,
            Query("sum by (state) (bakehouse_connections{OF_RELEASE})", "{{state}}"),
        ),
    ]


def _saturation() -> list[Panel]:
    return [
        graph(
            "Threads",
            "Busy serving threads, all threads, and requests in flight. Requests queue when all threads are busy.",
            units.Short,
            Query("sum(bakehouse_threads_busy{OF_RELEASE})", "busy"),
            Query("sum(bakehouse_threads{OF_RELEASE})", "all"),
            Query("sum(bakehouse_http_requests_in_flight{OF_RELEASE})", "requests in flight"),
        ),
        graph(
            "Queue and connections",
            "Waiting requests and open connections of the fullest pod, relative to its limits."
            " A full pod answers further requests with 503.",
            units.PercentUnit,
            Query("max(bakehouse_queue_requests{OF_RELEASE} / bakehouse_queue_limit{OF_RELEASE})", "queue"),
            Query(
                "max(sum by (pod) (bakehouse_connections{OF_RELEASE})"
                " / sum by (pod) (bakehouse_connections_limit{OF_RELEASE}))",
                "connections",
            ),
        ),
        graph(
            "Queue wait",
            "Time that requests waited for a thread: median and 99th percentile.",
            units.Seconds,
            *_quantiles("bakehouse_queue_wait_seconds", "OF_RELEASE"),
        ),
        graph(
            "CPU",
            "CPUs used by each pod, and the limit of one pod.",
            units.Short,
            Query("sum by (pod) (rate(process_cpu_seconds_total{OF_RELEASE}[$__rate_interval]))", "{{pod}}"),
            Query("max(bakehouse_cpu_limit_cores{OF_RELEASE})", "limit"),
        ),
        graph(
            "CPU throttling",
            "Share of the scheduler's periods in which a pod had used up its CPU limit and was stopped.",
            units.PercentUnit,
            Query(
                "sum by (pod) (rate(bakehouse_cpu_throttled_periods_total{OF_RELEASE}[$__rate_interval]))"
                " / (sum by (pod) (rate(bakehouse_cpu_periods_total{OF_RELEASE}[$__rate_interval])) > 0)",
                "{{pod}}",
            ),
            empty="the pods have no CPU limit",
        ),
        graph(
            "Memory",
            "Resident memory of each pod's processes, and the limit of one pod, at which the kernel kills processes.",
            units.BytesIEC,
            Query("sum by (pod) (process_resident_memory_bytes{OF_RELEASE})", "{{pod}}"),
            Query("max(bakehouse_memory_limit_bytes{OF_RELEASE})", "limit"),
        ),
    ]


def _batches() -> list[Panel]:
    return [
        graph(
            "Requests per batch",
            "Requests that were predicted together: mean and 99th percentile.",
            units.Short,
            Query(
                "sum(rate(bakehouse_batch_requests_sum{OF_RELEASE}[$__rate_interval]))"
                " / (sum(rate(bakehouse_batch_requests_count{OF_RELEASE}[$__rate_interval])) > 0)",
                "mean",
            ),
            *_quantiles("bakehouse_batch_requests", "OF_RELEASE", of=(0.99,)),
            empty=NOT_BATCHED,
        ),
        graph(
            "Rows per batch",
            "Rows that were predicted together: mean and 99th percentile.",
            units.Short,
            Query(
                "sum(rate(bakehouse_batch_rows_sum{OF_RELEASE}[$__rate_interval]))"
                " / (sum(rate(bakehouse_batch_rows_count{OF_RELEASE}[$__rate_interval])) > 0)",
                "mean",
            ),
            *_quantiles("bakehouse_batch_rows", "OF_RELEASE", of=(0.99,)),
            empty=NOT_BATCHED,
        ),
        graph(
            "Batch wait",
            "Time that a request waited for its batch to start: median and 99th percentile.",
            units.Seconds,
            *_quantiles("bakehouse_batch_wait_seconds", "OF_RELEASE"),
            empty=NOT_BATCHED,
        ),
    ]


def _pods() -> list[Panel]:
    return [
        listed(
            "Pods",
            "Each pod that was scraped in the time range. Restarts are those of its container. Processes are all that"
            " it ever started: more than one per worker means that some were replaced.",
            "pod",
            [
                Column("up", "max by (pod) (up{OF_RELEASE})"),
                Column("age", "time() - max by (pod) (process_start_time_seconds{OF_RELEASE})", units.DurationSeconds),
                Column("restarts", "max by (pod) (changes(process_start_time_seconds{OF_RELEASE}[$__range]))"),
                Column("processes", "max by (pod) (bakehouse_processes_started_total{OF_RELEASE})"),
                Column("loading", "max by (pod) (bakehouse_model_load_seconds{OF_RELEASE})", units.Seconds, 2),
                Column("", "count by (pod, version) (bakehouse_model_info{OF_RELEASE})"),
            ],
            sort="pod",
            width=WIDTH // 2,
        ),
        graph(
            "Pods over time",
            "Pods that Prometheus can scrape, and all that it should scrape.",
            units.Short,
            Query("sum(up{OF_RELEASE})", "up"),
            Query("count(up{OF_RELEASE})", "all"),
            width=6,
        ),
        number(
            "Checks",
            "Results of checks in the time range: gate is the check Job before a rollout, smoke is helm test.",
            units.Short,
            Query(
                "round(sum by (check, result) (increase(bakehouse_release_checks_total{OF_RELEASE}[$__range])))",
                "{{check}} {{result}}",
            ),
            width=6,
            height=GRAPH_HEIGHT,
        ),
    ]
