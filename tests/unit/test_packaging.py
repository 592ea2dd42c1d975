"""What is installed, under which names and versions, and that the files which say so agree."""

import re
import shlex
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import connector
from tests.requirements import pinned

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
ASKED = PROJECT["project"]["dependencies"]
GROUPS = PROJECT["dependency-groups"]
LOCKS = {
    "requirements.txt": ASKED,
    "requirements-dev.txt": [*ASKED, *GROUPS["dev"]],
    "requirements-tools.txt": GROUPS["tools"],
}


@pytest.mark.parametrize(("lock", "asked"), LOCKS.items(), ids=LOCKS)
def test_every_package_that_is_asked_for_is_pinned_within_its_range_under_its_marker(
    lock: str, asked: list[str]
) -> None:
    pins = pinned(ROOT / lock)
    for wanted in map(Requirement, asked):
        pin = pins[canonicalize_name(wanted.name)]
        (exact,) = pin.specifier
        assert wanted.specifier.contains(exact.version), f"{pin}: not in {wanted.specifier}; run `make lock`"
        assert str(pin.marker) == str(wanted.marker)


@pytest.mark.parametrize("lock", LOCKS)
def test_every_pin_has_hashes_and_no_file_says_where_packages_come_from(lock: str) -> None:
    text = (ROOT / lock).read_text()
    for entry in re.split(r"\n(?=[a-z])", text)[1:]:
        assert re.match(r"[a-z0-9._-]+==\S+( ; [^\\]+)? \\\n    --hash=sha256:[0-9a-f]{64}", entry)
    assert "://" not in text
    assert not re.search(r"^\s*(-i|-f|--index-url|--extra-index-url|--find-links|--trusted-host)\b", text, re.MULTILINE)


def test_two_locks_never_pin_one_package_twice_in_different_versions() -> None:
    used, dev, tools = (pinned(ROOT / lock) for lock in LOCKS)
    assert used.keys() <= dev.keys()
    for name, pin in (dev | tools).items():
        for other in (used, dev, tools):
            assert name not in other or other[name].specifier == pin.specifier


def test_the_simulator_asks_for_nothing_that_the_lock_does_not_pin() -> None:
    simulator = tomllib.loads((ROOT / "nsps_simulator" / "pyproject.toml").read_text())
    pins = pinned(ROOT / "requirements-dev.txt")  # it is not part of the image, so no part of requirements.txt
    for wanted in map(Requirement, simulator["project"]["dependencies"]):
        (exact,) = pins[canonicalize_name(wanted.name)].specifier
        assert wanted.specifier.contains(exact.version)


def test_the_version_is_one_that_the_changelog_knows() -> None:
    headings = re.findall(r"^## \[(.+)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert headings[0] == "Unreleased"
    assert re.fullmatch(r"\d+\.\d+\.\d+", connector.__version__)
    assert headings[1:] == [] or headings[1] == connector.__version__


def test_the_readmes_test_command_is_what_make_and_ci_run() -> None:
    """So that what a reader tries is what is checked."""
    (command,) = re.findall(r"^python3 -m venv .* -m pytest .*$", (ROOT / "README.md").read_text(), re.MULTILINE)
    makefile = (ROOT / "Makefile").read_text()
    recipe = makefile.replace("$(PY)", "$(VENV)/bin/python").replace("$(VENV)", ".venv")
    for step in command.split(" && "):
        assert f"\t{shlex.join(shlex.split(step))}\n" in recipe
    assert re.search(r"^check: .*\btest\b", makefile, re.MULTILINE)
    assert "make check" in (ROOT / ".ci" / "run").read_text()


def test_base_image_is_named_by_one_digest() -> None:
    bases = re.findall(r"^FROM (\S+)", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert len(bases) == 2
    assert len(set(bases)) == 1
    assert re.fullmatch(r"python:3\.\d+-slim@sha256:[0-9a-f]{64}", bases[0])
