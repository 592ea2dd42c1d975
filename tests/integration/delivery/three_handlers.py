"""Three handlers of one type, ``a``, ``b`` and ``c``, for a connector that is started and ended by a test."""

from collections.abc import Callable
from typing import Any

from connector import Event, on

tried: list[str] = []
"""Which handler was run as which attempt."""

errors: dict[str, Exception] = {}
"""What a handler raises, as long as it stands there."""


def _handler(name: str) -> Callable[[Event], Any]:
    @on("SIM/Updated", name=name)
    async def run(event: Event) -> str:
        tried.append(f"{name}{event.attempt}")
        if name in errors:
            raise errors[name]
        return f"{name} written"

    return run


a, b, c = (_handler(name) for name in "abc")
