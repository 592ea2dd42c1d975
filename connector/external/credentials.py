"""How the connector shows the target who it is: not at all, Basic, a static Bearer token, a key, or OAuth 2.

OAuth 2 is our own, since the library for aiohttp (aiohttp-oauth2-client) brings pydantic, opens a session of its own
without our timeouts and TLS settings, and does not renew a token that the target refuses. What is needed here is two
grants of RFC 6749 (client credentials, 4.4, and refresh token, 6), renewed ahead of expiry, by one request however
many callers wait for it; where that fails, it has failed for all of them.
"""

import asyncio
import base64
import contextlib
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Final, NamedTuple, Protocol
from urllib.parse import parse_qsl, quote_plus, urlsplit

import msgspec

from connector import log
from connector.external.failures import counts, kind_of, parse_retry_after
from connector.external.response import Kind, TargetResponse
from connector.external.said import Masks
from connector.external.wire import NoAnswer
from connector.settings import Settings

AHEAD: Final = 30.0
"""Seconds before its expiry at which a token is renewed, or a tenth of its life where that is shorter."""

LIFE: Final = 300.0
"""Seconds that a token is used when the server does not say how long it lives."""

PostForm = Callable[[str, Mapping[str, str], Mapping[str, str]], Awaitable[TargetResponse]]
"""Posts a form (URL, fields, headers). Raises NoAnswer and OwnLack."""

_log = log.get_logger()


class NoToken(Exception):
    """The token server gave no token: nobody can call the target. ``at_least`` is its Retry-After in seconds, or 0."""

    def __init__(self, reason: str, kind: Kind, at_least: float = 0.0) -> None:
        super().__init__(reason)
        self.kind, self.at_least = kind, at_least


class Authorization(Protocol):
    """Gives the header that logs in: its ``name`` and its value."""

    name: str

    async def value(self, refused: str | None = None) -> str | None:
        """The value; None for no header. ``refused``: the value that the target has just answered with 401.

        Raises NoToken.
        """

    def renewed(self, other: "Authorization") -> "Authorization":
        """What is used from now on where the credentials have changed to those of ``other``."""
        raise NotImplementedError

    async def close(self) -> None:
        """Fetch nothing more."""


class Static:
    """The same value for all calls."""

    def __init__(self, value: str | None, name: str = "Authorization") -> None:
        self.name = name
        self._value = value

    async def value(self, refused: str | None = None) -> str | None:
        """The value, whether it was refused or not."""
        return self._value

    def renewed(self, other: Authorization) -> Authorization:
        """The other one."""
        return other

    async def close(self) -> None:
        """Nothing is under way."""


class _Token(NamedTuple):
    header: str
    renew_at: float


class _TokenAnswer(msgspec.Struct):
    access_token: str
    expires_in: float | None = None
    refresh_token: str | None = None


class Grant(msgspec.Struct, frozen=True):
    """What is asked of a token server, and as whom.

    ``refresh_token``  use this grant rather than client credentials
    ``extra``          further fields, such as audience (RFC 8693) and resource (RFC 8707)
    ``in_body``        whether id and secret stand in the body rather than in HTTP Basic (RFC 6749, 2.3.1)
    """

    url: str
    client_id: str
    client_secret: str = ""
    refresh_token: str = ""
    scope: str = ""
    extra: Mapping[str, str] = {}
    in_body: bool = False


