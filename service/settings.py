"""Every setting: name, default, unit, bounds, help. Read from the environment once, before anything else happens."""

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, fields
from importlib.util import find_spec
from pathlib import Path
from typing import Any

PREFIX = "BAKEHOUSE_"
LOG_LEVELS = ("info", "warning", "error")
AUTO = 0
TRACING_PACKAGE = "opentelemetry.exporter.otlp.proto.http"  # needs the others of the extra


class SettingsError(Exception):
    """The environment does not describe a service; the message lists every problem."""


def _setting(
    name: str,
    default: Any,
    description: str,
    unit: str = "",
    at_least: float | None = None,
    at_most: float | None = None,
    one_of: Collection[str] = (),
) -> Any:
    about = {
        "name": name,
        "help": description,
        "unit": unit,
        "at_least": at_least,
        "at_most": at_most,
        "one_of": one_of,
    }
    return field(default=default, metadata=about)


@dataclass(frozen=True)
class Settings:
    """How to serve; what is served is in the artifact."""

    artifact: Path = _setting("BAKEHOUSE_ARTIFACT", Path("artifact"), "The artifact to serve.", "directory")
    host: str = _setting("BAKEHOUSE_HOST", "0.0.0.0", "The address to listen on.")  # noqa: S104 - a pod's own network
    # Not BAKEHOUSE_PORT: Kubernetes sets that one in pods beside a Service called bakehouse.
    http_port: int = _setting("BAKEHOUSE_HTTP_PORT", 8080, "The port of the API.", "", 1, 65535)
    health_port: int = _setting(
        "BAKEHOUSE_HEALTH_PORT",
        8081,
        "The port of probes, metrics, /version and /contract; always plain HTTP.",
        "",
        1,
        65535,
    )
    tls_certificate: str = _setting(
        "BAKEHOUSE_TLS_CERTIFICATE",
        "",
        "The certificate and its chain (PEM), with which the API's port speaks TLS; read again when it is renewed.",
        "file",
    )
    tls_key: str = _setting("BAKEHOUSE_TLS_KEY", "", "The certificate's private key (PEM, no password).", "file")
    redirect_to_https: bool = _setting(
        "BAKEHOUSE_REDIRECT_TO_HTTPS",
        False,
        "Whether requests that a proxy took over plain HTTP (X-Forwarded-Proto: http) are sent to https with a 308.",
        "true or false",
    )
    workers: int = _setting(
        "WEB_CONCURRENCY", 1, "Serving processes; more pods are better than more than one.", "processes", 1, 64
    )
    threads: int = _setting(
        "BAKEHOUSE_THREADS",
        AUTO,
        "Requests that one process works on at a time; 0 for 4 a CPU of the container's limit, at most 32.",
        "threads",
        AUTO,
        1000,
    )
    compute_threads: int = _setting(
        "BAKEHOUSE_COMPUTE_THREADS",
        1,
        "Threads of one prediction (OpenMP, BLAS), at most the CPU limit; 0 for the CPU limit over the processes.",
        "threads",
        AUTO,
        1024,
    )
    max_connections: int = _setting(
        "BAKEHOUSE_MAX_CONNECTIONS", 1000, "Connections that one process holds open.", "connections", 10, 100_000
    )
    max_body_bytes: int = _setting(
        "BAKEHOUSE_MAX_BODY_BYTES",
        8 * 1024**2,  # about 10,000 rows of 40 features
        "The longest body of a request, as sent and decompressed; a process holds 8 times as much for slow clients.",
        "bytes",
        100,
        1024**3,
    )
    max_rows: int = _setting("BAKEHOUSE_MAX_ROWS", 10_000, "The most rows of one request.", "rows", 1, 10_000_000)
    keep_alive_seconds: int = _setting(
        "BAKEHOUSE_KEEP_ALIVE_SECONDS",
        100,  # proxies drop an idle connection earlier (nginx after 60 s, Traefik after 90 s), so they close it first
        "How long an idle connection is kept; keep above the idle timeout of the proxy in front.",
        "seconds",
        0,
        3600,
    )
    header_timeout_seconds: int = _setting(
        "BAKEHOUSE_HEADER_TIMEOUT_SECONDS",
        10,
        "How long a client may take to send the head of a request, TLS included; it is answered 408 after that.",
        "seconds",
        1,
        3600,
    )
    body_timeout_seconds: int = _setting(
        "BAKEHOUSE_BODY_TIMEOUT_SECONDS",
        30,
        "How long a client may take to send a body; it is answered 408 after that.",
        "seconds",
        1,
        3600,
    )
    answer_timeout_seconds: int = _setting(
        "BAKEHOUSE_ANSWER_TIMEOUT_SECONDS",
        30,
        "How long a client may take to read an answer; its connection is closed after that.",
        "seconds",
        1,
        3600,
    )
    max_queued: int = _setting(
        "BAKEHOUSE_MAX_QUEUED",
        100,
        "Requests that wait for a thread in one process; further ones are answered 503 at once.",
        "requests",
        1,
        100_000,
    )
    drift_features: int = _setting(
        "BAKEHOUSE_DRIFT_FEATURES",
        50,  # a scrape of so many takes some milliseconds, and about 1,500 series
        "Features whose values are counted for drift, the most important ones; 0 counts none, and no predictions.",
        "features",
        0,
        1000,
    )
    drift_rows: int = _setting(
        "BAKEHOUSE_DRIFT_ROWS",
        32,
        "Rows of one request that are counted for drift; of longer ones so many, evenly spread.",
        "rows",
        1,
        1000,
    )
    drain_seconds: float = _setting(
        "BAKEHOUSE_DRAIN_SECONDS",
        5,
        "How long requests are still taken after SIGTERM, not ready and closing connections, before the stop begins; "
        "keep above the time in which load balancers learn of it.",
        "seconds",
        0,
        600,
    )
    graceful_timeout_seconds: int = _setting(
        "BAKEHOUSE_GRACEFUL_TIMEOUT_SECONDS", 30, "How long requests in flight may take at a stop.", "seconds", 1, 3600
    )
    feedback_bytes: int = _setting(
        "BAKEHOUSE_FEEDBACK_BYTES",
        8 * 1024**2,  # about 15,000 requests of a row with a few numbers
        "What a process may remember of requests whose true values may still be told, the oldest forgotten first; "
        "0 turns feedback off.",
        "bytes",
        0,
        1024**4,
    )
    feedback_seconds: int = _setting(
        "BAKEHOUSE_FEEDBACK_SECONDS",
        86_400,
        "How long after a prediction its true values are taken.",
        "seconds",
        1,
        31_536_000,
    )
    prediction_log: str = _setting(
        "BAKEHOUSE_PREDICTION_LOG",
        "",
        "Where predictions are logged with their inputs, as JSON lines: a file, - for standard output, or nowhere.",
        "file",
    )
    prediction_log_ratio: float = _setting(
        "BAKEHOUSE_PREDICTION_LOG_RATIO", 1.0, "The share of requests whose predictions are logged.", "", 0, 1
    )
    prediction_log_redact: str = _setting(
        "BAKEHOUSE_PREDICTION_LOG_REDACT",
        "",
        "Features and outputs that are logged as null, with commas between their names; * for all features. A name "
        "that holds a comma, or begins or ends with a space, stands in double quotes.",
        "names",
    )
    worker_timeout_seconds: int = _setting(
        "BAKEHOUSE_WORKER_TIMEOUT_SECONDS",
        60,
        "How long a process may be stuck, or start, before it is killed and replaced.",
        "seconds",
        1,
        3600,
    )

    log_level: str = _setting(
        "BAKEHOUSE_LOG_LEVEL",
        "info",
        "The lowest level of lines that are logged; warning leaves out requests that were answered as they should be.",
        one_of=LOG_LEVELS,
    )

    tracing: bool = _setting(
        "BAKEHOUSE_TRACING",
        False,
        "Whether traces of requests are sent, to where OpenTelemetry's variables say; needs the extra tracing.",
        "true or false",
    )

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ) -> "Settings":
        """Return the settings that these variables describe.

        Raises:
            SettingsError: If a value is bad or a BAKEHOUSE_ name is unknown; lists all of them at once.
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
    except ModuleNotFoundError:  # not even what it is in
        return False


def _unknown_names(environ: Mapping[str, str]) -> list[str]:
    known = {item.metadata["name"] for item in fields(Settings)}
    unknown = sorted(name for name in environ if name.startswith(PREFIX) and name not in known)
    hint = " (from a Kubernetes Service called bakehouse? set enableServiceLinks: false)"
    links = ("BAKEHOUSE_PORT", "BAKEHOUSE_SERVICE_")
    return [f"{name} is no setting{hint if name.startswith(links) else ''}" for name in unknown]


def _parse(text: str, item: Any) -> Any:
    if item.type is bool:
        if text not in ("true", "false"):
            raise ValueError("must be true or false")
        return text == "true"
    try:
        value = item.type(text)
    except ValueError:
        raise ValueError(f"must be a {'whole number' if item.type is int else 'number'}") from None
    if (words := item.metadata["one_of"]) and value not in words:
        raise ValueError(f"must be {_choice(words)}")
    low, high = item.metadata["at_least"], item.metadata["at_most"]
    if low is not None and not low <= value <= high:
        raise ValueError(f"must be {low} to {high}")
    return value


def _choice(words: Collection[str]) -> str:
    *others, last = words or [""]
    return f"{', '.join(others)} or {last}" if others else last


def settings_table() -> str:
    """Return the table of all settings as Markdown."""
    rows = ["| setting | default | unit | bounds | help |", "|---|---|---|---|---|"]
    for item in fields(Settings):
        about = item.metadata
        bounds = _choice(about["one_of"]) if about["at_least"] is None else f"{about['at_least']} to {about['at_most']}"
        default = str(item.default).lower() if item.type is bool else str(item.default)
        shown = f"`{default}`" if default else ""
        rows.append(f"| `{about['name']}` | {shown} | {about['unit']} | {bounds} | {about['help']} |")
    return "\n".join(rows)
