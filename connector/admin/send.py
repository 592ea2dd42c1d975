"""``check --send EVENT.json``: one event, run through the handlers without journal or server.

Set-ups are run before it and clean-ups after it. Each call is shown with its body and its answer, never with a login.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from yarl import URL

from connector import external, handlers
from connector.admin.event_file import event_in
from connector.events.schema import Schema
from connector.external import Target, TargetResponse, Targets
from connector.external.urls import without_secrets
from connector.external.wire import NoAnswer, OwnLack, Sender
from connector.handlers import Handlers
from connector.settings import Settings
from connector.testing import Trial

MOST_SHOWN: Final = 2000
"""Characters of a body that are shown."""

A_TOKEN: Final = b'{"access_token": "dry-run", "token_type": "Bearer", "expires_in": 3600}'

Show = Callable[[str], None]


async def send(file: Path, settings: Settings, found: Handlers, show: Show, *, dry_run: bool) -> int:
    """Handle the event in ``file`` once and show what was called; 0 where it ended well, else 1.

    ``dry_run``  no call leaves this machine; each is answered with 200 and an empty body
    Raises StartError where the event would be refused, or a set-up fails.
    """
    event = event_in(file, Schema(settings.required_fields, settings.order_by, found.require))
    takers = found.find(event.event_type)
    show(f"{event.event_type} {event.event_id}: {', '.join(each.name for each in takers) or 'no handler takes it'}")
    targets = Targets(settings)
    for target in targets.all.values():
        target.watch(lambda wire, target=target: Shown(wire, target, show, dry_run=dry_run))  # type: ignore[misc]
    async with external.running(targets), handlers.running(found.hooks):
        trial = Trial(*(each.function for each in found.all), timeout=settings.handler_timeout)
        outcome = await trial.deliver(event, most=1)
    if len(takers) > 1:
        for step in outcome.steps:
            show(f"{step.handler}: {step.state}" + (f": {step.reason}" if step.reason else ""))
    show(f"{outcome.state}: {outcome.reason}" if outcome.reason else outcome.state)
    return 0 if outcome.state in ("done", "ignored", "superseded") else 1


class Shown:
    """Sends requests, or in a dry run none, and shows each with its answer. What logs in is not shown."""

    def __init__(self, wire: Sender, target: Target, show: Show, *, dry_run: bool) -> None:
        self._wire, self._target, self._show, self._dry_run = wire, target, show, dry_run

    async def open(self) -> None:
        """Get ready."""
        await self._wire.open()

    async def close(self) -> None:
        """Close all connections."""
        await self._wire.close()

    async def send(
        self,
        method: str,
        url: URL,
        data: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        timeout: float | None = None,
    ) -> TargetResponse:
        """The response. Raises NoAnswer and OwnLack."""
        is_login = str(url) == self._target.settings.target_token_url
        self._show(f"  {method} {without_secrets(str(url))}" + (" (for a token)" if is_login else ""))
        if not is_login:
            self._show_body(data)
        if self._dry_run:
            return TargetResponse(200, body=A_TOKEN if is_login else b"")
        try:
            response = await self._wire.send(method, url, data, headers, timeout=timeout)
        except (NoAnswer, OwnLack) as error:
            self._show(f"  -> {error}")
            raise
        self._show(f"  -> {response.status}")
        if not is_login:
            self._show_body(response.body)
        return response

    def _show_body(self, body: bytes | None) -> None:
        text = (body or b"").decode(errors="replace")
        plain = "".join(sign if sign.isprintable() or sign == "\n" else " " for sign in text)
        if plain.strip():
            self._show(f"     {plain[:MOST_SHOWN]}" + (" ..." if len(plain) > MOST_SHOWN else ""))
