"""A connector that is killed or stopped in a burst loses nothing that was answered 202."""

import asyncio
import signal
from pathlib import Path

import pytest

from tests.acceptance.kill import kill_often, lost, out_of_order, repeated, unexplained_repeats
from tests.journal_support.running import handled, running
from tests.journal_support.senders import Senders


@pytest.mark.parametrize("flaky", [0, 10], ids=["", "one event in ten fails at first"])
async def test_nothing_answered_202_is_lost_reordered_or_repeated_without_reason_by_kills(
    tmp_path: Path, flaky: int
) -> None:
    figures = await kill_often(tmp_path, kills=5, seed=20 + flaky, flaky=flaky)
    assert figures.faults == []
    assert figures.retried >= figures.accepted // 20 * bool(flaky)


async def test_stop_in_a_burst_answers_every_connection_and_loses_nothing(tmp_path: Path) -> None:
    journal = tmp_path / "files" / "journal.db"
    async with running(journal, {"PAUSE": "0.02", "WORKERS": "4"}) as connector:
        async with Senders(connector, connections=16, lanes=8) as senders:
            await senders.until(lambda: len(senders.accepted) > 400)
            senders.finish()
            connector.send(signal.SIGTERM)
            assert await connector.ended() == 0
            assert senders.unanswered == 0
            accepted = set(senders.accepted)
        assert (await connector.line("server.drained"))["left"] > 0
    assert accepted - {line.event_id for line in handled(tmp_path / "handled")}
    async with running(journal) as connector:
        await connector.until(lambda: accepted <= {line.event_id for line in handled(tmp_path / "handled")})
    lines = handled(tmp_path / "handled")
    assert lost(accepted, lines) + out_of_order(senders.sent, lines) + unexplained_repeats(lines) == []
    assert not repeated(lines)


async def test_handler_that_outlasts_the_stop_is_cut_off_and_its_event_handled_after_the_start(tmp_path: Path) -> None:
    journal = tmp_path / "files" / "journal.db"
    gate = tmp_path / "gate"
    gate.touch()
    async with running(journal, {"GATE": str(gate), "DRAIN_TIMEOUT": "0.2s"}) as connector:
        async with Senders(connector, connections=4, lanes=4) as senders:
            await senders.until(lambda: len(senders.accepted) > 20)
        connector.send(signal.SIGTERM)
        assert await connector.ended() == 0
        assert (await connector.line("server.drained"))["cut_off"] > 0
    assert handled(tmp_path / "handled") == []
    await asyncio.to_thread(gate.unlink)
    async with running(journal) as connector:
        await connector.until(
            lambda: set(senders.accepted) <= {line.event_id for line in handled(tmp_path / "handled")}
        )


@pytest.mark.parametrize("lanes", [1, 100], ids=["few subscribers", "many subscribers"])
async def test_backlog_larger_than_memory_is_handled_in_order_over_a_kill_and_before_new_events(
    tmp_path: Path, lanes: int
) -> None:
    journal, gate = tmp_path / "files" / "journal.db", tmp_path / "gate"
    gate.touch()
    settings = {"GATE": str(gate), "QUEUE_SIZE": "50"}
    async with running(journal, settings) as connector, Senders(connector, connections=16, lanes=lanes) as senders:
        await senders.until(lambda: len(senders.accepted) > 1500)
        senders.away()
        await connector.kill()
        async with running(journal, settings) as again:
            senders.back(again)
            await senders.until(lambda: len(senders.accepted) > 2000)
            await asyncio.to_thread(gate.unlink)
            await senders.until(lambda: len(senders.accepted) > 2500)
            await senders.stop()
            accepted = set(senders.accepted)
            await again.until(lambda: accepted <= {line.event_id for line in handled(tmp_path / "handled")})
    lines = handled(tmp_path / "handled")
    assert lost(accepted, lines) + out_of_order(senders.sent, lines) == []
    assert len(lines) == len(accepted)
