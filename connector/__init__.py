"""A connector for PortaOne NSPS: the public API of a handler's author."""

from connector.events.event import Event
from connector.handlers import on, on_start, on_stop
from connector.outcome import DeadLetter, Ignored, Later, Retry
from connector.version import __version__

__all__ = ["DeadLetter", "Event", "Ignored", "Later", "Retry", "__version__", "on", "on_start", "on_stop"]
