"""``python -m connector new FOLDER``: a project of one's own, of nine short files, none of them a copy of ours.

The files lie in ``template/``; ``@NAME@`` and the like in them are filled in. The image of a project is made ``FROM``
ours, so that an upgrade is one number. A change of the template is a new ``TEMPLATE``: projects say what they were made
of.
"""

import json
import keyword
import re
import secrets
import sys
from importlib import metadata, resources
from pathlib import Path
from typing import Final

import click

import connector
from connector.version import __version__

TEMPLATE: Final = 1
"""Number of the template."""

KINDS: Final = ("rest", "sheet", "none")

FILES: Final = {
    "README.md": "README.md",
    ".env": "{kind}/env",
    ".gitignore": "gitignore",
    "{module}.py": "{kind}/handler.txt",
    "test_{module}.py": "{kind}/test.txt",
    "Dockerfile": "Dockerfile",
    "compose.yml": "compose.yml",
    ".github/workflows/ci.yml": "github.yml",
    ".gitlab-ci.yml": "gitlab.yml",
}
"""The files of a project, and those of the template that they are made of."""


@click.command(
    "new",
    help="Make a project of your own in FOLDER, which must be empty or not there: a handler, its tests, settings, "
    "image, CI. Its name is that of the folder.",
)
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--target", "kind", type=click.Choice(KINDS), default="rest", show_default=True,
    help="What its handler changes: a system with a REST API, a table in an SQLite file, nothing yet.",
)  # fmt: skip
def new(folder: Path, kind: str) -> None:
    name = folder.resolve().name
    module = re.sub(r"[-.\s]+", "_", name.lower())
    if why := _unfit(module):
        raise click.ClickException(f"{name} cannot be the name of a project: {why}")
    if folder.exists() and any(folder.iterdir()):
        raise click.ClickException(f"{folder} is not empty; name another folder")
    filled = {
        "NAME": name,
        "MODULE": module,
        "VERSION": __version__,
        "TEMPLATE": f"{kind} {TEMPLATE}",
        "SOURCE": source(),
        "TOKEN": secrets.token_urlsafe(32),
    }
    try:
        for file, made_of in FILES.items():
            _write(folder / file.format(module=module), made_of.format(kind=kind), filled)
    except OSError as error:
        raise click.ClickException(f"{folder} cannot be written: {error.strerror}") from None
    click.echo(f"{folder}: {len(FILES)} files. Go on with {folder / 'README.md'}")


def _write(file: Path, made_of: str, filled: dict[str, str]) -> None:
    text = (resources.files("connector.admin") / "template" / made_of).read_text("utf-8")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch(mode=0o600 if file.name == ".env" else 0o666)  # the umask takes from it what it takes
    file.write_text(re.sub(r"@([A-Z]+)@", lambda found: filled[found[1]], text), "utf-8")


def _unfit(module: str) -> str:
    """Why a project cannot have this module; empty where it can."""
    if not module.isascii() or not module.isidentifier() or keyword.iskeyword(module):
        return "it has to begin with a letter and have letters, digits and - in it"
    if module in sys.stdlib_module_names or module in ("connector", "pytest", "run", "conftest") or _is_a_test(module):
        return f"{module} is the name of another module"
    return ""


def _is_a_test(module: str) -> bool:
    return module.startswith("test_") or module.endswith("_test")


def source() -> str:
    """What pip installs this connector from: the folder or address it came from, else its name and version."""
    root = Path(connector.__file__).resolve().parents[1]
    if (root / "pyproject.toml").is_file():
        return f"nsps-connector @ {root.as_uri()}"
    try:
        came_from = json.loads(metadata.distribution("nsps-connector").read_text("direct_url.json") or "{}")
    except metadata.PackageNotFoundError:
        came_from = {}
    return f"nsps-connector @ {came_from['url']}" if came_from.get("url") else f"nsps-connector=={__version__}"
