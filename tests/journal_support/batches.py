"""Transactions of a store, without a journal around it."""

from connector.events.event import Event
from connector.journal import Entry
from connector.journal.store import Append, Batch, Feed, Store
from connector.outcome import Outcome


def keep(store: Store, *events: Event) -> list[Entry]:
    """Keep these events in one transaction; the entries of those that are new."""
    batch = Batch(appends=[Append(each) for each in events])
    store.commit(batch)
    return [entry for entry in batch.entries if entry is not None]


def settle(store: Store, *attempts: tuple[Entry, Outcome]) -> None:
    """Settle these attempts in one transaction."""
    store.commit(Batch(settles=list(attempts)))


def may_run(store: Store, now: float = 0.0, due: int | None = None) -> tuple[list[Entry], float | None]:
    """All events that may run, those too that wait and are due at ``now``; and when the next one is due."""
    batch = Batch(feed=Feed(now, due=due, ahead=1_000_000))
    store.commit(batch)
    assert batch.fed is not None
    return list(batch.fed.entries), batch.fed.next_due
