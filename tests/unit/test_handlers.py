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
        ("@on('A', 'A')\n" + PLAIN, "A is named twice"),
        ("@on('SIM/Up*')\n" + PLAIN, "'SIM/Up*' is no pattern"),
        ("@on('*/*')\n" + PLAIN, "is no pattern"),
        ("@on('**')\n" + PLAIN, "is no pattern"),
        ("@on('A', timout=5)\n" + PLAIN, "timout"),
        ("@on('A', name='')\n" + PLAIN, "name must be"),
        ("@on('A', name=7)\n" + PLAIN, "name must be"),
        ("@on('A', resource='acount')\n" + PLAIN, "did you mean account?"),
        ("@on('A', latest_only=7)\n" + PLAIN, "latest_only must be"),
        ("@on('A', latest_only='')\n" + PLAIN, "latest_only must be"),
        ("@on('A', skip_unless=['pb_data.['])\n" + PLAIN, "skip_unless: pb_data.["),
        ("@on('A', skip_unless=None)\n" + PLAIN, "cannot be imported"),
        ("class F:\n    @on('A')\n    async def f(self, event): pass\n", "put @staticmethod above @on"),
        (
            "class F:\n    @on('A')\n    @staticmethod\n    async def f(event): pass\n",
            "@staticmethod has to stand above",
        ),
        ("from connector import on_start\n@on_start\ndef f(x): pass\n", "needs arguments"),
        ("from connector import on_stop\n@on_stop\nasync def f():\n    yield\n", "yield"),
        ("from connector import on_start\n@on_start(timeout=0)\ndef f(): pass\n", "timeout must be"),
        ("from connector import on_start\n@on_start\nclass F:\n    pass\n", "before a function"),
        ("@on('A')\nasync def f(): pass\n", "cannot be called with one event"),
        ("@on('A')\nasync def f(event, other): pass\n", "cannot be called with one event"),
        ("@on('A')\nasync def f(*, event): pass\n", "cannot be called with one event"),
        ("@on('A')\nasync def f(event):\n    yield\n", "yield"),
        ("@on('A')\ndef f(event):\n    yield\n", "yield"),
        ("@on('A', require=['pb_data..imsi'])\n" + PLAIN, "pb_data..imsi"),
        ("@on('A', require='two words')\n" + PLAIN, "two words"),
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
    two = module("@on('B')\nasync def h(): pass\n", "two")
    found = faults(one, two, "three")
    assert len(found) == 4
    assert [line.split()[1].rstrip(":") for line in found] == ["three", "one.f", "one.g", "two.h"]


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


def names(handlers: Handlers, event_type: str) -> list[str]:
    return [handler.name.rpartition(".")[2] for handler in handlers.find(event_type)]


def test_exact_type_beats_a_pattern_and_a_pattern_beats_star(module: Write) -> None:
    text = "".join(
        f"@on('{name}')\nasync def {function}(event): pass\n"
        for function, name in {
            "exact": "Account/Blocked", "group": "Account/*", "status": "Account/Status/*", "rest": "*",
        }.items()
    )  # fmt: skip
    handlers = load([module(text)])
    assert names(handlers, "Account/Blocked") == ["exact"]
    assert names(handlers, "Account/ID/Changed") == ["group"]
    assert names(handlers, "Account/Status/Suspended") == ["status"]
    assert names(handlers, "Accounts/Blocked") == ["rest"]
    assert names(handlers, "Account") == ["rest"]


def test_pattern_for_a_name_takes_it_in_every_group(module: Write) -> None:
    handlers = load([module("@on('*/Changed')\n" + PLAIN)])
    assert names(handlers, "Product/Changed") == names(handlers, "Account/ID/Changed") == ["f"]
    assert names(handlers, "Product/HasChanged") == []


def test_two_patterns_of_which_none_is_better_are_refused_with_the_type_and_both_places(module: Write) -> None:
    text = "@on('Account/*')\nasync def group(event): pass\n@on('*/Blocked')\nasync def ending(event): pass\n"
    (fault,) = faults(module(text))
    assert "Account/Blocked is matched by Account/*" in fault
    assert "made_up_handlers.py:2" in fault
    assert "made_up_handlers.py:4" in fault
    decided = "@on('Account/Blocked')\nasync def exact(event): pass\n"
    assert names(load([module(text + decided, "decided_handlers")]), "Account/Blocked") == ["exact"]


def test_several_handlers_of_one_type_are_found_in_the_order_of_their_declaration(module: Write) -> None:
    one = module("@on('A')\nasync def second(event): pass\n@on('A', 'B')\nasync def first(event): pass\n", "one")
    two = module("@on('A')\nasync def third(event): pass\n", "two")
    handlers = load([one, two])
    assert names(handlers, "A") == ["second", "first", "third"]
    assert names(handlers, "B") == ["first"]


SAME_NAME = """
@on("SIM/Updated")
async def handle(event): return "updated"
@on("SIM/Created")
async def handle(event): return "created"
"""

