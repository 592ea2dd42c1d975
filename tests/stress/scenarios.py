"""What the journal, the clock, the disk and handlers are put through, and what must hold all the same.

A scenario works in an empty folder for so many seconds, drawn by a seeded ``Random``, and returns a sentence for each
promise that it saw broken. It raises ``Skipped`` where the machine does not allow it.
"""

import asyncio
import os
import random
import shutil
import sqlite3
import subprocess
import time
from collections import defaultdict
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import psutil

from connector.admin.service import AdminService
from connector.journal import engines
from connector.journal.queries import Filter, Find, FindBlocked, ReadStats, Series
from connector.journal.sqlite import history
from connector.settings import Settings
from tests.journal_support.events import body
from tests.journal_support.running import CountingServer, client, handled, on_journal, post
from tests.journal_support.senders import Senders
from tests.process import Server, run_to_end
from tests.stress.handlers import KINDS

DAY: Final = 86400
CONNECTIONS, LANES = 8, 4
PATIENCE: Final = 90.0

FAKE_CLOCK: Final = """
import os, time
_real, _offset = time.time, float(os.environ.get("CLOCK_OFFSET", "0"))
time.time = lambda: _real() + _offset
"""
"""A ``sitecustomize``: the process reads its clock once, at its start, and counts from there."""


class Skipped(Exception):
    """Why a scenario cannot be had here."""


class Stage:
    """A connector over a journal in ``folder``, started and ended as a scenario wants."""

    def __init__(self, folder: Path, **settings: str) -> None:
        self.folder = folder
        self.journal = folder / "files" / "journal.db"
        self.journal.parent.mkdir(exist_ok=True)
        (folder / "sitecustomize.py").write_text(FAKE_CLOCK)
        path = os.pathsep.join([str(folder), str(Path(__file__).resolve().parents[2])])
        self.settings = {
            **on_journal(self.journal),
            "HANDLERS": "tests.stress.handlers",
            "HANDLED": str(folder / "handled"),
            "RETRY_MAX": "1",
            "PYTHONPATH": path,
            **settings,
        }

    async def start(self, **more: str) -> Server:
        """Start it; it listens."""
        return await CountingServer.start(self.journal.parent, **(self.settings | more))

    def admin(self) -> AdminService:
        """An operator, from outside."""
        return AdminService(engines.outside(replace(Settings(), journal_url=f"sqlite:///{self.journal}")))

    def series(self) -> list[Series]:
        """All that stands in the history."""
        with history.connect(self.journal) as past:
            return past.ask(Find(Filter(), 10_000_000))

    def open(self) -> int:
        """How many events are not over."""
        with history.connect(self.journal) as past:
            return sum(past.ask(ReadStats()).open.values())

    async def emptied(self, server: Server, within: float = PATIENCE) -> list[str]:
        """Wait until nothing is open, and release what is held; a sentence where that does not come."""
        admin, until = self.admin(), time.monotonic() + within
        await admin.resume()
        while self.open() and time.monotonic() < until:
            with history.connect(self.journal) as past:
                held = [each.resources for each in past.ask(FindBlocked(100)) if each.state == "held"]
            if held:
                await admin.release([resources[0] for resources in held if resources])
            await asyncio.sleep(0.05)
        left = [each.event_type for each in self.series() if each.ended_at is None]
        return [f"{len(left)} events are still open {within:.0f} s after the end: {sorted(set(left))}"] if left else []

    def verdict(self, senders: Senders) -> list[str]:
        """What was answered 202 is over and was handled, in order; but for what operators or handlers have ended."""
        series: dict[str, list[Series]] = defaultdict(list)
        for each in self.series():
            series[each.event_id].append(each)
        lines = handled(self.folder / "handled")
        done = {line.event_id for line in lines}
        faults = [f"{each} was answered 202 and is not known" for each in senders.accepted if each not in series]
        faults += [
            f"{each} is done and was not handled"
            for each in senders.accepted
            if series[each] and series[each][0].state == "done" and each not in done
        ]
        of_operators = {each for each, its in series.items() if len(its) != 1 or its[0].state != "done"}
        for lane, ids in senders.sent.items():
            place = {event_id: number for number, event_id in enumerate(ids)}
            first = dict.fromkeys(line.event_id for line in lines if line.lane == lane)
            order = [place[each] for each in first if each in place and each not in of_operators]
            faults += [f"{lane} was out of order"] if order != sorted(order) else []
        return faults


async def kills_and_operators(folder: Path, chance: random.Random, seconds: float) -> list[str]:
    """SIGKILL at random moments, ``ON_DEAD=hold``, and an operator who does whatever there is to do."""
    stage = Stage(folder, ON_DEAD="hold", FATAL="3")
    server, until = await stage.start(), time.monotonic() + seconds
    try:
        async with Senders(server, CONNECTIONS, LANES) as senders:
            while time.monotonic() < until:
                await asyncio.sleep(chance.uniform(0.2, 1.5))
                for _ in range(chance.randrange(6)):
                    await _operate(stage, chance, list(senders.accepted))
                senders.away()
                await server.kill()
                server = await stage.start()
                senders.back(server)
            await stage.admin().resume()
            senders.finish()
            faults = await stage.emptied(server)
        return faults + stage.verdict(senders)
    finally:
        await server.kill()


