"""The commands of docs/load-testing.md do what the page says, made short: fewer events, shorter times, other ports."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
TEXT = (ROOT / "docs" / "load-testing.md").read_text()
RECIPES = {
    section.splitlines()[0]: block
    for section in TEXT.split("\n## ")[1:]
    for block in re.findall(r"```console\n(.*?)```", section, re.DOTALL)
}
IN_CI = ("Quick start", "Recipe: a bill run of a million events with a slow HLR", "The same bodies with k6 or Locust")
SHORTER = (
    (r"--events \d+", "--events 300"),
    (r"--duration \d+", "--duration 1.5"),
    (r"--rate \d+", "--rate 150"),
    (r"--kill-every \d+", "--kill-every 1"),
    (r"--target-down \d+-\d+", "--target-down 0.4-0.9"),
    (r"--settle \d+", "--settle 3"),
    (r"--subscribers \d+", "--subscribers 300"),
    (r"--closed \d+", "--closed 4"),
)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def made_short(block: str, folder: Path) -> str:
    """The commands of a recipe as a shell script that any machine can run in seconds."""
    script = re.sub(r"^\$ ", "", block, flags=re.MULTILINE).replace("sqlite:////tmp/", f"sqlite:///{folder}/")
    for written, shorter in SHORTER:
        script = re.sub(written, shorter, script)
    script = re.sub(r"python run\.py", f"{sys.executable} {ROOT / 'run.py'}", script)
    script = re.sub(r"(nsps_simulator )(plan )?(--url)", r"\1\2--target 127.0.0.1:0 \3", script)
    return "set -e\n" + script.replace(":3000", f":{free_port()}").replace("python -m", f"{sys.executable} -m")


def test_the_page_has_recipes() -> None:
    assert {"Quick start", "Recipe: find your ceiling", "Recipe: a weekend outage of the HLR"} <= RECIPES.keys()


@pytest.mark.parametrize(
    "name", [name if name in IN_CI else pytest.param(name, marks=pytest.mark.long) for name in RECIPES]
)
@pytest.mark.timeout(150)
def test_a_recipe_of_the_docs_runs_as_it_stands_there(name: str, tmp_path: Path) -> None:
    environment = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    done = subprocess.run(
        ["bash", "-c", made_short(RECIPES[name], tmp_path)],
        cwd=tmp_path,
        env=environment | {"PYTHONPATH": str(ROOT), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for file in re.findall(r"(?:--json|--html|>) (\S+\.(?:jsonl|json|html))\b", RECIPES[name]):
        assert (tmp_path / file).stat().st_size > 1000
    assert "Traceback" not in done.stderr