IN_CLASS = """
class Sims:
    @staticmethod
    @on("SIM/Updated")
    async def updated(event): return "updated"
@on("SIM/Created")
async def created(event): return "created"
"""

BY_A_FUNCTION = """
def declare(name):
    @on(name)
    async def handle(event): return name.partition("/")[2].lower()
declare("SIM/Updated")
declare("SIM/Created")
"""


@pytest.mark.parametrize("text", [SAME_NAME, IN_CLASS, BY_A_FUNCTION])
async def test_no_handler_is_dropped_because_its_name_stands_for_something_else(module: Write, text: str) -> None:
    handlers = load([module(text)])
    for event_type in ("SIM/Updated", "SIM/Created"):
        (handler,) = handlers.find(event_type)
        assert await handler.call(example(event_type)) == event_type.partition("/")[2].lower()
    assert len({handler.name for handler in handlers.all}) == 2


def test_handlers_of_one_name_are_warned_of(module: Write) -> None:
    assert "give each a name= of its own" in load([module(SAME_NAME)]).warnings[0]


def test_two_handlers_with_one_settable_name_are_refused_with_both_places(module: Write) -> None:
    text = "@on('A', name='hlr')\nasync def f(event): pass\n@on('B', name='hlr')\nasync def g(event): pass\n"
    (fault,) = faults(module(text))
    assert "two handlers have name='hlr'" in fault
    assert "made_up_handlers.py:2 and " in fault
    assert fault.endswith("made_up_handlers.py:4")


def test_handlers_in_the_parts_of_a_package_are_taken_and_those_of_another_module_are_named(
    module: Write, tmp_path: Path
) -> None:
    (tmp_path / "partner").mkdir()
    module("@on('B')\n" + PLAIN, "elsewhere")
    module("from partner import sims\nimport elsewhere\n", "partner/__init__")
    module("@on('A')\n" + PLAIN, "partner/sims")
    handlers = load(["partner"])
    assert [handler.name for handler in handlers.all] == ["partner.sims.f"]
    assert [each for each in handlers.warnings if "elsewhere.py:2) is not used: HANDLERS does not name" in each]


def test_misspelt_type_is_warned_of_with_the_near_ones_and_a_new_type_of_a_known_group_is_not(module: Write) -> None:
    text = "@on('SIM/Updatd', 'sim/updated', 'SIM/Renumbered', 'Account/*', 'Weather/Rain')\n" + PLAIN
    warnings = load([module(text)]).warnings
    assert [warning.rpartition("): ")[2] for warning in warnings if "documented" in warning] == [
        "SIM/Updatd is no documented event type; did you mean SIM/Updated?",
        "sim/updated is no documented event type; did you mean SIM/Updated?",
        "Weather/Rain is no documented event type",
    ]
    assert "made_up_handlers.py:2" in warnings[0]


def test_start_without_handlers_is_warned_of() -> None:
    assert "HANDLERS is not set: events are only logged" in load([]).warnings


def test_module_that_is_nearly_named_is_hinted_at(module: Write) -> None:
    module("@on('A')\n" + PLAIN, "my_connector")
    assert "did you mean my_connector?" in faults("my_conector")[0]
    assert "without .py: my_connector" in faults("my_connector.py")[0]
    assert "did you mean connector.handlers.forward?" in faults("foward")[0]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("def broken(:\n", 2),
        ("import json\njson.loads('{')\n", 3),
        ("def check():\n    raise OSError('made up')\ncheck()\n", 3),
        ("@on('A', timeout=0)\n" + PLAIN, 2),
        ("\n@on('A', timout=5)\n" + PLAIN, 3),
    ],
)
def test_mistake_in_a_module_is_told_with_file_and_line(module: Write, text: str, line: int) -> None:
    (fault,) = faults(module(text))
    assert f"made_up_handlers.py:{line}" in fault


def test_hooks_are_collected_in_the_order_of_their_declaration(module: Write) -> None:
    text = """
from connector import on_start, on_stop
@on_start
async def first(): yield
@on_stop(timeout=5)
def second(): pass
@on_start
def third(): pass
"""
    hooks = load([module(text)]).hooks
    assert [(hook.when, hook.name.rpartition(".")[2]) for hook in hooks] == [
        ("start", "first"), ("stop", "second"), ("start", "third"),
    ]  # fmt: skip


def test_no_handler_is_found_for_a_type_that_none_takes(module: Write) -> None:
    assert load([module("@on('A')\n" + PLAIN)]).find("B") == ()


def test_required_fields_of_all_handlers_of_a_type_add_up() -> None:
    @on("A", require=["pb_data.sim_info.imsi"])
    async def one(_: Event) -> None: ...

    @on("A", "B", require=["pb_data.sim_info.iccid", "pb_data.sim_info.imsi"])
    async def two(_: Event) -> None: ...

    require = Handlers([handler_of(one), handler_of(two)]).require
    assert require == {
        "A": ("pb_data.sim_info.imsi", "pb_data.sim_info.iccid"),
        "B": ("pb_data.sim_info.iccid", "pb_data.sim_info.imsi"),
    }


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
