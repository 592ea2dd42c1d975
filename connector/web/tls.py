"""TLS on our own port."""

import logging
import ssl
import time
from pathlib import Path
from typing import Final

from connector import log
from connector.errors import StartError
from connector.flood import flood

_LOOK: Final = 5.0
"""Seconds between two looks at the files."""

_log = log.get_logger()


class Certificate:
    """A certificate with its key (PEM). Both files are read again when one has changed; connections go on."""

    def __init__(self, cert_file: str, key_file: str) -> None:
        """``key_file`` may be empty: the key is in ``cert_file`` then. Raises StartError."""
        self._cert_file = cert_file
        self._key_file = key_file or cert_file
        try:
            self._stamp = self._stamps()
            self._context = self._read()
        except (OSError, ssl.SSLError, ValueError) as error:
            raise StartError(f"TLS_CERT_FILE, TLS_KEY_FILE: {self._why(error)}") from None
        self._looked_at = time.monotonic()

    def context(self) -> ssl.SSLContext:
        """What a new connection is to use. Files that cannot be read leave it as it is, and are said."""
        now = time.monotonic()
        if now - self._looked_at >= _LOOK:
            self._looked_at = now
            self._look()
        return self._context

    def _look(self) -> None:
        try:
            stamp = self._stamps()
            if stamp == self._stamp:
                return
            self._context = self._read()
        except (OSError, ssl.SSLError, ValueError) as error:
            flood.line(
                "certificate",
                f"The certificate has changed and cannot be read; the old one is used: {self._why(error)}",
                action="tls.not_reloaded",
                remote=None,
                level=logging.ERROR,
            )
            return
        self._stamp = stamp
        _log.info("The certificate was read again", action="tls.reloaded")

    def _read(self) -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        context.load_cert_chain(self._cert_file, self._key_file, password=_no_password)
        return context

    def _stamps(self) -> list[tuple[int, int, int]]:
        found = [Path(name).stat() for name in (self._cert_file, self._key_file)]
        return [(each.st_ino, each.st_size, each.st_mtime_ns) for each in found]

    def _why(self, error: Exception) -> str:
        if isinstance(error, ssl.SSLError):
            return f"{self._cert_file} and {self._key_file} are no certificate with its key: {error.reason or error}"
        if isinstance(error, OSError):
            return f"{error.filename or self._cert_file} cannot be read: {error.strerror}"
        return str(error)


def _no_password() -> str:
    raise ValueError("the key has a password; one without is expected")
