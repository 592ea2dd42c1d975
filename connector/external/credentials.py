"""How the connector shows the target who it is: not at all, Basic, a static Bearer token, or OAuth 2.

OAuth 2 is our own, since the library for aiohttp (aiohttp-oauth2-client) brings pydantic, opens a session of its own
without our timeouts and TLS settings, and does not renew a token that the target refuses. What is needed here is two
grants of RFC 6749 (client credentials, 4.4, and refresh token, 6), renewed ahead of expiry, by one request however
many callers wait for it.
"""

import asyncio
import base64
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, NamedTuple, Protocol
from urllib.parse import quote_plus

import msgspec

from connector import log
from connector.external.failures import Kind, TargetRetry, counts, kind_of, reason_in
from connector.settings import Settings

AHEAD: Final = 30.0
"""Seconds before its expiry at which a token is renewed, or a tenth of its life where that is shorter."""

LIFE: Final = 300.0
"""Seconds that a token is used when the server does not say how long it lives."""

PostForm = Callable[[str, Mapping[str, str], Mapping[str, str]], Awaitable[tuple[int, bytes]]]
"""Posts a form (URL, fields, headers); status and body. Raises TargetRetry when there was no answer."""

_log = log.get_logger()


class Authorization(Protocol):
    """Gives the value of the ``Authorization`` header."""

    async def header(self, refused: str | None = None) -> str | None:
        """The value; None for no header. ``refused``: the value that the target has just answered with 401."""


class Static:
    """The same value for all calls."""

    def __init__(self, value: str | None) -> None:
        self._value = value

    async def header(self, refused: str | None = None) -> str | None:
        """The value, whether it was refused or not."""
        return self._value


class _Token(NamedTuple):
    header: str
    renew_at: float


class _TokenAnswer(msgspec.Struct):
    access_token: str
    expires_in: float | None = None
    refresh_token: str | None = None


class OAuth2:
    """Bearer tokens from a token server.

    ``refresh_token``  use this grant rather than client credentials; a new one in an answer replaces it until the stop
    ``clock``          seconds, steady
    """

    def __init__(
        self,
        url: str,
        *,
        client_id: str,
        client_secret: str,
        refresh_token: str,
        scope: str,
        post: PostForm,
        clock: Callable[[], float],
    ) -> None:
        self._url = url
        self._client_id = client_id
        self._client_secret = client_secret
        self._refresh_token = refresh_token
        self._scope = scope
        self._post = post
        self._clock = clock
        self._token: _Token | None = None
        self._one_at_a_time = asyncio.Lock()

    async def header(self, refused: str | None = None) -> str | None:
        """A token that is good for a while. Raises TargetRetry when there is none to be had."""
        seen = self._token
        if seen is not None and seen.header != refused and self._clock() < seen.renew_at:
            return seen.header
        async with self._one_at_a_time:
            token = self._token
            if token is None or token is seen:
                token = self._token = await self._fetch()
            return token.header

    async def _fetch(self) -> _Token:
        fields = {"grant_type": "refresh_token" if self._refresh_token else "client_credentials"}
        if self._refresh_token:
            fields["refresh_token"] = self._refresh_token
        if self._scope:
            fields["scope"] = self._scope
        headers = {"Accept": "application/json"}
        if self._client_secret:
            headers["Authorization"] = basic(quote_plus(self._client_id), quote_plus(self._client_secret))
        else:
            fields["client_id"] = self._client_id
        status, body = await self._post(self._url, fields, headers)
        if status != 200:
            kind = kind_of(status) if counts(status) else Kind.REFUSED
            raise TargetRetry(f"the token server answered {status}: {reason_in(body)}", kind, status)
        try:
            answer = _decode(body)
        except msgspec.DecodeError:
            raise TargetRetry("the token server answered without a token", Kind.FAILED, status) from None
        life = LIFE if answer.expires_in is None else max(answer.expires_in, 0.0)
        self._refresh_token = answer.refresh_token or self._refresh_token if self._refresh_token else ""
        _log.info("A new token for the target", action="target.token", life=life)
        return _Token(f"Bearer {answer.access_token}", self._clock() + life - min(AHEAD, life / 10))


_decode = msgspec.json.Decoder(_TokenAnswer, strict=False).decode


def basic(user: str, password: str) -> str:
    """The header of HTTP Basic (RFC 7617), in UTF-8."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def authorization(settings: Settings, post: PostForm, clock: Callable[[], float]) -> Authorization:
    """What TARGET_AUTH asks for."""
    match settings.target_auth:
        case "basic":
            return Static(basic(settings.target_user, settings.target_password))
        case "bearer":
            return Static(f"Bearer {settings.target_token}")
        case "oauth2":
            return OAuth2(
                settings.target_token_url,
                client_id=settings.target_client_id,
                client_secret=settings.target_client_secret,
                refresh_token=settings.target_refresh_token,
                scope=settings.target_scope,
                post=post,
                clock=clock,
            )
        case _:
            return Static(None)
