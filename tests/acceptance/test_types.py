"""An author's project: clean under the strict type checkers, and a wrong option is an error there and where it runs."""

import asyncio
import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from connector.admin.new import KINDS
from connector.errors import StartError
from connector.handlers import load
from connector.testing import StandIn, example, run, using
from tests.process import ROOT, environment

pytestmark = [
    pytest.mark.xdist_group("types"),  # the project is made once, not in each worker
    pytest.mark.usefixtures("own_hooks"),
]

BLOCK = re.compile(r"^```python\n(# (\S+\.py)\n.*?)^```$", re.MULTILINE | re.DOTALL)

OPTIONS = (
    'tiemout=3', 'timeout="3"', 'resource="crad"', 'max_attempts="many"', "require=[1]", "latest_only=3", "name=7",
    "skip_unless=5",
)  # fmt: skip
"""Wrong options of ``@on``."""

CALLS = (
    "get(tiemout=3)", 'get(timeout="3")', 'post(outcomes={409: "Retry"})', 'post(outcomes={"409": "retry"})',
    "get(json={})", 'put("/sims/{imsi}", {"imsi": 1.5})', "post(form=[1])", 'post(headers={"a": 1})',
    'post(text=b"x")', "post(files=3)", 'get(params={"a": {}})', "get(event=3)", "post(xml=3)", 'post(data="x")',
    "post(step=3)", "get(3)", 'get("/sims", "001")',
)  # fmt: skip
"""Wrong calls."""

WRONG = "from connector import Event, on\nfrom connector.external import target\n" + "".join(
    [
        f'\n\n@on("SIM/Updated", {each})\nasync def option_{number}(event: Event) -> None: ...\n'
        for number, each in enumerate(OPTIONS)
    ]
    + [
        f'\n\n@on("SIM/Updated", name="call {number}")\n'
        f"async def call_{number}(event: Event) -> None:\n    await target().{each}\n"
        for number, each in enumerate(CALLS)
    ]
)

CHECKED_BEFORE = ("--config-file", str(ROOT / "pyproject.toml"), "--cache-dir", str(ROOT / ".mypy_cache"))
"""Strict, as the connector itself is checked, so that what was found out about it and its packages is known."""

RIGHT = """
import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import assert_type
from xml.etree.ElementTree import Element

from connector import DeadLetter, Event, Ignored, Later, Retry, on, on_start, on_stop
from connector.external import TargetDead, TargetResponse, Verdict, from_thread, on_response, target


@on_start(timeout=5)
async def pool() -> AsyncIterator[None]:
    yield


@on_stop
def tidy() -> None: ...


@on_response("crm")
def inside(response: TargetResponse) -> Verdict | None:
    return Verdict("retry", "busy", counts=True) if response.json() is None else None


@on(
    "SIM/Updated", "Partner/*", name="a", require=["pb_data.sim_info.imsi"], skip_unless=("a.b",), resource="card",
    latest_only="card", timeout=2.5, max_attempts=3,
)
async def everything(event: Event) -> str:
    imsi = event.pb_data.sim_info.imsi
    assert_type(imsi, str | None)
    crm = target("crm")
    try:
        answer = await crm.post(
            "/a/{b}", {"b": imsi}, json={"a": 1}, event=event, step="x", params={"q": 1}, headers={"h": "v"}, timeout=3,
            outcomes={404: "done"},
        )
    except TargetDead as dead:
        raise DeadLetter(str(dead.status)) from None
    assert_type(answer, TargetResponse)
    await crm.get()
    await crm.put("/x", form={"a": 1})
    await crm.patch("/x", xml=Element("a"))
    await crm.delete("/x", event=event)
    await crm.request("HEAD")
    if event.attempt > 3:
        raise Later("tomorrow", hours=24)
    if event.attempt > 2:
        raise Retry("busy", after=timedelta(seconds=5))
    if not event.pb_data.attribute("cs_profile"):
        raise Ignored("no profile")
    return await asyncio.to_thread(plain, event) or ""


@on("SIM/Created")
def plain(event: Event) -> str | None:
    event.log.info("seen", account=event.pb_data.account_info.i_account)
    return from_thread(target("crm").get("/x", event=event)).text()
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All that an author could write: what the pages and templates have, everything at once, and what is wrong."""
    folder = tmp_path_factory.mktemp("author")
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        for text, name in BLOCK.findall(page.read_text()):
            if not name.startswith("test_"):  # the pages' tests are without annotations, as most people's are
                (folder / f"{page.stem.lower()}_{name}").write_text(text)
    for kind in KINDS:
        made = [sys.executable, "-m", "connector", "new", f"my-{kind}", "--target", kind]
        subprocess.run(made, cwd=folder, env=environment(), check=True, capture_output=True, timeout=50)
        for file in (folder / f"my-{kind}").glob("*.py"):
            file.rename(folder / file.name)
    for file in (ROOT / "examples" / "partners").glob("[a-z]*.py"):
        if not file.name.startswith("test_"):
            (folder / f"partner_{file.name}").write_text(file.read_text())
    (folder / "right.py").write_text(RIGHT)
    (folder / "wrong.py").write_text(WRONG)
    return folder


