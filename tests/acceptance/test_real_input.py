"""Events as NSPS sends them, to ``python run.py``."""

import asyncio
import signal
from pathlib import Path

import pytest

from tests import events
from tests.delivery import deliver
from tests.process import Server, running
from tests.wire import TOKEN

JOURNALS = ["memory://", "sqlite:///data/journal.db"]


@pytest.mark.parametrize("journal", JOURNALS)
async def test_every_event_is_answered_as_the_protocol_says_and_seen_by_a_worker(tmp_path: Path, journal: str) -> None:
    samples = list(events.generate(2, 600))
    shapes = [events.full(), {"event_id": "bare", "data": {"event_type": "SIM/Updated"}}, events.minimal()]
    samples += [
        events.Sample(events.encode(shape), status, "any")
        for shape, status in zip(shapes, (202, 422, 202), strict=True)
    ]
    assert min(len(sample.body) for sample in samples if sample.status == 202) < 400
    assert max(len(sample.body) for sample in samples) == 1_000_000
    async with running(tmp_path, JOURNAL_URL=journal) as server:
        delivered = await deliver(server.port, samples)
        assert [each for each in delivered if each.wrong] == []
        assert len(delivered) == len(samples)
        accepted = {each.unique_id for each in delivered if each.accepted}
        await server.reached("event.processed", len(accepted))
        assert await server.terminate() == 0
        processed = [line["unique_id"] for line in server.lines if line["action"] == "event.processed"]
        assert sorted(processed) == sorted(accepted)
        assert [line for line in server.lines if line["level"] == "error"] == []


@pytest.mark.parametrize("journal", JOURNALS)
async def test_an_event_that_comes_many_times_at_once_is_processed_once(tmp_path: Path, journal: str) -> None:
    bodies = [events.encode(events.of_subscriber(number, f"event-{number}")) for number in range(20)]
    samples = [events.Sample(body, 202, "SIM/Updated") for body in bodies for _ in range(10)]
    async with running(tmp_path, JOURNAL_URL=journal) as server:
        delivered = await deliver(server.port, samples, connections=20)
        assert [each for each in delivered if each.wrong] == []
        await server.reached("event.processed", 20)
        assert await server.terminate() == 0
    assert (server.counts["event.accepted"], server.counts["event.processed"]) == (20, 20)
    assert server.counts["event.duplicate"] == 180


@pytest.mark.parametrize("journal", JOURNALS)
@pytest.mark.parametrize("subscribers", [1, 10_000])
async def test_a_stop_in_a_burst_keeps_every_202(tmp_path: Path, subscribers: int, journal: str) -> None:
    samples = events.generate(3, 20_000, subscribers=subscribers, largest=0)
    async with running(tmp_path, JOURNAL_URL=journal) as server:
        sending = asyncio.create_task(deliver(server.port, samples))
        await server.reached("event.accepted", 100)
        server.send(signal.SIGTERM)
        code = await server.ended()
        delivered = await sending
    assert code == 0
    assert {each.answer.status for each in delivered if each.answer} <= {202, 400, 422, 503}
    told = {each.unique_id for each in delivered if each.accepted}
    accepted, processed = of_action(server, "event.accepted"), of_action(server, "event.processed")
    (drained,) = [line for line in server.lines if line["action"] == "server.drained"]
    assert told == set(accepted)
    assert len(accepted) == len(processed) + drained["left"]
    if journal != "memory://":
        async with running(tmp_path, JOURNAL_URL=journal) as server:
            await server.reached("event.processed", len(accepted) - len(processed))
            assert await server.terminate() == 0
        processed += of_action(server, "event.processed")
    assert sorted(processed) == sorted(accepted)


def of_action(server: Server, action: str) -> list[str]:
    return [line["unique_id"] for line in server.lines if line["action"] == action]


async def test_a_stop_in_a_burst_says_how_many_it_could_not_process(tmp_path: Path) -> None:
    def samples() -> list[events.Sample]:
        kinds = ["Test/Hold", "SIM/Updated", "SIM/Updated", "SIM/Updated"] * 500
        return [events.Sample(events.encode(events.minimal(kind)), 202, kind) for kind in kinds]

    limits = {"HANDLERS": "tests.handlers", "WORKERS": "1000", "DRAIN_TIMEOUT": "300ms", "QUEUE_SIZE": "10000"}
    async with running(tmp_path, **limits) as server:
        sending = asyncio.create_task(deliver(server.port, samples()))
        await server.reached("event.accepted", 100)
        assert await server.terminate() == 0
        accepted = sum(each.accepted for each in await sending)
        drained = await server.line("server.drained")
    assert accepted == server.counts["event.accepted"] == server.counts["event.processed"] + drained["left"]
    assert drained["left"] > 0
    assert TOKEN not in str(server.lines)
