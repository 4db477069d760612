"""All settings: name, default, unit, bounds and help. The service reads them once, from the environment."""

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, fields
from importlib.util import find_spec
from pathlib import Path
from typing import Any

PREFIX = "BAKEHOUSE_"
LOG_LEVELS = ("info", "warning", "error")
AUTO = 0
TRACING_PACKAGE = "opentelemetry.exporter.otlp.proto.http"  # it needs the other packages of the extra


class SettingsError(Exception):
    """The environment variables are not valid settings. The message lists every problem."""


def _setting(
    name: str,
    default: Any,
    description: str,
    unit: str = "",
    at_least: float | None = None,
    at_most: float | None = None,
    one_of: Collection[str] = (),
) -> Any:
    metadata = {
        "name": name,
        "help": description,
        "unit": unit,
        "at_least": at_least,
        "at_most": at_most,
        "one_of": one_of,
    }
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class Settings:
    """How to serve. The artifact holds what to serve."""

    artifact: Path = _setting("BAKEHOUSE_ARTIFACT", Path("artifact"), "Artifact to serve.", "directory")
    host: str = _setting("BAKEHOUSE_HOST", "0.0.0.0", "Address to listen on.")  # noqa: S104 - a pod's own network
    # Not BAKEHOUSE_PORT: Kubernetes sets that variable in pods if a Service is called bakehouse.
    http_port: int = _setting("BAKEHOUSE_HTTP_PORT", 8080, "Port of the API.", "", 1, 65535)
    health_port: int = _setting(
        "BAKEHOUSE_HEALTH_PORT",
        8081,
        "Port of probes, metrics, /version and /contract. It always uses plain HTTP.",
        "",
        1,
        65535,
    )
    tls_certificate: str = _setting(
        "BAKEHOUSE_TLS_CERTIFICATE",
        "",
        "Certificate and its chain (PEM). With it, the API port uses TLS. The server reads a renewed file again.",
        "file",
    )
    tls_key: str = _setting("BAKEHOUSE_TLS_KEY", "", "Private key of the certificate (PEM, no password).", "file")
    redirect_to_https: bool = _setting(
        "BAKEHOUSE_REDIRECT_TO_HTTPS",
        False,
        "If true, the API port answers requests that have X-Forwarded-Proto: http with a redirect (308) to https.",
        "true or false",
    )
    workers: int = _setting(
        "WEB_CONCURRENCY", 1, "Serving processes. To scale, add pods before processes.", "processes", 1, 64
    )
    threads: int = _setting(
        "BAKEHOUSE_THREADS",
        AUTO,
        "Worker threads per process. 0 means 4 per CPU of the container limit, at most 32.",
        "threads",
        AUTO,
        1000,
    )
    compute_threads: int = _setting(
        "BAKEHOUSE_COMPUTE_THREADS",
        1,
        "Threads of one prediction (OpenMP, BLAS), at most the CPU limit. 0 divides the CPU limit by the processes.",
        "threads",
        AUTO,
        1024,
    )
    max_connections: int = _setting(
        "BAKEHOUSE_MAX_CONNECTIONS", 1000, "Maximum number of open connections per process.", "connections", 10, 100_000
    )
    max_body_bytes: int = _setting(
        "BAKEHOUSE_MAX_BODY_BYTES",
        8 * 1024**2,  # about 10,000 rows of 40 features
        "Longest request body, as sent and after decompression. "
        "For all slow clients together, a process holds at most 8 times this size in memory.",
        "bytes",
        100,
        1024**3,
    )
    max_rows: int = _setting(
        "BAKEHOUSE_MAX_ROWS", 10_000, "Maximum number of rows in one request.", "rows", 1, 10_000_000
    )
    keep_alive_seconds: int = _setting(
        "BAKEHOUSE_KEEP_ALIVE_SECONDS",
        100,  # so the proxy closes an idle connection first: nginx after 60 s, Traefik after 90 s
        "How long an idle connection stays open. Set it above the idle timeout of the proxy in front.",
        "seconds",
        0,
        3600,
    )
    header_timeout_seconds: int = _setting(
        "BAKEHOUSE_HEADER_TIMEOUT_SECONDS",
        10,
        "Time limit for the head of a request, with the TLS handshake. "
        "A client that exceeds it gets 408. A client that sent nothing is disconnected.",
        "seconds",
        1,
        3600,
    )
    body_timeout_seconds: int = _setting(
        "BAKEHOUSE_BODY_TIMEOUT_SECONDS",
        30,
        "Time limit for a request body. A client that exceeds it gets 408.",
        "seconds",
        1,
        3600,
    )
    answer_timeout_seconds: int = _setting(
        "BAKEHOUSE_ANSWER_TIMEOUT_SECONDS",
        30,
        "Time limit for a client to read a response. After it, the worker closes the connection.",
        "seconds",
        1,
        3600,
    )
    max_queued: int = _setting(
        "BAKEHOUSE_MAX_QUEUED",
        100,
        "Maximum number of requests per process that wait for a thread. Further requests get 503 at once.",
        "requests",
        1,
        100_000,
    )
    drift_features: int = _setting(
        "BAKEHOUSE_DRIFT_FEATURES",
        50,  # a scrape of 50 features takes some milliseconds and has about 1,500 series
        "How many features are counted for drift, the most important first. 0 counts no features and no predictions.",
        "features",
        0,
        1000,
    )
    drift_rows: int = _setting(
        "BAKEHOUSE_DRIFT_ROWS",
        32,
        "How many rows of one request are counted for drift. From larger requests, evenly spaced rows are sampled.",
        "rows",
        1,
        1000,
    )
    drain_seconds: float = _setting(
        "BAKEHOUSE_DRAIN_SECONDS",
        5,
        "How long the server still serves after SIGTERM. In this time it is not ready, and each response closes its "
        "connection. Set it above the time that load balancers need to notice.",
        "seconds",
        0,
        600,
    )
    graceful_timeout_seconds: int = _setting(
        "BAKEHOUSE_GRACEFUL_TIMEOUT_SECONDS", 30, "Time limit for requests in flight at a stop.", "seconds", 1, 3600
    )
    feedback_bytes: int = _setting(
        "BAKEHOUSE_FEEDBACK_BYTES",
        8 * 1024**2,  # about 15,000 requests of a row with a few numbers
        "Memory per process for requests that can still get feedback. When it is full, the oldest are forgotten. "
        "0 turns feedback off.",
        "bytes",
        0,
        1024**4,
    )
    feedback_seconds: int = _setting(
        "BAKEHOUSE_FEEDBACK_SECONDS",
        86_400,
        "How long after a prediction the server accepts its true values.",
        "seconds",
        1,
        31_536_000,
    )
    prediction_log: str = _setting(
        "BAKEHOUSE_PREDICTION_LOG",
        "",
        "File to log predictions and their inputs to, as JSON lines. - is standard output. Empty turns the log off.",
        "file",
    )
    prediction_log_ratio: float = _setting(
        "BAKEHOUSE_PREDICTION_LOG_RATIO", 1.0, "Share of requests whose predictions are logged.", "", 0, 1
    )
    prediction_log_redact: str = _setting(
        "BAKEHOUSE_PREDICTION_LOG_REDACT",
        "",
        "Features and outputs to log as null: their names, separated by commas. * means all features. Put a name in "
        "double quotes if it contains a comma, or begins or ends with a space.",
        "names",
    )
    worker_timeout_seconds: int = _setting(
        "BAKEHOUSE_WORKER_TIMEOUT_SECONDS",
        60,
        "Time limit for a process to start, or to hang. After it, the master kills and replaces the process.",
        "seconds",
        1,
        3600,
    )

    log_level: str = _setting(
        "BAKEHOUSE_LOG_LEVEL",
        "info",
        "Lowest level to log. warning leaves out requests with a status below 400, and error those below 500.",
        one_of=LOG_LEVELS,
    )

    tracing: bool = _setting(
        "BAKEHOUSE_TRACING",
        False,
        "If true, the server sends traces of requests. OpenTelemetry's variables say where. Needs the extra tracing.",
        "true or false",
    )

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ) -> "Settings":
        """Return the settings from these environment variables.

        Raises:
            SettingsError: If a value is invalid or a BAKEHOUSE_ name is unknown. The message lists every problem.
        """
        problems = _unknown_names(environ)
        values: dict[str, Any] = {}
        for item in fields(cls):
            text = environ.get(item.metadata["name"], "").strip()
            if text:
                try:
                    values[item.name] = _parse(text, item)
                except ValueError as error:
                    problems.append(f"{item.metadata['name']} {error}")
        settings = cls(**values)
        if settings.http_port == settings.health_port:
            problems.append("BAKEHOUSE_HEALTH_PORT must differ from BAKEHOUSE_HTTP_PORT")
        if bool(settings.tls_certificate) != bool(settings.tls_key):
            problems.append("BAKEHOUSE_TLS_CERTIFICATE and BAKEHOUSE_TLS_KEY must be set together")
        if settings.tracing and not _is_installed(TRACING_PACKAGE):
            problems.append(
                "BAKEHOUSE_TRACING is true but its packages are missing: install the extra tracing, or build the image "
                "with REQUIREMENTS=serving-tracing"
            )
        if problems:
            raise SettingsError("The settings are wrong: " + "; ".join(problems) + ". See python -m service --help.")
        return settings


