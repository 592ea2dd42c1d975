"""``new``: a project of each kind works as it stands: its tests, its types, its check, its start."""

import asyncio
import json
import os
import re
import shlex
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from connector.admin.new import FILES, KINDS, new
from connector.events.examples import body_of
from connector.version import __version__
from tests.process import ROOT, TIMEOUT, Ended, environment, running
from tests.wire import ask, post


async def command(folder: Path, *arguments: str, **overrides: str) -> Ended:
    """What ``python ARGUMENTS`` says in a folder."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, *arguments, cwd=folder, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        env=environment(**{"API_TOKEN": "", "JOURNAL_URL": "", "PORT": "", "HOST": ""} | overrides),
    )  # fmt: skip
    async with asyncio.timeout(TIMEOUT):
        stdout, stderr = await process.communicate()
    return Ended(process.returncode or 0, stdout.decode(), stderr.decode())


async def made(folder: Path, kind: str) -> Path:
    """A project."""
    ended = await command(folder, "-m", "connector", "new", "my-connector", "--target", kind)
    assert (ended.code, ended.stderr) == (0, "")
    return folder / "my-connector"


@pytest.mark.parametrize("kind", KINDS)
async def test_a_project_passes_its_tests_and_its_check_and_handles_an_event(kind: str, tmp_path: Path) -> None:
    project = await made(tmp_path, kind)
    tested = await command(project, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "tests.no_waiting")
    assert tested.code == 0, tested.stdout
    checked = await command(project, "-m", "connector", "check", "--offline")
    assert checked.code == 0, checked.stdout
    assert not re.search("WARN|FAIL", checked.stdout), checked.stdout
    async with running(project, JOURNAL_URL="") as server:
        assert (await ask(server.port, post(json.dumps(body_of("SIM/Updated")).encode()))).status == 202
        if kind == "rest":
            waits = server.counts  # the name is made up; a resolver may give an address for it all the same
            await server.until(lambda: waits["target.lack"] + waits["event.retrying"] > 0, "a reason to wait")
        else:
            assert (await server.line("event.processed"))["event_type"] == "SIM/Updated"
        listed = await command(project, "-m", "connector", "events", "list")
        assert body_of("SIM/Updated")["event_id"] in listed.stdout
    assert (project / "data" / "journal.db").exists()


async def test_a_project_is_nine_short_files_that_say_what_they_were_made_of(tmp_path: Path) -> None:
    project = await made(tmp_path, "rest")
    texts = {path.relative_to(project): path.read_text() for path in project.rglob("*") if path.is_file()}
    assert len(texts) == len(FILES) <= 9
    assert max(len(text.splitlines()) for text in texts.values()) <= 50
    assert not [name for name, text in texts.items() if re.search(r"@[A-Z]+@", text)]
    for name in ("README.md", "Dockerfile"):
        assert f"nsps-connector {__version__}, template rest 1" in texts[Path(name)]
    assert stat.S_IMODE((project / ".env").stat().st_mode) == 0o600
    assert ".env" in texts[Path(".gitignore")].splitlines()


async def test_two_projects_have_two_tokens(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    first, second = await made(tmp_path, "none"), await made(tmp_path / "other", "none")
    assert (first / ".env").read_text() != (second / ".env").read_text()


@pytest.mark.parametrize(("name", "said"), [
    ("full", "full is not empty"), ("json", "name of another module"), ("connector", "name of another module"),
    ("test-it", "name of another module"), ("3com", "begin with a letter"), ("class", "begin with a letter"),
    ("caf\N{LATIN SMALL LETTER E WITH ACUTE}", "begin with a letter"), ("file", "file"),
])  # fmt: skip
def test_nothing_is_written_where_a_project_cannot_be(
    tmp_path: Path, name: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    before = sorted(os.walk(tmp_path))
    monkeypatch.chdir(tmp_path)
    ended = CliRunner().invoke(new, [name])
    assert isinstance(ended.exception, SystemExit)
    assert (ended.exit_code > 0, ended.stdout) == (True, "")
    assert said in ended.stderr
    assert sorted(os.walk(tmp_path)) == before


async def test_the_image_has_what_it_copies_and_compose_waits_for_a_stop(tmp_path: Path) -> None:
    project = await made(tmp_path, "rest")
    copied = re.findall(r"^COPY (?!--from)(\S+) ", (project / "Dockerfile").read_text(), re.MULTILINE)
    assert copied == ["*.py", "my_connector.py"]
    assert all(list(project.glob(each)) for each in copied)
    (service,) = yaml.safe_load((project / "compose.yml").read_text())["services"].values()
    ours = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["connector"]
    for same in ("stop_grace_period", "read_only", "cap_drop", "security_opt", "tmpfs", "init", "volumes"):
        assert service[same] == ours[same], same
    for ci in (".gitlab-ci.yml", ".github/workflows/ci.yml"):
        assert "docker build" in str(yaml.safe_load((project / ci).read_text()))


@pytest.mark.long
@pytest.mark.timeout(300)
def test_the_two_commands_of_its_readme_work_on_a_fresh_machine(tmp_path: Path) -> None:
    """Asks the network for packages."""
    subprocess.run(
        [sys.executable, "-m", "connector", "new", "my-connector"], cwd=tmp_path, check=True,
        env=environment(), timeout=60,
    )  # fmt: skip
    project = tmp_path / "my-connector"
    start, test = re.findall(r"^python3 -m venv .*$", (project / "README.md").read_text(), re.MULTILINE)
    kept = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PORT": "0"}
    kept |= {name: value for name, value in os.environ.items() if name.startswith("PIP_") or name.endswith("_proxy")}
    subprocess.run(["bash", "-ec", test], cwd=project, env=kept, check=True, timeout=200)
    run = f"timeout --preserve-status 20 {start.rpartition('&& ')[2]}"
    said = subprocess.run(
        ["bash", "-ec", run], cwd=project, env=kept, capture_output=True, text=True, timeout=60, check=False
    )
    assert '"server.started"' in said.stdout, said.stderr
    assert shlex.split(start)[:3] == ["python3", "-m", "venv"]
