"""Every Prometheus series, declared once: library objects, scrape and docs/reference/metrics.md are made of this.

Clients cannot make series: each label has fixed words, or values that the artifact or the operator decided on.
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

# 1 ms is a compiled model on an idle machine, 10 s is beyond what a client waits for.
DURATION_BUCKETS_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
# Waiting is short or the server is overloaded: what is between matters more than how long above a second.
WAIT_BUCKETS_SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)
BATCH_REQUESTS_BUCKETS = (1, 2, 4, 8, 16, 32)
BATCH_ROWS_BUCKETS = (1, 3, 10, 30, 100, 300, 1000)


class LabelValues(NamedTuple):
    """The values of a label that are no fixed words.

    Args:
        text: What they are.
        at_most: How many there can be in one server, for each combination of the labels before it.
    """

    text: str
    at_most: int


class MetricDefinition(NamedTuple, Generic[Kind]):
    """A family of series.

    Args:
        kind: The library's class, which is its type.
        name: As it is exposed.
        unit: Of its value, or what is counted.
        help: One sentence.
        labels: What each label may be, VERSION first; that one is filled in by Metrics.
        only: Where there is such a series; everywhere if empty.
        buckets: The upper bounds of a histogram's.
        combine: How the gauges of several serving processes become one.
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
        """The type of OpenMetrics: counter, gauge or histogram."""
        return self.kind.__name__.lower()

    @property
    def at_most(self) -> int:
        """How many series there can be in one server."""
        samples = len(self.buckets) + 3 if self.buckets else 1  # of a histogram also infinity, count and sum
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
FEATURE = LabelValues("the most important features, BAKEHOUSE_DRIFT_FEATURES (50) of them", 50)
BIN = LabelValues(f"ranges or values of training, and what is not among them; at most {MAX_BINS}", MAX_BINS)
KINDS_OF_BINS = ", ".join(f"`{kind}`" for kind in (INSIDE, OUTSIDE, MISSING, UNKNOWN, OTHER))
BIN_KIND = LabelValues(f"one of {KINDS_OF_BINS}, each bin has one", 1)
WATCHED, PREDICTIONS_WATCHED = "where drift is looked for", "where drift of predictions is looked for"
CPU_LIMITED, MEMORY_LIMITED = "with a CPU limit", "with a memory limit"
FEEDBACK_RESULTS, ERROR_SIGNS = ("accepted", "repeated", "unknown"), ("over", "under")
PREDICTION_LOG_RESULTS = ("written", "dropped")
WITH_FEEDBACK = "where true values are taken"
OF_NUMBERS = f"{WITH_FEEDBACK}, for regression"
OF_CLASSES = f"{WITH_FEEDBACK}, for classification"
OF_PROBABILITIES = f"{OF_CLASSES} with probabilities"
BATCHED = "where the model is served in batches"
WITH_TLS = "where the server speaks TLS"

