"""The composition root: what the connector is made of, and the order in which it starts and stops."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import cast

from aiohttp import web

from connector import external, handlers, log
from connector.delivery.crashes import Crashes
from connector.delivery.waiting import Answers
from connector.delivery.workers import Workers
from connector.errors import StartError
from connector.events.schema import Schema
from connector.events.snapshot import NewestBy, decide_by
from connector.handlers import Handlers
from connector.handlers.asked import asked_by
from connector.journal import Entry, engines
from connector.outcome import Outcome, RetryPolicy
from connector.settings import Settings
from connector.web.accept import Accept
from connector.web.application import application
from connector.web.bearer import AUTH
from connector.web.bodies import Bodies
from connector.web.health import Health

_log = log.get_logger()


class Connector:
    """The parts of one connector, wired. ``app`` is the aiohttp application that owns them while it runs."""

    def __init__(self, settings: Settings, clock: Callable[[], float] | None = None) -> None:
        """Raises StartError where the handlers are wrong. ``clock`` gives seconds since the epoch."""
        clock = clock or steady_clock()
        self.settings = settings
        self.handlers: Handlers = handlers.load(settings.handlers)
        decide_by(cast("NewestBy", settings.newest_by))
        self.schema = Schema(settings.required_fields, settings.order_by, self.handlers.require)
        self.journal = engines.make(
            settings, clock, self.handlers.marks, engines.Ordering(self.schema.ordering, self.schema.resources_of)
        )
        self.answers = (
            Answers(settings.outcome_timeout, durable=self.journal.durable) if settings.response == "outcome" else None
        )
        self.targets = external.Targets(settings, clock, release=self.journal.wake, note=self.journal.note_target)
        self._find_targets()
        self.workers = self._workers(clock)
        self.accept = Accept(
            self.schema,
            self.journal,
            Bodies(settings.max_body_bytes, settings.body_timeout, settings.bodies_bytes),
            clock=clock,
            answers=self.answers,
            held=self.targets.held,
        )
        self.health = Health()
        self.leaving = False
        self.app = application(settings, self.accept, self.health)
        self.app.cleanup_ctx.append(self._run)

    def _workers(self, clock: Callable[[], float]) -> Workers:
        settings = self.settings
        return Workers(
            self.journal,
            self.handlers,
            RetryPolicy(settings.retry_base, settings.retry_max, settings.max_attempts, settings.max_age),
            count=settings.workers,
            timeout=settings.handler_timeout,
            hold_dead=settings.on_dead == "hold",
            clock=clock,
            answers=self.answers,
            crashes=Crashes(_beside(settings.journal_path), settings.workers),
        )

    def _find_targets(self) -> None:
        """Raises StartError where a handler's text asks for a target that no setting names."""
        mistakes: dict[str, None] = {}
        for asked in asked_by([*self.handlers.all, *self.handlers.hooks]):
            try:
                self.targets.find(asked.name)
            except LookupError as error:
                call = "target()" if asked.name is None else f'target("{asked.name}")'
                mistakes[f"HANDLERS: {asked.place} asks for {call}, but {error}"] = None
        if mistakes:
            raise StartError("\n".join(mistakes))

    async def _run(self, _: web.Application) -> AsyncIterator[None]:
        """Targets and journal first, then the workers, then ready; the other way round at the end."""
        for warning in self.handlers.warnings:
            _log.warning(warning, action="handlers.warning")
        for warning in [*self.schema.warnings, *self.targets.mapping_warnings]:
            _log.warning(warning, action="settings.warning")
        async with external.running(self.targets), handlers.running(self.handlers.hooks):
            await self.journal.open(self.answers.kept if self.answers else _nobody_waits)
            self.workers.start()
            if not self.journal.durable:
                _log.warning(
                    "Accepted events are kept in memory only: nothing survives a stop",
                    action="journal.not_durable",
                )
            if self.journal.holds:
                _log.warning(f"No event is handled: {'; '.join(sorted(self.journal.holds))}", action="delivery.held")
            self.health.watch(lambda: "Shutting down" if self.leaving else self.journal.failure, self._troubles)
            yield
            await self.drain()
            await self.journal.close()

    def _troubles(self) -> list[str]:
        """What keeps events out or waiting, although the connector is ready."""
        full = [self.journal.full] if self.journal.full else []
        return [*full, *sorted(self.journal.holds), *self.workers.troubles]

    async def lost(self) -> str:
        """Return, with the reason, when the process has to end: the journal is lost, or a part of it has failed."""
        journal = asyncio.ensure_future(self.journal.lost())
        try:
            ended, _ = await asyncio.wait({journal, *self.workers.tasks}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            journal.cancel()
        if journal in ended:
            return f"the journal is lost: {journal.result()}"
        task = ended.pop()
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        _log.error(f"The {task.get_name()} has failed", action="server.fault", exc_info=error)
        return f"the {task.get_name()} has failed: {type(error).__name__}"

    def take_secrets(self, settings: Settings) -> list[str]:
        """Take the tokens of our own port, and the credentials for the targets, from now on; the names of those that
        have changed.
        """
        changed = []
        if settings.api_token != self.settings.api_token:
            self.app[AUTH].take(settings.api_token)
            changed.append("API_TOKEN")
        changed += self.targets.take_secrets(settings)
        self.settings = replace(self.settings, api_token=settings.api_token)
        return changed

    def leave(self) -> None:
        """Not ready from now on. Events are accepted until ``stop_accepting``, where they outlive the stop."""
        self.leaving = True
        if not self.journal.durable:
            self.accept.stop()

    def stop_accepting(self) -> None:
        """Not ready, and 503 to events, from now on."""
        self.leaving = True
        self.accept.stop()

    async def drain(self) -> None:
        """Let running events end within DRAIN_TIMEOUT and say what is left. Does its work once."""
        self.stop_accepting()
        if not self.workers.started:
            return
        cut_off = await self.workers.drain(self.settings.drain_timeout, everything=not self.journal.durable)
        if self.answers is not None:
            self.answers.let_go()
        await self.journal.flush()
        if self.answers is not None:
            self.answers.give_up()
        left = self.journal.size
        _log.log(
            logging.WARNING if left and not self.journal.durable else logging.INFO,
            "Drained" if not left else f"Drained; events left: {left}" + ("" if self.journal.durable else ", and lost"),
            action="server.drained",
            left=left,
            cut_off=cut_off,
        )


def _beside(journal: Path | None) -> Path | None:
    """Where it is noted what runs."""
    return None if journal is None else journal.with_name(f"{journal.name}-running")


def _nobody_waits(_: Entry, __: Outcome, ___: bool) -> None:
    """Without RESPONSE=outcome no request waits for what becomes of its event."""


def steady_clock() -> Callable[[], float]:
    """Seconds since the epoch, read once and then counted monotonically: a jump of the wall clock is not seen."""
    offset = time.time() - time.monotonic()
    return lambda: time.monotonic() + offset
