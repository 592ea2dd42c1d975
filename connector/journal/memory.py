"""The store that keeps nothing over a stop: for trying things out, and for tests. Everything is in dictionaries."""

from collections import Counter, OrderedDict
from collections.abc import Callable, Container, Mapping, Sequence
from itertools import islice
from typing import Any, Final

from msgspec.structs import replace

from connector.events.event import Event
from connector.events.snapshot import Snapshot, after, is_older
from connector.journal import Entry, Kept, Newest
from connector.journal.commands import HELD, PENDING, WAITING, OpenEvent, Operator
from connector.journal.plain import Delivery, Past, answer, bears
from connector.journal.queries import Attempt, Query, Series, TargetAway
from connector.journal.store import Append, Batch, Fed, Feed, Marks, Store
from connector.outcome import Mark, Outcome, Step

REMEMBERED: Final = 100_000
"""Identities of ended events that are remembered."""

ENDED: Final = 1_000
"""Ended series that an operator can still see and replay."""

_NAMES: Final = {PENDING: "pending", WAITING: "waiting", HELD: "held"}


class _Record:
    """A series: what stands in the rows of a durable store."""

    __slots__ = ("attempts", "due", "earlier", "ended", "entry", "marks", "ms", "state", "steps")

    def __init__(self, entry: Entry, earlier: int | None, marks: Marks) -> None:
        self.entry = entry
        self.earlier = earlier
        self.marks = marks
        self.state = PENDING
        self.due: float | None = None
        self.steps: dict[str, Step] = dict(entry.progress)
        self.attempts: list[Attempt] = []
        self.ended: tuple[str, float, int, str] | None = None
        self.ms = 0

    @property
    def may_run(self) -> bool:
        return self.state == PENDING and not self.entry.blockers


