"""An event from a file, such as a person writes it or ``events example`` prints it."""

import sys
import time
from pathlib import Path

from connector.errors import ConnectorError, StartError
from connector.events.event import Event
from connector.events.schema import Schema


def event_in(file: Path, schema: Schema) -> Event:
    """The event in ``file`` (``-``: standard input). Raises StartError with each reason for which it is refused."""
    try:
        raw = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
        return schema.parse(raw, "example-trace", "example", time.time())
    except OSError as error:
        raise StartError(f"{file} cannot be read: {error.strerror}") from None
    except ConnectorError as refusal:
        errors = [f"{'.'.join(map(str, each.loc))}: {each.msg}" for each in refusal.details] or [refusal.error]
        raise StartError("\n".join(f"{file}: {error}" for error in errors)) from None
