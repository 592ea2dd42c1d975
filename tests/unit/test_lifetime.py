"""Set-up and clean-up of an author's modules: their order, and what a failing one costs the others."""

import asyncio
import contextvars
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from connector import on_start, on_stop
from connector.errors import StartError
from connector.handlers import Hook, running
from connector.handlers.declare import declared
from tests.conftest import Lines


def hooks(declare: Callable[[], Any]) -> list[Hook]:
    """The hooks that ``declare`` declares."""
    before = len(declared)
    declare()
    return [each for each in declared[before:] if isinstance(each, Hook)]


async def test_set_ups_run_in_order_and_clean_ups_the_other_way_round() -> None:
    done: list[str] = []

    def declare() -> None:
        @on_start
        async def one() -> None:
            done.append("one")

        @on_stop
        def stop_one() -> None:
            done.append("stop one")

        @on_start
        async def two() -> AsyncIterator[None]:
            done.append("two")
            yield
            done.append("stop two")

        @on_start(timeout=5)
        def three() -> None:
            assert threading.current_thread() is not threading.main_thread()
            done.append("three")

    async with running(hooks(declare)):
        done.append("at work")
    assert done == ["one", "two", "three", "at work", "stop two", "stop one"]


async def test_set_up_that_fails_stops_the_start_with_its_line_and_cleans_up_what_was_reached() -> None:
    done: list[str] = []

    def declare() -> None:
        @on_start
        async def one() -> AsyncIterator[None]:
            yield
            done.append("stop one")

        @on_start
        async def two() -> None:
            raise OSError("no pool")

        @on_stop
        def never() -> None:
            done.append("never")

    with pytest.raises(StartError, match=r"two .*failed: OSError: no pool \(tests/unit/test_lifetime.py:\d+\)"):
        async with running(hooks(declare)):
            done.append("at work")
    assert done == ["stop one"]


@pytest.mark.parametrize("error", [SystemExit(3), TimeoutError("of its own"), StopAsyncIteration()])
async def test_set_up_that_raises_anything_at_all_stops_the_start(error: BaseException) -> None:
    def declare() -> None:
        @on_start
        async def fails() -> None:
            raise error

    with pytest.raises(StartError, match="fails"):
        async with running(hooks(declare)):
            raise AssertionError


async def test_set_up_that_hangs_stops_the_start() -> None:
    def declare() -> None:
        @on_start(timeout=0.01)
        async def hangs() -> None:
            await asyncio.Event().wait()

    with pytest.raises(StartError, match=r"hangs .*did not end within 0.01 s"):
        async with running(hooks(declare)):
            raise AssertionError


async def test_clean_up_that_fails_or_hangs_does_not_keep_the_others_from_theirs(log_lines: Lines) -> None:
    done: list[str] = []

    def declare() -> None:
        @on_stop
        def last() -> None:
            done.append("last")

        @on_stop(timeout=0.01)
        async def hangs() -> None:
            await asyncio.Event().wait()

        @on_stop
        def fails() -> None:
            raise ValueError("not closed")

    async with running(hooks(declare)):
        pass
    assert done == ["last"]
    failed, hung = (line["message"] for line in log_lines() if line["action"] == "handlers.stop_failed")
    assert "fails failed: ValueError: not closed (tests/unit/test_lifetime.py:" in failed
    assert hung.endswith("hangs did not end within 0.01 s")


async def test_context_variable_of_a_set_up_is_seen_by_what_is_started_within() -> None:
    tenant: contextvars.ContextVar[str] = contextvars.ContextVar("tenant")

    def declare() -> None:
        @on_start
        async def sets() -> None:
            tenant.set("mine")

    async def read() -> str:
        return tenant.get()

    async with running(hooks(declare)):
        assert await asyncio.create_task(read()) == "mine"
