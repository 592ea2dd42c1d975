"""What an operator may do with a journal: one service for every face, such as the command line.

A face reads what is wanted, calls one method, and shows what it returns. Whatever two faces would have to agree on is
here: which events a selection without a state means, what is masked, how many events one command names. No SQL, nothing
printed, nothing parsed.

Errors, each for a person to read: ``NotKnown``, ``Invalid`` (a name that is no text), ``Unavailable`` (the journal
cannot be read or written now, or the running connector does not answer).
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any, Final

import msgspec

from connector.errors import ConnectorError, Invalid, NotKnown
from connector.events.reading import document_of
from connector.events.redaction import redact
from connector.journal import Journal
from connector.journal.commands import NOT_KNOWN, NOTHING_APPLIED, NOTHING_OPEN, Command, Verb
from connector.journal.outside import Outside
from connector.journal.queries import (
    Attempt,
    AttemptsOf,
    Blocked,
    BodyOf,
    CountFound,
    Filter,
    Find,
    FindBlocked,
    IdsThatBegin,
    ReadStats,
    Series,
    SeriesOf,
    Stats,
    StepsOf,
    StepTaken,
    TargetAway,
)

SHORTEST_BEGINNING: Final = 8
"""Characters of an id that name the event which has it, where no other one begins so."""

_NOTHING: Final = (NOT_KNOWN, NOTHING_OPEN, NOTHING_APPLIED)

BATCH: Final = 100
"""Events that one command names; more go in several, so that no transaction takes long."""


class SeriesShown(msgspec.Struct, frozen=True):
    """A series, its attempts that failed, and what each handler has done where its type has several."""

    series: Series
    failed_attempts: Sequence[Attempt]
    steps: Sequence[StepTaken]


class EventShown(msgspec.Struct, frozen=True):
    """All that is known of the events that have an id: the newest series first, and the newest body, parsed."""

    series: Sequence[SeriesShown]
    body: dict[str, Any]


class Lanes(msgspec.Struct, frozen=True):
    """Events that block a resource, the longest blocked first, and what else keeps events from being handled."""

    blocked: Sequence[Blocked]
    paused: bool
    target_away: TargetAway | None


class Selection(msgspec.Struct, frozen=True):
    """What a filter selects: the first accepted ``events``, and how many in all by type and state."""

    events: Sequence[Series]
    counts: dict[str, int]

    @property
    def left(self) -> int:
        """How many more the filter selects."""
        return sum(self.counts.values()) - len(self.events)


class Acted(msgspec.Struct, frozen=True):
    """What became of one name, as a sentence; ``known`` is False where it names nothing."""

    name: str
    result: str
    known: bool = True


class AdminService:
    """The operator's questions and commands on a journal: the one of this process, or another's from outside."""

    def __init__(self, journal: Journal | Outside) -> None:
        self._journal = journal

    async def list(self, wanted: Filter, limit: int) -> Sequence[Series]:
        """At most ``limit`` series, the newest first."""
        _check_text(wanted.event_type, wanted.event_id, wanted.id_begins, wanted.resource, wanted.text)
        return await self._journal.ask(Find(wanted, limit))

    async def show(self, event_id: str, *, unmask: bool = False) -> EventShown:
        """All that is known of an event; personal fields are masked unless ``unmask``. Raises NotKnown."""
        _check_text(event_id)
        found = await self._journal.ask(SeriesOf(event_id))
        if not found and (whole := await self._begun(event_id)) is not None:
            found = await self._journal.ask(SeriesOf(whole))
        if not found:
            raise NotKnown(f"{event_id} is not known, or is no longer kept")
        shown = [
            SeriesShown(each, await self._journal.ask(AttemptsOf(each.seq)), await self._journal.ask(StepsOf(each.seq)))
            for each in found
        ]
        body = _document(await self._journal.ask(BodyOf(found[0].seq)))
        return EventShown(shown, body if unmask else redact(body))

    async def lanes(self, limit: int) -> Lanes:
        """At most ``limit`` events that block a resource, and whether delivery rests as a whole."""
        stats = await self.stats()
        return Lanes(await self._journal.ask(FindBlocked(limit)), stats.paused, stats.target_away)

    async def stats(self) -> Stats:
        """What is open now, and the counters over the journal's life."""
        return await self._journal.ask(ReadStats())

    async def select(self, wanted: Filter, limit: int) -> Selection:
        """What ``replay`` and ``discard`` would take: the latest series only, and dead ones where no state is given."""
        _check_text(wanted.event_type, wanted.event_id, wanted.id_begins, wanted.resource, wanted.text)
        wanted = msgspec.structs.replace(wanted, state=wanted.state or "dead", latest=True)
        found = await self._journal.ask(Find(wanted, limit, oldest_first=True))
        return Selection(found, await self._journal.ask(CountFound(wanted)))

    def replay(
        self, events: Sequence[str] | Selection, *, all_handlers: bool = False, rate: float | None = None
    ) -> AsyncIterator[Acted]:
        """Handle events again, named by their ids or selected; what became of each as soon as it is known.

        ``all_handlers``: of a dead event also those handlers that ended well. ``rate``: events a second.
        """
        return self._act("replay", events, rate, whole=all_handlers)

    def discard(self, events: Sequence[str] | Selection) -> AsyncIterator[Acted]:
        """Give events up, named by their ids or selected: they end as ignored."""
        return self._act("discard", events, None)

    async def release(self, resources: Sequence[str]) -> Sequence[Acted]:
        """Try the event that blocks each of these resources now."""
        return await self._command(Command("release", [*resources]))

    async def skip(self, resources: Sequence[str]) -> Sequence[Acted]:
        """Give the event that blocks each of these resources up (it ends as dead), and go on with the next one."""
        return await self._command(Command("skip", [*resources]))

    async def clear_newest(self, resources: Sequence[str]) -> Sequence[Acted]:
        """Forget which snapshot was applied last to each of these resources."""
        return await self._command(Command("clear_newest", [*resources]))

    async def pause(self) -> Sequence[Acted]:
        """Hand out nothing, also over a restart, until ``resume``."""
        return await self._command(Command("pause"))

    async def resume(self) -> Sequence[Acted]:
        """End a pause."""
        return await self._command(Command("resume"))

    async def _act(
        self, verb: Verb, events: Sequence[str] | Selection, rate: float | None, *, whole: bool = False
    ) -> AsyncIterator[Acted]:
        selected = isinstance(events, Selection)
        if isinstance(events, Selection):
            ids = {str(each.seq): each.event_id for each in events.events}
        else:
            ids = {each: each for each in events}
        names = list(ids)
        step = BATCH if rate is None else 1
        for start in range(0, len(names), step):
            if rate is not None and start:
                await asyncio.sleep(1 / rate)
            part = names[start : start + step]
            command = Command(verb, [], whole, list(map(int, part))) if selected else Command(verb, part, whole)
            for acted in await self._command(command):
                if acted.known or selected:
                    yield msgspec.structs.replace(acted, name=ids[acted.name])
                else:
                    yield await self._act_on_beginning(command, acted)

    async def _act_on_beginning(self, command: Command, unknown: Acted) -> Acted:
        """Carry the command out for the one event whose id begins with a name that is no id."""
        try:
            whole = await self._begun(unknown.name)
        except NotKnown as error:
            return msgspec.structs.replace(unknown, result=error.error)
        if whole is None:
            return unknown
        (acted,) = await self._command(msgspec.structs.replace(command, names=[whole]))
        return acted

    async def _begun(self, beginning: str) -> str | None:
        """The id that begins so; None where none does. Raises NotKnown where several do."""
        if len(beginning) < SHORTEST_BEGINNING:
            return None
        ids = await self._journal.ask(IdsThatBegin(beginning, 4))
        if len(ids) > 1:
            shown = ", ".join(ids[:3]) + (", ..." if len(ids) > 3 else "")
            raise NotKnown(f"{beginning} is the beginning of several ids: {shown}")
        return ids[0] if ids else None

    async def _command(self, command: Command) -> Sequence[Acted]:
        _check_text(*command.names)
        done = await self._journal.command(command)
        return [Acted(name, result, result not in _NOTHING) for name, result in done.results.items()]


def _document(raw: bytes) -> dict[str, Any]:
    """A stored body; where it cannot be read, why."""
    try:
        return document_of(raw)
    except ConnectorError as error:
        return {"unreadable": f"{len(raw)} bytes: {error}"}


def _check_text(*names: str | None) -> None:
    """Raises Invalid where one is no text: the bytes of a command line that are no UTF-8."""
    try:
        "".join(name or "" for name in names).encode()
    except UnicodeEncodeError:
        raise Invalid("what was named is no UTF-8 text") from None
