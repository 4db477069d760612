"""Declares every Prometheus series once. Metrics objects, scrapes and docs/reference/metrics.md use these declarations.

Clients cannot create series: each label has fixed values, or values from the artifact or the operator.
"""

from collections.abc import Mapping, Sequence
from math import prod
from types import MappingProxyType
from typing import Any, Generic, Literal, NamedTuple, TypeVar

from prometheus_client import Counter, Gauge, Histogram

from service.artifact.reference import INSIDE, MAX_BINS, MISSING, OTHER, OUTSIDE, UNKNOWN
from service.observability.logging import STREAMS
from service.observability.request_context import METHODS, UNMATCHED

COUNTER, GAUGE, HISTOGRAM = Counter, Gauge, Histogram
Kind = TypeVar("Kind", Counter, Gauge, Histogram)

# A compiled model on an idle machine takes 1 ms. No client waits longer than 10 s.
DURATION_BUCKETS_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
# Most waits are short; longer ones mean overload. So the buckets are fine below one second and end at 2.5 s.
WAIT_BUCKETS_SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)
BATCH_REQUESTS_BUCKETS = (1, 2, 4, 8, 16, 32)
BATCH_ROWS_BUCKETS = (1, 3, 10, 30, 100, 300, 1000)


class LabelValues(NamedTuple):
    """The values of a label without a fixed list.

    Args:
        text: A description of the values.
        at_most: The most values in one server, for each combination of the labels before this one.
    """

    text: str
    at_most: int


class MetricDefinition(NamedTuple, Generic[Kind]):
    """A family of series.

    Args:
        kind: The class of prometheus_client. It decides the type.
        name: The name in a scrape.
        unit: The unit of the value, or the thing that is counted.
        help: The help text, in sentences.
        labels: The possible values of each label, VERSION first. Metrics fills in the version.
        only: The condition under which the series exists. Empty if it always exists.
        buckets: The upper bounds of a histogram's buckets.
        combine: How to combine the gauges of several serving processes into one.
    """

    kind: type[Kind]
    name: str
    unit: str
    help: str
    labels: Mapping[str, Sequence[str] | LabelValues] = MappingProxyType({})
    only: str = ""
    buckets: tuple[float, ...] = ()
    combine: Literal["livesum", "livemax"] = "livesum"

    @property
    def type(self) -> str:
        """The OpenMetrics type: counter, gauge or histogram."""
        return self.kind.__name__.lower()

    @property
    def at_most(self) -> int:
        """The most series that one server can have."""
        samples = len(self.buckets) + 3 if self.buckets else 1  # a histogram also has infinity, count and sum
        return samples * prod(map(_n_values, self.labels.values()))


def _n_values(values: Sequence[str] | LabelValues) -> int:
    return values.at_most if isinstance(values, LabelValues) else len(values)


VERSION = LabelValues("the model version", 1)
ROUTES = (
    "/predict",
    "/feedback",
    "/openapi.json",
    "/healthz",
    "/readyz",
    "/metrics",
    "/version",
    "/contract",
    UNMATCHED,
)
STATUSES = ("2xx", "3xx", "4xx", "5xx")
ERROR_CODES = (
    "bad_request", "contract", "duplicate_name", "empty", "incomplete_body", "inexact_integer", "invalid_gzip",
    "invalid_json", "invalid_npy", "missing_feature", "missing_value", "model_refused", "no_finite_answer",
    "not_a_boolean", "not_a_number", "not_a_row", "not_a_string", "not_acceptable", "not_an_object", "not_finite",
    "not_outputs", "not_rows", "not_text", "out_of_range", "too_large", "too_many_rows", "unknown_category",
    "unknown_feature", "unknown_member", "unknown_output", "unsupported_media_type", "wrong_width",
)  # fmt: skip
STATES = ("idle", "head", "body", "working", "answer", "lingering")
REFUSAL_REASONS = ("queue_full", "too_many_connections", "too_many_bytes", "slow_head", "slow_body", "malformed")
CHECKS, RESULTS = ("gate", "smoke"), ("passed", "refused")
FEATURE = LabelValues("the most important features, as many as BAKEHOUSE_DRIFT_FEATURES (50)", 50)
BIN = LabelValues(f"ranges or values from training, and bins for all others; at most {MAX_BINS}", MAX_BINS)
BIN_KINDS = ", ".join(f"`{kind}`" for kind in (INSIDE, OUTSIDE, MISSING, UNKNOWN, OTHER))
BIN_KIND = LabelValues(f"{BIN_KINDS}; one for each bin", 1)
WITH_DRIFT, WITH_PREDICTION_DRIFT = "if drift is counted", "if drift of predictions is counted"
CPU_LIMITED, MEMORY_LIMITED = "with a CPU limit", "with a memory limit"
FEEDBACK_RESULTS, ERROR_SIGNS = ("accepted", "repeated", "unknown"), ("over", "under")
PREDICTION_LOG_RESULTS = ("written", "dropped")
WITH_FEEDBACK = "with feedback"
REGRESSION_FEEDBACK = f"{WITH_FEEDBACK}, for regression"
CLASSIFICATION_FEEDBACK = f"{WITH_FEEDBACK}, for classification"
PROBABILITY_FEEDBACK = f"{CLASSIFICATION_FEEDBACK} with probabilities"
BATCHED = "if the model is served in batches"
WITH_TLS = "with TLS"

