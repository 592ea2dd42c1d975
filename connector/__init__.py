"""A connector for PortaOne NSPS: the public API of a handler's author.

The names are imported when they are asked for: what starts the connector has to run before that (``process``).
"""

from connector.version import __version__

TYPE_CHECKING = False  # ``typing`` itself takes longer to import than all that stands here
if TYPE_CHECKING:
    from connector.events.event import Event
    from connector.handlers import on, on_start, on_stop
    from connector.outcome import DeadLetter, Ignored, Later, Retry
else:
    _HOMES = {"connector.events.event": ["Event"], "connector.handlers": ["on", "on_start", "on_stop"]}

    def __getattr__(name: str) -> object:
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        home = next((home for home, names in _HOMES.items() if name in names), "connector.outcome")
        globals()[name] = found = getattr(import_module(home), name)
        return found


__all__ = ["DeadLetter", "Event", "Ignored", "Later", "Retry", "__version__", "on", "on_start", "on_stop"]