async def _operate(stage: Stage, chance: random.Random, accepted: Sequence[str]) -> None:
    admin = stage.admin()
    some = chance.sample(accepted, min(3, len(accepted)))
    lanes = [f"i_account:{chance.randrange(1, CONNECTIONS * LANES + 1)}" for _ in range(5)]
    match chance.randrange(7):
        case 0:
            await admin.pause()
        case 1 | 2:
            await admin.resume()
        case 3:
            await admin.release(lanes)
        case 4:
            await admin.skip(lanes)
        case 5:
            _ = [each async for each in admin.discard(some)]
        case _:
            _ = [each async for each in admin.replay(some)]


async def clock_jumps(folder: Path, chance: random.Random, seconds: float) -> list[str]:
    """Each start has a clock that is days ahead or behind: nothing is given up, nothing known is taken for new."""
    stage = Stage(folder, MAX_AGE="1d", KEEP_IDS="2d", KEEP_DONE="2d", KEEP_DEAD="2d")
    faults: list[str] = []
    server, until = await stage.start(), time.monotonic() + seconds
    try:
        async with Senders(server, CONNECTIONS, LANES) as senders, client() as session:
            while time.monotonic() < until:
                await asyncio.sleep(chance.uniform(0.5, 1.5))
                senders.away()
                await server.kill()
                server = await stage.start(CLOCK_OFFSET=str(chance.choice((-400, -3, 0, 3, 40, 400)) * DAY))
                for event_id in chance.sample(list(senders.accepted), min(20, len(senders.accepted))):
                    number, turn = (int(part) for part in event_id.split("-")[1:])
                    lane = number * LANES + turn % LANES + 1
                    if await post(session, server, body(event_id, lane)) != 202:
                        faults.append(f"{event_id}, sent again, was not answered 202")
                senders.back(server)
            senders.finish()
            faults += await stage.emptied(server)
        series = stage.series()
        faults += [f"{each.event_id} is {each.state}: {each.reason}" for each in series if each.state != "done"]
        if len(series) != len({each.event_id for each in series}):
            faults.append("an event that was known was taken for a new one")
        return faults + stage.verdict(senders)
    finally:
        await server.kill()


async def misbehaving_handlers(folder: Path, chance: random.Random, seconds: float) -> list[str]:
    """Thirty kinds of bad handlers beside good ones: the process lives, and the good ones' events are all done."""
    stage = Stage(folder, WORKERS="64", MAX_ATTEMPTS="2", DRAIN_TIMEOUT="3")
    server, until = await stage.start(), time.monotonic() + seconds
    try:
        async with Senders(server, 4, LANES) as senders, client() as session:
            turn = 0
            while time.monotonic() < until or not turn:
                for kind in chance.sample(sorted(KINDS), len(KINDS)):
                    turn += 1
                    content = body(f"bad-{turn}", 1000 + turn % 100, event_type=kind)
                    if await post(session, server, content) != 202:
                        return [f"{kind} was not answered 202"]
                await asyncio.sleep(0.2)
            senders.finish()
            faults = await stage.emptied(server)
            faults += [f"a good event is {each.state}" for each in stage.series() if _is_good(each)]
        faults += stage.verdict(senders)
        code = await server.terminate()
        return faults + ([f"the stop ended with {code}"] if code else [])
    finally:
        await server.kill()


def _is_good(series: Series) -> bool:
    return not series.event_id.startswith("bad-") and series.state != "done"