class OAuth2:
    """Bearer tokens from a token server. A new refresh token in an answer replaces the old one until the stop.

    ``who``    whose token server it is, for messages
    ``clock``  seconds, steady
    """

    name = "Authorization"

    def __init__(self, grant: Grant, *, post: PostForm, clock: Callable[[], float], who: str = "the target") -> None:
        self._grant = grant
        self._refresh_token = grant.refresh_token
        self._post = post
        self._clock = clock
        self._who = who
        self._masks = Masks([grant.client_secret, grant.refresh_token])
        self._token: _Token | None = None
        self._fetching: asyncio.Task[_Token] | None = None

    async def value(self, refused: str | None = None) -> str | None:
        """A token that is good for a while. Raises NoToken when there is none to be had."""
        token = self._token
        if token is not None and token.header != refused and self._clock() < token.renew_at:
            return token.header
        if self._fetching is None:
            self._fetching = asyncio.create_task(self._fetch())
            self._fetching.add_done_callback(self._fetched)
        return (await asyncio.shield(self._fetching)).header

    def renewed(self, other: Authorization) -> Authorization:
        """This one, which asks with the other's credentials from now on; its token is good while the target takes it.

        A refresh token that the server gave since the start counts, unless the setting has changed.
        """
        if isinstance(other, OAuth2):
            if other._grant.refresh_token != self._grant.refresh_token:
                self._refresh_token = other._grant.refresh_token
            secrets = [
                each for grant in (self._grant, other._grant) for each in (grant.client_secret, grant.refresh_token)
            ]
            self._grant, self._masks = other._grant, Masks(secrets)
        return self

    async def close(self) -> None:
        """Fetch nothing more."""
        if self._fetching is not None:
            self._fetching.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await self._fetching

    def _fetched(self, task: "asyncio.Task[_Token]") -> None:
        self._fetching = None
        if not task.cancelled() and task.exception() is None:
            self._token = task.result()

    async def _fetch(self) -> _Token:
        fields, headers = self._request()
        whose = "the token server" if self._who == "the target" else f"the token server of {self._who}"
        try:
            response = await self._post(self._grant.url, fields, headers)
        except NoAnswer as error:
            raise NoToken(f"{whose} {error}", Kind.DOWN) from None
        status = response.status
        if status != 200:
            kind = kind_of(status) if counts(status) or status == 429 else Kind.REFUSED
            after = parse_retry_after(response.headers.get("Retry-After"), datetime.now(UTC)) or 0.0
            said = self._masks.reason(response.body)
            raise NoToken(f"{whose} answered {status}" + (f": {said}" if said else ""), kind, after)
        try:
            answer = _decode(response.body or b"")
        except msgspec.DecodeError:
            raise NoToken(f"{whose} answered without a token", Kind.FAILED) from None
        if not _SENDABLE.fullmatch(answer.access_token):
            raise NoToken(f"{whose} gave a token that cannot be sent", Kind.FAILED)
        life = LIFE if answer.expires_in is None else max(answer.expires_in, 0.0)
        self._refresh_token = answer.refresh_token or self._refresh_token if self._refresh_token else ""
        _log.info(f"A new token for {self._who}", action="target.token", life=life)
        return _Token(f"Bearer {answer.access_token}", self._clock() + life - min(AHEAD, life / 10))

    def _request(self) -> tuple[dict[str, str], dict[str, str]]:
        """Fields and headers of the next request."""
        grant = self._grant
        fields = {"grant_type": "refresh_token" if self._refresh_token else "client_credentials"}
        if self._refresh_token:
            fields["refresh_token"] = self._refresh_token
        if grant.scope:
            fields["scope"] = grant.scope
        fields.update(grant.extra)
        headers = {"Accept": "application/json"}
        if grant.client_secret and not grant.in_body:
            headers["Authorization"] = basic(quote_plus(grant.client_id), quote_plus(grant.client_secret))
        else:
            fields["client_id"] = grant.client_id
            if grant.client_secret:
                fields["client_secret"] = grant.client_secret
        return fields, headers


_SENDABLE: Final = re.compile(r"[\x21-\x7e]+")
_decode = msgspec.json.Decoder(_TokenAnswer, strict=False).decode


def basic(user: str, password: str) -> str:
    """The header of HTTP Basic (RFC 7617), in UTF-8."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def authorization(
    settings: Settings, post: PostForm, clock: Callable[[], float], who: str = "the target"
) -> Authorization:
    """What TARGET_AUTH asks for."""
    match settings.target_auth:
        case "basic":
            return Static(basic(settings.target_user, settings.target_password))
        case "bearer":
            return Static(f"Bearer {settings.target_token}")
        case "key":
            return Static(settings.target_token, settings.target_key_header)
        case "oauth2":
            extra = {"audience": settings.target_audience, "resource": settings.target_resource}
            grant = Grant(
                settings.target_token_url,
                settings.target_client_id,
                settings.target_client_secret,
                settings.target_refresh_token,
                settings.target_scope,
                {name: value for name, value in extra.items() if value},
                settings.target_client_auth == "body",
            )
            return OAuth2(grant, post=post, clock=clock, who=who)
        case _:
            return Static(None)


def secrets_of(settings: Settings) -> Iterable[str]:
    """What no log line may show, in the forms in which it is sent."""
    yield from (settings.target_password, settings.target_token, settings.target_client_secret)
    yield settings.target_refresh_token
    if settings.target_auth == "basic":
        yield basic(settings.target_user, settings.target_password).removeprefix("Basic ")
    yield from (value for _, value in parse_qsl(urlsplit(settings.target_url).query))
