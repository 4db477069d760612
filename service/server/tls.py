"""The certificate of the API port. The server reads it again after a renewal."""

import ssl
from contextlib import suppress
from pathlib import Path
from threading import Lock

from service.observability.logging import log_message
from service.settings import SettingsError

Stamp = tuple[int, ...]
NO_CHECK_TIME = 0x200000  # OpenSSL's X509_V_FLAG_NO_CHECK_TIME, for which Python has no name


class Certificate:
    """A certificate and its key. Their files may be replaced while the server runs.

    Create it before the serving processes are forked, so that they start with a valid pair.

    Args:
        certificate: The PEM file of the certificate and its chain.
        key: The PEM file of its key.

    Raises:
        SettingsError: If the files are unreadable or do not match each other.
    """

    def __init__(self, certificate: str, key: str) -> None:
        self._certificate, self._key = certificate, key
        self._stamp = self._stamp_of_files()
        self._lock = Lock()  # connections and scrapes use it from different threads
        try:
            self._context, self._expiry = self._load()
        except (OSError, ValueError) as error:
            raise SettingsError(
                f"The server cannot use the files of BAKEHOUSE_TLS_CERTIFICATE and BAKEHOUSE_TLS_KEY "
                f"({_reason(error)}): they must be a PEM certificate and its private key without a password, and the "
                "service must be allowed to read them."
            ) from error

    def context(self) -> ssl.SSLContext:
        """Return the context for a new connection, from the current files.

        Files are replaced one after the other. Until both match, the server keeps the last valid pair.
        """
        return self._current()[0]

    def expiry(self) -> float | None:
        """Return when the certificate of a new connection expires, in seconds since 1970, or None if unknown."""
        return self._current()[1]

    def _current(self) -> tuple[ssl.SSLContext, float | None]:
        with self._lock:
            stamp = self._stamp_of_files()
            if stamp != self._stamp:
                self._stamp = stamp
                try:
                    self._context, self._expiry = self._load()
                    log_message("info", "The renewed certificate is in use.")
                except (OSError, ValueError) as error:
                    reason = _reason(error)
                    message = f"The server cannot use the renewed certificate ({reason}): it keeps the last one."
                    log_message("error", message)
            return self._context, self._expiry

    def _load(self) -> tuple[ssl.SSLContext, float | None]:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        # Without a password, OpenSSL would ask for it in the terminal.
        context.load_cert_chain(self._certificate, self._key, password="")
        return context, _expiry(context)

    def _stamp_of_files(self) -> Stamp:
        """Return numbers that change with each of the two files. Kubernetes replaces both with a symbolic link."""
        try:
            stats = [Path(name).stat() for name in (self._certificate, self._key)]
        except OSError:
            return ()
        return tuple(number for stat in stats for number in (stat.st_ino, stat.st_ctime_ns))


def _reason(error: Exception) -> str:
    return getattr(error, "reason", None) or getattr(error, "strerror", None) or str(error)


def _expiry(context: ssl.SSLContext) -> float | None:
    """Return when the certificate of a server with this context expires, in seconds since 1970, or None if unknown.

    Python decodes a certificate only after a client has verified it. So a first client in memory fetches the
    certificate. A second client trusts only this certificate, and ignores its issuer, name and validity period.
    """
    with suppress(ssl.SSLError, ValueError, KeyError):
        fetching_client = _client()
        fetching_client.verify_mode = ssl.CERT_NONE
        certificate = _shake_hands(context, fetching_client).getpeercert(binary_form=True)
        trusting_client = _client()
        trusting_client.load_verify_locations(cadata=certificate)
        trusting_client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN | NO_CHECK_TIME
        decoded = _shake_hands(context, trusting_client).getpeercert() or {}
        return float(ssl.cert_time_to_seconds(str(decoded["notAfter"])))
    return None


def _client() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    return context


def _shake_hands(server_context: ssl.SSLContext, client_context: ssl.SSLContext) -> ssl.SSLObject:
    """Return the client's side after a handshake in memory.

    Raises:
        SSLError: If the client refuses the server.
    """
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_context.wrap_bio(to_client, to_server)
    server = server_context.wrap_bio(to_server, to_client, server_side=True)
    for side in (client, server, client):
        with suppress(ssl.SSLWantReadError):
            side.do_handshake()
    return client
