"""The rule of order over random sets of resources: whatever happens in whatever order, as a naive model says.

The model is a list of open events in the order of acceptance. An event may run when it is pending or due, and no
earlier open event, nor one whose attempt still runs, shares a resource with it. What the journal hands out has to be
such an event, and all such events have to be handed out, whatever memory holds: over retries, holds, restarts, what
operators do, and events that are given back.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from connector.events.event import Event
from connector.journal import Entry, Kept, scheduler
from connector.journal.commands import Command, Verb
from connector.journal.group_commit import GroupCommitJournal
from connector.journal.memory import MemoryStore
from connector.journal.queries import Filter, Find, ReadStats
from connector.journal.sqlite import store as sqlite
from connector.outcome import Outcome
from tests.journal_support.engines import Clock, sqlite_store
from tests.journal_support.events import body

RESOURCES = ("account:1", "account:2", "card:1", "card:2", "number:1")
STATES = ("done", "ignored", "dead", "waiting", "waiting", "waiting", "held", "held")
PATIENCE = 10.0
LOOKS = 12

Result = TypeVar("Result")


@dataclass(eq=False)
class Open:
    """An open event in the model. ``entry``: with a worker; ``rests``: what it was given back to wait for."""

    event_id: str
    resources: frozenset[str]
    state: str = "pending"
    attempt: int = 1
    due: float = 0.0
    entry: Entry | None = None
    rests: str | None = None


@dataclass
class Model:
    """Open events in order, those whose attempt runs though an operator has ended them, and how series ended."""

    line: list[Open] = field(default_factory=list)
    ghosts: list[Open] = field(default_factory=list)
    ended: dict[str, list[str]] = field(default_factory=dict)

    def runnable(self, now: float) -> list[Open]:
        """What may run now and is not with a worker."""
        found = []
        taken = {resource for ghost in self.ghosts for resource in ghost.resources}
        for each in self.line:
            ready = each.state == "pending" or (each.state == "waiting" and each.due <= now)
            if ready and each.entry is None and each.rests is None and taken.isdisjoint(each.resources):
                found.append(each)
            taken |= each.resources
        return found

    def first(self, resource: str) -> Open | None:
        """The first open event of a resource."""
        return next((each for each in self.line if resource in each.resources), None)

    def end(self, each: Open, state: str) -> None:
        """An open event ends."""
        self.line.remove(each)
        self.ended.setdefault(each.event_id, []).append(state)


class OrderMachine(RuleBasedStateMachine):
    """A journal of an engine and its model."""

    durable = False

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.folder = TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None)
        self.clock = Clock()
        self.numbers = count(1)
        self.model = Model()
        self.resources_of: dict[str, frozenset[str]] = {}
        self.usual = scheduler.READ_EVENTS, sqlite.SCAN_ROWS

    def run(self, work: Coroutine[Any, Any, Result]) -> Result:
        return self.runner.run(work)

    @initialize(queue_size=st.sampled_from((1, 2, 4, 30)), read=st.sampled_from((1, 2, 256)))
    def start(self, queue_size: int, read: int) -> None:
        scheduler.READ_EVENTS, sqlite.SCAN_ROWS = read, read  # type: ignore[misc]
        self.queue_size = queue_size
        self.run(self.open())

    async def open(self) -> None:
        store = (
            sqlite_store(Path(self.folder.name) / "journal.db", self.clock) if self.durable else MemoryStore(self.clock)
        )
        self.journal = GroupCommitJournal(store, capacity=10**6, queue_size=self.queue_size, clock=self.clock)
        await self.journal.open(lambda *_: None)

    @rule(resources=st.frozensets(st.sampled_from(RESOURCES), max_size=3), how_many=st.sampled_from((1, 1, 2, 4)))
    def accept(self, resources: frozenset[str], how_many: int) -> None:
        self.keep(resources, how_many)

    def keep(self, resources: frozenset[str], how_many: int) -> None:
        events = []
        for _ in range(how_many):
            event_id = f"event-{next(self.numbers)}"
            self.resources_of[event_id] = resources
            events.append(
                Event(event_id, "Test/Any", tuple(sorted(resources)), "r", "u", self.clock.now, body(event_id))
            )
            self.model.line.append(Open(event_id, resources))

        async def together() -> list[Kept]:
            return await asyncio.gather(*(self.journal.keep(each) for each in [*events, events[0]]))

        assert self.run(together()) == [Kept.NEW] * how_many + [Kept.DUPLICATE]

    @rule()
    def take_one(self) -> None:
        self.take()

    def take(self) -> None:
        entry = self.run(self.taken())
        expected = self.model.runnable(self.clock.now)
        if entry is None:
            assert not expected or self.full(), f"{[each.event_id for each in expected]} are not handed out"
            return
        each = next((each for each in expected if each.event_id == entry.event.event_id), None)
        assert each is not None, f"{entry} is handed out, and may not run"
        assert entry.attempt == entry.event.attempt == each.attempt
        each.state, each.entry = "pending", entry

    def take_all(self) -> None:
        before = -1
        while len(self.running()) > before:
            before = len(self.running())
            self.take()

    def full(self) -> bool:
        """Whether what runs leaves no room in memory for others."""
        return bool(self.model.ghosts) or len(self.running()) >= self.queue_size

    async def taken(self) -> Entry | None:
        taking = asyncio.ensure_future(self.journal.take())
        async with asyncio.timeout(PATIENCE):
            for _ in range(LOOKS + 2 * len(self.resources_of)):  # what may run has to be read first, a few at a time
                await self.journal.flush()
                await asyncio.sleep(0)
                if taking.done():
                    return taking.result()
        taking.cancel()
        await asyncio.wait({taking})
        return None if taking.cancelled() else taking.result()

    def running(self) -> list[Open]:
        return [each for each in [*self.model.ghosts, *self.model.line] if each.entry is not None]

    @precondition(lambda self: self.running())
    @rule(data=st.data(), state=st.sampled_from(STATES))
    def settle(self, data: st.DataObject, state: str) -> None:
        self.end_attempt(data.draw(st.sampled_from(self.running())), state, data.draw(st.sampled_from((0, 10, 1000))))

    def end_attempt(self, each: Open, state: str, wait: float = 0) -> None:
        entry, each.entry = each.entry, None
        assert entry is not None
        due = self.clock.now + wait if state == "waiting" else None
        self.journal.settle(entry, Outcome(state, "made up", due))  # type: ignore[arg-type]
        self.run(self.journal.flush())
        if each in self.model.ghosts:
            self.model.ghosts.remove(each)
        elif state in ("waiting", "held"):
            each.state, each.attempt, each.due = state, each.attempt + 1, due or 0.0
        else:
            self.model.end(each, state)

    @rule(data=st.data(), state=st.sampled_from(STATES))
    def work(self, data: st.DataObject, state: str) -> None:
        self.take()
        if self.running():
            self.end_attempt(data.draw(st.sampled_from(self.running())), state, 10)

    @precondition(lambda self: self.running())
    @rule(data=st.data(), waits_for=st.sampled_from((None, "this", "that")))
    def give_back(self, data: st.DataObject, waits_for: str | None) -> None:
        each = data.draw(st.sampled_from(self.running()))
        entry, each.entry = each.entry, None
        assert entry is not None
        self.journal.give_back(entry, waits_for)
        if each in self.model.ghosts:
            self.model.ghosts.remove(each)
        else:
            each.rests = waits_for

    @rule(waits_for=st.sampled_from(("this", "that")))
    def wake(self, waits_for: str) -> None:
        self.journal.wake(waits_for)
        for each in self.model.line:
            each.rests = None if each.rests == waits_for else each.rests

    @precondition(lambda self: any(each.state == "waiting" for each in self.model.line))
    @rule(seconds=st.sampled_from((1, 10, 10, 1000)))
    def time_goes_by(self, seconds: int) -> None:
        self.clock.now += seconds

    @precondition(lambda self: self.durable)
    @rule()
    def restart(self) -> None:
        self.run(self.journal.close())
        self.model.ghosts.clear()
        for each in self.model.line:
            each.entry = each.rests = None
        self.run(self.open())

    def command(self, verb: Verb, *names: str) -> dict[str, str]:
        return self.run(self.journal.command(Command(verb, list(names)))).results

    @precondition(lambda self: self.model.line)
    @rule(data=st.data(), verb=st.sampled_from(("release", "skip")))
    def release_or_skip(self, data: st.DataObject, verb: Verb) -> None:
        resource = data.draw(st.sampled_from(RESOURCES))
        answer = self.command(verb, resource)[resource]
        head = self.model.first(resource)
        if head is None:
            assert answer.startswith("nothing is open")
        elif head.state == "pending":
            assert answer.startswith("not blocked")
        elif answer.startswith("not blocked"):  # it is due, and the journal has read it already
            assert head.state == "waiting"
            assert head.due <= self.clock.now
        elif verb == "release":
            assert answer == "released"
            head.state = "pending"
        else:
            assert answer == "skipped"
            self.model.end(head, "dead")

    @precondition(lambda self: self.model.line)
    @rule(data=st.data())
    def discard(self, data: st.DataObject) -> None:
        self.give_up(data.draw(st.sampled_from(self.model.line)))

    @precondition(lambda self: any(each.entry is not None for each in self.model.line))
    @rule(data=st.data())
    def discard_what_runs(self, data: st.DataObject) -> None:
        each = data.draw(st.sampled_from([each for each in self.model.line if each.entry is not None]))
        self.keep(each.resources, 1)
        self.give_up(each)
        self.take_all()

    def give_up(self, each: Open) -> None:
        assert self.command("discard", each.event_id) == {each.event_id: "discarded"}
        self.model.end(each, "ignored")
        if each.entry is not None:
            self.model.ghosts.append(each)

    @precondition(lambda self: self.model.ended)
    @rule(data=st.data())
    def replay(self, data: st.DataObject) -> None:
        event_id = data.draw(st.sampled_from(sorted(self.model.ended)))
        opened = next((each for each in self.model.line if each.event_id == event_id), None)
        answer = self.command("replay", event_id)[event_id]
        if opened is None:
            assert answer == "replayed"
            self.model.line.append(Open(event_id, self.resources_of[event_id]))
        elif answer == "released":
            opened.state = "pending"
        else:
            assert answer.startswith("open already")

    @rule()
    def pause_and_resume(self) -> None:
        self.command("pause")
        assert self.journal.holds
        if self.durable:
            self.restart()
            assert self.journal.holds
        assert self.run(self.taken()) is None
        self.command("resume")
        assert not self.journal.holds

    @invariant()
    def counters_and_bounds_are_right(self) -> None:
        if not hasattr(self, "journal"):
            return
        assert self.journal.size == len(self.model.line)
        assert self.journal.in_memory <= self.queue_size + 3 * scheduler.READ_EVENTS
        assert all(_apart(self.running()))

    def teardown(self) -> None:
        try:
            if hasattr(self, "journal"):
                self.run_all()
                self.history_is_right()
                self.run(self.journal.close())
        finally:
            scheduler.READ_EVENTS, sqlite.SCAN_ROWS = self.usual  # type: ignore[misc]
            self.runner.close()
            self.folder.cleanup()

    def run_all(self) -> None:
        """Let everything go, and see that everything comes, in order, and is gone at the end."""
        for each in self.running():
            self.end_attempt(each, "done")
        for waits_for in ("this", "that"):
            self.wake(waits_for)
        while self.model.line:
            for each in [each for each in self.model.line if each.state == "held"]:
                assert self.command("replay", each.event_id) == {each.event_id: "released"}
                each.state = "pending"
            self.clock.now += 10_000
            self.take()
            assert self.running(), "nothing comes any more"
            for each in self.running():
                self.end_attempt(each, "done")
        assert self.run(self.taken()) is None
        assert (self.journal.size, self.journal.in_memory) == (0, 0)

    def history_is_right(self) -> None:
        found: dict[str, list[str]] = {}
        for series in self.run(self.journal.ask(Find(Filter(), 100_000)))[::-1]:
            found.setdefault(series.event_id, []).append(series.state)
        assert sorted(found) == sorted(self.model.ended)
        totals = self.run(self.journal.ask(ReadStats())).total
        states = Counter(state for series in self.model.ended.values() for state in series)
        assert {name: totals.get(name, 0) for name in states} == states


def _apart(running: list[Open]) -> Iterator[bool]:
    """Whether no two of those that run share a resource."""
    for place, one in enumerate(running):
        for other in running[place + 1 :]:
            yield one.resources.isdisjoint(other.resources)


class MemoryMachine(OrderMachine):
    durable = False


class SqliteMachine(OrderMachine):
    durable = True


def _case(machine: type[OrderMachine], examples: int) -> Callable[..., Any]:
    case = machine.TestCase
    case.settings = settings(
        max_examples=examples, stateful_step_count=50, deadline=None, suppress_health_check=list(HealthCheck)
    )
    return case


TestMemoryOrder = _case(MemoryMachine, 100)
TestSqliteOrder = _case(SqliteMachine, 40)
