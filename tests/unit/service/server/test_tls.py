"""The certificate of the API's port: what is refused at the start, and what is picked up later."""

import ssl
import subprocess
import time
from pathlib import Path

import pytest

from service.server.tls import Certificate
from service.settings import SettingsError
from tests.support.certificates import KEY, Authority
from tests.support.log import check_lines


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """Return an authority of the test's own."""
    return Authority(tmp_path)


def name_in(context: ssl.SSLContext, authority: Authority) -> str:
    """Return the name in the certificate that a server with this context shows, after a whole handshake in memory."""
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    trusting = ssl.create_default_context(cafile=str(authority.file))
    trusting.check_hostname = False
    client = trusting.wrap_bio(to_client, to_server)
    server = context.wrap_bio(to_server, to_client, server_side=True)
    for side in (client, server, client, server):
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            continue
    return client.getpeercert()["subjectAltName"][0][1]


def refusal(certificate: Path, key: Path) -> str:
    """Return the sentence with which these files are refused."""
    with pytest.raises(SettingsError) as refused:
        Certificate(str(certificate), str(key))
    return str(refused.value)


def test_files_that_are_missing_or_no_pem_are_refused(authority: Authority, tmp_path: Path) -> None:
    """The sentence says why, and what is wanted."""
    certificate, key = authority.issue("one.test")
    assert "(No such file or directory)" in refusal(tmp_path / "none", key)
    assert "(No such file or directory)" in refusal(certificate, tmp_path / "none")
    (tmp_path / "text").write_text("no certificate")
    for files in ((tmp_path / "text", key), (certificate, tmp_path / "text"), (tmp_path, key)):
        assert "they must be a PEM certificate and its private key" in refusal(*files)


def test_a_key_of_another_certificate_is_refused(authority: Authority) -> None:
    """The two must fit each other."""
    certificate, _ = authority.issue("one.test", "one")
    _, key = authority.issue("two.test", "two")
    assert "(KEY_VALUES_MISMATCH)" in refusal(certificate, key)


def test_a_key_with_a_password_is_refused(authority: Authority, tmp_path: Path) -> None:
    """There is no setting for the password."""
    certificate, key = authority.issue("one.test")
    locked = tmp_path / "locked.key"
    subprocess.run(
        ["openssl", "ec", "-in", str(key), "-out", str(locked), "-aes256", "-passout", "pass:secret"],
        capture_output=True,
        check=True,
    )
    assert "without a password" in refusal(certificate, locked)


def test_old_versions_of_tls_are_not_spoken(authority: Authority) -> None:
    """1.2 is the least."""
    context = Certificate(*map(str, authority.issue("one.test"))).context()
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2


def test_a_renewed_certificate_is_used_from_then_on(authority: Authority, capfd: pytest.CaptureFixture[str]) -> None:
    """New connections get it without a restart; while the files are as they were, nothing is read again."""
    certificate = Certificate(*map(str, authority.issue("one.test")))
    before = certificate.context()
    assert name_in(before, authority) == "one.test"
    assert certificate.context() is before
    authority.issue("two.test")
    after = certificate.context()
    assert name_in(after, authority) == "two.test"
    assert certificate.context() is after
    assert [line["message"] for line in check_lines(capfd.readouterr().err)] == ["The renewed certificate is in use."]


def test_half_a_renewal_changes_nothing(authority: Authority, capfd: pytest.CaptureFixture[str]) -> None:
    """While the files do not fit each other, or are away, the last good certificate goes on; it is said once."""
    files = authority.issue("one.test", "one")
    certificate = Certificate(*map(str, files))
    newer = authority.issue("two.test", "two")
    files[0].write_bytes(newer[0].read_bytes())
    for _ in range(2):
        assert name_in(certificate.context(), authority) == "one.test"
    assert [line["message"] for line in check_lines(capfd.readouterr().err)] == [
        "The server cannot use the renewed certificate (KEY_VALUES_MISMATCH): it keeps the last one."
    ]
    files[1].unlink()
    for _ in range(2):
        assert name_in(certificate.context(), authority) == "one.test"
    assert capfd.readouterr().err.count("cannot use the renewed certificate (No such file or directory)") == 1
    files[1].write_bytes(newer[1].read_bytes())
    assert name_in(certificate.context(), authority) == "two.test"


def ends(certificate: Path) -> float:
    """Return when a certificate ends, by the openssl command."""
    done = subprocess.run(
        ["openssl", "x509", "-in", certificate, "-noout", "-enddate"], capture_output=True, text=True, check=True
    )
    return ssl.cert_time_to_seconds(done.stdout.strip().removeprefix("notAfter="))


@pytest.mark.parametrize("key_type", [KEY, ("-newkey", "rsa:2048", "-nodes")], ids=["EC", "RSA"])
@pytest.mark.parametrize("days", [2, 400])
def test_it_is_known_when_the_certificate_ends(authority: Authority, key_type: tuple[str, ...], days: int) -> None:
    """Whatever its key; the client in memory neither knows nor asks who signed it."""
    files = authority.issue("one.test", days=days, key_type=key_type)
    assert Certificate(*map(str, files)).expiry() == ends(files[0])


def test_a_certificate_that_has_ended_is_told_as_well(authority: Authority) -> None:
    """That is when it matters most."""
    certificate, key = authority.issue("one.test", days=-1)
    expiry = Certificate(str(certificate), str(key)).expiry()
    assert expiry == ends(certificate)
    assert expiry < time.time()


def test_of_a_chain_the_first_certificate_counts(authority: Authority, tmp_path: Path) -> None:
    """The one of the server; text around certificates is no part of them."""
    certificate, key = authority.issue("one.test", days=1)
    chain = tmp_path / "chain.pem"
    chain.write_text(f"Some text\n{certificate.read_text()}\nMore\n{authority.file.read_text()}")
    assert Certificate(str(chain), str(key)).expiry() == ends(certificate) != ends(authority.file)


@pytest.mark.parametrize(
    "extension", ["basicConstraints=CA:FALSE", "basicConstraints=critical,CA:TRUE", "extendedKeyUsage=serverAuth"]
)
def test_a_certificate_that_signed_itself_ends_too(authority: Authority, extension: str, tmp_path: Path) -> None:
    """As on one machine without an authority."""
    certificate, key = tmp_path / "own.pem", tmp_path / "own.key"
    subprocess.run(
        ["openssl", "req", "-x509", *KEY, "-keyout", key, "-out", certificate, "-subj", "/CN=own", "-days", "3",
         "-addext", extension],
        capture_output=True, check=True,
    )  # fmt: skip
    assert Certificate(str(certificate), str(key)).expiry() == ends(certificate)


def test_a_certificate_that_no_client_would_take_ends_unseen(authority: Authority, tmp_path: Path) -> None:
    """Its purpose is another one; the server starts all the same, and says nothing of its end."""
    certificate, key = tmp_path / "other.pem", tmp_path / "other.key"
    subprocess.run(
        ["openssl", "req", "-x509", *KEY, "-keyout", key, "-out", certificate, "-subj", "/CN=other", "-days", "3",
         "-addext", "extendedKeyUsage=clientAuth"],
        capture_output=True, check=True,
    )  # fmt: skip
    assert Certificate(str(certificate), str(key)).expiry() is None


def test_a_renewal_moves_the_end(authority: Authority) -> None:
    """Whether it is a connection or a scrape that comes first."""
    files = authority.issue("one.test")
    certificate = Certificate(*map(str, files))
    before = certificate.expiry()
    authority.issue("one.test", days=9)
    assert certificate.expiry() == ends(files[0])
    assert certificate.expiry() > before
