"""Asks a connector on this machine how it is: the container's health check, and ``python -m connector health``.

As a program (``python connector/admin/health_check.py``) it imports nothing of the connector, since a container runs it
every few seconds. It finds HOST and PORT as the connector does: in the environment, else in ``.env``.
"""

import http.client
import os
import sys
from collections.abc import Mapping
from typing import Final

from dotenv import dotenv_values

SECONDS: Final = 4.0
"""How long an answer may take."""

_EVERY_ADDRESS: Final[Mapping[str, str]] = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - read, not bound


def ask(host: str, port: int, path: str = "/health") -> tuple[int, str]:
    """Status and body of ``path`` of a connector that listens on ``host`` and ``port``. Raises OSError, HTTPException.

    Asks without the proxy that the environment may name: it must not come between a machine and itself.
    """
    connection = http.client.HTTPConnection(_EVERY_ADDRESS.get(host, host), port, timeout=SECONDS)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read(10_000).decode(errors="replace")
    finally:
        connection.close()


def main() -> int:
    """Exit code 0 if ``/health`` is 200; else 1, with the reason on stderr."""
    settings = {**dotenv_values(".env"), **os.environ}
    host, port = settings.get("HOST") or "0.0.0.0", settings.get("PORT") or "3000"  # noqa: S104 - read, not bound
    try:
        status, _ = ask(host, int(port))
    except (OSError, http.client.HTTPException, ValueError) as error:
        print(f"{host} port {port}: {error}", file=sys.stderr)
        return 1
    if status != http.client.OK:
        print(f"{host} port {port}: status {status}", file=sys.stderr)
    return int(status != http.client.OK)


if __name__ == "__main__":
    sys.exit(main())
