"""The image without Docker: its files in a clean folder, its command, its health check, its stop."""

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name

from connector.settings import Settings, describe
from connector.web.server import ANSWER_TIMEOUT
from tests.acceptance.dockerfile import Ignore, Image
from tests.requirements import pinned

ROOT = Path(__file__).parents[2]
IMAGE = Image(ROOT / "Dockerfile")
KEEPS = Ignore((ROOT / ".dockerignore").read_text())


@pytest.fixture
def app(tmp_path: Path) -> Path:
    """The working directory of a container."""
    IMAGE.place(ROOT, KEEPS, tmp_path)
    return tmp_path / IMAGE.last("WORKDIR").rest.lstrip("/")


@pytest.fixture
def environment() -> dict[str, str]:
    """What a container's process finds in its environment, with a free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    return IMAGE.environment | {"PATH": os.environ["PATH"], "PORT": str(port), "API_TOKEN": "of-the-test"}


@pytest.fixture
def container(app: Path, environment: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    """The image's command, until it says that it listens."""
    process = subprocess.Popen(
        interpreted(IMAGE.last("CMD").command), cwd=app, env=environment, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    with process:
        try:
            assert any('"server.started"' in line for line in process.stdout), "it did not start"
            yield process
        finally:
            process.kill()


def interpreted(command: list[str]) -> list[str]:
    """The command, with the interpreter that runs the tests for the image's."""
    assert command[0] == "python"
    return [sys.executable, *command[1:]]


def health(app: Path, environment: dict[str, str]) -> int:
    """The exit code of the health check."""
    check = interpreted(IMAGE.last("HEALTHCHECK").command)
    return subprocess.run(
        check, cwd=app, env=environment, stderr=subprocess.DEVNULL, check=False, timeout=10
    ).returncode


def test_a_running_container_is_not_called_unhealthy_nor_a_dead_one_healthy(
    container: subprocess.Popen[str], app: Path, environment: dict[str, str]
) -> None:
    assert health(app, environment) == 0
    assert health(app, environment | {"HTTP_PROXY": "http://127.0.0.1:9", "http_proxy": "http://127.0.0.1:9"}) == 0
    container.kill()
    container.wait(10)
    assert health(app, environment) != 0


def test_docker_stop_ends_the_container_with_exit_code_0(container: subprocess.Popen[str]) -> None:
    container.send_signal(signal.Signals[IMAGE.last("STOPSIGNAL").rest])
    assert container.wait(20) == 0


def test_no_step_of_any_stage_copies_a_file_that_the_checkout_or_dockerignore_lacks() -> None:
    for step in IMAGE.all_steps:
        if step.name == "COPY" and "from" not in step.flags:
            for source in step.words[:-1]:
                assert (ROOT / source).exists()
                assert KEEPS(Path(source))


@pytest.mark.parametrize("path", [".env", "data/journal.db", ".git/config", "my.key", "connector/__pycache__/a.pyc"])
def test_secrets_journals_and_leftovers_of_a_checkout_do_not_reach_the_builder(path: str) -> None:
    assert not KEEPS(Path(path))


def test_the_image_has_the_program_and_nothing_of_the_tests(app: Path) -> None:
    assert {path.name for path in app.iterdir()} == {"run.py", "connector"}
    assert (app / "connector" / "journal" / "sqlite" / "store.py").is_file()


def test_the_program_imports_nothing_that_the_images_requirements_do_not_install(app: Path) -> None:
    """The packages that tests need are not in the image, so an import of one would work everywhere but there."""
    script = "import sys; at_start = set(sys.modules); import connector.serve; print(*set(sys.modules) - at_start)"
    listing = subprocess.run(
        [sys.executable, "-c", script],
        cwd=app,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=30,
    )
    owners = metadata.packages_distributions()
    modules = {module.partition(".")[0] for module in listing.stdout.split()}
    imported = {canonicalize_name(owner) for module in modules for owner in owners.get(module, ())}
    assert "aiohttp" in imported
    assert imported - {"nsps-connector"} <= pinned(ROOT / "requirements.txt").keys()


def test_the_container_is_not_root_and_owns_its_data() -> None:
    user, _, _ = IMAGE.last("USER").rest.partition(":")
    assert int(user) > 0, "a number, so that Kubernetes can tell that it is not root"
    names = [step.name for step in IMAGE.steps]
    assert names.index("USER") < names.index("CMD")
    made = next(step.rest for step in IMAGE.steps if step.name == "RUN" and IMAGE.last("VOLUME").rest in step.rest)
    assert f"--uid {user} " in made
    assert re.search(r"install -d -o connector -g connector /app/data", made)


def test_the_default_journal_lies_on_the_volume() -> None:
    defaults = {name: default for name, default, _ in describe()}
    journal = defaults["JOURNAL_URL"].removeprefix("sqlite:///")
    directory = Path(IMAGE.last("WORKDIR").rest)
    assert (directory / journal).is_relative_to(IMAGE.last("VOLUME").rest)


def test_compose_does_not_kill_a_connector_that_is_still_within_its_time_to_stop() -> None:
    grace = re.search(r"stop_grace_period: (\d+)s", (ROOT / "docker-compose.yml").read_text())
    assert grace
    assert int(grace[1]) > Settings().drain_timeout + ANSWER_TIMEOUT
