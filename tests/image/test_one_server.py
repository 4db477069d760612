"""deploy/compose on this machine: its compose file, its proxy and its roll, with models that differ."""

import http.client
import json
import shutil
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.image.conftest import base_image, need
from tests.support.certificates import Authority
from tests.support.cluster import ROOT, Json, Running, run, wait_until
from tests.support.images import bake_in, golden, make_crashing, put_into
from tools.local_http import free_port

SITE = "house.example.com"
IMAGE = "bakehouse-one-server"
N_KEEP_ALIVE, N_RECONNECTING = 8, 2
N_SLOW = 60  # more than a service has threads
PROXY = """
FROM {base}
RUN apt-get update && apt-get install --yes --no-install-recommends caddy
ENTRYPOINT []
"""
MODEL = """
from sklearn.linear_model import Ridge
from training.models import house_prices
NAME = "house_prices"
def load():
    X, y = house_prices.load()
    return X{more}, y
def estimator():
    return Ridge(alpha={alpha})
"""
MODELS = {
    "v1": MODEL.format(more="", alpha=1),
    "v2": MODEL.format(more="", alpha=1000),
    "other": MODEL.format(more='.assign(rooms=X["area"] // 250)', alpha=1),
}


@dataclass
class OneServer:
    """The files of deploy/compose in a folder of their own, and the ports that they publish."""

    folder: Path
    authority: Authority
    golden: dict[str, Json]
    http_port: int
    https_port: int

    def compose(self, *arguments: str) -> str:
        """Run Compose as deploy/compose/roll does."""
        found = run("docker", "compose", "version", check=False).returncode == 0
        command = ["docker", "compose"] if found else ["docker-compose"]
        done = subprocess.run([*command, *arguments], cwd=self.folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def roll(self, tag: str, *options: str) -> subprocess.CompletedProcess[str]:
        """Do what an operator does to serve an image."""
        return subprocess.run([self.folder / "roll", f"{IMAGE}:{tag}", *options], capture_output=True, text=True)

    def connect(self) -> http.client.HTTPSConnection:
        """Return a connection to the proxy whose certificate is verified for the site's name."""
        tls = ssl.create_default_context(cafile=str(self.authority.file))
        connection = http.client.HTTPSConnection(SITE, self.https_port)
        # Shorter than the 30 s after which the proxy gives a slow client up.
        stream = socket.create_connection(("127.0.0.1", self.https_port), timeout=15)
        connection.sock = tls.wrap_socket(stream, server_hostname=SITE)
        return connection

    def ask(self, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        """Return status and body of an answer through the proxy."""
        with closing(self.connect()) as connection:
            connection.request(method, path, body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            return answer.status, answer.read()

    def version(self) -> str:
        """Return the model version that answers a prediction, or nothing while there is none."""
        try:
            status, body = self.ask("POST", "/predict", json.dumps(self.golden["v1"]["request"]).encode())
        except OSError:
            return ""
        return str(json.loads(body)["model"]["version"]) if status == http.HTTPStatus.OK else ""

    def live(self) -> str:
        """Return the container that serves."""
        (colour,) = [line[5:] for line in (self.folder / ".env").read_text().splitlines() if line.startswith("LIVE=")]
        return self.compose("ps", "--quiet", colour).strip()


@pytest.fixture(scope="module")
def server(image: str, clone: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OneServer]:
    """Return one server that serves v1, and has images of the other models."""
    compose = shutil.which("docker-compose") or run("docker", "compose", "version", check=False).returncode == 0
    need(compose, "docker compose is not installed")
    answers = build_images(image, clone, tmp_path_factory.mktemp("models"))
    folder = tmp_path_factory.mktemp("server") / "deploy"
    shutil.copytree(ROOT / "deploy/compose", folder)
    authority = Authority(tmp_path_factory.mktemp("authority"))
    (folder / "certificates").mkdir()
    for name, file in zip(("tls.crt", "tls.key"), authority.issue(SITE), strict=True):
        shutil.copyfile(file, folder / "certificates" / name)
    one = OneServer(folder, authority, answers, free_port(), free_port())
    settings = {
        "COMPOSE_PROJECT_NAME": "bakehouse-tested",
        "SITE": SITE,
        "PROXY_IMAGE": f"{IMAGE}-proxy",
        "BUFFERING": "buffer_requests",  # the name of request_buffers in Debian's version
        "HTTP_ADDRESS": f"127.0.0.1:{one.http_port}",
        "HTTPS_ADDRESS": f"127.0.0.1:{one.https_port}",
    }
    (folder / ".env").write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
    try:
        first = one.roll("v1")
        assert first.returncode == 0, first.stdout + first.stderr
        wait_until("v1 through the proxy", lambda: one.version() == "v1")
        yield one
    finally:
        one.compose("down", "--volumes", "--timeout", "5")


def build_images(image: str, clone: Path, models: Path) -> dict[str, Json]:
    """Build what is rolled to, and return a golden request with its answer of each version."""
    run("docker", "build", "--target", "runtime", "--tag", f"{IMAGE}-runtime", str(clone))
    run("docker", "build", "--tag", f"{IMAGE}-proxy", "-", given=PROXY.format(base=base_image()))
    bake_in(image.replace(":", "-train:"), models, MODELS)
    for version in MODELS:
        put_into(f"{IMAGE}-runtime", models / version, f"{IMAGE}:{version}")
    make_crashing(f"{IMAGE}:v2", f"{IMAGE}:crash")
    return {version: golden(models / version) for version in MODELS}


def test_https_answers_and_http_redirects(server: OneServer) -> None:
    """The certificate is verified by name, and plain HTTP leads there."""
    status, body = server.ask("POST", "/predict", json.dumps(server.golden["v1"]["request"]).encode())
    assert status == http.HTTPStatus.OK
    assert json.loads(body)["y_pred"] == pytest.approx(server.golden["v1"]["response"]["y_pred"])
    with closing(http.client.HTTPConnection("127.0.0.1", server.http_port, timeout=30)) as connection:
        connection.request("GET", "/version", headers={"Host": SITE})
        answer = connection.getresponse()
    assert (answer.status, answer.headers["Location"]) == (308, f"https://{SITE}/version")


def test_the_service_is_hardened_and_published_by_the_proxy_only(server: OneServer) -> None:
    """No port of the service is on the host, nothing can be written, and it may take as long to stop as it says."""
    container = json.loads(run("docker", "inspect", server.live()).stdout)[0]
    host = container["HostConfig"]
    assert not any((container["NetworkSettings"]["Ports"] or {}).values())
    assert (host["ReadonlyRootfs"], host["CapDrop"], host["RestartPolicy"]["Name"]) == (True, ["ALL"], "unless-stopped")
    assert container["Config"]["StopTimeout"] == 5 + 30 + 10
    wait_until("healthy", lambda: health(server.live()) == "healthy")


def health(container: str) -> str:
    """Return what the health check of a container says."""
    return run("docker", "inspect", "--format", "{{.State.Health.Status}}", container).stdout.strip()


def test_a_body_is_as_long_as_the_service_allows(server: OneServer) -> None:
    """The proxy's limit and the service's are one number."""
    limit = 8 * 1024**2
    for n_bytes, status in ((limit, http.HTTPStatus.OK), (limit + 1, http.HTTPStatus.REQUEST_ENTITY_TOO_LARGE)):
        body = json.dumps(server.golden["v1"]["request"]).encode().ljust(n_bytes)
        assert server.ask("POST", "/predict", body)[0] == status


def test_slow_clients_do_not_stop_others(server: OneServer) -> None:
    """Bodies that never end wait in the proxy, not in the threads of the service."""
    slow = [server.connect() for _ in range(N_SLOW)]
    try:
        for connection in slow:
            connection.putrequest("POST", "/predict")
            connection.putheader("Content-Type", "application/json")
            connection.putheader("Content-Length", "100")
            connection.endheaders(b"{")
        assert server.version() == "v1"
    finally:
        for connection in slow:
            connection.close()


@contextmanager
def clients(server: OneServer) -> Iterator[Running]:
    """Have clients predict without pause, most over connections that they keep; they count what they are answered."""
    configuration = {
        "url": f"https://{SITE}:{server.https_port}",
        "connect_to": "127.0.0.1",
        "ca": server.authority.file.read_text(),
        "keep_alive": N_KEEP_ALIVE,
        "reconnecting": N_RECONNECTING,
        "pause_seconds": 0.02,
        "body": server.golden["v1"]["request"],
        "expected": {version: server.golden[version]["response"] for version in ("v1", "v2")},
    }
    with Running(configuration) as running:
        yield running
    report = running.last
    print(f"\n{report['good']} good, {report['failed']} failed, {report['connections']} connections")


def wait_for(running: Running, version: str, n_answers: int = 200) -> None:
    """Return once the clients were answered so often more by a model version."""
    wanted = running.report()["answers"].get(version, 0) + n_answers
    wait_until(f"{n_answers} answers of {version}", lambda: running.report()["answers"].get(version, 0) >= wanted)


def test_a_killed_service_comes_back(server: OneServer) -> None:
    """The engine starts it again; until it is ready the proxy answers 502 or 503, and nothing fails afterwards."""
    container = server.live()
    pid, n_restarts = run("docker", "inspect", "--format", "{{.State.Pid}} {{.RestartCount}}", container).stdout.split()
    with clients(server) as running:
        wait_for(running, "v1")
        # As the same user from the host's processes: docker kill would count as an operator's wish to stop it.
        kill = f"import os; os.kill({pid}, 9)"
        run("docker", "run", "--rm", "--pid", "host", "--entrypoint", "python", f"{IMAGE}:v1", "-c", kill)
        count = "{{.RestartCount}}"
        wait_until(
            "a restart", lambda: run("docker", "inspect", "--format", count, container).stdout.strip() != n_restarts
        )
        wait_for(running, "v1")
    assert {problem[:3] for _, problem in running.last["failures"]} <= {"502", "503"}
    with clients(server) as running:
        wait_for(running, "v1")
    assert running.last["failures"] == []


def test_a_roll_loses_no_request(server: OneServer) -> None:
    """To the next model and back, under clients that keep their connections and clients that do not."""
    with clients(server) as running:
        for version in ("v2", "v1"):
            wait_for(running, server.version())
            done = server.roll(version)
            assert done.returncode == 0, done.stdout + done.stderr
            wait_for(running, version)
    report = running.last
    assert report["failures"] == []
    assert report["connections"] < report["good"]
    assert set(report["answers"]) == {"v1", "v2"}


@pytest.mark.parametrize(("tag", "reason"), [("other", "contract differs"), ("crash", "does not serve")])
def test_what_must_not_serve_changes_nothing(server: OneServer, tag: str, reason: str) -> None:
    """Another contract is refused before it starts, and what crashes is taken away again; the live one goes on."""
    live = server.live()
    done = server.roll(tag)
    assert done.returncode != 0
    assert reason in done.stdout + done.stderr
    assert server.live() == live
    assert len(server.compose("ps", "--quiet", "--status", "running").split()) == len(["the live one", "the proxy"])
    assert server.version() == "v1"


def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    """Every directive is known and has a value that it can have; only the program is another one's here."""
    need(shutil.which("systemd-analyze"), "systemd-analyze is not installed")
    unit = tmp_path / "bakehouse.service"
    text = (ROOT / "deploy/systemd/bakehouse.service").read_text()
    unit.write_text(text.replace("/opt/bakehouse/.venv/bin/python", sys.executable))
    done = run("systemd-analyze", "verify", str(unit), check=False)
    assert (done.returncode, done.stderr) == (0, "")
