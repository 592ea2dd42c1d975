"""Where a connector listens."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

PATH = "/process-event"  # of NSPS, when the URL names none


@dataclass(frozen=True)
class Tls:
    """How the connector's certificate is checked: against the system's authorities, those of a file, or not
    at all.
    """

    authorities: Path | None = None
    checked: bool = True

    def context(self) -> ssl.SSLContext:
        """Make the context of a client. Raises OSError when the file cannot be read."""
        context = ssl.create_default_context(cafile=self.authorities)
        if not self.checked:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context


TRUST_THE_SYSTEM = Tls()


@dataclass(frozen=True)
class Endpoint:
    """Where the connector listens, and the token it wants; the token is never shown."""

    host: str
    port: int
    path: str
    tls: bool
    token: str = field(repr=False)

    @property
    def host_header(self) -> bytes:
        """The value of the Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}".encode()

    @property
    def url(self) -> str:
        """The address in full."""
        return f"{'https' if self.tls else 'http'}://{self.host_header.decode()}{self.path}"


def endpoint(url: str, token: str) -> Endpoint:
    """Read a URL such as http://127.0.0.1:3000; without any path, not even a slash, it is NSPS's usual one.

    Raises ValueError that says what is wrong with it.
    """
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError(f"{url!r} is not an http:// or https:// address")
    if parts.username or parts.password:
        raise ValueError("the URL must not hold a user or a password; use --token")
    if not token.isascii() or not token.isprintable():
        raise ValueError("the token must be printable ASCII")
    path = parts.path or PATH
    if parts.query:
        path += f"?{parts.query}"
    if not path.isascii() or not path.isprintable() or " " in path:
        raise ValueError(f"the path {path!r} must be printable ASCII, percent-encoded")
    tls = parts.scheme == "https"
    return Endpoint(parts.hostname, parts.port or (443 if tls else 80), path, tls, token)
