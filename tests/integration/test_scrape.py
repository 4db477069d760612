"""Metrics of real servers: what is declared is exposed and nothing else, promtool is content, the numbers are right."""

import json
import re
import ssl
import subprocess
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics_families
from prometheus_client.parser import text_string_to_metric_families

from service.artifact.manifest import read_manifest
from service.artifact.writer import write
from service.observability.metric_definitions import CPU_LIMITED, MEMORY_LIMITED, LabelValues
from tests.conftest import ArtifactOf
from tests.support.certificates import Authority
from tests.support.holding import REQUEST, VARIABLE, held_requests
from tests.support.promtool import promtool
from tests.support.server import RunningServer
from tests.support.waiting import wait_for
from tools.local_http import connect, exchange, predict, send
from tools.metrics import SERIES

Serve = Callable[..., RunningServer]
OPEN_METRICS = {"Accept": "application/openmetrics-text; version=1.0.0"}
TRACE = "0af7651916cd43dd8448eb211c80319c"
# What a setting turns on.
EVERYTHING = {"BAKEHOUSE_PREDICTION_LOG": "/dev/null"}


@pytest.fixture(scope="module")
def batched(held: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the artifact of a model that answers when a test lets it, and answers together those who wait."""
    manifest = read_manifest(held)
    files = {name: (held / name).read_bytes() for name in manifest["files"]}
    directory = tmp_path_factory.mktemp("batched") / "batched"
    write(directory, {**manifest, "batching": True}, files, lambda _staging: None)
    return directory


def scrape(server: RunningServer) -> str:
    """Return what Prometheus gets."""
    return send(server.health_port, "GET", "/metrics").body.decode()


def samples(server: RunningServer) -> dict[str, float]:
    """Return every sample by name and labels, the model version left out."""
    found = re.findall(r"^([^#\s].*) (\S+)$", scrape(server), re.MULTILINE)
    return {re.sub(r',?version="\w*"', "", key).replace("{}", ""): float(value) for key, value in found}


def use(server: RunningServer) -> None:
    """Have a server count what is not there before it happens."""
    described = send(server.port, "GET", "/openapi.json").json["paths"]["/predict"]["post"]
    assert predict(server.port, described["requestBody"]["content"]["application/json"]["example"]).status == 200
    assert predict(server.port, {"X": []}).status == 422


def values_of(family: Metric, before: Sequence[str], label: str) -> list[set[str]]:
    """Return the values of a label, for each combination of the labels that are declared before it."""
    found: dict[tuple[str, ...], set[str]] = {}
    for sample in family.samples:
        found.setdefault(tuple(sample.labels[name] for name in before), set()).add(sample.labels[label])
    return list(found.values())


def exposed(server: RunningServer) -> list[Metric]:
    """Return the families that a server exposes, by the names that they are declared under."""
    found = list(text_string_to_metric_families(scrape(server)))
    for family in found:
        family.name += "_total" * (family.type == "counter")
    return found


def allowed(label: str, values: Sequence[str] | LabelValues, found: set[str]) -> bool:
    """Return whether a label has no other values than those that are declared."""
    if isinstance(values, LabelValues):
        return len(found) <= values.at_most
    return found <= set(values) and label != "version"


def test_servers_expose_what_is_declared_and_nothing_else(
    serve: Serve, artifact_of: ArtifactOf, house_prices: Path, batched: Path, tmp_path: Path
) -> None:
    """The page of all series is true in both directions, labels, types and numbers of series included."""
    certificate, key = Authority(tmp_path).issue("one.test")
    tls = {"BAKEHOUSE_TLS_CERTIFICATE": str(certificate), "BAKEHOUSE_TLS_KEY": str(key)}
    plain, shared, secure, kinds = (
        serve(batched, **EVERYTHING),
        serve(house_prices, WEB_CONCURRENCY="2", **EVERYTHING),
        serve(house_prices, **tls),
        serve(artifact_of("penguins")),
    )
    use(plain)
    use(shared)
    declared = {one.name: one for one in SERIES}
    seen = set()
    for server in (plain, shared, secure, kinds):
        families = exposed(server)
        names = [family.name for family in families]
        assert len(set(names)) == len(names)
        seen |= set(names)
        for family in families:
            about = declared[family.name]
            assert (family.type, family.documentation) == (about.type, about.help)
            assert len(family.samples) <= about.at_most
            for number, (label, values) in enumerate(about.labels.items()):
                for found in values_of(family, list(about.labels)[:number], label):
                    assert allowed(label, values, found), family.name
            labels = {label for sample in family.samples for label in sample.labels} - {"le"}
            assert labels == (set(about.labels) if family.samples else set()), family.name
    of_machine = {one.name for one in SERIES if one.only in (CPU_LIMITED, MEMORY_LIMITED)}
    assert seen | of_machine == declared.keys()


@pytest.mark.parametrize("workers", ["1", "2"])
def test_promtool_finds_nothing_to_mend(serve: Serve, batched: Path, workers: str) -> None:
    """Names, types, units and help follow the conventions of Prometheus, also of several processes."""
    server = serve(batched, WEB_CONCURRENCY=workers, **EVERYTHING)
    use(server)
    done = subprocess.run(
        [promtool(), "check", "metrics"], input=scrape(server), capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("workers", ["1", "2"])
def test_the_stricter_format_holds_as_well(serve: Serve, house_prices: Path, workers: str) -> None:
    """A parser of OpenMetrics reads it; one process tells the trace of a slow request there."""
    server = serve(house_prices, WEB_CONCURRENCY=workers, **EVERYTHING)
    predict(server.port, {"X": [[1500, 3]]}, traceparent=f"00-{TRACE}-b7ad6b7169203331-01")
    text = send(server.health_port, "GET", "/metrics", headers=OPEN_METRICS).body.decode()
    exemplars = [
        (family.name, sample.exemplar.labels)
        for family in open_metrics_families(text)
        for sample in family.samples
        if sample.exemplar
    ]
    of_duration = ("bakehouse_http_request_duration_seconds", {"trace_id": TRACE})
    assert exemplars == ([of_duration] if workers == "1" else [])


def test_what_waits_is_seen_and_its_time_counts(serve: Serve, held: Path, tmp_path: Path) -> None:
    """One thread, three requests: one is worked on, two wait; a client of theirs waited for both."""
    server = serve(held, BAKEHOUSE_THREADS="1", BAKEHOUSE_MAX_QUEUED="7", **{VARIABLE: str(tmp_path / "hold")})
    with held_requests(server.port, tmp_path / "hold", 3) as connections:
        wait_for(lambda: samples(server)["bakehouse_http_requests_in_flight"] == 3)
        found = samples(server)
        assert (found["bakehouse_threads"], found["bakehouse_threads_busy"]) == (1, 1)
        assert (found["bakehouse_queue_requests"], found["bakehouse_queue_limit"]) == (2, 7)
        assert found['bakehouse_connections{state="working"}'] == 3
        assert found["bakehouse_connections_limit"] == 1000
        (tmp_path / "hold").unlink()
        for connection in connections:
            assert connection.recv(65536)
        wait_for(lambda: samples(server)["bakehouse_http_requests_in_flight"] == 0)
    found = samples(server)
    waited, took = "bakehouse_queue_wait_seconds", "bakehouse_http_request_duration_seconds"
    assert found[f"{waited}_count"] == found[f'{took}_count{{route="/predict"}}'] == 3
    assert found[f'{took}_sum{{route="/predict"}}'] > found[f"{waited}_sum"] > 0
    wait_for(lambda: server.output.count("\n") == 3)
    lines = [json.loads(line) for line in server.output.splitlines()]
    assert sum(line["queue_seconds"] for line in lines) == pytest.approx(found[f"{waited}_sum"], abs=1e-5)
    assert all(line["duration_seconds"] >= line["queue_seconds"] for line in lines)


def test_connections_are_told_by_what_they_wait_for(serve: Serve, house_prices: Path) -> None:
    """Idle ones, and those in the middle of a head or a body, are there until they end."""
    server = serve(house_prices)
    head = b"POST /predict HTTP/1.1\r\nHost: a\r\n"
    with ExitStack() as stack:
        for sent in (head, head, head + b"Content-Length: 10\r\n\r\n12"):
            stack.enter_context(closing(connect(server.port))).sendall(sent)
        idle = stack.enter_context(closing(connect(server.port)))
        idle.sendall(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
        assert idle.recv(65536)

        def states() -> dict[str, float]:
            found = samples(server)
            return {state: found[f'bakehouse_connections{{state="{state}"}}'] for state in ("head", "body", "idle")}

        wait_for(lambda: states() == {"head": 2, "body": 1, "idle": 1})
    wait_for(lambda: states() == {"head": 0, "body": 0, "idle": 0})


def test_bytes_are_those_of_bodies(serve: Serve, house_prices: Path) -> None:
    """As they were sent, whichever way requests take through the worker."""
    server = serve(house_prices)
    short, long = ({"X": [[1500, 3]] * n_rows} for n_rows in (1, 5000))
    answers = [predict(server.port, document) for document in (short, long)]
    found = samples(server)
    assert found["bakehouse_http_request_body_bytes_total"] == sum(len(json.dumps(one)) for one in (short, long))
    assert found["bakehouse_http_response_body_bytes_total"] == sum(len(answer.body) for answer in answers)
    assert found["bakehouse_queue_wait_seconds_count"] == 1  # the short one needed no thread


def test_what_is_no_http_is_counted_as_refused(serve: Serve, house_prices: Path) -> None:
    """Without a route, because it never had one; and never as a failure, which would page for what anybody sends."""
    server = serve(house_prices)
    for request in (
        b"no HTTP\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost : a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: unknown\r\n\r\n",
    ):
        assert b" 400 " in exchange(server.port, request)
    found = samples(server)
    assert found['bakehouse_http_requests_refused_total{reason="malformed"}'] == 3
    counted = {name: number for name, number in found.items() if name.startswith("bakehouse_http_requests_total")}
    assert [number for name, number in counted.items() if 'route="unmatched"' in name and '"4xx"' in name] == [3]
    assert {number for name, number in counted.items() if 'status="5xx"' in name} == {0}


def test_batches_are_counted_as_they_are_made(serve: Serve, batched: Path, tmp_path: Path) -> None:
    """One request alone, and those that came meanwhile together; golden requests are none of a client's."""
    server = serve(batched, BAKEHOUSE_THREADS="8", **{VARIABLE: str(tmp_path / "hold")})
    assert samples(server)["bakehouse_batch_requests_count"] == 0
    with held_requests(server.port, tmp_path / "hold", 1) as first:
        wait_for(lambda: samples(server)["bakehouse_batch_requests_count"] == 1)
        with ExitStack() as stack:
            others = [stack.enter_context(closing(connect(server.port))) for _ in range(4)]
            for connection in others:
                connection.sendall(REQUEST)
            wait_for(lambda: samples(server)["bakehouse_threads_busy"] == 5)
            (tmp_path / "hold").unlink()
            for connection in (*first, *others):
                assert connection.recv(65536)
    found = samples(server)
    assert found["bakehouse_batch_requests_sum"] == found["bakehouse_batch_rows_sum"] == 5
    assert found["bakehouse_batch_wait_seconds_count"] == 5
    assert found["bakehouse_batch_requests_count"] < 5
    assert found["bakehouse_batch_wait_seconds_sum"] > 0


@pytest.mark.parametrize("workers", ["1", "2"])
def test_the_end_of_the_certificate_is_told_until_it_is_renewed(
    serve: Serve, house_prices: Path, tmp_path: Path, workers: str
) -> None:
    """By any process, whether or not somebody connects."""
    authority = Authority(tmp_path)
    certificate, key = authority.issue("one.test")
    name = "bakehouse_tls_certificate_expiry_timestamp_seconds"
    server = serve(
        house_prices,
        WEB_CONCURRENCY=workers,
        BAKEHOUSE_TLS_CERTIFICATE=str(certificate),
        BAKEHOUSE_TLS_KEY=str(key),
    )
    assert {samples(server)[name] for _ in range(4)} == {ends(certificate)}
    authority.issue("one.test", days=9)
    assert {samples(server)[name] for _ in range(4)} == {ends(certificate)}


def ends(certificate: Path) -> float:
    """Return when a certificate ends, by the openssl command."""
    done = subprocess.run(
        ["openssl", "x509", "-in", certificate, "-noout", "-enddate"], capture_output=True, text=True, check=True
    )
    return ssl.cert_time_to_seconds(done.stdout.strip().removeprefix("notAfter="))
