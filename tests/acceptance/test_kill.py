"""A connector that is killed or stopped in a burst loses nothing that was answered 202."""

import asyncio
import signal
from pathlib import Path

from tests.acceptance.kill import kill_often, lost, out_of_order, repeated, unexplained_repeats
from tests.journal_support.running import handled, running
from tests.journal_support.senders import Senders


async def test_nothing_answered_202_is_lost_reordered_or_repeated_without_reason_by_kills(tmp_path: Path) -> None:
    figures = await kill_often(tmp_path, kills=6, seed=20)
    assert figures.faults == []
    assert figures.retried >= figures.accepted // 20 > 0


async def test_stop_in_a_burst_answers_every_connection_and_loses_nothing(tmp_path: Path) -> None:
    journal = tmp_path / "files" / "journal.db"
    async with running(journal, {"PAUSE": "0.02", "WORKERS": "4"}) as connector:
        async with Senders(connector, connections=16, lanes=8) as senders:
            await senders.until(lambda: len(senders.accepted) > 400)
            senders.finish()
            connector.signal(signal.SIGTERM)
            assert await connector.ended() == 0
            assert senders.unanswered == 0
            accepted = set(senders.accepted)
        left = (await connector.line("server.drained"))["left"]
    lines = handled(tmp_path / "handled")
    assert left >= len(accepted - {line.event_id for line in lines}) > 0
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
        connector.signal(signal.SIGTERM)
        assert await connector.ended() == 0
        assert (await connector.line("server.drained"))["cut_off"] > 0
    assert handled(tmp_path / "handled") == []
    await asyncio.to_thread(gate.unlink)
    async with running(journal) as connector:
        await connector.until(
            lambda: set(senders.accepted) <= {line.event_id for line in handled(tmp_path / "handled")}
        )
