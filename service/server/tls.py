"""The certificate of the API's port, read again when it is renewed."""

import ssl
from contextlib import suppress
from pathlib import Path
from threading import Lock

from service.observability.logging import log_message
from service.settings import SettingsError

Stamp = tuple[int, ...]
NO_CHECK_TIME = 0x200000  # X509_V_FLAG_NO_CHECK_TIME of OpenSSL, to which Python gives no name


class Certificate:
    """A certificate and its key, in files that are replaced while the server runs.

    Made before the serving processes are forked, so that they start with what was found to be good.

    Args:
        certificate: The PEM file of the certificate and its chain.
        key: The PEM file of its key.

    Raises:
        SettingsError: If they cannot be read, or do not fit each other.
    """

    def __init__(self, certificate: str, key: str) -> None:
        self._certificate, self._key = certificate, key
        self._stamp = self._stamp_of_files()
        self._lock = Lock()  # connections and scrapes ask from threads of their own
        try:
            self._context, self._expiry = self._load()
        except (OSError, ValueError) as error:
            raise SettingsError(
                f"The files of BAKEHOUSE_TLS_CERTIFICATE and BAKEHOUSE_TLS_KEY cannot be used ({_reason(error)}): "
                "they must be a PEM certificate and its private key without a password, which the service may read."
            ) from error

    def context(self) -> ssl.SSLContext:
        """Return the context for a new connection, with the files as they are now.

        Files are replaced one after the other: a pair that does not fit is not used, and the last good one goes on.
        """
        return self._current()[0]

    def expiry(self) -> float | None:
        """Return when the certificate of a new connection ends, in seconds since 1970; None if nobody can tell."""
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
                    log_message("error", f"The renewed certificate cannot be used ({reason}): the last one goes on.")
            return self._context, self._expiry

    def _load(self) -> tuple[ssl.SSLContext, float | None]:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(self._certificate, self._key, password="")  # without one, OpenSSL asks the terminal
        return context, _expiry(context)

    def _stamp_of_files(self) -> Stamp:
        """Return what changes whenever one of the files does; Kubernetes swaps a link on the way to both."""
        try:
            found = [Path(name).stat() for name in (self._certificate, self._key)]
        except OSError:
            return ()
        return tuple(number for status in found for number in (status.st_ino, status.st_ctime_ns))


def _reason(error: Exception) -> str:
    return getattr(error, "reason", None) or getattr(error, "strerror", None) or str(error)


def _expiry(context: ssl.SSLContext) -> float | None:
    """Return when the certificate of a server with this context ends, in seconds since 1970.

    Python decodes only what a client has verified. So one in memory asks for the certificate, and another one trusts
    that very certificate and nothing else, whoever signed it, whatever its name and time.
    """
    with suppress(ssl.SSLError, ValueError, KeyError):
        asking = _client()
        asking.verify_mode = ssl.CERT_NONE
        shown = _shake_hands(context, asking).getpeercert(binary_form=True)
        trusting = _client()
        trusting.load_verify_locations(cadata=shown)
        trusting.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN | NO_CHECK_TIME
        decoded = _shake_hands(context, trusting).getpeercert() or {}
        return float(ssl.cert_time_to_seconds(str(decoded["notAfter"])))
    return None


def _client() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    return context


def _shake_hands(server_context: ssl.SSLContext, client_context: ssl.SSLContext) -> ssl.SSLObject:
    """Return the client's side after a handshake in memory.

    Raises:
        SSLError: If the client does not want the server.
    """
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_context.wrap_bio(to_client, to_server)
    server = server_context.wrap_bio(to_server, to_client, server_side=True)
    for side in (client, server, client):
        with suppress(ssl.SSLWantReadError):
            side.do_handshake()
    return client