async def damaged_files(folder: Path, chance: random.Random, seconds: float) -> list[str]:
    """Bytes and values rot in a stopped journal: it starts and goes on, or refuses with exit code 2 and a line."""
    stage = Stage(folder)
    server = await stage.start()
    try:
        async with Senders(server, CONNECTIONS, LANES) as senders:
            await senders.until(lambda: len(senders.accepted) > 500)
            await stage.admin().pause()
            await senders.until(lambda: len(senders.accepted) > 800)
            await senders.stop()
    finally:
        await server.kill()
    with closing(sqlite3.connect(stage.journal)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    whole, until, faults, turn = stage.journal.read_bytes(), time.monotonic() + seconds, [], 0
    while time.monotonic() < until or turn < 2:
        turn += 1
        for file in stage.journal.parent.iterdir():
            file.unlink()
        stage.journal.write_bytes(whole)
        what = _rot_bytes(stage.journal, chance) if chance.randrange(2) else _rot_values(stage.journal, chance)
        faults += [f"{fault} after {what}" for fault in await _start_damaged(stage)]
    return faults


async def _start_damaged(stage: Stage) -> list[str]:
    try:
        server = await stage.start()
    except AssertionError:
        ended = await run_to_end(stage.journal.parent, **stage.settings)
        said = ended.stderr.startswith("cannot start:") and "Traceback" not in ended.stderr
        return [] if ended.code == 2 and said else [f"exit code {ended.code}: {ended.stderr[-300:]}"]
    try:
        await stage.admin().resume()
        deadline = time.monotonic() + 30
        while stage.open() and time.monotonic() < deadline and not server.counts["journal.failed"]:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        if server.counts["journal.failed"]:  # damage that is met later ends the process, in order
            code = await server.ended()
            return [] if code == 1 and "Traceback" not in server.stderr else [f"exit code {code}: {server.stderr}"]
        return [f"{stage.open()} events stay open"] if stage.open() else []
    except sqlite3.DatabaseError:
        return []  # the operator's own reading meets it
    finally:
        await server.kill()


def _rot_bytes(path: Path, chance: random.Random) -> str:
    places = [chance.randrange(path.stat().st_size) for _ in range(chance.choice((1, 1, 3, 50)))]
    with path.open("r+b") as file:
        for place in places:
            file.seek(place)
            file.write(bytes([chance.randrange(256)]))
    return f"bytes at {places[:5]}"


def _rot_values(path: Path, chance: random.Random) -> str:
    columns = [("events", each) for each in ("event_id", "event_type", "lane", "accepted_at", "body")]
    columns += [("open", each) for each in ("state", "attempt", "due", "blockers")]
    columns += [("outcomes", each) for each in ("state", "ended_at", "reason")]
    table, column = chance.choice(columns)
    value = chance.choice(("CAST(x'41ff' AS TEXT)", "x'ff'", "'rotten'", "77", "1e300"))
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute(f"UPDATE {table} SET {column} = {value} WHERE seq % {chance.randrange(20, 200)} = 0")
    return f"{table}.{column} = {value}"


async def small_disk(folder: Path, chance: random.Random, seconds: float) -> list[str]:
    """A disk of 120 MiB is filled with large events: it says no in time, and accepts again once they are over."""
    if os.geteuid():
        raise Skipped("only root can mount a small file system")
    disk = folder / "files"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=120m", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:  # noqa: ASYNC221 - nothing runs yet
        raise Skipped("mounting is not allowed here")
    try:
        return await _fill(Stage(folder, MIN_FREE_DISK="25m", KEEP_DONE="1", KEEP_DEAD="1", KEEP_IDS="1"), seconds)
    finally:
        subprocess.run(["umount", "-l", disk], check=False)  # noqa: ASYNC221 - the end


async def _fill(stage: Stage, seconds: float) -> list[str]:
    server, until, faults = await stage.start(), time.monotonic() + seconds, []
    least, round_ = 1 << 40, 0
    try:
        async with client() as session:
            while time.monotonic() < until or not round_:
                round_ += 1
                await stage.admin().pause()
                status, number = 202, 0
                while status == 202:
                    number += 1
                    status = await post(session, server, body(f"{round_}-{number}", number % 50, 60_000))
                    least = min(least, shutil.disk_usage(stage.journal.parent).free)
                faults += [f"round {round_}: answered {status}"] if status != 429 else []
                faults += [f"round {round_}: 429 after {number} events of 60 KB"] if number < 200 else []
                faults += await stage.emptied(server)
                over = time.monotonic()
                while await post(session, server, body(f"{round_}-again", 1, 60_000)) != 202:
                    if time.monotonic() > over + 60:
                        return [*faults, f"round {round_}: still refused 60 s after all events were over"]
                    await asyncio.sleep(0.1)
    finally:
        await server.kill()
    return [*faults, *([f"only {least >> 20} of 25 MiB were left alone"] if least < 20 << 20 else [])]


async def soak(folder: Path, chance: random.Random, seconds: float) -> list[str]:
    """Steady load with pruning: neither the file nor the memory grows with time."""
    del chance
    stage = Stage(folder, KEEP_DONE="2", KEEP_DEAD="2", KEEP_IDS="60")
    server, began = await stage.start(), time.monotonic()
    sizes: list[tuple[int, int]] = []
    try:
        async with Senders(server, CONNECTIONS, LANES) as senders:
            process = psutil.Process(server.pid)
            while time.monotonic() < began + seconds or len(sizes) < 4:
                await asyncio.sleep(max(seconds / 10, 0.5))
                sizes.append((process.memory_info().rss, stage.journal.stat().st_size))
            senders.finish()
            faults = await stage.emptied(server)
    finally:
        await server.kill()
    half = len(sizes) // 2
    if seconds >= 300:  # before that both still grow to what they need
        for what, place in (("memory", 0), ("the file", 1)):
            before, after = (max(each[place] for each in part) for part in (sizes[:half], sizes[half:]))
            faults += [f"{what} grew from {before >> 20} to {after >> 20} MiB"] if after > before * 1.5 else []
    return faults


SCENARIOS: Final[Mapping[str, Callable[[Path, random.Random, float], Coroutine[Any, Any, list[str]]]]] = {
    "kills": kills_and_operators,
    "clock": clock_jumps,
    "handlers": misbehaving_handlers,
    "damage": damaged_files,
    "disk": small_disk,
    "soak": soak,
}