class MemoryStore(Store):
    """Open events and some that have ended. ``clock`` in seconds since the epoch."""

    durable = False
    in_loop = True

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._open: dict[int, _Record] = {}
        self._ended: OrderedDict[int, _Record] = OrderedDict()
        self._touches: dict[str, dict[int, None]] = {}
        self._ids: OrderedDict[bytes, int] = OrderedDict()
        self._well: set[bytes] = set()
        self._marked: dict[Mark, dict[int, Snapshot]] = {}
        self._newest: dict[Mark, Snapshot] = {}
        self._waiting: dict[int, float] = {}
        self._counts: Counter[str] = Counter()
        self._paused = False
        self._away: TargetAway | None = None

    def open(self) -> None:
        self.open_events = len(self._open)

    def close(self) -> None:
        """What is in memory ends with it."""

    def knows(self, event: Event) -> bool:
        before = self._ids.get(event.key)
        return before is not None and (before in self._open or event.key in self._well)

    def commit(self, batch: Batch) -> None:
        unblocked: dict[int, Entry | None] = {}
        self._end_attempts(batch, unblocked)
        if batch.appends:
            results = [self._append(append, unblocked) for append in batch.appends]
            batch.kept = [kept for kept, _ in results]
            batch.entries = [entry for _, entry in results]
        if batch.commands:
            operator = _MemoryOperator(self, self._clock(), batch.running)
            batch.answers = [operator.run(command) for command in batch.commands]
            batch.change = operator.change
            unblocked |= dict.fromkeys(operator.change.unblocked)
        self._counts.update(batch.counts)
        batch.unblocked = {seq: self._entry(seq) for seq in unblocked}
        batch.results = [_result(function, self) for function in batch.calls]
        if batch.feed is not None:
            batch.fed = self._feed(batch.feed)

    def newest(self, seq: int, mark: Mark, mine: Snapshot) -> Newest:
        marked = self._marked.get(mark, {})
        behind = (theirs for later, theirs in reversed(marked.items()) if later > seq and is_older(mine, theirs))
        return Newest(self._newest.get(mark), next(behind, None))

    def note_target(self, reason: str) -> None:
        since = self._away.since if self._away else self._clock()
        self._away = TargetAway(reason, since) if reason else None

    def answer(self, query: Query[Any]) -> Any:
        records = sorted({**self._open, **self._ended}.items())
        past = [Past(_series_of(each), each.attempts, each.steps, each.entry.event.raw) for _, each in records]
        return answer(query, past, Delivery(self._paused, self._away, self._counts))

    def _end_attempts(self, batch: Batch, unblocked: dict[int, Entry | None]) -> None:
        for entry, step, applied in batch.notes:
            self._newest.update(applied)
            if self._is_current(entry):
                self._open[entry.seq].steps[step.handler] = step
        counted: list[bool] = []
        for entry, outcome in batch.settles:
            counts = self._is_current(entry)
            counted.append(counts)
            if outcome.applied:
                self._newest.update(outcome.applied)  # also where it does not count: what was done outside was done
            if counts:
                self._settle(self._open[entry.seq], outcome, unblocked)
        batch.counted = counted
        for entry in batch.rests:
            record = self._open.get(entry.seq)
            if record is not None and record.state == PENDING and record.due is not None:
                self._wait(record, WAITING, record.due)

    def _is_current(self, entry: Entry) -> bool:
        record = self._open.get(entry.seq)
        return record is not None and record.entry.attempt == entry.attempt and record.state == PENDING

    def _settle(self, record: _Record, outcome: Outcome, unblocked: dict[int, Entry | None]) -> None:
        if outcome.steps:
            record.steps.update({step.handler: step for step in outcome.steps})
        attempt, now = record.entry.attempt, self._clock()
        if outcome.final:
            attempts = attempt - (outcome.state == "superseded")  # which is without an attempt
            record.ms = outcome.ms
            unblocked.update(dict.fromkeys(self.end(record.entry.seq, outcome.state, attempts, outcome.reason)))
            return
        record.attempts.append(Attempt(attempt, now, outcome.ms, outcome.reason))
        self._replace(record, attempt + 1)
        self._wait(record, WAITING if outcome.state == "waiting" else HELD, outcome.due)

    def _replace(self, record: _Record, attempt: int, due: float | None = None) -> None:
        """Give a record another entry: whoever still has the one before settles nothing with it."""
        before = record.entry
        event = replace(before.event, attempt=attempt)
        record.entry = Entry(event, before.seq, attempt=attempt, due=due, progress=record.steps, origin=before.origin)

    def _wait(self, record: _Record, state: int, due: float | None) -> None:
        record.state, record.due = state, due
        if state == WAITING and due is not None:
            self._waiting[record.entry.seq] = due

    def _append(self, append: Append, unblocked: dict[int, Entry | None]) -> tuple[Kept, Entry | None]:
        key = append.event.key
        before = self._ids.get(key)
        if before is not None and self.knows(append.event):
            record = self._record(before)
            same = record is None or record.entry.event.raw == append.event.raw
            return Kept.DUPLICATE if same else Kept.CONFLICT, None
        record = self.begin(append.event, before, append.marks)
        if before is not None:
            record.steps.update(self._steps_that_ended_well(before))
        for mark, mine in record.marks:
            unblocked |= dict.fromkeys(self._wake(mark, mine))
        return Kept.NEW, record.entry

    def begin(self, event: Event, earlier: int | None, marks: Marks = ()) -> _Record:
        """Open a new series of an event."""
        self.last_seq = seq = self.last_seq + 1
        blockers = 0
        for resource in event.resources:
            line = self._touches.setdefault(resource, {})
            blockers += bool(line)
            line[seq] = None
        before = None if earlier is None else self._record(earlier)
        origin = before.entry.origin if before is not None else earlier or seq
        marks = tuple((mark, replace(mine, seq=origin if mine.is_timed else seq)) for mark, mine in marks)
        record = _Record(Entry(event, seq, blockers=blockers, origin=origin), earlier, marks)
        record.entry.progress = record.steps
        for mark, mine in marks:
            self._marked.setdefault(mark, {})[seq] = mine
        self._open[seq] = record
        self._ids[event.key] = seq
        self._ids.move_to_end(event.key)
        if len(self._ids) - len(self._open) > REMEMBERED:
            self._forget()
        return record

    def _forget(self) -> None:
        oldest = next(key for key, seq in self._ids.items() if seq not in self._open)
        del self._ids[oldest]
        self._well.discard(oldest)

    def end(self, seq: int, state: str, attempts: int, reason: str) -> list[int]:
        """End an open event; those that may run now."""
        record = self._open.pop(seq)
        self._waiting.pop(seq, None)
        record.ended = (state, self._clock(), max(attempts, 0), reason)
        if state == "dead":
            self._well.discard(record.entry.event.key)
        else:
            self._well.add(record.entry.event.key)
        record.entry.event.forget()
        self._ended[seq] = record
        if len(self._ended) > ENDED:
            self._ended.popitem(last=False)
        for mark in dict(record.marks) if record.marks else ():  # two handlers may write the same
            self._marked[mark].pop(seq, None)
            if not self._marked[mark]:
                del self._marked[mark]
        free: list[int] = []
        for resource in record.entry.event.resources:
            line = self._touches[resource]
            was_first = next(iter(line)) == seq
            del line[seq]
            if not line:
                del self._touches[resource]
            elif was_first:
                following = self._open[next(iter(line))]
                following.entry.blockers -= 1
                if following.may_run:
                    free.append(following.entry.seq)
        return free

    def _wake(self, mark: Mark, mine: Snapshot) -> list[int]:
        line = self._touches.get(mark.resource)
        if not line:
            return []  # events are ordered by something else
        head = self._open[next(iter(line))]
        if head.state != WAITING or not any(each == mark and is_older(theirs, mine) for each, theirs in head.marks):
            return []
        self.try_now(head.entry.seq, head.due)
        return [head.entry.seq]

    def try_now(self, seq: int, due: float | None = None) -> None:
        """Make an event that waits or is held pending; with ``due``, before its time."""
        record = self._open[seq]
        record.state, record.due = PENDING, due
        self._waiting.pop(seq, None)
        self._replace(record, record.entry.attempt, due)

    def _entry(self, seq: int) -> Entry | None:
        record = self._open.get(seq)
        return record.entry if record is not None and record.may_run else None

    def _feed(self, feed: Feed) -> Fed:
        seqs = list(feed.seqs)
        if feed.due is not None:
            due = sorted((due, seq) for seq, due in self._waiting.items() if due <= feed.now)[: feed.due]
            for _, seq in due:
                self.try_now(seq)
                seqs.append(seq)
        entries = [entry for seq in seqs if (entry := self._entry(seq))]
        upto = feed.after
        if feed.ahead:
            found = (each.entry for seq, each in self._open.items() if seq > feed.after and each.may_run)
            ahead = list(islice(found, feed.ahead))
            entries += ahead
            upto = ahead[-1].seq if len(ahead) == feed.ahead else self.last_seq
        return Fed(entries, min(self._waiting.values(), default=None), upto)

    def latest(self, event_id: str) -> list[int]:
        """The newest series of every identity that bears this id, in the order of acceptance."""
        bearing = (seq for seq in self._ids.values() if (record := self._record(seq)) and _bears(record, event_id))
        return sorted(bearing)

    def _record(self, seq: int) -> _Record | None:
        return self._open.get(seq) or self._ended.get(seq)

    def _steps_that_ended_well(self, seq: int) -> Mapping[str, Step]:
        record = self._record(seq)
        if record is None or record.ended is None or record.ended[0] != "dead":
            return {}
        return {name: step for name, step in record.steps.items() if step.well}


