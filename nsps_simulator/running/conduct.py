"""One run from the first process to the last: generators, target and connector, and then the judgement."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import signal
import socket
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path

import msgspec

from nsps_simulator.judging.course import Course, Series, quantiles
from nsps_simulator.judging.ledger import FORWARDS, Kill, Ledger, Promises, Verdict
from nsps_simulator.records import attempts, deliveries
from nsps_simulator.running import workers
from nsps_simulator.running.child import Child, ChildFailed
from nsps_simulator.running.progress import Progress
from nsps_simulator.sending.scenario import Scenario
from nsps_simulator.sending.sender import Effort
from nsps_simulator.target import BACKLOG, CHEERFUL, Mood
from nsps_simulator.wire.events import Events

LOOK = 0.25  # seconds between two looks at the records
ALL_READY = 60.0  # seconds


class CannotRun(Exception):  # a sentence, as the user reads it
    """The run cannot be carried out: nothing is wrong with the options, but with what they name."""


@dataclass(frozen=True)
class Setting:
    """What stands around a scenario.

    target: where the external system listens, None for no target. settle: seconds without a delivery
    after which the connector is taken to have finished. command: starts the connector, None when it runs
    already. kills: seconds of the run at which it is killed; pause: seconds until it is started again.
    log: takes what the connector prints. linger: seconds in which a repeat may still show after everything
    has arrived.
    """

    scenario: Scenario
    target: tuple[str, int] | None
    mood: Mood = CHEERFUL
    settle: float = 15.0
    linger: float = 1.0
    command: tuple[str, ...] | None = None
    kills: tuple[float, ...] = ()
    pause: float = 0.5
    log: Path = Path("connector.log")
    promises: Promises = FORWARDS


@dataclass
class Outcome:
    """All that is known after a run; times of kills are seconds of the run."""

    setting: Setting
    verdict: Verdict
    series: Series
    spans: dict[str, dict[str, float]]
    efforts: list[Effort]
    kills: list[Kill]
    seconds: float
    exit_code: int | None
    start: float
    ledger: Ledger

    @property
    def generator_limited(self) -> bool:
        """Whether the generators, and not the connector, were the limit."""
        return any(effort.limited for effort in self.efforts)


async def conduct(setting: Setting, watch: Callable[[Progress], None]) -> Outcome:
    """Carry out a run and judge it. watch: is shown the progress every quarter of a second.

    Raises CannotRun when the target's address is taken, nothing listens where the connector should, or a
    process fails.
    """
    with tempfile.TemporaryDirectory(prefix="nsps-simulator-") as name:
        run = _Run(setting, Path(name), watch)
        await run.carry_out()
        return run.judge()


class _Run:
    def __init__(self, setting: Setting, folder: Path, watch: Callable[[Progress], None]) -> None:
        self._setting = setting
        self._scenario = setting.scenario
        self._folder = folder
        self._watch = watch
        self._context = multiprocessing.get_context("spawn")
        self._clock = workers.Clock(self._context)
        self._progress = Progress(folder, self._scenario.processes, self._scenario.plan.events)
        self._stop = asyncio.Event()
        self._child: Child | None = None
        self._ended = 0.0

    async def carry_out(self) -> None:
        """Start everyone, wait until all is sent and has arrived, stop everyone."""
        async with contextlib.AsyncExitStack() as stack:
            self._heed_signals(stack)
            target = self._start_target(stack)
            generators = self._start_generators(stack)
            await self._start_connector(stack, target)
            await self._set_off(len(generators) + (target is not None))
            kills = self._start_kills(stack)
            await self._until_sent(generators, kills)
            await self._until_arrived()
            self._ended = self._clock.since()
            self._show("stopping")

    # -- starting --

    def _heed_signals(self, stack: contextlib.AsyncExitStack) -> None:
        """Let an interrupt end the run early, with a verdict on what there is."""
        loop = asyncio.get_running_loop()
        for one in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(one, self._stop.set)
            stack.callback(loop.remove_signal_handler, one)

    def _start_target(self, stack: contextlib.AsyncExitStack) -> str | None:
        """Start the external system; give its URL."""
        if self._setting.target is None:
            return None
        host, port = self._setting.target
        try:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            listener = socket.create_server((host, port), family=family, backlog=BACKLOG)
        except OSError as fault:
            raise CannotRun(f"the target cannot listen on {host}:{port}: {fault.strerror}") from fault
        with listener:
            self._spawn(stack, workers.target, self._scenario, self._setting.mood, listener, self._folder, self._clock)
            port = listener.getsockname()[1]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    async def _start_connector(self, stack: contextlib.AsyncExitStack, target: str | None) -> None:
        endpoint = self._scenario.endpoint
        if self._setting.command is None:
            try:
                _, writer = await asyncio.open_connection(endpoint.host, endpoint.port)
            except OSError as fault:
                raise CannotRun(f"nothing listens at {endpoint.url} ({fault.strerror or fault})") from fault
            writer.close()
            return
        environment = {"API_TOKEN": endpoint.token, "HOST": endpoint.host, "PORT": str(endpoint.port)}
        if target is not None:
            environment["TARGET_URL"] = target
        child = Child(self._setting.command, environment, endpoint.host, endpoint.port, self._setting.log)
        stack.push_async_callback(child.stop)
        self._show("starting the connector")
        try:
            await child.start()
        except ChildFailed as fault:
            raise CannotRun(str(fault)) from fault
        self._child = child

    def _start_generators(self, stack: contextlib.AsyncExitStack) -> list[BaseProcess]:
        return [
            self._spawn(stack, workers.generator, self._scenario, number, self._folder, self._clock)
            for number in range(self._scenario.processes)
        ]

    async def _set_off(self, processes: int) -> None:
        """Set the start, when so many processes have said that they are ready."""
        try:
            async with asyncio.timeout(ALL_READY):
                while self._clock.ready_count < processes:  # noqa: ASYNC110  # other processes count
                    await asyncio.sleep(0.01)
        except TimeoutError:
            raise CannotRun("the simulator's own processes did not start in time") from None
        self._clock.start = self._progress.started = time.monotonic() + 0.2

    def _start_kills(self, stack: contextlib.AsyncExitStack) -> asyncio.Task[None] | None:
        if self._child is None:
            return None
        moments = [self._clock.start + second for second in self._setting.kills]
        kills = asyncio.ensure_future(self._child.kill_at(moments, self._setting.pause))
        stack.callback(kills.cancel)
        return kills

    def _spawn(self, stack: contextlib.AsyncExitStack, main: Callable[..., None], *args: object) -> BaseProcess:
        process = self._context.Process(target=main, args=args, daemon=True)
        process.start()
        stack.push_async_callback(self._end, process)
        return process

    async def _end(self, process: BaseProcess) -> None:
        if process.is_alive():
            process.terminate()
        await asyncio.to_thread(process.join, 10)
        if process.is_alive():
            process.kill()

    # -- waiting --

    def _show(self, stage: str) -> None:
        self._progress.stage = stage
        self._progress.look()
        self._progress.kills = len(self._child.kills) if self._child else 0
        self._watch(self._progress)

    async def _until_sent(self, generators: list[BaseProcess], kills: asyncio.Task[None] | None) -> None:
        while any(generator.is_alive() for generator in generators):
            self._show("sending")
            self._look_for_faults(kills)
            if self._stop.is_set():
                for generator in generators:
                    generator.terminate()
            await asyncio.sleep(LOOK)
        if any(generator.exitcode for generator in generators):
            raise CannotRun("a generator process failed; what it printed is above")

    def _look_for_faults(self, kills: asyncio.Task[None] | None) -> None:
        """Raise CannotRun when the connector is gone for good."""
        fault: object = self._child.fault if self._child is not None else None
        if kills is not None and kills.done():
            fault = kills.exception() or fault
        if fault is not None:
            raise CannotRun(str(fault))

    async def _until_arrived(self) -> None:
        """Wait until the target has seen all that was accepted, or nothing more comes."""
        if self._setting.target is None:
            return
        # Silence means nothing before the last outage and the last kill are over.
        last = max([end for _, end in self._setting.mood.down] + list(self._setting.kills), default=0.0)
        seen, since = -1, max(time.monotonic(), self._clock.start + last)
        while not self._stop.is_set():
            self._show("waiting for the connector to finish")
            if self._progress.delivered > seen:
                seen, since = self._progress.delivered, max(since, time.monotonic())
            quiet = time.monotonic() - since
            complete = self._progress.delivered >= self._progress.accepted
            if quiet >= (self._setting.linger if complete else self._setting.settle):
                return
            await asyncio.sleep(LOOK)

    # -- judging --

    def judge(self) -> Outcome:
        """Read the records back, and judge."""
        scenario, start = self._scenario, self._clock.start
        paths = [self._folder / f"attempts-{number}" for number in range(scenario.processes)]
        kills = self._child.kills if self._child else []
        ledger = Ledger(scenario.plan.events)
        course = Course(start, self._ended)
        course.add_attempts(attempts(paths))
        course.add_deliveries(deliveries(self._folder / "deliveries"))
        for attempt in attempts(paths):
            ledger.attempt(attempt)
        for delivery in deliveries(self._folder / "deliveries"):
            ledger.delivery(delivery)
        course.add_entries(ledger.entries(), None if scenario.closed else scenario.plan.due())
        events = Events(scenario.seed, scenario.population())
        return Outcome(
            setting=self._setting,
            verdict=ledger.judge(events.i_account, kills, self._setting.promises),
            series=course.series(),
            spans={
                "answer": quantiles(course.spans.answer),
                "acceptance": quantiles(course.spans.acceptance),
                "forwarding": quantiles(course.spans.forwarding),
            },
            efforts=[
                msgspec.json.decode((self._folder / f"effort-{number}").read_bytes(), type=Effort)
                for number in range(scenario.processes)
            ],
            kills=[
                Kill(kill.began - start, kill.ended - start, None if kill.ready is None else kill.ready - start)
                for kill in kills
            ],
            seconds=self._ended,
            exit_code=self._child.exit_code if self._child else None,
            start=start,
            ledger=ledger,
        )
