"""Bearer tokens: every request on a protected path is checked before its body is looked at (RFC 6750)."""

import asyncio
import hmac
from collections.abc import Callable, Collection
from typing import Final

from aiohttp import hdrs, web

from connector.web.aiohttp_inside import trust
from connector.web.remote import RemoteAddress
from connector.web.responses import Unauthorized


class BearerAuth:
    """Knows the tokens that are good now; several while they are rotated."""

    def __init__(self, tokens: Collection[str], remote: RemoteAddress, guesses: "Guesses") -> None:
        """``remote`` says whose request it is, ``guesses`` how long a wrong token of theirs waits for its answer."""
        self.take(tokens)
        self._remote = remote
        self._guesses = guesses

    def take(self, tokens: Collection[str]) -> None:
        """Let these tokens be good from now on, and no others."""
        self._good = [f"Bearer {token}".encode() for token in tokens]

    def knows(self, request: web.BaseRequest) -> bool:
        """Whether the request carries one of the tokens; a near miss takes as long as a far one."""
        given = request.headers.get(hdrs.AUTHORIZATION, "").encode("utf-8", "surrogateescape")
        if self._known(given):
            return True
        scheme, _, token = given.partition(b" ")
        return scheme.lower() == b"bearer" and self._known(b"Bearer " + token.strip())

    async def check(self, request: web.BaseRequest) -> None:
        """Raise Unauthorized unless the request carries one of the tokens. Repeated wrong ones wait for that."""
        if self.knows(request):
            trust(request)
            return
        if hdrs.AUTHORIZATION in request.headers:
            await asyncio.sleep(self._guesses.wrong(self._remote(request)))
        raise Unauthorized

    def _known(self, given: bytes) -> bool:
        known = False
        for good in self._good:
            known |= hmac.compare_digest(good, given)
        return known


class Guesses:
    """Wrong tokens by address: ``BURST`` at once, then one a ``PAUSE``. A right token never comes here.

    The table is bounded: the address that guessed longest ago is forgotten first.
    """

    BURST: Final = 10
    """Wrong tokens that are answered at once."""

    PAUSE: Final = 1.0
    """Seconds between two answers after that."""

    LONGEST: Final = 2.0
    """Seconds that an answer is put off at most."""

    ADDRESSES: Final = 4096
    """Addresses that are remembered."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """``clock`` gives seconds."""
        self._clock = clock
        self._free_at: dict[str, float] = {}

    def wrong(self, address: str) -> float:
        """Note a wrong token; seconds until its answer is due."""
        now = self._clock()
        free_at = max(self._free_at.pop(address, 0.0), now - self.BURST * self.PAUSE) + self.PAUSE
        wait = min(max(free_at - now, 0.0), self.LONGEST)
        self._free_at[address] = min(free_at, now + self.LONGEST)
        if len(self._free_at) > self.ADDRESSES:
            del self._free_at[next(iter(self._free_at))]
        return wait


AUTH: Final = web.AppKey("auth", BearerAuth)
"""Where an application keeps the tokens that are good now."""
