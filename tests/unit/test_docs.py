"""Every code block of every page: it can be read, and its commands, options, settings and files are there.

Those that say what happens are run: the README's in ``acceptance/test_readme``, those of the guides of handlers and of
targets in ``test_handlers_guide`` and ``test_external_guide``, those of load testing in
``simulator/integration/test_recipes``.
"""

import json
import re
import shlex
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import click
import pytest
import yaml

from connector.__main__ import main
from tests.process import ROOT

PAGES = sorted(
    path
    for path in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("*/**/*.md")]
    if not {".venv", ".venv-tools", "node_modules", "template"} & set(path.parts)
)
TOOLS = {"python", "python3", "nsps-connector", ".venv/bin/python", "$NSPS/.venv/bin/python"}


class Block(NamedTuple):
    """A code block: on which page and line it begins, its language and its text."""

    page: str
    line: int
    language: str
    text: str


def blocks() -> Iterator[Block]:
    """All code blocks."""
    for page in PAGES:
        text = page.read_text()
        for found in re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
            line = text.count("\n", 0, found.start()) + 1
            yield Block(str(page.relative_to(ROOT)), line, found[1], found[2])


def of(*languages: str) -> list[object]:
    """The blocks in these languages."""
    return [pytest.param(each, id=f"{each.page}:{each.line}") for each in blocks() if each.language in languages]


def commands(block: Block) -> Iterator[list[str]]:
    """The words of each of our commands in a block of a shell's."""
    text = re.sub(r"^\$ ", "", block.text, flags=re.MULTILINE).replace("\\\n", " ")
    for line in text.splitlines():
        for part in re.split(r"&&|\|\||[|;]|\bdo\b", line.partition(" # ")[0]):
            try:
                words = shlex.split(part, comments=True)
            except ValueError:
                continue  # a text over several lines
            if ">" in words:
                words = words[: words.index(">")]
            for number, word in enumerate(words):
                if word == "nsps-connector" and words[0] not in ("docker", "podman"):
                    yield words[number + 1 :]
                if word in TOOLS and words[number + 1 : number + 3] == ["-m", "connector"]:
                    yield words[number + 3 :]


def faults_in(block: Block) -> Iterator[str]:
    """What is wrong with our commands in a block."""
    for words in commands(block):
        try:
            context = main.make_context("connector", words)
            command: click.Command = main
            while isinstance(command, click.Group) and (rest := [*context._protected_args, *context.args]):
                name, found, rest = command.resolve_command(context, rest)
                assert found is not None
                context, command = found.make_context(name, rest, parent=context), found
        except click.exceptions.Exit:
            pass
        except click.UsageError as error:
            yield f"{block.page}:{block.line}: {' '.join(words)}: {error.message}"


def test_there_are_pages_and_blocks_and_all_their_languages_are_known() -> None:
    languages = {block.language for block in blocks()}
    assert len(PAGES) > 15
    known = {"sh", "console", "python", "json", "toml", "yaml", "dockerfile", "js", "nginx", "haproxy", ""}
    assert languages <= known | {"ini", "jsonc", "text", "caddyfile", "sql"}, languages - known


@pytest.mark.parametrize("block", of("json", "toml", "yaml", "python"))
def test_a_block_of_data_or_code_can_be_read(block: Block) -> None:
    match block.language:
        case "json":
            json.loads(block.text)
        case "toml":
            tomllib.loads(block.text)
        case "yaml":
            list(yaml.safe_load_all(block.text))
        case "python":
            compile(block.text, f"{block.page}:{block.line}", "exec")


@pytest.mark.parametrize("block", of("sh", "console"))
def test_the_commands_of_a_block_are_a_shells_and_ours_have_these_options(block: Block) -> None:
    if block.language == "sh":
        script = re.sub(r"^\$ .*?(?<!\\)\n.*", "", block.text, flags=re.MULTILINE | re.DOTALL)  # with what it prints
        ran = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True, check=False, timeout=30)
        assert ran.returncode == 0, ran.stderr
    assert list(faults_in(block)) == []


def test_a_command_or_option_that_there_is_none_of_is_noticed() -> None:
    script = "cd x && python -m connector events list --sorted\nnsps-connector evnts > y\npython -m connector stats\n"
    faults = list(faults_in(Block("page", 1, "sh", script)))
    assert ["--sorted" in faults[0], "evnts" in faults[1], len(faults)] == [True, True, 2]


@pytest.mark.parametrize("block", of("sh", "console", "yaml", "dockerfile"))
def test_a_file_of_ours_that_a_block_names_is_there(block: Block) -> None:
    for file in re.findall(r"\b(?:examples|nsps_simulator|benchmarks)/[\w./-]+\.(?:json|toml|py|lua)\b", block.text):
        assert (ROOT / file).exists(), file


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_to_a_page_and_to_a_heading_of_it(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)):
        if re.match(r"[a-z]+:", link):
            continue
        file, _, anchor = link.partition("#")
        target = (page.parent / file).resolve() if file else page
        assert target.exists(), link
        if anchor and target.suffix == ".md":
            assert anchor in anchors(target), link


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub and GitLab make them."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    made: dict[str, int] = {}
    for heading in re.findall(r"^#+ +(.*?) *$", text, re.MULTILINE):
        plain = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").replace("*", "")
        anchor = re.sub(r"[^\w\- ]", "", plain.lower()).replace(" ", "-")
        made[anchor] = made.get(anchor, -1) + 1
        if made[anchor]:
            made[f"{anchor}-{made[anchor]}"] = 0
    return set(made)