HTTP_REQUESTS = MetricDefinition(
    COUNTER,
    "bakehouse_http_requests_total",
    "requests",
    "Requests answered, including those refused before they reached a route.",
    {"version": VERSION, "route": ROUTES, "method": METHODS, "status": STATUSES},
)
HTTP_DURATION = MetricDefinition(
    HISTOGRAM,
    "bakehouse_http_request_duration_seconds",
    "seconds",
    "Time from the arrival of the whole request to its response, including the wait for a thread. 0 if the request was "
    "refused before it reached a route.",
    {"version": VERSION, "route": ROUTES},
    buckets=DURATION_BUCKETS_SECONDS,
)
IN_FLIGHT = MetricDefinition(
    GAUGE,
    "bakehouse_http_requests_in_flight",
    "requests",
    "Requests that wait for a thread, or that a thread works on.",
)
REFUSED = MetricDefinition(
    COUNTER,
    "bakehouse_http_requests_refused_total",
    "requests",
    "Requests and connections refused or dropped before they reached the application.",
    {"reason": REFUSAL_REASONS},
)
REQUEST_BYTES = MetricDefinition(
    COUNTER,
    "bakehouse_http_request_body_bytes_total",
    "bytes",
    "Bytes in the bodies of requests that the application answered, as sent.",
)
RESPONSE_BYTES = MetricDefinition(
    COUNTER, "bakehouse_http_response_body_bytes_total", "bytes", "Bytes in the bodies of the application's responses."
)
THREADS = MetricDefinition(GAUGE, "bakehouse_threads", "threads", "Worker threads.")
THREADS_BUSY = MetricDefinition(
    GAUGE, "bakehouse_threads_busy", "threads", "Worker threads that work on a request now."
)
QUEUE_REQUESTS = MetricDefinition(GAUGE, "bakehouse_queue_requests", "requests", "Requests that wait for a thread.")
QUEUE_LIMIT = MetricDefinition(
    GAUGE,
    "bakehouse_queue_limit",
    "requests",
    "Most requests that may wait for a thread. Further requests are refused.",
)
QUEUE_WAIT = MetricDefinition(
    HISTOGRAM,
    "bakehouse_queue_wait_seconds",
    "seconds",
    "Time that requests waited for a thread. Requests that need no thread are not counted.",
    buckets=WAIT_BUCKETS_SECONDS,
)
CONNECTIONS = MetricDefinition(
    GAUGE, "bakehouse_connections", "connections", "Open connections by state.", {"state": STATES}
)
CONNECTIONS_LIMIT = MetricDefinition(
    GAUGE, "bakehouse_connections_limit", "connections", "Most connections that may be open at the same time."
)
CPU_LIMIT = MetricDefinition(
    GAUGE, "bakehouse_cpu_limit_cores", "CPUs", "CPU seconds that the container may use per second.", only=CPU_LIMITED
)
CPU_PERIODS = MetricDefinition(
    COUNTER, "bakehouse_cpu_periods_total", "periods", "Periods in which the CPU limit was enforced.", only=CPU_LIMITED
)
CPU_THROTTLED_PERIODS = MetricDefinition(
    COUNTER,
    "bakehouse_cpu_throttled_periods_total",
    "periods",
    "Periods in which the container was throttled because it used up its CPU time.",
    only=CPU_LIMITED,
)
CPU_THROTTLED_SECONDS = MetricDefinition(
    COUNTER,
    "bakehouse_cpu_throttled_seconds_total",
    "seconds",
    "Time that the container's threads were throttled because it used up its CPU time.",
    only=CPU_LIMITED,
)
MEMORY_LIMIT = MetricDefinition(
    GAUGE, "bakehouse_memory_limit_bytes", "bytes", "Memory that the container may use.", only=MEMORY_LIMITED
)
BATCH_REQUESTS = MetricDefinition(
    HISTOGRAM,
    "bakehouse_batch_requests",
    "requests",
    "Requests that the engine answered together, including predictions repeated for feedback.",
    only=BATCHED,
    buckets=BATCH_REQUESTS_BUCKETS,
)
BATCH_ROWS = MetricDefinition(
    HISTOGRAM,
    "bakehouse_batch_rows",
    "rows",
    "Rows that the engine answered together, including rows predicted again for feedback.",
    only=BATCHED,
    buckets=BATCH_ROWS_BUCKETS,
)
BATCH_WAIT = MetricDefinition(
    HISTOGRAM,
    "bakehouse_batch_wait_seconds",
    "seconds",
    "Time that requests waited for the engine.",
    only=BATCHED,
    buckets=WAIT_BUCKETS_SECONDS,
)
PREDICTED_ROWS = MetricDefinition(
    COUNTER, "bakehouse_predicted_rows_total", "rows", "Rows predicted.", {"version": VERSION}
)
PREDICTION_ERRORS = MetricDefinition(
    COUNTER,
    "bakehouse_prediction_errors_total",
    "requests",
    "Prediction requests refused, by the code of the first error.",
    {"version": VERSION, "code": ERROR_CODES},
)
MODEL_INFO = MetricDefinition(
    GAUGE,
    "bakehouse_model_info",
    "",
    "Always 1. The labels name the served model and its engine.",
    {
        "version": VERSION,
        "name": LabelValues("the model name", 1),
        "digest": LabelValues("the artifact's digest", 1),
        "engine": LabelValues("the engine's name", 1),
        "exact": LabelValues(
            "`true` if the engine's predictions equal the estimator's bit for bit, otherwise `false`", 1
        ),
    },
    combine="livemax",
)
MODEL_LOAD_SECONDS = MetricDefinition(
    GAUGE,
    "bakehouse_model_load_seconds",
    "seconds",
    "Time to verify and load the model and to replay its golden requests.",
    combine="livemax",
)
MODEL_SCORE = MetricDefinition(
    GAUGE,
    "bakehouse_model_score",
    "",
    "Score of the model on held-out rows at the bake. Greater is better.",
    {"version": VERSION, "score": LabelValues("scores of the model card, with scikit-learn's names", 20)},
    combine="livemax",
)
GOLDEN_REQUESTS = MetricDefinition(
    GAUGE,
    "bakehouse_golden_requests",
    "requests",
    "Golden requests replayed at the start. Their predictions matched those of the bake.",
    combine="livemax",
)
FEATURE_ROWS = MetricDefinition(
    COUNTER,
    "bakehouse_feature_rows_total",
    "rows",
    "Rows predicted, by the bin of their value of the feature. Under high load, sampled rows carry weights.",
    {"version": VERSION, "feature": FEATURE, "bin": BIN, "kind": BIN_KIND},
    only=WITH_DRIFT,
)
PREDICTION_ROWS = MetricDefinition(
    COUNTER,
    "bakehouse_prediction_rows_total",
    "rows",
    "Rows predicted, by the bin of their prediction. Under high load, sampled rows carry weights.",
    {"version": VERSION, "bin": BIN, "kind": BIN_KIND},
    only=WITH_PREDICTION_DRIFT,
)
FEATURE_REFERENCE = MetricDefinition(
    GAUGE,
    "bakehouse_feature_reference_ratio",
    "share",
    "Share of the training rows in this bin of the feature.",
    {"version": VERSION, "feature": FEATURE, "bin": BIN, "kind": BIN_KIND},
    only=WITH_DRIFT,
)
PREDICTION_REFERENCE = MetricDefinition(
    GAUGE,
    "bakehouse_prediction_reference_ratio",
    "share",
    "Share of the training rows whose prediction is in this bin.",
    {"version": VERSION, "bin": BIN, "kind": BIN_KIND},
    only=WITH_PREDICTION_DRIFT,
)
FEATURE_IMPORTANCE = MetricDefinition(
    GAUGE,
    "bakehouse_feature_importance",
    "",
    "How much predictions changed at the bake when the feature's values were shuffled.",
    {"version": VERSION, "feature": FEATURE},
    only=WITH_DRIFT,
)
FEEDBACK_ROWS = MetricDefinition(
    COUNTER,
    "bakehouse_feedback_rows_total",
    "rows",
    "Rows of feedback: accepted, repeated (the true value was already known) or unknown (the row is not remembered).",
    {"version": VERSION, "result": FEEDBACK_RESULTS},
    only=WITH_FEEDBACK,
)
FEEDBACK_ERROR = MetricDefinition(
    COUNTER,
    "bakehouse_feedback_error_total",
    "units of the target",
    "Sum of the errors of accepted rows: how far predictions were over, and how far under, the true value.",
    {"version": VERSION, "sign": ERROR_SIGNS},
    only=REGRESSION_FEEDBACK,
)
FEEDBACK_SQUARED_ERROR = MetricDefinition(
    COUNTER,
    "bakehouse_feedback_squared_error_total",
    "squared units of the target",
    "Sum of the squared errors of accepted rows.",
    {"version": VERSION},
    only=REGRESSION_FEEDBACK,
)
FEEDBACK_CORRECT = MetricDefinition(
    COUNTER,
    "bakehouse_feedback_correct_total",
    "rows",
    "Accepted rows whose true class was predicted.",
    {"version": VERSION},
    only=CLASSIFICATION_FEEDBACK,
)
FEEDBACK_LOG_LOSS = MetricDefinition(
    COUNTER,
    "bakehouse_feedback_log_loss_total",
    "nats",
    "Sum of the log losses of accepted rows.",
    {"version": VERSION},
    only=PROBABILITY_FEEDBACK,
)
FEEDBACK_BRIER = MetricDefinition(
    COUNTER,
    "bakehouse_feedback_brier_total",
    "",
    "Sum of the Brier losses of accepted rows. With two classes, only the second one is used.",
    {"version": VERSION},
    only=PROBABILITY_FEEDBACK,
)
FEEDBACK_REMEMBERED = MetricDefinition(
    GAUGE,
    "bakehouse_feedback_remembered_bytes",
    "bytes",
    "Memory for predictions that can still get feedback.",
    only=WITH_FEEDBACK,
)
PREDICTION_LOG_ROWS = MetricDefinition(
    COUNTER,
    "bakehouse_prediction_log_rows_total",
    "rows",
    "Rows written to the prediction log, and rows dropped because it could not take them.",
    {"result": PREDICTION_LOG_RESULTS},
    only="if predictions are logged",
)
LOG_LINES_DROPPED = MetricDefinition(
    COUNTER,
    "bakehouse_log_lines_dropped_total",
    "lines",
    "Log lines of serving processes that were dropped because the reader of the stream was too slow or away.",
    {"stream": tuple(STREAMS.values())},
)
RELEASE_CHECKS = MetricDefinition(
    COUNTER,
    "bakehouse_release_checks_total",
    "checks",
    "Release checks that reported their result to this server: check --live (gate) and smoke --health-url.",
    {"check": CHECKS, "result": RESULTS},
)
PROCESSES_STARTED = MetricDefinition(
    COUNTER,
    "bakehouse_processes_started_total",
    "processes",
    "Serving processes started. If it exceeds WEB_CONCURRENCY, processes were replaced.",
)
TLS_EXPIRY = MetricDefinition(
    GAUGE,
    "bakehouse_tls_certificate_expiry_timestamp_seconds",
    "seconds since 1970",
    "Expiry of the certificate in use.",
    only=WITH_TLS,
)
PROCESS = (
    MetricDefinition(COUNTER, "process_cpu_seconds_total", "seconds", "CPU time used, user and system."),
    MetricDefinition(GAUGE, "process_start_time_seconds", "seconds since 1970", "When the server started."),
    MetricDefinition(
        GAUGE, "process_resident_memory_bytes", "bytes", "Resident memory. Shared memory is counted in each process."
    ),
    MetricDefinition(GAUGE, "process_virtual_memory_bytes", "bytes", "Virtual memory."),
    MetricDefinition(GAUGE, "process_open_fds", "descriptors", "Open file descriptors."),
    MetricDefinition(GAUGE, "process_max_fds", "descriptors", "File descriptors that one process may open."),
)  # of the master and all serving processes together

