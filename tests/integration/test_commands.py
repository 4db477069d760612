"""The commands of a rollout against real servers: check, smoke, healthcheck and drain, with their exit codes."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from service.__main__ import main
from service.artifact.reader import verify
from tests.conftest import ROOT
from tests.integration.test_cli import assert_one_sentence, copy_of, flip_byte, service
from tests.integration.test_drain import wait_for_status
from tests.support.canned import canned
from tests.support.certificates import Authority
from tests.support.server import RunningServer
from tools.local_http import free_port, send

EXIT_FAILED, EXIT_USAGE, EXIT_REFUSED, EXIT_ARTIFACT = 1, 2, 4, 65

Serve = Callable[..., RunningServer]


def test_the_image_of_the_live_release_may_follow_it(serve: Serve, house_prices: Path) -> None:
    """Everything that a rollout checks, against a server that runs; one sentence, and nothing else."""
    server, version = serve(house_prices), verify(house_prices).version
    done = service("check", "--version", version, "--latency-budget", "100000", "--live", server.health_url,
                   BAKEHOUSE_ARTIFACT=str(house_prices))  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert_one_sentence(done.stdout)
    assert f"clients of the live release (house_prices {version}) can go on" in done.stdout
    metrics = send(server.health_port, "GET", "/metrics").body.decode()
    assert 'bakehouse_release_checks_total{check="gate",result="passed"} 1.0' in metrics


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--version", "v2"), "The image's model version is "),
        (("--latency-budget", "0.000001"), "One row takes "),
        (("--live",), "The contract differs from the live release's (breast_cancer "),
    ],
    ids=["version", "latency", "contract"],
)
def test_a_refusal_has_a_code_of_its_own_and_one_sentence(
    serve: Serve, house_prices: Path, artifact_of: Callable[[str], Path], arguments: tuple[str, ...], sentence: str
) -> None:
    """The last line of a Job's log says why nothing was rolled out."""
    if arguments == ("--live",):
        arguments = ("--live", serve(artifact_of("breast_cancer")).health_url)
    done = service("check", str(house_prices), *arguments)
    assert (done.returncode, done.stdout) == (EXIT_REFUSED, "")
    assert_one_sentence(done.stderr)
    assert done.stderr.startswith(sentence)


def test_a_broken_artifact_is_refused_as_ever(house_prices: Path, tmp_path: Path) -> None:
    """Whatever else was asked for."""
    artifact = copy_of(house_prices, tmp_path)
    flip_byte(artifact / "golden.jsonl")
    done = service("check", str(artifact), "--version", "v2")
    assert done.returncode == EXIT_ARTIFACT
    assert_one_sentence(done.stderr)


@pytest.mark.parametrize(
    "arguments",
    [
        ("check", "--live", "bakehouse:8081"),
        ("check", "--latency-budget", "0"),
        ("check", "--latency-budget", "nan"),
        ("drain", "--pid", "0"),
        ("drain", "--pid", "-1"),
        ("drain", "--pid", "9" * 20),
        ("smoke", "bakehouse"),
    ],
)
def test_a_wrong_command_line_is_told_in_its_last_line(arguments: tuple[str, ...]) -> None:
    """No process group is ever told to end, and no typing error is taken for a release that is down."""
    done = service(*arguments)
    assert done.returncode == EXIT_USAGE
    assert "error: argument" in done.stderr.splitlines()[-1]


def test_smoke_passes_on_the_release_of_its_artifact(serve: Serve, house_prices: Path) -> None:
    """A line for each thing that was checked."""
    server, version = serve(house_prices), verify(house_prices).version
    done = service("smoke", server.url, "--health-url", f"{server.health_url}/", "--version", version,
                   BAKEHOUSE_ARTIFACT=str(house_prices))  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == 3


@pytest.mark.parametrize("up", [True, False])
def test_smoke_fails_on_another_release_and_on_none(
    serve: Serve, house_prices: Path, artifact_of: Callable[[str], Path], up: bool
) -> None:
    """One sentence and the code of refusals."""
    url = serve(artifact_of("digits")).url if up else f"http://127.0.0.1:{free_port()}"
    done = service("smoke", url, BAKEHOUSE_ARTIFACT=str(house_prices))
    assert (done.returncode, done.stdout) == (EXIT_REFUSED, "")
    assert_one_sentence(done.stderr)
    assert ("with another digest than this image's" in done.stderr) == up