def is_each_wrong_line(found: set[tuple[str, int]]) -> bool:
    """Whether the errors found are in the lines of ``wrong.py`` that are wrong, all of them, and nowhere else."""
    lines = WRONG.splitlines()
    starts = ("    await target().", *(f'@on("SIM/Updated", {each})' for each in OPTIONS))
    wrong = {("wrong.py", number) for number, line in enumerate(lines, 1) if line.startswith(starts)}
    assert len(wrong) == len(OPTIONS) + len(CALLS)
    assert found == wrong, [(file, n, lines[n - 1]) for file, n in found ^ wrong if file == "wrong.py"] or found - wrong
    return True


@pytest.mark.timeout(180)
def test_a_project_is_clean_under_mypy_and_each_wrong_option_is_an_error(project: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "mypy", *CHECKED_BEFORE, "--output", "json", "."],
        cwd=project, env=environment(MYPYPATH=str(ROOT)), capture_output=True, text=True, check=False, timeout=170,
    )  # fmt: skip
    errors = [json.loads(line) for line in ran.stdout.splitlines()]
    assert is_each_wrong_line({(each["file"], each["line"]) for each in errors if each["severity"] == "error"})


@pytest.mark.timeout(180)
def test_a_project_is_clean_under_pyright_and_each_wrong_option_is_an_error(project: Path) -> None:
    settings = {"typeCheckingMode": "strict", "extraPaths": [str(ROOT)], "pythonVersion": "3.11", "include": ["."]}
    (project / "pyrightconfig.json").write_text(json.dumps(settings))
    ran = subprocess.run(
        [sys.executable, "-m", "basedpyright", "--pythonpath", sys.executable, "--outputjson"],
        cwd=project, env=environment(), capture_output=True, text=True, check=False, timeout=170,
    )  # fmt: skip
    errors = [each for each in json.loads(ran.stdout)["generalDiagnostics"] if each["severity"] == "error"]
    assert is_each_wrong_line({(Path(each["file"]).name, each["range"]["start"]["line"] + 1) for each in errors})


@pytest.mark.parametrize("option", OPTIONS)
def test_a_wrong_option_stops_the_start_with_file_and_line(
    option: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"declared_{OPTIONS.index(option)}"
    text = f'from connector import Event, on\n\n\n@on("SIM/Updated", {option})\nasync def f(_: Event) -> None: ...\n'
    (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(StartError, match=rf"{name}.py:4"):
        load([name])
    sys.modules.pop(name, None)


@pytest.mark.parametrize("number", range(len(CALLS)), ids=CALLS)
def test_a_wrong_call_is_dead_at_once_with_file_and_line(number: int, project: Path) -> None:
    text = re.sub(r'@on\("SIM/Updated", (?!name="call).*\n.*\n', "\n\n", WRONG)  # the lines keep their numbers
    spec = importlib.util.spec_from_loader("wrong_calls", None)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    exec(compile(text, str(project / "wrong.py"), "exec"), vars(module))
    with using(StandIn()):
        outcome = asyncio.run(run(vars(module)[f"call_{number}"], example("SIM/Updated")))
    line = next(n for n, text in enumerate(WRONG.splitlines(), 1) if text.endswith(f"target().{CALLS[number]}"))
    assert (outcome.state, f"wrong.py, line {line}" in outcome.reason) == ("dead", True), outcome.reason