def _is_installed(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ModuleNotFoundError:  # a parent package is missing, too
        return False


def _unknown_names(environ: Mapping[str, str]) -> list[str]:
    known = {item.metadata["name"] for item in fields(Settings)}
    unknown = sorted(name for name in environ if name.startswith(PREFIX) and name not in known)
    hint = " (if a Kubernetes Service called bakehouse sets it, set enableServiceLinks: false)"
    links = ("BAKEHOUSE_PORT", "BAKEHOUSE_SERVICE_")
    return [f"{name} is not a setting{hint if name.startswith(links) else ''}" for name in unknown]


def _parse(text: str, item: Any) -> Any:
    if item.type is bool:
        if text not in ("true", "false"):
            raise ValueError("must be true or false")
        return text == "true"
    try:
        value = item.type(text)
    except ValueError:
        raise ValueError(f"must be a {'whole number' if item.type is int else 'number'}") from None
    if (choices := item.metadata["one_of"]) and value not in choices:
        raise ValueError(f"must be {_choice(choices)}")
    low, high = item.metadata["at_least"], item.metadata["at_most"]
    if low is not None and not low <= value <= high:
        raise ValueError(f"must be {low} to {high}")
    return value


def _choice(choices: Collection[str]) -> str:
    *others, last = choices or [""]
    return f"{', '.join(others)} or {last}" if others else last


def settings_table() -> str:
    """Return the table of all settings as Markdown."""
    rows = ["| setting | default | unit | bounds | help |", "|---|---|---|---|---|"]
    for item in fields(Settings):
        setting = item.metadata
        low, high = setting["at_least"], setting["at_most"]
        bounds = _choice(setting["one_of"]) if low is None else f"{low} to {high}"
        default = str(item.default).lower() if item.type is bool else str(item.default)
        default_cell = f"`{default}`" if default else ""
        rows.append(f"| `{setting['name']}` | {default_cell} | {setting['unit']} | {bounds} | {setting['help']} |")
    return "\n".join(rows)