METRIC_DEFINITIONS: tuple[MetricDefinition[Any], ...] = (
    HTTP_REQUESTS, HTTP_DURATION, IN_FLIGHT, REFUSED, REQUEST_BYTES, RESPONSE_BYTES,
    THREADS, THREADS_BUSY, QUEUE_REQUESTS, QUEUE_LIMIT, QUEUE_WAIT, CONNECTIONS, CONNECTIONS_LIMIT,
    CPU_LIMIT, CPU_PERIODS, CPU_THROTTLED_PERIODS, CPU_THROTTLED_SECONDS, MEMORY_LIMIT,
    BATCH_REQUESTS, BATCH_ROWS, BATCH_WAIT, PREDICTED_ROWS, PREDICTION_ERRORS,
    MODEL_INFO, MODEL_LOAD_SECONDS, MODEL_SCORE, GOLDEN_REQUESTS,
    FEATURE_ROWS, PREDICTION_ROWS, FEATURE_REFERENCE, PREDICTION_REFERENCE, FEATURE_IMPORTANCE,
    FEEDBACK_ROWS, FEEDBACK_ERROR, FEEDBACK_SQUARED_ERROR, FEEDBACK_CORRECT, FEEDBACK_LOG_LOSS, FEEDBACK_BRIER,
    FEEDBACK_REMEMBERED, PREDICTION_LOG_ROWS, LOG_LINES_DROPPED, RELEASE_CHECKS, PROCESSES_STARTED, TLS_EXPIRY,
    *PROCESS,
)  # fmt: skip
