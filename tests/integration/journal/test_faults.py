"""Faults of the disk under a running connector, made real: nothing answered 202 is lost, and the rest is refused."""

import asyncio
import os
import re
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from tests.journal_support.events import body
from tests.journal_support.faulty_disk import Fault, FaultyDisk
from tests.journal_support.running import client, handled, on_journal, post, ready, running
from tests.journal_support.senders import Senders
from tests.process import Server, run_to_end


@pytest.fixture
def disk(tmp_path: Path) -> FaultyDisk:
    return FaultyDisk(tmp_path)


@asynccontextmanager
async def _on(disk: FaultyDisk, extra: dict[str, str] | None = None) -> AsyncIterator[Server]:
    async with running(disk.files / "journal.db", disk.environment | (extra or {})) as connector:
        yield connector


async def _refused_start(journal: Path, extra: dict[str, str] | None = None) -> str:
    """Start a connector that cannot; what it says."""
    ended = await run_to_end(journal.parent, **on_journal(journal, extra))
    assert ended.code == 2
    assert "Traceback" not in ended.stderr
    (line,) = ended.stderr.splitlines()
    return line


async def _until_accepted(session: aiohttp.ClientSession, connector: Server, event_id: str) -> None:
    async with asyncio.timeout(20):
        while await post(session, connector, body(event_id)) != 202:  # noqa: ASYNC110 - the disk tells nobody
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("fault", [Fault.SYNC, Fault.WRITE])
async def test_event_that_cannot_be_synced_is_refused_and_the_process_ends(
    disk: FaultyDisk, tmp_path: Path, fault: Fault
) -> None:
    gate = tmp_path / "gate"
    gate.touch()  # so that the first transaction that fails is the refused event's, not the outcome of the kept one
    async with _on(disk, {"GATE": str(gate)}) as connector, client() as session:
        assert await post(session, connector, body("kept")) == 202
        disk.fail(fault)
        assert await post(session, connector, body("refused")) == 503
        gate.unlink()
        assert await connector.ended() == 1
        assert (await connector.line("journal.failed"))["level"] == "error"
    disk.heal()
    async with _on(disk) as connector, client() as session:
        assert await post(session, connector, body("refused")) == 202
        await connector.until(lambda: {"kept", "refused"} <= {line.event_id for line in handled(tmp_path / "handled")})


async def test_nothing_answered_202_in_a_burst_is_lost_when_syncs_fail(disk: FaultyDisk, tmp_path: Path) -> None:
    async with _on(disk) as connector, Senders(connector, connections=8, lanes=4) as senders:
        await senders.until(lambda: len(senders.accepted) > 300)
        disk.fail(Fault.SYNC)
        assert await connector.ended() == 1
    disk.heal()
    async with _on(disk) as connector:
        await connector.until(
            lambda: set(senders.accepted) <= {line.event_id for line in handled(tmp_path / "handled")}
        )


async def test_full_disk_is_not_ready_and_recovers_by_itself(disk: FaultyDisk, tmp_path: Path) -> None:
    async with _on(disk) as connector, client() as session:
        assert await post(session, connector, body("before")) == 202
        assert await ready(session, connector) == 200
        disk.fail(Fault.FULL)
        assert await post(session, connector, body("during")) == 503
        assert await ready(session, connector) == 503
        disk.heal()
        await _until_accepted(session, connector, "during")
        assert await ready(session, connector) == 200
        await connector.until(lambda: {"before", "during"} <= {line.event_id for line in handled(tmp_path / "handled")})
        connector.send(signal.SIGTERM)
        assert await connector.ended() == 0