HTTP_REQUESTS = MetricDefinition(
    COUNTER,
    "bakehouse_http_requests_total",
    "requests",
    "Requests answered, those that were refused before they reached a route included.",
    {"version": VERSION, "route": ROUTES, "method": METHODS, "status": STATUSES},
)
HTTP_DURATION = MetricDefinition(
    HISTOGRAM,
    "bakehouse_http_request_duration_seconds",
    "seconds",
    "From the moment all of a request was there to its answer, the time it waited for a thread included; 0 where it "
    "was refused before a route was found.",
    {"version": VERSION, "route": ROUTES},
    buckets=DURATION_BUCKETS_SECONDS,
)
IN_FLIGHT = MetricDefinition(
    GAUGE,
    "bakehouse_http_requests_in_flight",
    "requests",
    "Requests that are there and not answered: they wait for a thread, or one works on them.",
)
REFUSED = MetricDefinition(
    COUNTER,
    "bakehouse_http_requests_refused_total",
    "requests",
    "Requests and connections that were refused, or given up, before they reached the application.",
    {"reason": REFUSAL_REASONS},
)
REQUEST_BYTES = MetricDefinition(
    COUNTER,
    "bakehouse_http_request_body_bytes_total",
    "bytes",
    "Bodies of requests that the application answered, as they were sent.",
)
RESPONSE_BYTES = MetricDefinition(
    COUNTER, "bakehouse_http_response_body_bytes_total", "bytes", "Bodies of the application's answers."
)
THREADS = MetricDefinition(GAUGE, "bakehouse_threads", "threads", "Threads that work on requests.")
THREADS_BUSY = MetricDefinition(GAUGE, "bakehouse_threads_busy", "threads", "Threads that work on a request right now.")
QUEUE_REQUESTS = MetricDefinition(GAUGE, "bakehouse_queue_requests", "requests", "Requests that wait for a thread.")
QUEUE_LIMIT = MetricDefinition(
    GAUGE, "bakehouse_queue_limit", "requests", "Requests that may wait for a thread; further ones are refused."
)
QUEUE_WAIT = MetricDefinition(
    HISTOGRAM,
    "bakehouse_queue_wait_seconds",
    "seconds",
    "How long requests waited for a thread; those that need none are not counted.",
    buckets=WAIT_BUCKETS_SECONDS,
)
CONNECTIONS = MetricDefinition(
    GAUGE, "bakehouse_connections", "connections", "Open connections, by what they wait for.", {"state": STATES}
)
CONNECTIONS_LIMIT = MetricDefinition(
    GAUGE, "bakehouse_connections_limit", "connections", "Connections that may be open at a time."
)
CPU_LIMIT = MetricDefinition(
    GAUGE, "bakehouse_cpu_limit_cores", "CPUs", "CPU time that the container may use in a second.", only=CPU_LIMITED
)
CPU_PERIODS = MetricDefinition(
    COUNTER, "bakehouse_cpu_periods_total", "periods", "Periods in which the CPU limit was enforced.", only=CPU_LIMITED
)
CPU_THROTTLED_PERIODS = MetricDefinition(
    COUNTER,
    "bakehouse_cpu_throttled_periods_total",
    "periods",
    "Periods in which the container had to wait because its CPU time was used up.",
    only=CPU_LIMITED,
)
CPU_THROTTLED_SECONDS = MetricDefinition(
    COUNTER,
    "bakehouse_cpu_throttled_seconds_total",
    "seconds",
    "How long the container's threads had to wait because its CPU time was used up.",
    only=CPU_LIMITED,
)
MEMORY_LIMIT = MetricDefinition(
    GAUGE, "bakehouse_memory_limit_bytes", "bytes", "Memory that the container may use.", only=MEMORY_LIMITED
)
BATCH_REQUESTS = MetricDefinition(
    HISTOGRAM,
    "bakehouse_batch_requests",
    "requests",
    "Requests that the engine answered together; predictions made again for feedback are among them.",
    only=BATCHED,
    buckets=BATCH_REQUESTS_BUCKETS,
)
BATCH_ROWS = MetricDefinition(
    HISTOGRAM,
    "bakehouse_batch_rows",
    "rows",
    "Rows that the engine answered together; those of feedback are among them.",
    only=BATCHED,
    buckets=BATCH_ROWS_BUCKETS,
)
BATCH_WAIT = MetricDefinition(
    HISTOGRAM,
    "bakehouse_batch_wait_seconds",
    "seconds",
    "How long requests waited for the engine to be free.",
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
    "Prediction requests refused, by code of the first error.",
    {"version": VERSION, "code": ERROR_CODES},
)
MODEL_INFO = MetricDefinition(
    GAUGE,
    "bakehouse_model_info",
    "",
    "Always 1: the model that is served, and the engine that answers for it.",
    {
        "version": VERSION,
        "name": LabelValues("the model name", 1),
        "digest": LabelValues("the artifact's digest", 1),
        "engine": LabelValues("the engine's name", 1),
        "exact": LabelValues("true if its answers are the estimator's to the bit, else false", 1),
    },
    combine="livemax",
)
MODEL_LOAD_SECONDS = MetricDefinition(
    GAUGE,
    "bakehouse_model_load_seconds",
    "seconds",
    "How long it took to verify and load the model and to replay its golden requests.",
    combine="livemax",
)
MODEL_SCORE = MetricDefinition(
    GAUGE,
    "bakehouse_model_score",
    "",
    "What the model scored on held-out rows when it was baked; greater is better.",
    {"version": VERSION, "score": LabelValues("scores of the model card, as scikit-learn names them", 20)},
    combine="livemax",
)
GOLDEN_REQUESTS = MetricDefinition(
    GAUGE,
    "bakehouse_golden_requests",
    "requests",
    "Golden requests that were replayed at the start, with the answers of the bake.",
    combine="livemax",
)
FEATURE_ROWS = MetricDefinition(
    COUNTER,
    "bakehouse_feature_rows_total",
    "rows",
    "Rows predicted, by the bin that their value of a feature is in; some of many stand for all.",
    {"version": VERSION, "feature": FEATURE, "bin": BIN, "kind": BIN_KIND},
    only=WATCHED,
)
PREDICTION_ROWS = MetricDefinition(
    COUNTER,
    "bakehouse_prediction_rows_total",
    "rows",
    "Rows predicted, by the bin that their prediction is in; some of many stand for all.",
    {"version": VERSION, "bin": BIN, "kind": BIN_KIND},
    only=PREDICTIONS_WATCHED,
)
FEATURE_REFERENCE = MetricDefinition(
    GAUGE,
    "bakehouse_feature_reference_ratio",
    "share",
    "Share of the training rows in the same bin of the feature.",
    {"version": VERSION, "feature": FEATURE, "bin": BIN, "kind": BIN_KIND},
    only=WATCHED,
)
PREDICTION_REFERENCE = MetricDefinition(
    GAUGE,
    "bakehouse_prediction_reference_ratio",
    "share",
    "Share of the training rows whose prediction was in the same bin.",
    {"version": VERSION, "bin": BIN, "kind": BIN_KIND},
    only=PREDICTIONS_WATCHED,
)
FEATURE_IMPORTANCE = MetricDefinition(
    GAUGE,
    "bakehouse_feature_importance",
    "",
    "How much predictions changed at the bake when the values of the feature were mixed up.",
    {"version": VERSION, "feature": FEATURE},
    only=WATCHED,
)
FEEDBACK_ROWS = MetricDefinition(
    COUNTER,
    "bakehouse_feedback_rows_total",
    "rows",
    "Rows whose true value was told: accepted, repeated (it was known already), unknown (not remembered here).",
    {"version": VERSION, "result": FEEDBACK_RESULTS},
    only=WITH_FEEDBACK,
)
FEEDBACK_ERROR = MetricDefinition(
    COUNTER,
    "bakehouse_feedback_error_total",
    "units of the target",
    "By how much predictions were over the truth, and by how much under it, summed up over accepted rows.",
    {"version": VERSION, "sign": ERROR_SIGNS},
    only=OF_NUMBERS,
)
FEEDBACK_SQUARED_ERROR = MetricDefinition(
    COUNTER,
    "bakehouse_feedback_squared_error_total",
    "squares of the target's",
    "Squared errors of predictions, summed up over accepted rows.",
    {"version": VERSION},
    only=OF_NUMBERS,
)
FEEDBACK_CORRECT = MetricDefinition(
    COUNTER,
    "bakehouse_feedback_correct_total",
    "rows",
    "Accepted rows whose class was predicted.",
    {"version": VERSION},
    only=OF_CLASSES,
)
FEEDBACK_LOG_LOSS = MetricDefinition(
    COUNTER,
    "bakehouse_feedback_log_loss_total",
    "nats",
    "Log losses, summed up over accepted rows.",
    {"version": VERSION},
    only=OF_PROBABILITIES,
)
FEEDBACK_BRIER = MetricDefinition(
    COUNTER,
    "bakehouse_feedback_brier_total",
    "",
    "Brier losses, summed up over accepted rows: of the second class where there are two, else over all classes.",
    {"version": VERSION},
    only=OF_PROBABILITIES,
)
FEEDBACK_REMEMBERED = MetricDefinition(
    GAUGE,
    "bakehouse_feedback_remembered_bytes",
    "bytes",
    "Memory of predictions whose true values may still be told.",
    only=WITH_FEEDBACK,
)
PREDICTION_LOG_ROWS = MetricDefinition(
    COUNTER,
    "bakehouse_prediction_log_rows_total",
    "rows",
    "Rows that were written to the prediction log, and those that it could not take.",
    {"result": PREDICTION_LOG_RESULTS},
    only="where predictions are logged",
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
    "Checks of releases that told this server how they ended: check --live (gate) and smoke --health-url.",
    {"check": CHECKS, "result": RESULTS},
)
PROCESSES_STARTED = MetricDefinition(
    COUNTER,
    "bakehouse_processes_started_total",
    "processes",
    "Serving processes that the server started; above WEB_CONCURRENCY, some were replaced.",
)
TLS_EXPIRY = MetricDefinition(
    GAUGE,
    "bakehouse_tls_certificate_expiry_timestamp_seconds",
    "seconds since 1970",
    "When the certificate that is in use ends.",
    only=WITH_TLS,
)
PROCESS = (
    MetricDefinition(COUNTER, "process_cpu_seconds_total", "seconds", "CPU time used, user and system."),
    MetricDefinition(GAUGE, "process_start_time_seconds", "seconds since 1970", "When the server started."),
    MetricDefinition(
        GAUGE, "process_resident_memory_bytes", "bytes", "Resident memory; what processes share is counted in each."
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
