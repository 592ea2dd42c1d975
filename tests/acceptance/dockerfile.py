"""A Dockerfile read as far as its steps can be replayed without Docker."""

import json
import re
import shlex
from pathlib import Path
from typing import NamedTuple


class Step(NamedTuple):
    """An instruction, e.g. COPY, and what stands after it, continued lines joined."""

    name: str
    rest: str

    @property
    def flags(self) -> dict[str, str]:
        """Leading ``--name=value`` options."""
        return dict(word[2:].split("=", 1) for word in self.rest.split() if re.match(r"--[a-z-]+=", word))

    @property
    def words(self) -> list[str]:
        """What stands after the options."""
        return [word for word in self.rest.split() if not word.startswith("--")]

    @property
    def command(self) -> list[str]:
        """The exec form of a CMD or HEALTHCHECK. Raises ValueError for the shell form, which no signal reaches."""
        command = self.rest[self.rest.index("[") :]
        return [str(word) for word in json.loads(command)]


class Image:
    """The last stage of a Dockerfile: what the image is made of."""

    def __init__(self, dockerfile: Path) -> None:
        text = re.sub(r"^\s*#.*\n", "", dockerfile.read_text(), flags=re.MULTILINE).replace("\\\n", " ")
        self.all_steps = [Step(*line.strip().split(maxsplit=1)) for line in text.splitlines() if line.strip()]
        last = max(number for number, step in enumerate(self.all_steps) if step.name == "FROM")
        self.steps = self.all_steps[last:]

    def last(self, name: str) -> Step:
        """The last instruction of that name, the one that counts."""
        return [step for step in self.steps if step.name == name][-1]

    @property
    def environment(self) -> dict[str, str]:
        """What ENV sets."""
        pairs = [word for step in self.steps if step.name == "ENV" for word in shlex.split(step.rest)]
        return dict(pair.split("=", 1) for pair in pairs)

    def place(self, context: Path, keeps: "Ignore", root: Path) -> None:
        """Do what COPY and WORKDIR do, from ``context`` to ``root``. Raises FileNotFoundError as Docker would."""
        here = root
        for step in self.steps:
            if step.name == "WORKDIR":
                here = root / step.rest.lstrip("/")
                here.mkdir(parents=True, exist_ok=True)
            elif step.name == "COPY" and "from" not in step.flags:
                *sources, target = step.words
                for source in sources:
                    _copy(context, Path(source), here / target, keeps)


class Ignore:
    """A ``.dockerignore``: the last line that fits a file decides, and a line for a folder fits what is in it."""

    def __init__(self, text: str) -> None:
        lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
        self._rules = [(not line.startswith("!"), _pattern(line.lstrip("!").strip("/"))) for line in lines]

    def __call__(self, path: Path) -> bool:
        """Whether the file, named from the context's top, goes to the builder."""
        names = [path.as_posix(), *(parent.as_posix() for parent in path.parents)]
        ignored = False
        for ignores, pattern in self._rules:
            if any(pattern.fullmatch(name) for name in names):
                ignored = ignores
        return not ignored


def _pattern(line: str) -> re.Pattern[str]:
    marks = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    parts = re.split(r"(\*\*/|\*\*|\*|\?)", line)
    return re.compile("".join(marks.get(part, re.escape(part)) for part in parts))


def _copy(context: Path, source: Path, target: Path, keeps: Ignore) -> None:
    whole = context / source
    files = [file for file in ([whole] if whole.is_file() else whole.rglob("*")) if file.is_file()]
    kept = [file for file in files if keeps(file.relative_to(context))]
    if not kept:
        raise FileNotFoundError(f"COPY {source}: there is no such thing in the context")
    for file in kept:
        place = target / (file.relative_to(whole) if whole.is_dir() else file.name)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(file.read_bytes())
