"""Lanes over the SQLite journal against a model of them: whatever happens in whatever order.

The model knows each subscriber's open events in order of acceptance. What the lanes hand out has to be the head of a
subscriber in the model that can be run; and all that can be run has to be handed out.
"""

import asyncio
import sqlite3
from collections import Counter
from contextlib import closing
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from connector.events.event import Event
from connector.journal import lanes as lanes_module
from connector.journal.group_commit import GroupCommitJournal
from connector.journal.lanes import Lanes
from connector.journal.sqlite import history
from connector.journal.sqlite.history import Filter
from connector.journal.sqlite.operator import Answer, Command, Verb
from connector.outcome import Outcome
from tests.journal_support.engines import Clock, sqlite_store
from tests.journal_support.events import body
from tests.journal_support.faulty_disk import IN_MEMORY

SUBSCRIBERS = ("a", "b", "c")
STATES = ("done", "ignored", "dead", "waiting", "waiting", "waiting", "held", "held")
PATIENCE = 5.0


@dataclass
class Open:
    """An open event in the model."""

    event_id: str
    state: str = "pending"
    attempt: int = 1
    due: float = 0.0


class LanesMachine(RuleBasedStateMachine):
    """``self.lines``: open events by subscriber; ``self.ended``: how many series ended how, by event id."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.folder = TemporaryDirectory(dir=IN_MEMORY)
        self.path = Path(self.folder.name) / "journal.db"
        self.clock = Clock()
        self.numbers = count(1)
        self.lines: dict[str, list[Open]] = {lane: [] for lane in SUBSCRIBERS}
        self.running: dict[str, Event] = {}
        self.ended: dict[str, list[str]] = {}
        self.lane_of: dict[str, str] = {}

    @initialize(queue_size=st.sampled_from((1, 3, 8)), look_ahead=st.sampled_from((1, 2, 16)))
    def start(self, queue_size: int, look_ahead: int) -> None:
        self.queue_size = queue_size
        self.usual = lanes_module.LOOK_AHEAD
        lanes_module.LOOK_AHEAD = look_ahead  # type: ignore[misc]
        self.loop.run_until_complete(self.open())

    async def open(self) -> None:
        self.journal = GroupCommitJournal(sqlite_store(self.path, self.clock), 1_000_000)
        self.lanes = Lanes(self.journal, self.queue_size, self.clock)
        await self.lanes.start()

    async def close(self) -> None:
        await self.lanes.stop()
        await self.journal.close()
        self.running.clear()

    @rule(lane=st.sampled_from(SUBSCRIBERS), how_many=st.sampled_from((1, 1, 2, 5)))
    def accept(self, lane: str, how_many: int) -> None:
        for _ in range(how_many):
            event_id = f"{next(self.numbers)}"
            event = Event(event_id, "Test/Any", (lane,), "r", "u", self.clock.now, body(event_id))
            assert self.loop.run_until_complete(self.journal.append(event))
            self.lines[lane].append(Open(event_id))
            self.lane_of[event_id] = lane
        event = Event(event_id, "Test/Any", (lane,), "r", "u", self.clock.now, body(event_id))
        assert not self.loop.run_until_complete(self.journal.append(event))

    def runnable(self) -> dict[str, Open]:
        return {
            lane: line[0]
            for lane, line in self.lines.items()
            if line and lane not in self.running and (line[0].state == "pending" or self.is_due(line[0]))
        }

    def is_due(self, each: Open) -> bool:
        return each.state == "waiting" and each.due <= self.clock.now

    @precondition(lambda self: self.runnable())
    @rule()
    def take(self) -> None:
        event = self.loop.run_until_complete(self.taken())
        if event is None:
            return
        expected = self.runnable()
        assert event.lane in expected, f"{event} of {event.lane} cannot be run"
        head = expected[event.lane]
        assert (event.event_id, event.attempt) == (head.event_id, head.attempt)
        head.state = "pending"
        self.running[event.lane] = event

    async def taken(self) -> Event | None:
        """The next event; None where those that run are so many that there is no room for others in memory."""
        taking = asyncio.ensure_future(self.lanes.take())
        async with asyncio.timeout(PATIENCE):
            while not taking.done():
                await self.journal.flush()
                await asyncio.wait({taking}, timeout=0.005)
                if not taking.done() and self.running and self.lanes.loaded > self.queue_size // 2:
                    taking.cancel()
                    await asyncio.wait({taking})
                    return None
        event = taking.result()
        if event.due is not None and event.due > self.clock.now:  # an operator has changed something behind it
            self.lanes.rest(event)
            return await self.taken()
        return event

    @precondition(lambda self: self.running)
    @rule(data=st.data(), state=st.sampled_from(STATES))
    def settle(self, data: st.DataObject, state: str) -> None:
        lane = data.draw(st.sampled_from(sorted(self.running)))
        event = self.running.pop(lane)
        due = self.clock.now + data.draw(st.sampled_from((0, 10, 10, 1000))) if state == "waiting" else None
        self.journal.settle(event, Outcome(state, "made up", due))  # type: ignore[arg-type]
        self.loop.run_until_complete(self.journal.flush())
        head = self.lines[lane][0] if self.lines[lane] else None
        if head is None or head.event_id != event.event_id or head.attempt != event.attempt:
            return  # an operator has discarded it meanwhile
        if state in ("waiting", "held"):
            head.state, head.attempt, head.due = state, head.attempt + 1, due or 0.0
        else:
            self.end(lane, head, state)

    @precondition(lambda self: self.runnable())
    @rule(data=st.data(), state=st.sampled_from(STATES))
    def work(self, data: st.DataObject, state: str) -> None:
        self.take()
        if self.running:
            self.settle(data, state)

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def put_back(self, data: st.DataObject) -> None:
        event = self.running.pop(data.draw(st.sampled_from(sorted(self.running))))
        self.lanes.put_back(event)

    def end(self, lane: str, each: Open, state: str) -> None:
        self.lines[lane].remove(each)
        self.ended.setdefault(each.event_id, []).append(state)

    @precondition(lambda self: self.blocked())
    @rule(seconds=st.sampled_from((1, 10, 10, 1000)))
    def time_goes_by(self, seconds: int) -> None:
        self.clock.now += seconds
        self.lanes.changed(0, (), {})

    @rule()
    def restart(self) -> None:
        self.loop.run_until_complete(self.close())
        self.loop.run_until_complete(self.open())

    def command(self, verb: Verb, *names: str) -> dict[str, str]:
        with closing(sqlite3.connect(self.path, timeout=5.0, isolation_level=None)) as db:
            text = msgspec.json.encode(Command(verb, list(names))).decode()
            db.execute("INSERT INTO commands (made_at, command) VALUES (0, ?)", (text,))
            self.loop.run_until_complete(self.journal.flush())
            (answer,) = db.execute("SELECT answer FROM commands ORDER BY number DESC LIMIT 1").fetchone()
        return msgspec.json.decode(answer, type=Answer).results

    def blocked(self) -> list[str]:
        """Subscribers whose head waits or is held."""
        return [
            lane
            for lane, line in self.lines.items()
            if line and line[0].state != "pending" and not self.is_due(line[0])
        ]

    @precondition(lambda self: self.blocked())
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        lane = data.draw(st.sampled_from(self.blocked()))
        assert self.command("release", lane) == {lane: "released"}
        self.lines[lane][0].state = "pending"

    @precondition(lambda self: self.blocked())
    @rule(data=st.data())
    def skip(self, data: st.DataObject) -> None:
        lane = data.draw(st.sampled_from(self.blocked()))
        assert self.command("skip", lane) == {lane: "skipped"}
        self.end(lane, self.lines[lane][0], "dead")

    @rule(lane=st.sampled_from(SUBSCRIBERS))
    def leave_alone_who_is_not_blocked(self, lane: str) -> None:
        head = next(iter(self.lines[lane]), None)
        if head is None:
            assert self.command("release", lane)[lane].startswith("nothing is open")
        elif head.state == "pending":
            assert self.command("release", lane)[lane].startswith("not blocked")
            assert self.command("skip", lane)[lane].startswith("not blocked")

    @precondition(lambda self: any(self.lines.values()))
    @rule(data=st.data())
    def discard(self, data: st.DataObject) -> None:
        lane = data.draw(st.sampled_from([lane for lane in SUBSCRIBERS if self.lines[lane]]))
        each = data.draw(st.sampled_from(self.lines[lane]))
        assert self.command("discard", each.event_id) == {each.event_id: "discarded"}
        self.end(lane, each, "ignored")

    @precondition(lambda self: self.ended)
    @rule(data=st.data())
    def replay(self, data: st.DataObject) -> None:
        event_id = data.draw(st.sampled_from(sorted(self.ended)))
        lane = self.lane_of[event_id]
        answer = self.command("replay", event_id)[event_id]
        opened = next((each for each in self.lines[lane] if each.event_id == event_id), None)
        if opened is None:
            assert answer == "replayed"
            self.lines[lane].append(Open(event_id))
        elif answer == "released":
            opened.state = "pending"
        else:
            assert answer.startswith("open already")

    @rule(restart=st.booleans())
    def pause_and_resume(self, restart: bool) -> None:
        self.command("pause")
        if restart:
            self.restart()
        assert self.lanes.holds
        taking = self.loop.create_task(self.lanes.take())
        self.loop.run_until_complete(self.journal.flush())
        self.command("resume")
        assert not self.lanes.holds
        self.loop.run_until_complete(self.give_back(taking))

    async def give_back(self, taking: "asyncio.Task[Event]") -> None:
        done, _ = await asyncio.wait({taking}, timeout=0.01)
        if done:
            self.lanes.put_back(taking.result())
        else:
            taking.cancel()
            await asyncio.wait({taking})

    @invariant()
    def counters_are_right(self) -> None:
        if not hasattr(self, "journal"):
            return
        assert self.journal.size == sum(map(len, self.lines.values()))
        assert self.lanes.loaded == sum(len(lane.events) for lane in self.lanes._lanes.values())
        assert self.lanes.loaded >= len(self.running)
        assert self.lanes.parked == len(self.lanes._parked)

    def teardown(self) -> None:
        try:
            if hasattr(self, "journal"):
                self.run_all()
                self.loop.run_until_complete(self.close())
                self.history_is_right()
        finally:
            lanes_module.LOOK_AHEAD = self.usual  # type: ignore[misc]
            self.loop.close()
            self.folder.cleanup()

    def run_all(self) -> None:
        """Let everything go, and see that everything comes, in order, and is gone at the end."""
        for lane in sorted(self.running):
            self.lanes.put_back(self.running.pop(lane))
        for lane, line in self.lines.items():
            if line and line[0].state == "held":
                self.command("release", lane)
                line[0].state = "pending"
        self.time_goes_by(10_000)
        while self.runnable():
            self.take()
            for lane in [*self.running]:
                event = self.running.pop(lane)
                self.journal.settle(event, Outcome("done"))
                self.loop.run_until_complete(self.journal.flush())
                self.end(lane, self.lines[lane][0], "done")
        self.loop.run_until_complete(self.nothing_more_comes())
        assert (self.journal.size, self.lanes.loaded, self.lanes.parked) == (0, 0, 0)

    async def nothing_more_comes(self) -> None:
        taking = asyncio.ensure_future(self.lanes.take())
        async with asyncio.timeout(PATIENCE):
            await self.lanes.join()
        taking.cancel()
        await asyncio.wait({taking})
        assert taking.cancelled()

    def history_is_right(self) -> None:
        with history.connect(self.path) as past:
            found: dict[str, list[Any]] = {}
            for series in past.find(Filter(), 100_000)[::-1]:
                found.setdefault(series.event_id, []).append(series.state)
            assert found == self.ended
            totals = past.stats()["total"]
        states = Counter(state for series in self.ended.values() for state in series)
        assert {name: totals.get(name, 0) for name in states} == states
        assert totals.get("accepted", 0) + totals.get("replayed", 0) == sum(states.values())


TestLanesMachine = LanesMachine.TestCase
TestLanesMachine.settings = settings(
    max_examples=50, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
