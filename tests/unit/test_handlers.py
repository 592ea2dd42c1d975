"""The declaration of handlers, and every mistake in one that the start names."""

import asyncio
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from connector import Event, on
from connector.errors import StartError
from connector.handlers import Handlers, handler_of, load
from connector.testing import example

HEAD = "from connector import Event, on\n"
Write = Callable[..., str]


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Write a module into the working directory; all are forgotten at the end."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    before = set(sys.modules)

    def write(text: str, name: str = "made_up_handlers") -> str:
        (tmp_path / f"{name}.py").write_text(HEAD + text)
        return name

    yield write
    for name in set(sys.modules) - before:
        del sys.modules[name]


def faults(*modules: str) -> list[str]:
    with pytest.raises(StartError) as caught:
        load(modules)
    return str(caught.value).splitlines()


PLAIN = "async def f(event): pass\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x = 1\n", "declares no handler"),
        ("raise OSError('made up')\n", "OSError: made up"),
        ("import no_such_thing\n", "no_such_thing"),
        ("import sys\nsys.exit(0)\n", "SystemExit"),
        ("def broken(:\n", "SyntaxError"),
        ("@on()\n" + PLAIN, "names of event types"),
        ("@on('')\n" + PLAIN, "names of event types"),
        ("@on(7)\n" + PLAIN, "names of event types"),
        ("@on(['A', 'B'])\n" + PLAIN, "names of event types"),
        ("@on\n" + PLAIN, "names of event types"),
        ("@on('A')\nclass F:\n    pass\n", "before a function"),
        ("@on('A')\n@on('B')\n" + PLAIN, "stands twice before f"),
        ("@on('A', 'A')\n" + PLAIN, "A is taken twice"),
        ("@on('A')\nasync def f(): pass\n", "cannot be called with one event"),
        ("@on('A')\nasync def f(event, other): pass\n", "cannot be called with one event"),
        ("@on('A')\nasync def f(*, event): pass\n", "cannot be called with one event"),
        ("@on('A')\nasync def f(event):\n    yield\n", "yield"),
        ("@on('A')\ndef f(event):\n    yield\n", "yield"),
        ("@on('A', require=['pb_data.sim_info.imsy'])\n" + PLAIN, "pb_data.sim_info.imsy"),
        ("@on('A', require='pb_data.nothing')\n" + PLAIN, "pb_data.nothing"),
        ("@on('A', require=[7])\n" + PLAIN, "require: 7"),
        ("@on('A', require=None)\n" + PLAIN, "cannot be imported"),
        *(
            (f"@on('A', timeout={bad})\n" + PLAIN, "timeout must be")
            for bad in ("0", "-1", "'5'", "True", "float('nan')")
        ),
        *((f"@on('A', max_attempts={bad})\n" + PLAIN, "max_attempts must be") for bad in ("0", "'3'", "2.5", "True")),
    ],
)
def test_mistake_in_a_declaration_is_one_line_that_names_the_module(module: Write, text: str, words: str) -> None:
    (fault,) = faults(module(text))
    assert fault.startswith("HANDLERS: ")
    assert words in fault
    assert "made_up_handlers" in fault


def test_module_that_is_not_there_is_named() -> None:
    for name in ("no_such_module", "no_such_module.py", "./no_such_module", ".no_such_module", "connector.no_such"):
        (fault,) = faults(name)
        assert name in fault


def test_all_mistakes_of_all_modules_are_told_at_once(module: Write) -> None:
    one = module("@on('A')\nasync def f(): pass\n@on('B', timeout=0)\nasync def g(event): pass\n", "one")
    two = module("@on('B')\nasync def h(event): pass\n", "two")
    found = faults(one, two, "three")
    assert len(found) == 4
    assert [line.split()[1].rstrip(":") for line in found] == ["one.f", "one.g", "three", "B"]
    assert "taken twice: by one.g and by two.h" in found[3]


def test_decorator_before_on_is_not_left_out_silently(module: Write) -> None:
    text = """
import functools
def checked(function):
    @functools.wraps(function)
    async def wrapper(event):
        raise ValueError
    return wrapper
@checked
@on('A')
async def f(event): pass
"""
    (fault,) = faults(module(text))
    assert "another decorator stands before @on" in fault


def test_module_named_twice_or_a_handler_imported_by_another_module_is_taken_once(module: Write) -> None:
    one = module("@on('A')\n" + PLAIN, "one")
    two = module("from one import f\n", "two")
    assert len(load([one, one, two]).all) == 1


def test_star_takes_what_no_other_takes(module: Write) -> None:
    handlers = load([module("@on('A')\n" + PLAIN + "@on('*')\nasync def rest(event): pass\n")])
    assert [handlers.find(name).name.rpartition(".")[2] for name in "AB"] == ["f", "rest"]  # type: ignore[union-attr]


def test_no_handler_is_found_for_a_type_that_none_takes(module: Write) -> None:
    assert load([module("@on('A')\n" + PLAIN)]).find("B") is None


def test_required_fields_of_star_do_not_count_for_a_type_with_a_handler_of_its_own() -> None:
    @on("A")
    async def plain(_: Event) -> None: ...

    @on("*", require=["pb_data.sim_info.imsi"])
    async def rest(_: Event) -> None: ...

    require = Handlers([handler_of(plain), handler_of(rest)]).require
    assert require == {"A": (), "*": ("pb_data.sim_info.imsi",)}


def test_require_may_be_one_path() -> None:
    @on("A", require="pb_data.sim_info.imsi")
    async def one(_: Event) -> None: ...

    assert handler_of(one).require == ("pb_data.sim_info.imsi",)


def test_function_without_on_is_no_handler() -> None:
    with pytest.raises(ValueError, match="no handler"):
        handler_of(test_function_without_on_is_no_handler)


async def test_coroutine_of_a_plain_function_is_awaited_and_not_dropped() -> None:
    @on("SIM/Updated")
    def wrapped(_: Event) -> object:
        async def inside() -> str:
            return "awaited"

        return inside()

    assert await handler_of(wrapped).call(example()) == "awaited"


async def test_thread_that_ends_after_it_was_cut_off_harms_nobody() -> None:
    gate, ended = threading.Event(), threading.Event()

    @on("SIM/Updated")
    def blocks(_: Event) -> None:
        gate.wait(10)
        ended.set()

    with pytest.raises(TimeoutError):
        await asyncio.wait_for(handler_of(blocks).call(example()), 0.01)
    gate.set()
    assert await asyncio.to_thread(ended.wait, 10)
    await asyncio.sleep(0)


async def test_many_threads_that_hang_do_not_keep_another_handler_from_running() -> None:
    gate = threading.Event()

    @on("SIM/Updated")
    def hangs(_: Event) -> None:
        gate.wait(30)

    @on("SIM/Updated")
    def runs(_: Event) -> str:
        return "ran"

    hanging = [asyncio.ensure_future(handler_of(hangs).call(example())) for _ in range(40)]
    try:
        async with asyncio.timeout(10):
            assert await handler_of(runs).call(example()) == "ran"
    finally:
        gate.set()
        await asyncio.gather(*hanging)


@pytest.mark.parametrize(("raised", "as_what"), [(StopIteration(3), RuntimeError), (SystemExit(3), SystemExit)])
async def test_what_no_future_carries_is_raised_from_a_thread_too(raised: BaseException, as_what: type) -> None:
    @on("SIM/Updated")
    def raises(_: Event) -> None:
        raise raised

    with pytest.raises(as_what, match="3"):
        async with asyncio.timeout(10):
            await handler_of(raises).call(example())
