"""Which certificates are trusted, and which one is shown; files that change are read again.

The files are looked at no more than every ``LOOK_EVERY`` seconds. Files that cannot be used (half of a new pair was
written) leave what there was, and are said once for each change. Connections made before go on until they are renewed
(``aiohttp_inside.MAX_CONNECTION_AGE``), since a new context is a new pool to aiohttp.
"""

import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from connector import log
from connector.errors import StartError

LOOK_EVERY: Final = 5.0
"""Seconds between two looks at the files."""

_log = log.get_logger()


class Trust:
    """The TLS context for new connections.

    ``ca_file``             certificates (PEM) to trust in place of the system's; empty for the system's
    ``cert_file``, ``key_file``  our own certificate and its key, if any; the key may stand in the first
    ``prefix``              of the settings' names, for messages
    Raises StartError where they cannot be used.
    """

    def __init__(
        self,
        ca_file: str = "",
        cert_file: str = "",
        key_file: str = "",
        *,
        prefix: str = "TARGET",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ca_file, self._cert_file, self._key_file = ca_file, cert_file, key_file
        self._prefix = prefix
        self._clock = clock
        self._looked_at = clock()
        self._seen = self._look()
        self._context = self._read()

    def context(self) -> ssl.SSLContext | bool:
        """The context; True for the system's certificates and none of our own."""
        if isinstance(self._context, ssl.SSLContext) and self._clock() - self._looked_at >= LOOK_EVERY:
            self._looked_at = self._clock()
            seen = self._look()
            if seen != self._seen:
                self._seen = seen
                self._read_again()
        return self._context

    def _read_again(self) -> None:
        try:
            self._context = self._read()
        except StartError as error:
            _log.warning(
                "Certificates have changed and cannot be used; the former ones are used on",
                action="target.certificates",
                reason=str(error),
            )
        else:
            _log.info("Certificates have changed and were read again", action="target.certificates", reason="changed")

    def _look(self) -> list[tuple[int, int, int] | None]:
        return [_identity(name) for name in (self._ca_file, self._cert_file, self._key_file)]

    def _read(self) -> ssl.SSLContext | bool:
        if not (self._ca_file or self._cert_file):
            return True
        prefix = self._prefix
        try:
            context = ssl.create_default_context(cafile=self._ca_file or None)
        except OSError as error:  # ssl.SSLError is one
            raise StartError(f"{prefix}_CA_FILE: {self._ca_file} cannot be used: {error}") from None
        if self._cert_file:
            try:
                context.load_cert_chain(self._cert_file, self._key_file or None, password=lambda: b"")
            except OSError as error:
                raise StartError(f"{prefix}_CERT_FILE, {prefix}_KEY_FILE: cannot be used: {error}") from None
        return context


def _identity(name: str) -> tuple[int, int, int] | None:
    try:
        found = Path(name).stat() if name else None
    except OSError:
        return None
    return None if found is None else (found.st_ino, found.st_size, found.st_mtime_ns)
