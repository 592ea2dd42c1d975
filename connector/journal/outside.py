"""A journal as an operator has it: from outside the process that owns it, beside a running connector or without one."""

from abc import ABC, abstractmethod
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self, TypeVar

from connector.journal.commands import Command, CommandResult
from connector.journal.queries import Query

Result = TypeVar("Result")


class Copied(NamedTuple):
    """What a copy of a journal has: ``events``, of which ``open`` are not over, in ``size`` bytes."""

    events: int
    open: int
    size: int


class Restored(NamedTuple):
    """What was restored, and where the former journal is kept, if there was one."""

    copied: Copied
    kept: Path | None


class Outside(ABC):
    """Questions and commands, as ``Journal`` takes them; a context manager, or to be closed.

    It may block while it reads a file, so it is for a process that does nothing else.
    """

    @abstractmethod
    async def ask(self, query: Query[Result]) -> Result:
        """The answer to a question. Raises Unavailable where the journal cannot be read."""

    @abstractmethod
    async def command(self, command: Command) -> CommandResult:
        """Have a command carried out, by the running connector if there is one. Raises Unavailable where it cannot."""

    @abstractmethod
    def backup(self, target: Path) -> Copied:
        """Write a checked copy, also while a connector runs. Raises Unavailable; what stood there is left then."""

    @abstractmethod
    def restore(self, source: Path) -> Restored:
        """Put a checked copy of a backup in the journal's place, and keep the former one aside.

        Raises StartError where a connector runs, Unavailable where the backup cannot be used; nothing is changed then.
        """

    @abstractmethod
    def close(self) -> None:
        """Let go of everything."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        self.close()
