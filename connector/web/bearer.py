"""Bearer tokens: every request on a protected path is checked before its body is looked at (RFC 6750)."""

import hmac
from collections.abc import Collection

from aiohttp import hdrs, web

from connector.web.responses import Unauthorized


class BearerAuth:
    """Knows the tokens that are good now; several while they are rotated."""

    def __init__(self, tokens: Collection[str]) -> None:
        self._good = [f"Bearer {token}".encode() for token in tokens]

    def check(self, request: web.BaseRequest) -> None:
        """Raise Unauthorized unless the request carries one of the tokens; a near miss takes as long as a far one."""
        given = request.headers.get(hdrs.AUTHORIZATION, "").encode("utf-8", "surrogateescape")
        if not self._known(given):
            scheme, _, token = given.partition(b" ")
            if scheme.lower() != b"bearer" or not self._known(b"Bearer " + token.strip()):
                raise Unauthorized

    def _known(self, given: bytes) -> bool:
        known = False
        for good in self._good:
            known |= hmac.compare_digest(good, given)
        return known