async def test_outcome_during_a_full_disk_is_noted_after_it(disk: FaultyDisk, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    gate.touch()
    async with _on(disk, {"GATE": str(gate)}) as connector, client() as session:
        assert await post(session, connector, body("event")) == 202
        disk.fail(Fault.FULL)
        gate.unlink()
        await connector.line("journal.failed")
        disk.heal()
        await connector.line("journal.recovered")
        connector.send(signal.SIGTERM)
        assert await connector.ended() == 0
        assert (await connector.line("server.drained"))["left"] == 0
    assert [line.event_id for line in handled(tmp_path / "handled")] == ["event"]


async def test_disk_that_is_really_full_loses_nothing_and_is_used_again(small_disk: Path, tmp_path: Path) -> None:
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(4 << 20))
    extra = {"HANDLED": str(tmp_path / "handled")}
    async with running(small_disk / "journal.db", extra) as connector, client() as session:
        async with Senders(connector, connections=8, lanes=2, padding=20_000) as senders:
            await senders.until(lambda: senders.answers[503] > 0)
            assert set(senders.answers) == {202, 503}
            assert await ready(session, connector) == 503
            ballast.unlink()
            full = len(senders.accepted)
            await senders.until(lambda: len(senders.accepted) > full)
        await connector.until(
            lambda: set(senders.accepted) <= {line.event_id for line in handled(tmp_path / "handled")}
        )


async def test_nearly_full_disk_is_left_alone(small_disk: Path, tmp_path: Path) -> None:
    extra = {"HANDLED": str(tmp_path / "handled"), "MIN_FREE_DISK": "4MiB"}
    async with running(small_disk / "journal.db", extra) as connector, client() as session:
        assert await post(session, connector, body("before")) == 202
        ballast = small_disk / "ballast"
        ballast.write_bytes(bytes(5 << 20))
        async with asyncio.timeout(10):
            for number in range(10_000):
                async with session.post(f"{connector.url}/process-event", data=body(f"event-{number}")) as answer:
                    if answer.status != 202:
                        break
                await asyncio.sleep(0.05)
        assert answer.status == 429
        assert int(answer.headers["Retry-After"]) > 0
        ballast.unlink()
        await _until_accepted(session, connector, "after")


async def test_read_only_file_system_is_a_clear_refusal(small_disk: Path, tmp_path: Path) -> None:
    async with running(small_disk / "journal.db", {"HANDLED": str(tmp_path / "handled")}):
        pass
    mount = await asyncio.create_subprocess_exec("mount", "-o", "remount,ro", small_disk)
    assert await mount.wait() == 0
    said = await _refused_start(small_disk / "journal.db", {"HANDLED": str(tmp_path / "handled")})
    assert "Read-only file system" in said
    assert str(small_disk / "journal.db") in said


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is read-only to the superuser; see the read-only file system")
async def test_read_only_folder_is_a_clear_refusal(tmp_path: Path) -> None:
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o555)
    assert "Permission denied" in await _refused_start(folder / "journal.db", {"HANDLED": str(tmp_path / "handled")})


@pytest.mark.parametrize("left", [0, 4096], ids=["nothing", "a page"])
async def test_start_on_a_full_disk_ends_in_one_line_and_works_once_there_is_room(
    small_disk: Path, tmp_path: Path, left: int
) -> None:
    ballast = small_disk / "ballast"
    extra = {"HANDLED": str(tmp_path / "handled"), "GATE": str(small_disk)}
    async with running(small_disk / "journal.db", extra) as connector, client() as session:
        assert await post(session, connector, body("before")) == 202
        await connector.kill()
    disk = os.statvfs(small_disk)
    ballast.write_bytes(bytes(disk.f_bavail * disk.f_frsize - left))
    for journal in ("journal.db", "new.db"):
        assert re.search("full|No space", await _refused_start(small_disk / journal, extra))
    ballast.unlink()
    del extra["GATE"]
    async with running(small_disk / "journal.db", extra) as connector:
        await connector.until(lambda: [line.event_id for line in handled(tmp_path / "handled")] == ["before"])


async def test_second_process_on_the_same_journal_is_refused_and_told_the_first(tmp_path: Path) -> None:
    journal = tmp_path / "files" / "journal.db"
    async with running(journal) as first, client() as session:
        assert f"in use by process {first.pid} on " in await _refused_start(journal)
        assert await post(session, first, body("event")) == 202
        await first.kill()
    async with running(journal):
        pass


async def test_damaged_journal_is_refused_in_one_line_with_the_way_out(tmp_path: Path) -> None:
    journal = tmp_path / "files" / "journal.db"
    journal.parent.mkdir()
    journal.write_bytes(b"garbage" * 1000)
    said = await _refused_start(journal)
    assert "damaged" in said
    assert ".recover" in said
    assert journal.read_bytes() == b"garbage" * 1000
