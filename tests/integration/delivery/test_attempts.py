"""Attempts: what a handler is given, how it may end, and what becomes of its event."""

import asyncio
import contextlib
import contextvars
import decimal
import gc
import sys
import threading
import types
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from connector import DeadLetter, Event, Ignored, Retry, on
from connector.delivery import attempt as attempts
from connector.outcome import Postponed, RetryPolicy
from tests.conftest import Lines
from tests.delivering import delivering, ids

SLOW = RetryPolicy(base=10.0, longest=600.0, max_attempts=3, max_age=1000.0)


async def test_attempts_are_numbered_and_stand_in_the_history_with_their_errors(tmp_path: Path) -> None:
    seen = []

    @on("SIM/Updated")
    async def third_time_lucky(event: Event) -> str:
        seen.append(event.attempt)
        if event.attempt < 3:
            raise ValueError(f"not at attempt {event.attempt}")
        return "written at last"

    async with delivering(tmp_path, third_time_lucky) as delivery:
        await delivery.accept("one")
        await delivery.become(one="done")
        (series,) = delivery.find()
    assert seen == [1, 2, 3]
    assert (series.attempts, series.reason) == (3, "written at last")


async def test_event_is_dead_when_its_attempts_run_out_and_the_next_goes_on(tmp_path: Path) -> None:
    @on("SIM/Updated", max_attempts=2)
    async def fails(event: Event) -> None:
        if event.event_id == "one":
            raise ValueError("bad")

    async with delivering(tmp_path, fails) as delivery:
        await delivery.accept("one")
        await delivery.accept("two")
        await delivery.become(one="dead", two="done")
        place = "tests/integration/delivery/test_attempts.py:"
        assert delivery.find()[0].reason.startswith(f"gave up after 2 attempts: ValueError: bad ({place}")


async def test_event_is_dead_when_it_is_too_old_at_its_next_failure(tmp_path: Path) -> None:
    @on("SIM/Updated")
    async def fails(_: Event) -> None:
        raise Retry("busy")

    async with delivering(tmp_path, fails, policy=SLOW) as delivery:
        await delivery.accept("one")
        await delivery.become(one="waiting")
        await delivery.later(1001.0)
        await delivery.become(one="dead")
        assert "at an age of" in delivery.find()[0].reason


@pytest.mark.parametrize(("asked", "wait"), [(0.0, 1.0), (30.0, 30.0), (1e9, 600.0), (float("inf"), 600.0)])
async def test_wait_that_a_handler_asks_for_is_kept_within_bounds(tmp_path: Path, asked: float, wait: float) -> None:
    @on("SIM/Updated")
    async def later(event: Event) -> None:
        if event.attempt == 1:
            raise Retry("later", after=asked)
        await asyncio.Event().wait()

    async with delivering(tmp_path, later, policy=SLOW) as delivery:
        await delivery.accept("one")
        await delivery.become(one="waiting")
        assert delivery.find()[0].due == delivery.clock.now + wait


async def test_event_that_no_handler_takes_ends_as_ignored_with_its_type(tmp_path: Path) -> None:
    @on("SIM/Updated")
    async def other(_: Event) -> None: ...

    async with delivering(tmp_path, other) as delivery:
        await delivery.accept("one", event_type="Unheard/Of")
        await delivery.become(one="ignored")
        assert delivery.find()[0].reason == "no handler takes Unheard/Of"