def _bears(record: _Record, event_id: str) -> bool:
    return record.entry.event.event_id == event_id


class _MemoryOperator(Operator):
    """Commands on a ``MemoryStore``: its dictionaries are changed as the rows of a durable store are."""

    def __init__(self, store: MemoryStore, now: float, running: Container[int]) -> None:
        super().__init__(store.last_seq)
        self._running = running
        self._store = store
        self._now = now

    def latest(self, event_id: str) -> Sequence[int]:
        return self._store.latest(event_id)

    def find(self, seq: int) -> OpenEvent | None:
        record = self._store._open.get(seq)
        if record is None:
            return None
        entry = record.entry
        return OpenEvent(seq, record.state, entry.attempt, entry.blockers, len(entry.event.raw))

    def first(self, resource: str) -> OpenEvent | None:
        line = self._store._touches.get(resource)
        if line:
            return self.find(next(iter(line)))
        for seq, record in self._store._open.items():
            if _is_blocked(record) and bears(record.entry.event.resources, resource):
                return self.find(seq)
        return None

    def reason(self, seq: int) -> str:
        attempts = self._store._open[seq].attempts
        return attempts[-1].reason if attempts else ""

    def copy(self, seq: int, whole: bool) -> int | None:
        record = self._store._ended.get(seq)
        if record is None:
            return None
        event = replace(record.entry.event, attempt=1, accepted_at=self._now)
        new = self._store.begin(event, seq, record.marks)
        if not whole:
            new.steps.update(self._store._steps_that_ended_well(seq))
        for mark, mine in new.marks:
            self.change.unblocked.update(self._store._wake(mark, mine))
        self.change.open_bytes += len(event.raw)
        return new.entry.seq

    def end(self, event: OpenEvent, state: str, reason: str) -> Sequence[int]:
        if event.seq in self._running:
            for mark, mine in self._store._open[event.seq].marks:
                before = self._store._newest.get(mark)
                if before is None or not is_older(mine, before):
                    self._store._newest[mark] = after(mine, before)
        return self._store.end(event.seq, state, event.attempt - 1, reason)

    def give_up_dead(self, seq: int, note: str) -> bool:
        record = self._store._ended.get(seq)
        if record is None or record.ended is None or record.ended[0] != "dead":
            return False
        _, when, attempts, reason = record.ended
        record.ended = ("ignored", when, attempts, f"{note}: {reason}")
        self._store._well.add(record.entry.event.key)
        return True

    def try_now(self, seq: int) -> None:
        self._store.try_now(seq)

    def clear_newest(self, resource: str) -> int:
        found = [mark for mark in self._store._newest if bears([mark.resource], resource)]
        for mark in found:
            del self._store._newest[mark]
        return len(found)

    def pause(self, paused: bool) -> None:
        self._store._paused = paused


def _result(function: Callable[[Any], Any], store: MemoryStore) -> Any:
    try:
        return function(store)
    except Exception as error:  # noqa: BLE001 - its caller's, not the journal's
        return error


def _is_blocked(record: _Record) -> bool:
    return record.state != PENDING


def _series_of(record: _Record) -> Series:
    entry, event = record.entry, record.entry.event
    if record.ended is None:
        reason = record.attempts[-1].reason if record.attempts else ""
        end: tuple[str, float | None, int, str] = (_NAMES[record.state], None, entry.attempt - 1, reason)
    else:
        end = record.ended
    return Series(
        seq=entry.seq,
        event_id=event.event_id,
        event_type=event.event_type,
        resources=list(event.resources),
        state=end[0],
        accepted_at=event.accepted_at,
        ended_at=end[1],
        attempts=end[2],
        reason=end[3],
        due=record.due,
        ms=record.ms,
        request_id=event.request_id,
        unique_id=event.unique_id,
        earlier=record.earlier,
    )
