"""Errors of handlers for their authors: the traceback at the first one of each place, then counts."""

import traceback
from collections import OrderedDict
from typing import Final

from connector import log
from connector.events.event import Event
from connector.handlers import Handler

PLACES: Final = 1000
"""Places that are remembered; the one that was seen first is forgotten."""

MAX_TRACE: Final = 8000
"""Characters of a traceback in a log line, the last ones."""

_log = log.get_logger()


class Mistakes:
    """Counts the errors of handlers by place, and says the first, the tenth, the hundredth, ... of each."""

    def __init__(self) -> None:
        self._seen: OrderedDict[tuple[str, str], int] = OrderedDict()

    def count(self, event: Event, handler: Handler, error: BaseException, place: str) -> None:
        """Note an error that ``handler`` raised at ``place`` (file and line)."""
        key = (place or handler.name, type(error).__name__)
        times = self._seen[key] = self._seen.get(key, 0) + 1
        if len(self._seen) > PLACES:
            self._seen.popitem(last=False)
        if times == 1:
            trace = "".join(traceback.format_exception(error))[-MAX_TRACE:]
            self._say(event, handler, error, place, times, exception=trace)
        elif str(times).strip("0") == "1":
            self._say(event, handler, error, place, times)

    def _say(self, event: Event, handler: Handler, error: BaseException, place: str, times: int, **more: str) -> None:
        _log.error(
            f"{type(error).__name__} in the handler {handler.name}" + (f" ({times} times)" if times > 1 else ""),
            action="handler.error",
            handler=handler.name,
            place=place,
            times=times,
            event_id=event.event_id,
            event_type=event.event_type,
            request_id=event.request_id,
            unique_id=event.unique_id,
            **more,
        )
