"""The certificate of the API's port, read again when it is renewed."""

import ssl
from pathlib import Path

from service.config import SettingsError
from service.logs import log_message

Stamp = tuple[int, ...]


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
        try:
            self._context = self._load()
        except (OSError, ValueError) as error:
            raise SettingsError(
                f"The files of BAKEHOUSE_TLS_CERTIFICATE and BAKEHOUSE_TLS_KEY cannot be used ({_reason(error)}): "
                "they must be a PEM certificate and its private key without a password, which the service may read."
            ) from error

    def context(self) -> ssl.SSLContext:
        """Return the context for a new connection, with the files as they are now.

        Files are replaced one after the other: a pair that does not fit is not used, and the last good one goes on.
        """
        stamp = self._stamp_of_files()
        if stamp != self._stamp:
            self._stamp = stamp
            try:
                self._context = self._load()
                log_message("info", "The renewed certificate is in use.")
            except (OSError, ValueError) as error:
                reason = _reason(error)
                log_message("error", f"The renewed certificate cannot be used ({reason}): the last one goes on.")
        return self._context

    def _load(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(self._certificate, self._key, password="")  # without one, OpenSSL asks the terminal
        return context

    def _stamp_of_files(self) -> Stamp:
        """Return what changes whenever one of the files does; Kubernetes swaps a link on the way to both."""
        try:
            found = [Path(name).stat() for name in (self._certificate, self._key)]
        except OSError:
            return ()
        return tuple(number for status in found for number in (status.st_ino, status.st_ctime_ns))


def _reason(error: Exception) -> str:
    return getattr(error, "reason", None) or getattr(error, "strerror", None) or str(error)
