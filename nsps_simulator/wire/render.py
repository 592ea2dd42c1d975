"""The bytes of a request: NSPS's headers, the token, the body."""

from __future__ import annotations

from nsps_simulator.wire.chaos import garbage
from nsps_simulator.wire.endpoint import Endpoint
from nsps_simulator.wire.events import Events


class Renderer:
    """Makes requests for one endpoint."""

    def __init__(self, events: Events, endpoint: Endpoint) -> None:
        self._events = events
        self._path = endpoint.path.encode()
        self._fixed = b"Host: %b\r\nContent-Type: application/json\r\nAuthorization: Bearer " % endpoint.host_header
        self._token = endpoint.token.encode()
        line = b"POST %b HTTP/1.1\r\n" % self._path + self._fixed
        self._right = self._start(line + self._token)
        self._wrong = self._start(line + self._token + b"-wrong")

    @staticmethod
    def _start(head: bytes) -> bytes:
        # The head becomes a template of its own, so a percent sign in a token or path must be doubled.
        return head.replace(b"%", b"%%") + b"\r\nx-b3-traceid: %b\r\nx-request-id: %b\r\nContent-Length: %d\r\n\r\n"

    def event(self, index: int, attempt: int, *, wrong_token: bool) -> tuple[bytes, bytes]:
        """Render the request that delivers an event, as head and body."""
        body, trace, request = self._events.request(index, attempt)
        return (self._wrong if wrong_token else self._right) % (trace, request, len(body)), body

    def garbage(self, number: int) -> bytes:
        """Render a request that is none."""
        return garbage(number, self._path, self._fixed + self._token + b"\r\n")