@pytest.mark.parametrize(
    ("fault", "state", "reason"),
    [
        (Ignored("not ours"), "ignored", "not ours"),
        (DeadLetter("never"), "dead", "never"),
        (Retry("busy"), "waiting", "busy"),
        (KeyError("imsi"), "waiting", "KeyError: 'imsi'"),
        (SystemExit(1), "waiting", "SystemExit: 1"),
        (KeyboardInterrupt(), "waiting", "KeyboardInterrupt"),
        (GeneratorExit("g"), "waiting", "GeneratorExit: g"),
        (asyncio.CancelledError(), "waiting", "CancelledError"),
        (ExceptionGroup("both", [OSError(), KeyError()]), "waiting", "ExceptionGroup: both (2 sub-exceptions)"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else None,
)
@pytest.mark.parametrize("in_thread", [False, True], ids=["coroutine", "thread"])
async def test_no_exception_of_a_handler_ends_the_process_or_a_worker(
    tmp_path: Path, fault: BaseException, state: str, reason: str, in_thread: bool
) -> None:
    @on("SIM/Updated")
    async def raises(_: Event) -> None:
        raise fault

    @on("SIM/Updated")
    def raises_in_thread(_: Event) -> None:
        raise fault

    @on("*")
    async def rest(_: Event) -> None: ...

    handler = raises_in_thread if in_thread else raises
    async with delivering(tmp_path, handler, rest, policy=SLOW, workers=1) as delivery:
        await delivery.accept("one")
        await delivery.accept("two", 2, "Other/Type")
        await delivery.become(one=state, two="done")
        assert delivery.find()[0].reason.partition(" (tests/")[0] == reason


async def test_handler_that_hangs_is_cut_off_and_tried_again(tmp_path: Path) -> None:
    @on("SIM/Updated", timeout=0.05)
    async def hangs_once(event: Event) -> None:
        if event.attempt == 1:
            await asyncio.Event().wait()

    async with delivering(tmp_path, hangs_once, workers=1) as delivery:
        await delivery.accept("one")
        await delivery.become(one="done")
        assert delivery.find()[0].attempts == 2


async def test_handler_in_a_thread_that_hangs_is_cut_off(tmp_path: Path) -> None:
    gate = threading.Event()

    @on("SIM/Updated", timeout=0.05)
    def hangs_once(event: Event) -> None:
        if event.attempt == 1:
            gate.wait(10)

    async with delivering(tmp_path, hangs_once, workers=1) as delivery:
        await delivery.accept("one")
        await delivery.become(one="done")
        gate.set()


async def test_worker_goes_on_after_a_handler_that_hides_its_being_cut_off(tmp_path: Path) -> None:
    """A task that was cancelled and never told so takes the next cancellation for its own."""

    @on("SIM/Updated", timeout=0.05)
    async def hides(_: Event) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise ValueError("hidden") from None

    @on("Other/Type")
    async def cancelled_inside(event: Event) -> None:
        if event.attempt == 1:
            task = asyncio.ensure_future(asyncio.Event().wait())
            asyncio.get_running_loop().call_soon(task.cancel)
            await task

    async with delivering(tmp_path, hides, cancelled_inside, policy=SLOW, workers=1) as delivery:
        await delivery.accept("one")
        await delivery.become(one="waiting")
        await delivery.accept("two", 2, "Other/Type")
        await delivery.become(two="waiting")
        await delivery.later(20.0)
        await delivery.become(two="done")


async def test_handler_that_goes_on_although_it_was_cut_off_is_reported_and_cut_off_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log_lines: Lines
) -> None:
    monkeypatch.setattr(attempts, "CUT_OFF_AGAIN", 0.05)
    cancelled = 0

    @on("SIM/Updated", timeout=0.05, max_attempts=1)
    async def clings(_: Event) -> None:
        nonlocal cancelled
        while cancelled < 3:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled += 1
        raise ValueError("at last")

    async with delivering(tmp_path, clings, workers=1) as delivery:
        await delivery.accept("one")
        await delivery.become(one="dead")
    stuck = [line for line in log_lines() if line["action"] == "handler.stuck"]
    assert [line["event_id"] for line in stuck] == ["one"] * 2


async def test_attempt_that_a_stop_cuts_off_does_not_count(tmp_path: Path) -> None:
    seen = []

    @on("SIM/Updated", max_attempts=1)
    async def outlasts_the_first_stop(event: Event) -> None:
        seen.append(event.attempt)
        if len(seen) == 1:
            await asyncio.Event().wait()

    async with delivering(tmp_path, outlasts_the_first_stop) as delivery:
        await delivery.accept("one")
        await delivery.until(lambda: len(seen) == 1)
        assert await delivery.stop() == 1
        assert delivery.states() == {"one": "pending"}
        await delivery.start()
        await delivery.become(one="done")
    assert seen == [1, 1]


async def test_lines_of_the_event_s_logger_have_its_ids(tmp_path: Path, log_lines: Lines) -> None:
    @on("SIM/Updated")
    def writes(event: Event) -> None:
        event.log.info("Written", status="active")

    async with delivering(tmp_path, writes) as delivery:
        await delivery.accept("one")
        await delivery.become(one="done")
    (line,) = [line for line in log_lines() if line["message"] == "Written"]
    expected: dict[str, Any] = {"request_id": "request", "unique_id": "unique", "event_id": "one"}
    assert line.items() >= (expected | {"event_type": "SIM/Updated", "status": "active"}).items()


async def test_retry_keeps_its_time_over_a_restart(tmp_path: Path) -> None:
    tried = []

    @on("SIM/Updated")
    async def once(event: Event) -> None:
        tried.append(event.attempt)
        if event.attempt == 1:
            raise Retry("later", after=100)

    async with delivering(tmp_path, once, policy=SLOW) as delivery:
        await delivery.accept("one")
        await delivery.become(one="waiting")
        await delivery.later(50.0)
        await delivery.restart()
        await delivery.quiet()
        assert delivery.find()[0].due == 1100.0
        assert tried == [1]
        await delivery.later(50.0)
        await delivery.become(one="done")


async def test_clock_that_is_set_back_over_a_restart_does_not_make_an_event_wait_for_ever(tmp_path: Path) -> None:
    @on("SIM/Updated")
    async def once(event: Event) -> None:
        if event.attempt == 1:
            raise Retry("later", after=100)

    async with delivering(tmp_path, once, policy=SLOW) as delivery:
        await delivery.accept("one")
        await delivery.become(one="waiting")
        await delivery.stop()
        delivery.clock.now = 100.0
        await delivery.start()
        assert delivery.find()[0].due == 700.0
        await delivery.later(600.0)
        await delivery.become(one="done")


async def test_waiting_event_is_tried_although_others_came_due_and_went_before(tmp_path: Path) -> None:
    """A time that was waited for in vain must not hide the next one."""
    soon = RetryPolicy(base=0.1, longest=0.1)

    @on("SIM/Updated")
    async def once(event: Event) -> None:
        if event.attempt == 1:
            raise Retry("later")

    async with delivering(tmp_path, once, policy=soon) as delivery:
        await delivery.accept("one")
        await delivery.become(one="waiting")
        await delivery.command("skip", "i_account:1")
        await delivery.become(one="dead")
        await asyncio.sleep(0.1)  # the first time has to pass by: that is what hid the second
        await delivery.accept("two", 2)
        await delivery.become(two="waiting")
        delivery.clock.now += 0.2
        await delivery.become(two="done")


async def test_order_holds_while_the_head_is_tried_again(tmp_path: Path) -> None:
    done: list[Event] = []

    @on("SIM/Updated")
    async def every_second_try(event: Event) -> None:
        if event.attempt == 1:
            raise Retry
        done.append(event)

    async with delivering(tmp_path, every_second_try, queue_size=4) as delivery:
        for number in range(60):
            await delivery.accept(f"{number}", number % 3)
        await delivery.until(lambda: len(done) == 60)
    for subscriber in range(3):
        assert [int(name) for name in ids(done) if int(name) % 3 == subscriber] == list(range(subscriber, 60, 3))


class Panic(BaseException):
    """What libraries with a core in another language raise."""


async def panics() -> None:
    raise Panic("a fault in a library")


async def cancels_itself() -> None:
    this = asyncio.current_task()
    assert this is not None
    this.cancel()
    await asyncio.sleep(0)


async def cancels_itself_and_returns() -> None:
    this = asyncio.current_task()
    assert this is not None
    this.cancel()


async def cancels_itself_and_catches_it() -> None:
    with contextlib.suppress(asyncio.CancelledError):
        await cancels_itself()


@pytest.mark.parametrize(
    "misbehave", [panics, cancels_itself, cancels_itself_and_returns, cancels_itself_and_catches_it]
)
async def test_no_handler_takes_its_worker_down_and_with_it_the_process_again_and_again(
    misbehave: Callable[[], Awaitable[None]], tmp_path: Path
) -> None:
    tried = []

    @on("SIM/Updated")
    async def handler(event: Event) -> None:
        tried.append(event.event_id)
        if len(tried) == 1:
            await misbehave()
        if len(tried) == 2:
            gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            gone.cancel()
            await gone

    async with delivering(tmp_path, handler, workers=1) as delivery:
        await delivery.accept("one")
        await delivery.accept("two")
        await delivery.become(one="done", two="done")
        assert not [task for task in delivery.workers.tasks if task.done()]
    assert len(tried) >= 3


async def test_attempt_sees_no_context_variable_and_no_decimal_context_of_another(tmp_path: Path) -> None:
    tenant: contextvars.ContextVar[str] = contextvars.ContextVar("tenant", default="-")

    @on("SIM/Updated")
    async def leaks(event: Event) -> str:
        seen = f"{tenant.get()} {decimal.getcontext().prec}"
        tenant.set(event.event_id)
        decimal.getcontext().prec = 5
        return seen

    async with delivering(tmp_path, leaks, workers=1) as delivery:
        for number, name in enumerate(("one", "two", "three")):
            await delivery.accept(name, number)
        await delivery.become(one="done", two="done", three="done")
        assert {series.reason for series in delivery.find()} == {"- 28"}


async def test_late_cancel_by_a_timer_of_a_handler_hits_nothing_but_its_own_attempt(tmp_path: Path) -> None:
    late: list[asyncio.Task[Any]] = []

    @on("SIM/Updated")
    async def leaves_a_timer(event: Event) -> None:
        if event.event_id == "one":
            this = asyncio.current_task()
            assert this is not None
            late.append(this)
        else:
            late[0].cancel()
            await asyncio.sleep(0)

    async with delivering(tmp_path, leaves_a_timer, workers=1) as delivery:
        await delivery.accept("one")
        await delivery.become(one="done")
        await delivery.accept("two")
        await delivery.become(two="done")
        assert [series.attempts for series in delivery.find()] == [1, 1]


@pytest.mark.parametrize("leave", [sys.exit, lambda: (_ for _ in ()).throw(KeyboardInterrupt)])
async def test_task_of_a_handler_that_wants_to_end_the_process_fails_its_event_and_nothing_else(
    leave: Callable[[], Any], tmp_path: Path
) -> None:
    async def ends_the_process() -> None:
        next(leave())

    @on("SIM/Updated")
    async def makes_a_task(event: Event) -> str:
        if event.attempt == 1:
            task = asyncio.create_task(ends_the_process())
            await asyncio.Event().wait()
            task.cancel()
        return "at last"

    async with delivering(tmp_path, makes_a_task, policy=SLOW) as delivery:
        await delivery.accept("one")
        await delivery.become(one="waiting")
        assert "in the task" in delivery.find()[0].reason
        await delivery.later(20)
        await delivery.become(one="done")


async def test_task_left_behind_that_wants_to_end_the_process_is_said(tmp_path: Path, log_lines: Lines) -> None:
    go = asyncio.Event()
    tasks = set()

    async def ends_the_process() -> None:
        await go.wait()
        sys.exit(3)

    @on("SIM/Updated")
    async def leaves_a_task(event: Event) -> None:
        if event.event_id == "one":
            tasks.add(asyncio.create_task(ends_the_process()))

    async with delivering(tmp_path, leaves_a_task) as delivery:
        await delivery.accept("one")
        await delivery.become(one="done")
        go.set()
        await asyncio.wait(tasks)
        await delivery.accept("two")
        await delivery.become(two="done")
    (line,) = [line for line in log_lines() if line["action"] == "handler.exit"]
    assert line["event_id"] == "one"
    for task in tasks:
        task.exception()


async def call() -> None:
    """Something that has to be awaited."""


async def forgets_await(_: Event) -> str:
    call()  # type: ignore[unused-coroutine]
    return "done"


def forgets_await_in_a_thread(_: Event) -> str:
    call()  # type: ignore[unused-coroutine]
    return "done"


async def returns_a_coroutine(_: Event) -> Any:
    return call()


async def returns_a_task(_: Event) -> Any:
    return asyncio.create_task(call())


async def returns_an_exception(_: Event) -> Any:
    return Ignored("not ours")


async def returns_an_exception_class(_: Event) -> Any:
    return DeadLetter


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (forgets_await, "coroutine 'call' was never awaited: put await before the call"),
        (forgets_await_in_a_thread, "coroutine 'call' was never awaited"),
        (returns_a_coroutine, "returned the coroutine call(): put await before the call"),
        (returns_a_task, "returned a Task, which nobody awaits"),
        (returns_an_exception, "returned Ignored('not ours') instead of raising it"),
        (returns_an_exception_class, "instead of raising it"),
    ],
)
async def test_slip_that_left_the_work_undone_is_not_done(
    tmp_path: Path, function: Callable[[Event], Any], words: str
) -> None:
    copy = types.FunctionType(function.__code__, function.__globals__, function.__name__)
    async with delivering(tmp_path, on("SIM/Updated")(copy), policy=SLOW) as delivery:
        await delivery.accept("one")
        await delivery.become(one="waiting")
        reason = delivery.find()[0].reason
        assert words in reason
        assert "test_attempts.py:" in reason


