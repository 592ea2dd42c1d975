"""The wheels: what `pip install .` and `pip install ./nsps_simulator` lay down, and the commands that they make."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import connector

ROOT = Path(__file__).parents[2]


PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
OFFLINE = ["--no-deps", "--no-build-isolation", "--no-index"]
LEFTOVERS = shutil.ignore_patterns("__pycache__", "*.egg-info", "build")

pytestmark = pytest.mark.xdist_group("install")  # what is installed once serves all


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the source, since a build writes beside it."""
    source = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, source)
    for name in ("connector", "nsps_simulator", "tests/unit"):
        shutil.copytree(ROOT / name, source / name, ignore=LEFTOVERS)
    return source


def install(source: Path, package: str, site: Path) -> None:
    """Build the wheel, which has ``package`` in it and nothing else, and install it in ``site``."""
    subprocess.run([*PIP, "wheel", *OFFLINE, "--wheel-dir", site, source], check=True, timeout=50)
    (wheel,) = site.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        folders = {name.partition("/")[0] for name in archive.namelist()}
    assert folders == {package, "-".join(wheel.name.split("-")[:2]) + ".dist-info"}
    subprocess.run([*PIP, "install", *OFFLINE, "--target", site, wheel], check=True, timeout=50)


@pytest.fixture(scope="module")
def installed(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the installed connector."""
    site = tmp_path_factory.mktemp("site")
    install(source, "connector", site)
    return site


def run(site: Path, command: str, *arguments: str) -> str:
    """What an installed command prints, outside the source."""
    return subprocess.run(
        [sys.executable, site / "bin" / command, *arguments],
        cwd=site,
        env={"PYTHONPATH": str(site)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=30,
    ).stdout


def test_the_installed_command_is_there_and_knows_its_version(installed: Path) -> None:
    assert run(installed, "nsps-connector", "--version") == f"nsps-connector {connector.__version__}\n"
    assert "replay" in run(installed, "nsps-connector", "--help")


def test_every_module_and_the_mark_of_types_are_installed(installed: Path) -> None:
    modules = {path.relative_to(ROOT) for path in (ROOT / "connector").rglob("*.py")}
    laid = {path.relative_to(installed) for path in (installed / "connector").rglob("*.py")}
    assert modules == laid
    assert (installed / "connector" / "py.typed").is_file()


def test_the_installed_command_makes_a_project(installed: Path, tmp_path: Path) -> None:
    run(installed, "nsps-connector", "new", str(tmp_path / "mine"))
    assert "nsps-connector @ file:" in (tmp_path / "mine" / "README.md").read_text()
    assert (tmp_path / "mine" / "mine.py").is_file()


def test_the_simulator_is_installed_without_the_connector(source: Path, tmp_path: Path) -> None:
    install(source / "nsps_simulator", "nsps_simulator", tmp_path)
    assert "--profile" in run(tmp_path, "nsps-simulator", "run", "--help")
