"""Handlers: declared with ``@on``, found in the modules that HANDLERS names. No HTTP and no journal here.

A handler is called with one ``Event``. When it returns, the event is done (a text it returns becomes the message of
the log line and the note in the history); ``Ignored``, ``Retry``, ``Later`` and ``DeadLetter`` say otherwise, and any
other exception means: try again later.
"""

from connector.handlers.choice import Handlers, mark_of
from connector.handlers.declare import Handler, Hook, handler_of, on, on_start, on_stop
from connector.handlers.lifetime import running
from connector.handlers.loading import load

__all__ = ["Handler", "Handlers", "Hook", "handler_of", "load", "mark_of", "on", "on_start", "on_stop", "running"]