async def test_error_of_a_handler_is_told_with_its_traceback_once_a_place_and_then_counted(
    tmp_path: Path, log_lines: Lines
) -> None:
    @on("SIM/Updated", max_attempts=12)
    async def fails(event: Event) -> None:
        event.pb_data.no_such_field  # type: ignore[attr-defined]  # noqa: B018 - the slip

    async with delivering(tmp_path, fails) as delivery:
        await delivery.accept("one")
        await delivery.become(one="dead")
    first, tenth = (line for line in log_lines() if line["action"] == "handler.error")
    assert (first["times"], tenth["times"]) == (1, 10)
    assert "no_such_field" in first["exception"]
    assert "exception" not in tenth
    assert first["place"].startswith("tests/integration/delivery/test_attempts.py:")


async def test_attempt_leaves_nothing_to_the_garbage_collector(tmp_path: Path) -> None:
    """Cycles that each event leaves add up to a pause of a tenth of a second every few thousand events."""

    again: list[str] = []

    @on("SIM/Updated")
    async def handler(event: Event) -> None:
        if event.event_id == "waits":
            await asyncio.sleep(0)
        if event.event_id == "fails":
            raise DeadLetter("no")
        if event.event_id == "fails later":
            await asyncio.sleep(0)
            raise ValueError("no")
        if event.event_id == "comes again" and not again:
            again.append(event.event_id)
            raise Postponed("not now")

    async with delivering(tmp_path, handler, policy=SLOW) as delivery:
        await delivery.accept("zero")
        await delivery.become(zero="done")
        gc.collect()
        gc.set_debug(gc.DEBUG_SAVEALL)
        try:
            await delivery.accept("waits")
            await delivery.accept("one")
            await delivery.accept("fails")
            await delivery.accept("comes again")
            await delivery.accept("fails later")
            await delivery.become(waits="done", one="done", fails="dead")
            await delivery.become(**{"comes again": "done", "fails later": "waiting"})
            gc.collect()
            left = [type(each).__name__ for each in gc.garbage]
        finally:
            gc.set_debug(0)
            gc.garbage.clear()
    assert not {"Attempt", "Event", "Entry", "Context"} & set(left), left


async def test_handler_that_does_not_wait_is_done_in_the_turn_of_the_loop_that_began_it(tmp_path: Path) -> None:
    """A turn of the loop for each step of an attempt makes workers fall behind accepting."""
    turns: list[str] = []
    tasks: list[asyncio.Task[Any] | None] = []

    @on("SIM/Updated")
    async def handler(event: Event) -> None:
        tasks.append(asyncio.current_task())
        asyncio.get_running_loop().call_soon(turns.append, event.event_id)
        if len(turns):
            raise DeadLetter("a turn of the loop came between")

    async with delivering(tmp_path, handler, workers=1) as delivery:
        delivery.journal.hold("until both are there")
        await delivery.accept("one", i_account=1)
        await delivery.accept("two", i_account=2)
        delivery.journal.release("until both are there")
        await delivery.become(one="done", two="done")
    assert len({id(task) for task in tasks}) == 2
