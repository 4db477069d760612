"""The environment of the server and of its check."""

import re

import yaml

from service.settings import Settings
from tests.support.kubernetes import problems
from tests.support.objects import CHECK_JOB, SERVER, container, rendered, variables
from tools.helm import CHART

TRACES = CHART.parents[1] / "docs/how-to/traces.md"


def test_settings_arrive_as_they_are_given():
    """The service parses every setting, including large numbers and fractions. The check gets the same ones."""
    given = {
        "drainSeconds": 2.5,
        "gracefulTimeoutSeconds": 45,
        "keepAliveSeconds": 0,
        "headerTimeoutSeconds": 1,
        "bodyTimeoutSeconds": 2,
        "answerTimeoutSeconds": 3600,
        "workers": 3,
        "threads": 0,
        "computeThreads": 1024,
        "maxQueued": 100_000,
        "maxConnections": 100_000,
        "maxBodyBytes": 1024**3,
        "maxRows": 10_000_000,
        "feedbackBytes": 1024**4,
        "feedbackSeconds": 31_536_000,
        "predictionLog": "-",
        "predictionLogRatio": 0.25,
        "predictionLogRedact": 'age, "a, b"',
        "workerTimeoutSeconds": 3600,
        "driftFeatures": 1000,
        "driftRows": 1000,
        "logLevel": "error",
    }
    found = rendered({"settings": given})
    for name in (SERVER, CHECK_JOB):
        assert Settings.from_env(variables(found, name)) == Settings(
            drain_seconds=2.5,
            graceful_timeout_seconds=45,
            keep_alive_seconds=0,
            header_timeout_seconds=1,
            body_timeout_seconds=2,
            answer_timeout_seconds=3600,
            workers=3,
            threads=0,
            compute_threads=1024,
            max_queued=100_000,
            max_connections=100_000,
            max_body_bytes=1024**3,
            max_rows=10_000_000,
            feedback_bytes=1024**4,
            feedback_seconds=31_536_000,
            prediction_log="-",
            prediction_log_ratio=0.25,
            prediction_log_redact='age, "a, b"',
            worker_timeout_seconds=3600,
            drift_features=1000,
            drift_rows=1000,
            log_level="error",
        )


def test_tracing_is_on_in_the_server_and_in_its_check():
    """Only the server gets the collector. The check fails in an image without the packages, as documented."""
    (values,) = map(yaml.safe_load, re.findall(r"```yaml\n(.*?)```", TRACES.read_text(), re.DOTALL))
    found = rendered(values)
    assert problems(found) == []
    server, check = variables(found), variables(found, CHECK_JOB)
    assert Settings.from_env(server).tracing
    assert Settings.from_env(check).tracing
    sent = {"OTEL_EXPORTER_OTLP_ENDPOINT": values["tracing"]["endpoint"], "OTEL_SERVICE_NAME": "house"}
    assert {name: value for name, value in server.items() if name.startswith("OTEL_")} == sent
    assert not [name for name in check if name.startswith("OTEL_")]


def test_values_left_empty_are_the_services_own():
    """The chart sets only the two defaults that it computes with."""
    assert set(variables(rendered())) == {"BAKEHOUSE_DRAIN_SECONDS", "BAKEHOUSE_GRACEFUL_TIMEOUT_SECONDS"}


def test_more_variables_keep_their_order_and_replace_the_charts():
    """Kubernetes expands $(HOST) only for variables that come before."""
    extra = [
        {"name": "ZONE", "value": "a"},
        {"name": "BAKEHOUSE_MAX_ROWS", "value": "5"},
        {"name": "HOST", "value": "$(ZONE).example"},
        {"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
    ]
    found = rendered({"settings": {"maxRows": 7}, "extraEnv": extra})
    own = [
        {"name": "BAKEHOUSE_DRAIN_SECONDS", "value": "10"},
        {"name": "BAKEHOUSE_GRACEFUL_TIMEOUT_SECONDS", "value": "30"},
    ]
    assert container(found)["env"] == own + extra
    assert container(found, CHECK_JOB)["env"] == own + extra


def test_of_two_variables_of_one_name_the_last_counts():
    """It is as in a shell. Kubernetes would refuse both."""
    found = rendered(
        {"extraEnv": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}, {"name": "A", "value": "3"}]}
    )
    assert list(variables(found).items())[2:] == [("A", "3"), ("B", "2")]
