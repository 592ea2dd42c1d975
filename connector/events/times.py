"""Times as senders write them. Pure.

Read are RFC 3339 and ISO 8601 (calendar, week and ordinal dates, basic and extended form, parts of a time left out,
fractions, ``24:00``, a leap second), the same with a space for the T and small letters, ``... UTC``, ``...[UTC]`` and
``...[Europe/Prague]`` (java.time), RFC 2822, and seconds, milliseconds or microseconds since the epoch as numbers or as
texts. A time without a zone is UTC (NSPS connector guide: ``event_time`` is ``YYYY-MM-DD HH:MM:SS`` in UTC).
"""

import re
from datetime import MAXYEAR, MINYEAR, UTC, datetime, timedelta, tzinfo
from email.utils import parsedate_to_datetime
from typing import Any, Final
from zoneinfo import ZoneInfo

_DATE: Final = (
    r"(?:(?P<year>\d{4})-?(?P<month>\d\d)-?(?P<day>\d\d)"
    r"|(?P<week_year>\d{4})-?W(?P<week>\d\d)(?:-?(?P<weekday>\d))?"
    r"|(?P<ordinal_year>\d{4})-?(?P<ordinal>\d{3})"
    r"|(?P<bare_year>\d{4})(?:-(?P<bare_month>\d\d))?)"
)
_TIME: Final = r"(?P<hour>\d\d)(?::?(?P<minute>\d\d)(?::?(?P<second>\d\d))?)?(?:[.,](?P<fraction>\d+))?"
_ZONE: Final = (
    r"(?:Z|UTC?|GMT|(?P<sign>[+-])(?P<zone_hour>\d\d)(?::?(?P<zone_minute>\d\d)(?::?(?P<zone_second>\d\d))?)?)"
)
_ISO: Final = re.compile(
    rf"(?:\+00)?{_DATE}(?:(?:T|\s+|(?<=\d{{8}})(?=\d{{6}}\b)){_TIME})?\s*(?P<zone>{_ZONE})?\s*(?:\[(?P<place>[^\]]+)\])?",
    re.ASCII | re.IGNORECASE,
)
_NUMBER: Final = re.compile(r"-?\d{9,18}(?:\.\d+)?", re.ASCII)

_UNITS: Final = ((1e8, 1.0), (1e11, 1e3), (1e14, 1e6))
"""From which number on a count since the epoch is one of seconds (1973), milliseconds and microseconds."""

_LONGEST: Final = 100
"""Characters; no way to write a time needs more."""


def parse_time(value: Any) -> datetime | None:
    """The time that a text or number says, aware and in UTC; None where it says none."""
    if isinstance(value, str):
        if value[16:17] != ":" and ("." in value or "," in value):
            return _other_form(value)  # Python takes the fraction of a minute or an hour for one of a second
        try:
            time = datetime.fromisoformat(value)
            return time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)
        except (ValueError, OverflowError):
            return _other_form(value)
    return _since_epoch(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def is_time(value: Any) -> bool:
    """Whether ``parse_time`` can read it; cheaper, since the usual forms need not be moved to UTC for that."""
    if isinstance(value, str) and (value[16:17] == ":" or not ("." in value or "," in value)):
        try:
            if MINYEAR < datetime.fromisoformat(value).year < MAXYEAR:
                return True
        except ValueError:
            pass
    return parse_time(value) is not None


def _other_form(text: str) -> datetime | None:
    text = text.strip().replace("\u2212", "-")  # ISO 8601 writes a minus sign where a keyboard has a hyphen
    if not text or len(text) > _LONGEST:
        return None
    try:
        if _NUMBER.fullmatch(text) and not _looks_like_a_calendar(text):
            return _since_epoch(float(text))
        found = _ISO.fullmatch(text)
        return _of_iso(found) if found else _utc(parsedate_to_datetime(text))
    except (ValueError, OverflowError, TypeError, IndexError, KeyError, OSError):
        return None


def _looks_like_a_calendar(text: str) -> bool:
    """Whether digits alone are YYYYMMDDHHMMSS rather than a count: 14 digits of a count would be of the year 1970."""
    return len(text) == len("YYYYMMDDHHMMSS") and text[:2] in ("19", "20")


def _since_epoch(number: float) -> datetime | None:
    scale = next((scale for least, scale in reversed(_UNITS) if abs(number) >= least), None)
    try:
        return None if scale is None else datetime.fromtimestamp(number / scale, UTC)
    except (ValueError, OverflowError, OSError):
        return None


def _of_iso(found: re.Match[str]) -> datetime:
    part = found.groupdict()
    hour, minute, second = (int(part[name] or 0) for name in ("hour", "minute", "second"))
    if hour > 24 or minute > 59 or second > 60 or (hour == 24 and (minute or second or int(part["fraction"] or 0))):
        raise ValueError("no time of a day")
    unit = 1 if part["second"] else 60 if part["minute"] else 3600
    fraction = float(f"0.{part['fraction']}") * unit if part["fraction"] else 0.0
    time = _day(part) + timedelta(hours=hour, minutes=minute, seconds=second + fraction)
    if part["sign"]:
        offset = timedelta(
            hours=int(part["zone_hour"]), minutes=int(part["zone_minute"] or 0), seconds=int(part["zone_second"] or 0)
        )
        return time.replace(tzinfo=UTC) - (offset if part["sign"] == "+" else -offset)
    zone: tzinfo = UTC if part["zone"] or not part["place"] else ZoneInfo(part["place"])
    return _utc(time.replace(tzinfo=zone))


def _day(part: dict[str, str | None]) -> datetime:
    def number(name: str, default: int = 1) -> int:
        return int(part[name] or default)

    if part["week"]:
        return datetime.fromisocalendar(number("week_year"), number("week"), number("weekday"))
    if part["ordinal"]:
        first = datetime(number("ordinal_year"), 1, 1)  # noqa: DTZ001 - the zone is read after the day
        day = first + timedelta(days=number("ordinal") - 1)
        if number("ordinal", 0) < 1 or day.year != first.year:
            raise ValueError("no day of that year")
        return day
    if part["bare_year"]:
        return datetime(number("bare_year"), number("bare_month"), 1)  # noqa: DTZ001
    return datetime(number("year"), number("month"), number("day"))  # noqa: DTZ001


def _utc(time: datetime) -> datetime:
    return time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)
