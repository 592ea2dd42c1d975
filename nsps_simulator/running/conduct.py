"""One run from the first process to the last: generators, target, network, connectors, and then the judgement.

What can happen to a run, and what becomes of it:

    it cannot begin (the target's address is taken, nothing listens, the token is wrong)   CannotRun
    a part of the simulator fails, or somebody interrupts it                               no verdict, with the reason
    a connector ends by itself                                                             a finding; the run ends
    all was sent, and all has arrived or nothing more comes                                a verdict
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import signal
import socket
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

import msgspec

from nsps_simulator.judging.course import Course, Rates, Series, Spans
from nsps_simulator.judging.ledger import FORWARDS, Disturbance, End, Ledger, Promises, Verdict
from nsps_simulator.records import NO_EVENT, Attempt, Delivery, attempts, deliveries
from nsps_simulator.running import workers
from nsps_simulator.running.asking import Unreachable, ask_open, check_endpoint, takes_connections
from nsps_simulator.running.child import Child, ChildFailed
from nsps_simulator.running.faults import OF_CONNECTOR, Fault, Faults, target_troubles
from nsps_simulator.running.machine import Pressure, Sample, read_pressure
from nsps_simulator.running.progress import Progress
from nsps_simulator.running.proxy import Link, bind, links
from nsps_simulator.sending.scenario import Scenario
from nsps_simulator.sending.sender import Effort
from nsps_simulator.target import CHEERFUL, Mood
from nsps_simulator.wire.population import ROLES

LOOK = 0.25  # seconds between two looks at the records
ALL_READY = 60.0  # seconds
ASK_EVERY = 2.0  # seconds between two questions to the connector
HISTORIES = 200  # events whose whole story is told in the report


class CannotRun(Exception):  # a sentence, as the user reads it
    """The run cannot be carried out: nothing is wrong with the options, but with what they name."""


@dataclass(frozen=True)
class Setting:
    """What stands around a scenario.

    target: where the external system listens, None for no target. mapping: a file that says what its bodies are made
    of; compared: whether they are compared at all. settle: seconds without a call after which the connector is taken
    to have finished; retry_wait: the same while events wait for the connector's next attempt. linger: seconds in
    which a repeat may still show after everything has arrived. open_events: a URL or a command that says how many
    accepted events are open. commands: start the connectors, one for each endpoint; none when they run already.
    faults: what goes wrong, and when; pause: seconds until a connector is started again. log: takes what the
    connectors print. database: where the relay before the connector's database listens, and where that is.
    order_by: the roles of resources by which order is judged.
    """

    scenario: Scenario
    target: tuple[str, int] | None
    mood: Mood = CHEERFUL
    mapping: Path | None = None
    compared: bool = True
    settle: float = 15.0
    retry_wait: float = 120.0
    linger: float = 1.0
    open_events: str | None = None
    commands: tuple[tuple[str, ...], ...] = ()
    faults: tuple[Fault, ...] = ()
    pause: float = 0.5
    log: Path = Path("connector.log")
    database: tuple[tuple[str, int], tuple[str, int]] | None = None
    promises: Promises = FORWARDS
    order_by: frozenset[str] = frozenset(ROLES)


@dataclass
class History:
    """The life of one event: its attempts, and the calls about it."""

    attempts: list[Attempt] = field(default_factory=list)
    deliveries: list[Delivery] = field(default_factory=list)
    differences: list[str] = field(default_factory=list)


@dataclass
class Outcome:
    """All that is known after a run; times of disturbances and samples are seconds of the run."""

    setting: Setting
    verdict: Verdict
    series: Series
    rates: Rates
    spans: Spans
    efforts: list[Effort]
    disturbances: list[Disturbance]
    samples: list[Sample]
    pressure: Pressure
    seconds: float
    exit_codes: list[int | None]
    start: float
    ledger: Ledger
    end: End
    histories: dict[int, History]

    @property
    def generator_limited(self) -> bool:
        """Whether the generators, and not the connector, were the limit."""
        return any(effort.limited for effort in self.efforts)

    @property
    def contended(self) -> bool:
        """Whether other processes held the generators up."""
        return any(effort.contended for effort in self.efforts)


async def conduct(setting: Setting, watch: Callable[[Progress], None]) -> Outcome:
    """Carry out a run and judge it. watch: is shown the progress every quarter of a second.

    Raises CannotRun when the run cannot begin.
    """
    with tempfile.TemporaryDirectory(prefix="nsps-simulator-", ignore_cleanup_errors=True) as name:
        run = _Run(setting, Path(name), watch)
        await run.carry_out()
        return run.judge()


@dataclass
class _Worker:
    """A process of the run, and what it will say at its end."""

    name: str
    process: BaseProcess
    inbox: Connection
    stopped: bool = False
    report: workers.Report | None = None

    @property
    def failed(self) -> str | None:
        """Why what it noted is not complete; None while it runs, and when all went well."""
        if self.report is not None and self.report.error is not None:
            return f"{self.name} failed: {self.report.error}"
        code = self.process.exitcode
        if code is None or (code == 0 and self.report is not None):
            return None
        if self.stopped and code == -signal.SIGTERM:
            return None  # it was stopped before it had begun
        return f"{self.name} ended {'by signal ' + str(-code) if code < 0 else 'with code ' + str(code)}"

    def listen(self) -> None:
        """Take the report, if it has come."""
        with contextlib.suppress(EOFError, OSError):
            while self.inbox.poll():
                self.report = msgspec.json.decode(self.inbox.recv_bytes(), type=workers.Report)


class _Run:
    def __init__(self, setting: Setting, folder: Path, watch: Callable[[Progress], None]) -> None:
        self._setting = setting
        self._scenario = setting.scenario
        self._folder = folder
        self._watch = watch
        self._context = multiprocessing.get_context("spawn")
        self._clock = workers.Clock(self._context)
        self._progress = Progress(folder, self._scenario.processes, self._scenario.plan.events)
        self._workers: list[_Worker] = []
        self._generators: list[_Worker] = []
        self._children: list[Child] = []
        self._faults = Faults(self._children, self._clock.since, setting.pause)
        self._samples: list[Sample] = []
        self._cut_short: str | None = None
        self._died: str | None = None
        self._quiet = False
        self._open: int | None = None
        self._asked = 0.0
        self._ended = 0.0

    @property
    def _over(self) -> bool:
        return self._cut_short is not None or self._died is not None

    async def carry_out(self) -> None:
        """Start everyone, wait until all is sent and has arrived, stop everyone."""
        async with contextlib.AsyncExitStack() as stack:
            self._heed_signals(stack)
            stack.callback(self._faults.clean_up)
            target = self._start_target(stack)
            self._scenario = self._start_network(stack)
            self._start_generators(stack)
            await self._start_connectors(stack, target)
            await self._set_off()
            self._pressure = read_pressure()
            made = self._start_faults(stack)
            await self._until_sent(made)
            await self._until_arrived(made)
            await self._look_whether_they_live()
            self._ended = self._clock.since()
            self._pressure = read_pressure().since(self._pressure)
            self._show("stopping")
        self._listen()

    # -- starting --

    def _heed_signals(self, stack: contextlib.AsyncExitStack) -> None:
        """Let a signal end the run early, without a verdict."""
        loop = asyncio.get_running_loop()
        for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(one, self._cut, f"it was interrupted by {one.name}")
            stack.callback(loop.remove_signal_handler, one)

    def _cut(self, reason: str) -> None:
        self._cut_short = self._cut_short or reason

    def _listen_at(self, address: tuple[str, int], what: str) -> socket.socket:
        try:
            return bind(*address)
        except OSError as error:
            raise CannotRun(f"{what} cannot listen on {address[0]}:{address[1]}: {error.strerror}") from error

    def _start_target(self, stack: contextlib.AsyncExitStack) -> str | None:
        """Start the external system, behind a relay if its network is to be disturbed; give its URL."""
        if self._setting.target is None:
            return None
        setting = self._setting
        mood = replace(
            setting.mood,
            heals=self._scenario.load_seconds,
            troubles=setting.mood.troubles + target_troubles(setting.faults),
        )
        host, port = self._setting.target
        with self._listen_at((host, port), "the target") as listener:
            address = listener.getsockname()[:2]
            front = links("target", [("127.0.0.1", 0)], setting.faults)
            if front[0].faults:
                with self._listen_at(("127.0.0.1", 0), "the target") as behind:
                    self._spawn_target(stack, mood, behind)
                    link = replace(front[0], port=behind.getsockname()[1])
                self._spawn(stack, "the relay before the target", workers.proxies, [link], [listener])
            else:
                self._spawn_target(stack, mood, listener)
        return f"http://[{host}]:{address[1]}" if ":" in host else f"http://{host}:{address[1]}"

    def _spawn_target(self, stack: contextlib.AsyncExitStack, mood: Mood, listener: socket.socket) -> None:
        arguments = (self._scenario, mood, self._setting.mapping, self._setting.compared, listener)
        self._spawn(stack, "the stand-in target", workers.target, *arguments)

    def _start_network(self, stack: contextlib.AsyncExitStack) -> Scenario:
        """Start the relays before connectors and database; give the scenario that leads through them."""
        scenario, faults = self._scenario, self._setting.faults
        relayed: list[Link] = []
        listeners: list[socket.socket] = []
        if self._setting.database is not None:
            front, behind = self._setting.database
            relayed += links("database", [behind], faults)
            listeners.append(self._listen_at(front, "the relay before the database"))
        direct = [(one.host, one.port) for one in scenario.endpoints]
        before = links("nsps", direct, faults)
        if any(one.faults for one in before):
            own = [self._listen_at(("127.0.0.1", 0), "the relay before the connector") for _ in before]
            relayed, listeners = relayed + before, listeners + own
            through = (
                replace(endpoint, host="127.0.0.1", port=listener.getsockname()[1])
                for endpoint, listener in zip(scenario.endpoints, own, strict=True)
            )
            scenario = replace(scenario, endpoints=tuple(through))
        if relayed:
            self._spawn(stack, "the relay", workers.proxies, relayed, listeners)
            for listener in listeners:
                listener.close()
        return scenario

    def _start_generators(self, stack: contextlib.AsyncExitStack) -> None:
        self._generators = [
            self._spawn(stack, "a generator process", workers.generator, self._scenario, number)
            for number in range(self._scenario.processes)
        ]

    async def _start_connectors(self, stack: contextlib.AsyncExitStack, target: str | None) -> None:
        """Start the connectors, if that is ours to do, and see that they answer."""
        endpoints = self._setting.scenario.endpoints
        for number, command in enumerate(self._setting.commands):
            endpoint = endpoints[number]
            environment = {"API_TOKEN": endpoint.token, "HOST": endpoint.host, "PORT": str(endpoint.port)}
            if target is not None:
                environment["TARGET_URL"] = target
            child = Child(command, environment, endpoint.host, endpoint.port, self._setting.log)
            stack.push_async_callback(child.stop)
            self._show("starting the connector")
            try:
                await child.start()
            except ChildFailed as error:
                raise CannotRun(str(error)) from error
            self._children.append(child)
        for endpoint in endpoints:
            try:
                await check_endpoint(endpoint, self._scenario.tls)
            except Unreachable as error:
                raise CannotRun(str(error)) from error

    async def _set_off(self) -> None:
        """Set the start, when all processes have said that they are ready."""
        try:
            async with asyncio.timeout(ALL_READY):
                while self._clock.ready_count < len(self._workers):
                    self._listen()
                    if failed := next((one.failed for one in self._workers if one.failed), None):
                        raise CannotRun(failed)
                    if self._cut_short is not None:
                        raise CannotRun(f"{self._cut_short} before the first event left")
                    await asyncio.sleep(0.01)
        except TimeoutError:
            raise CannotRun("the simulator's own processes did not start in time") from None
        self._clock.start = self._progress.started = time.monotonic() + 0.2

    def _start_faults(self, stack: contextlib.AsyncExitStack) -> list[asyncio.Task[None]]:
        tasks = []
        for fault in self._setting.faults:
            if fault.kind in OF_CONNECTOR and fault.replica >= len(self._children):
                continue
            task = asyncio.ensure_future(self._faults.carry_out(fault))
            tasks.append(task)
            stack.push_async_callback(_cancel, task)
        return tasks

    def _spawn(self, stack: contextlib.AsyncExitStack, name: str, main: Callable[..., None], *args: object) -> _Worker:
        inbox, outbox = self._context.Pipe(duplex=False)
        desk = workers.Desk(self._folder, self._clock, outbox, os.getpid())
        process = self._context.Process(target=main, args=(*args, desk), daemon=True)
        process.start()
        outbox.close()
        worker = _Worker(name, process, inbox)
        self._workers.append(worker)
        stack.push_async_callback(self._end, worker)
        return worker

    async def _end(self, worker: _Worker) -> None:
        worker.stopped = True
        if worker.process.is_alive():
            worker.process.terminate()
        await asyncio.to_thread(worker.process.join, 10)
        if worker.process.is_alive():
            worker.process.kill()
            worker.process.join()
        worker.listen()

    # -- waiting --

    def _listen(self) -> None:
        for worker in self._workers:
            worker.listen()

    def _show(self, stage: str) -> None:
        self._progress.stage = stage
        self._progress.look()
        self._progress.faults = len(self._faults.done)
        self._watch(self._progress)

    async def _until_sent(self, made: list[asyncio.Task[None]]) -> None:
        while any(generator.process.is_alive() for generator in self._generators):
            self._look("sending", made)
            if self._over:
                for generator in self._generators:
                    generator.stopped = True
                    generator.process.terminate()
                for generator in self._generators:
                    await asyncio.to_thread(generator.process.join, 10)
                return
            await asyncio.sleep(LOOK)
        self._look("sending", made)

    def _look(self, stage: str, made: list[asyncio.Task[None]]) -> None:
        """Show how it stands, and see whether everybody lives."""
        self._show(stage)
        self._listen()
        for worker in self._workers:
            if worker.failed:
                self._cut(worker.failed)
        self._samples.append(Sample.of(self._clock.since(), self._children))
        for child in self._children:
            self._died = self._died or child.died
        for task in made:
            if task.done() and not task.cancelled() and (error := task.exception()) is not None:
                if isinstance(error, ChildFailed):
                    self._died = self._died or f"{error} (after a fault that was made)"
                else:
                    self._cut(f"a fault could not be made: {error}")

    async def _until_arrived(self, made: list[asyncio.Task[None]]) -> None:
        """Wait until the target has seen all that was accepted, or nothing more comes."""
        if self._setting.target is None:
            return
        # Silence means nothing before the last fault is over.
        since = max([time.monotonic()] + [self._clock.start + fault.end for fault in self._setting.faults])
        progress, setting = self._progress, self._setting
        while not self._over:
            self._look("waiting for the connector to finish", made)
            since = max(since, progress.last_call)
            quiet = time.monotonic() - since
            troubled = progress.retrying or progress.last_refused or any(one.hides for one in self._faults.done)
            patience = setting.linger if not progress.open else setting.settle
            if progress.open and troubled:
                patience = max(patience, setting.retry_wait)
            if progress.open and quiet >= setting.linger and await self._nothing_open():
                patience = setting.linger
            if quiet >= patience and all(task.done() for task in made):
                self._quiet = True
                return
            await asyncio.sleep(LOOK)

    async def _look_whether_they_live(self) -> None:
        """See at the end whether connectors that somebody else started still take connections."""
        if self._setting.commands or self._over:
            return
        for endpoint in self._setting.scenario.endpoints:
            if not await takes_connections(endpoint):
                self._died = f"{endpoint.url} took no connection any more at the end of the run"

    async def _nothing_open(self) -> bool:
        """Ask the connector, now and then, whether it has finished."""
        if self._setting.open_events is None:
            return False
        if time.monotonic() - self._asked >= ASK_EVERY:
            self._asked = time.monotonic()
            self._open = await ask_open(self._setting.open_events)
        return self._open == 0

    # -- judging --

    def judge(self) -> Outcome:
        """Read the records back, and judge."""
        scenario, start = self._scenario, self._clock.start
        paths = [self._folder / f"attempts-{number}" for number in range(scenario.processes)]
        calls = self._folder / "deliveries"
        for worker in self._workers:
            if worker.failed:
                self._cut(worker.failed)
        ledger = Ledger(scenario.plan.events)
        course = Course(start, max(0.1, self._ended), self._plateau())
        for attempt in attempts(paths):
            ledger.attempt(attempt)
            course.add_attempt(attempt)
        for delivery in deliveries(calls):
            ledger.delivery(delivery)
            course.add_delivery(delivery)
        course.add_entries(ledger.entries(), None if scenario.closed else scenario.plan.due())
        end = End(start + self._ended, self._quiet, self._open, self._died, self._cut_short)
        events, roles = scenario.events(), self._setting.order_by
        shifted = [_shift(one, start) for one in self._faults.done]
        verdict = ledger.judge(lambda index: events.resources(index, roles), shifted, self._setting.promises, end)
        return Outcome(
            setting=self._setting,
            verdict=verdict,
            series=course.series(),
            rates=course.rates(),
            spans=course.spans,
            efforts=[one.report.effort for one in self._generators if one.report and one.report.effort],
            disturbances=list(self._faults.done),
            samples=self._samples,
            pressure=self._pressure,
            seconds=self._ended,
            exit_codes=[child.exit_code for child in self._children],
            start=start,
            ledger=ledger,
            end=end,
            histories=_histories(verdict, paths, calls, self._folder / "differences"),
        )

    def _plateau(self) -> tuple[float, float]:
        """Give the stretch of the run in which the planned rate is at its height."""
        scenario = self._scenario
        if scenario.closed:
            return scenario.closed_seconds / 10, scenario.closed_seconds
        begin, end = scenario.plan.busy_from(0.9)
        return begin, min(end, scenario.plan.seconds)


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def _shift(one: Disturbance, start: float) -> Disturbance:
    """Give the same on the clock of the records."""
    ready = None if one.ready is None else one.ready + start
    return replace(one, began=one.began + start, ended=one.ended + start, ready=ready)


def _histories(verdict: Verdict, paths: list[Path], calls: Path, differences: Path) -> dict[int, History]:
    """Gather the lives of the events that show something, those that break a promise first."""
    wanted = [finding.event for kind in verdict.broken for finding in verdict.examples[kind]]
    wanted += [finding.event for findings in verdict.examples.values() for finding in findings]
    lives = {index: History() for index in list(dict.fromkeys(wanted))[:HISTORIES] if index != NO_EVENT}
    if not lives:
        return lives
    for attempt in attempts(paths):
        if attempt.event in lives:
            lives[attempt.event].attempts.append(attempt)
    for delivery in deliveries(calls):
        if delivery.event in lives:
            lives[delivery.event].deliveries.append(delivery)
    if differences.exists():
        for line in differences.read_bytes().splitlines():
            with contextlib.suppress(msgspec.MsgspecError):
                note = msgspec.json.decode(line)
                if note["event"] in lives:
                    lives[note["event"]].differences.append(note["where"])
    return lives