def test_smoke_over_https_verifies_the_certificate_and_wants_a_redirect(
    serve: Serve,
    house_prices: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The name is the URL's, the address the test's; plain HTTP at that address must lead to https."""
    authority = Authority(tmp_path)
    certificate, key = authority.issue("models.test")
    server = serve(house_prices, BAKEHOUSE_TLS_CERTIFICATE=str(certificate), BAKEHOUSE_TLS_KEY=str(key))
    monkeypatch.setenv("BAKEHOUSE_ARTIFACT", str(house_prices))
    trusting = ["--ca", str(authority.file), "--connect-to", f"127.0.0.1:{server.port}"]
    for status, location, code in (
        (301, "https://models.test/predict", 0),
        (308, "https://models.test/predict", 0),
        (308, "http://models.test/predict", EXIT_REFUSED),
        (303, "https://models.test/predict", EXIT_REFUSED),
        (200, "", EXIT_REFUSED),
    ):
        capsys.readouterr()
        with canned({"/predict": (status, {"Location": location}, b"")}) as plain:
            monkeypatch.setattr("service.commands.smoke.HTTP_PORT", plain.port)
            assert main(["smoke", "https://models.test", *trusting]) == 0  # it was not asked for
            assert plain.seen == []
            assert main(["smoke", "https://models.test", "--redirect", *trusting]) == code
            assert plain.seen == [("GET", "/predict", "models.test", b"")]
        said = capsys.readouterr()
        assert said.out.splitlines()[4:] == ([] if code else ["http://models.test/predict leads to https."])
        assert said.err == (
            f"http://models.test/predict answers {status} instead of a redirect to https.\n" if code else ""
        )
    assert main(["smoke", "https://other.test", *trusting]) == EXIT_REFUSED
    assert "its certificate is not trusted" in capsys.readouterr().err
    assert main(["smoke", "https://models.test", *trusting[2:]]) == EXIT_REFUSED
    assert "its certificate is not trusted" in capsys.readouterr().err


def test_the_healthcheck_follows_the_server(serve: Serve, house_prices: Path) -> None:
    """0 while the server is live, 1 once it is gone; one sentence either way."""
    server = serve(house_prices)
    variables = {"BAKEHOUSE_HEALTH_PORT": str(server.health_port)}
    done = service("healthcheck", **variables)
    assert (done.returncode, done.stdout, done.stderr) == (0, "The server is live.\n", "")
    server.kill()
    done = service("healthcheck", **variables)
    assert (done.returncode, done.stdout) == (EXIT_FAILED, "")
    assert_one_sentence(done.stderr)


def test_drain_begins_the_drain_and_the_next_sigterm_ends_it(serve: Serve, house_prices: Path) -> None:
    """As Kubernetes does it: the hook's is the first SIGTERM, and while it waits, all is served and nothing ready."""
    server = serve(house_prices, BAKEHOUSE_DRAIN_SECONDS="600")
    hook = subprocess.Popen(
        [sys.executable, "-m", "service", "drain", "--pid", str(server.process.pid)], cwd=ROOT,
        stderr=subprocess.PIPE, text=True, env={"BAKEHOUSE_DRAIN_SECONDS": "2"},
    )  # fmt: skip
    wait_for_status(f"{server.health_url}/readyz", 503)
    assert send(server.port, "GET", "/version").status == 200
    before = time.monotonic()
    assert hook.communicate(timeout=60) == (None, "")
    assert hook.returncode == 0
    assert server.process.poll() is None
    server.terminate()
    assert server.process.wait(timeout=60) == 0
    assert time.monotonic() - before < 600  # not the whole drain


def test_drain_without_a_server_says_so() -> None:
    """One sentence and a code that is not 0."""
    done = service("drain", "--pid", str(2**31 - 1))
    assert (done.returncode, done.stdout) == (EXIT_FAILED, "")
    assert_one_sentence(done.stderr)


def test_help_tells_every_exit_code() -> None:
    """People look there first."""
    done = service("--help")
    for code in ("0", "1", "2", "3", "4", "65", "78"):
        assert any(line.startswith(f"  {code} ") for line in done.stdout.splitlines())
