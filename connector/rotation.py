"""Secrets that stand in files of their own (``API_TOKEN_FILE``, ``TARGET_TOKEN_FILE``, ...) are read again.

On SIGHUP, and at the latest ``LOOK_EVERY`` seconds after one of the files has changed: what mounts secrets into a
container changes them without a signal. Files that cannot be used leave what there was, and are said once for each
change. No other setting is read again.
"""

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from connector import log
from connector.errors import StartError
from connector.settings import Settings, secret_files

LOOK_EVERY: Final = 5.0
"""Seconds between two looks at the files."""

_log = log.get_logger()


class SecretFiles:
    """Watches the files of the secrets in ``environment``; ``take`` gets the settings when they were read again.

    ``take`` returns the names of what has changed.
    """

    def __init__(self, environment: Mapping[str, str], take: Callable[[Settings], list[str]]) -> None:
        self._environment = environment
        self._take = take
        self._files = secret_files(environment)
        self._seen = self._look()
        self._timer: asyncio.TimerHandle | None = None

    def __bool__(self) -> bool:
        """Whether any secret stands in a file."""
        return bool(self._files)

    def watch(self) -> None:
        """Begin to look whether they change; within the event loop."""
        if self._files:
            self._timer = asyncio.get_running_loop().call_later(LOOK_EVERY, self._look_again)

    def stop(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()

    def read(self) -> None:
        """Read them again now."""
        self._seen = self._look()
        try:
            settings = Settings.load(self._environment)
        except StartError as error:
            _log.error(f"The secrets were not changed: {error}", action="settings.refused", reason=str(error))
            return
        changed = self._take(settings)
        what = ", ".join(changed) or "none has changed"
        _log.info(f"The files of secrets were read again: {what}", action="settings.reread", changed=changed)

    def _look_again(self) -> None:
        if self._look() != self._seen:
            self.read()
        self.watch()

    def _look(self) -> list[tuple[int, int, int] | None]:
        return [_stamp(path) for path in self._files.values()]


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns
