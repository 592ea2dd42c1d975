"""The external systems of a connector, by name, each with its own client, breaker and limits."""

import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta

from connector.errors import StartError
from connector.external import mapping
from connector.external.client import Held, Target
from connector.external.hooks import declared_targets
from connector.settings import Settings


class Targets:
    """What TARGET_URL and TARGETS describe; may be none at all.

    ``clock``    seconds, steady
    ``release``  is called with a target's name when those who wait for it may come again: how many, None for all
    ``note``     is told which target holds what until when and why, and an empty text when none does
    Raises StartError where a certificate, a key or the mapping file cannot be read.
    """

    def __init__(
        self,
        settings: Settings,
        clock: Callable[[], float] = time.monotonic,
        *,
        release: Callable[[str, int | None], int] = lambda _, __: 0,
        note: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._note = note
        self._held: dict[str, str] = {}
        self.all: Mapping[str, Target] = {
            name: Target(
                own,
                clock=clock,
                name=name,
                hold=lambda reason, seconds, name=name: self._hold(name, reason, seconds),  # type: ignore[misc]
                release=lambda most, name=name: release(name, most),  # type: ignore[misc]
                free=lambda name=name: self._free(name),  # type: ignore[misc]
                mapping=mapping.from_settings(settings),
            )
            for name, own in settings.of_targets.items()
        }
        mapped = [target.mapping for target in self.all.values() if target.mapping is not None]
        self.mapping_warnings = [f"FORWARD_MAPPING: {warning}" for each in mapped[:1] for warning in each.warnings]

    def check_hooks(self) -> None:
        """Raises StartError where a function is declared for a target that no setting names.

        For the start of a process: one that runs tests may have imported the handlers of other connectors, too.
        """
        if unknown := sorted(declared_targets() - self.all.keys()):
            raise StartError(f"TARGETS: @on_response stands for {', '.join(unknown)}, which no setting names")

    async def open(self) -> None:
        """Get ready for calls."""
        for target in self.all.values():
            await target.open()

    async def close(self) -> None:
        """Close all connections."""
        for target in self.all.values():
            await target.close()

    def find(self, name: str | None = None) -> Target:
        """The target of this name; without a name, that of TARGET_URL or the only one.

        Raises LookupError that says what is missing.
        """
        if name is None and len(self.all) == 1:
            return next(iter(self.all.values()))
        found = self.all.get("target" if name is None else name)
        if found is not None:
            return found
        if not self.all:
            raise LookupError("TARGET_URL is not set: there is no external system to call")
        known = ", ".join(f'target("{each}")' for each in sorted(self.all))
        raise LookupError(f"there is no target {name!r}; there is {known}" if name else f"say which target: {known}")

    def take_secrets(self, settings: Settings) -> list[str]:
        """Log in with the credentials of these settings from now on; what has changed, in words."""
        of_targets = settings.of_targets
        return [f"credentials of {name}" for name, target in self.all.items() if target.take_secrets(of_targets[name])]

    def held(self, event_type: str | None = None) -> Held | None:
        """The hold that ends first, while all targets hold calls for events of this type; else None."""
        holds = [hold for target in self.all.values() if (hold := target.held(event_type)) is not None]
        return min(holds, key=lambda hold: hold.seconds) if holds and len(holds) == len(self.all) else None

    def _hold(self, name: str, reason: str, seconds: float) -> None:
        until = datetime.now(UTC) + timedelta(seconds=seconds)
        scope = self.all[name].state().scope
        who = "" if name == "target" else f"{name}: "
        what = f" (events of type {scope})" if scope else ""
        self._held[name] = f"{who}{reason}{what}; tried again at {until.isoformat(timespec='seconds')}"
        self._say()

    def _free(self, name: str) -> None:
        self._held.pop(name, None)
        self._say()

    def _say(self) -> None:
        self._note("; ".join(self._held.values()))
