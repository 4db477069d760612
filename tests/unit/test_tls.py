"""The certificate of the API's port: what is refused at the start, and what is picked up later."""

import ssl
import subprocess
from pathlib import Path

import pytest

from service.config import SettingsError
from service.tls import Certificate
from tests.support.certificates import Authority


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


def test_a_renewed_certificate_is_used_from_then_on(authority: Authority, capsys: pytest.CaptureFixture[str]) -> None:
    """New connections get it without a restart; while the files are as they were, nothing is read again."""
    certificate = Certificate(*map(str, authority.issue("one.test")))
    before = certificate.context()
    assert name_in(before, authority) == "one.test"
    assert certificate.context() is before
    authority.issue("two.test")
    after = certificate.context()
    assert name_in(after, authority) == "two.test"
    assert certificate.context() is after
    assert capsys.readouterr().err == "The renewed certificate is in use.\n"


def test_half_a_renewal_changes_nothing(authority: Authority, capsys: pytest.CaptureFixture[str]) -> None:
    """While the files do not fit each other, or are away, the last good certificate goes on; it is said once."""
    files = authority.issue("one.test", "one")
    certificate = Certificate(*map(str, files))
    newer = authority.issue("two.test", "two")
    files[0].write_bytes(newer[0].read_bytes())
    for _ in range(2):
        assert name_in(certificate.context(), authority) == "one.test"
    assert capsys.readouterr().err == (
        "The renewed certificate cannot be used (KEY_VALUES_MISMATCH): the last one goes on.\n"
    )
    files[1].unlink()
    for _ in range(2):
        assert name_in(certificate.context(), authority) == "one.test"
    assert capsys.readouterr().err.count("cannot be used (No such file or directory)") == 1
    files[1].write_bytes(newer[1].read_bytes())
    assert name_in(certificate.context(), authority) == "two.test"
