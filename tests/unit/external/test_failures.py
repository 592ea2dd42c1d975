"""The table from answers to outcomes, and what is read from an error answer."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from connector.external.failures import MAX_RETRY_AFTER, counts, parse_retry_after
from connector.external.failures import judge as judge_response
from connector.external.response import (
    Kind,
    TargetBusy,
    TargetDead,
    TargetFailed,
    TargetIgnored,
    TargetMistake,
    TargetResponse,
    TargetRetry,
    TargetUnavailable,
)
from connector.external.said import MAX_REASON, Masks
from connector.outcome import DeadLetter, Ignored, Postponed, Retry
from connector.setting_values import StatusOutcome

NOW = datetime(2025, 9, 1, 12, 0, 0, tzinfo=UTC)
reason_in = Masks().reason


def judge(
    status: int, body: bytes | None, retry_after: str | None, outcomes: Mapping[int, StatusOutcome], now: datetime
) -> TargetFailed | None:
    headers = CIMultiDict({} if retry_after is None else {"Retry-After": retry_after})
    response = TargetResponse(status, CIMultiDictProxy(headers), body)
    return judge_response(response, outcomes, now, "the target", reason_in(body))


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_a_success_is_done(status: int) -> None:
    assert judge(status, b"", None, {}, NOW) is None


@pytest.mark.parametrize(
    ("status", "outcome", "kind", "breaker"),
    [
        (301, TargetRetry, Kind.REFUSED, True),
        (400, TargetDead, Kind.REFUSED, False),
        (401, TargetRetry, Kind.REFUSED, True),
        (403, TargetDead, Kind.REFUSED, False),
        (404, TargetDead, Kind.NOT_FOUND, False),
        (408, TargetRetry, Kind.REFUSED, False),
        (409, TargetDead, Kind.REFUSED, False),
        (410, TargetDead, Kind.NOT_FOUND, False),
        (422, TargetDead, Kind.REFUSED, False),
        (425, TargetRetry, Kind.REFUSED, False),
        (429, TargetRetry, Kind.RATE_LIMITED, False),
        (500, TargetRetry, Kind.FAILED, True),
        (501, TargetRetry, Kind.FAILED, False),
        (502, TargetRetry, Kind.DOWN, True),
        (503, TargetRetry, Kind.DOWN, True),
        (504, TargetRetry, Kind.DOWN, True),
        (505, TargetRetry, Kind.FAILED, False),
    ],
)
def test_each_status_has_its_outcome(status: int, outcome: type[TargetFailed], kind: Kind, breaker: bool) -> None:
    fault = judge(status, b"", None, {}, NOW)
    assert fault is not None
    assert type(fault) is outcome
    assert (fault.kind, fault.status, counts(status)) == (kind, status, breaker)


@pytest.mark.parametrize(
    ("entry", "outcome"), [("retry", TargetRetry), ("dead", TargetDead), ("ignored", TargetIgnored)]
)
def test_an_entry_of_the_table_can_be_changed(entry: StatusOutcome, outcome: type[TargetFailed]) -> None:
    assert type(judge(404, b"", None, {404: entry}, NOW)) is outcome


def test_an_error_status_can_be_made_a_success() -> None:
    assert judge(404, b"gone long ago", None, {404: "done"}, NOW) is None


def test_the_exceptions_are_those_that_the_worker_knows() -> None:
    assert issubclass(TargetRetry, Retry)
    assert issubclass(TargetDead, DeadLetter)
    assert issubclass(TargetIgnored, Ignored)
    assert issubclass(TargetMistake, DeadLetter)
    assert issubclass(TargetUnavailable, Postponed)
    assert issubclass(TargetBusy, Postponed)
    assert TargetUnavailable("gone").kind is Kind.DOWN
    assert TargetBusy("full").kind is Kind.RATE_LIMITED


def test_the_reason_says_what_the_target_said() -> None:
    assert str(judge(422, b'{"error": "IMSI unknown"}', None, {}, NOW)) == "the target answered 422: IMSI unknown"
    assert str(judge(500, b"", None, {}, NOW)) == "the target answered 500"


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b'{"message": "no", "error": "why"}', "why"),
        (b'{"error": {"code": 7, "message": "inside"}}', "inside"),
        (b'{"error": "", "title": "a title"}', "a title"),
        (b'{"code": 7}', '{"code":7}'),
        (b'"just a text"', "just a text"),
        (b"plain\r\n  text", "plain text"),
        (b"\x00\xff\x1b[31mred", "\N{REPLACEMENT CHARACTER} [31mred"),
        (b"{}", ""),
        (b"", ""),
    ],
)
def test_a_reason_is_one_printable_line(body: bytes, reason: str) -> None:
    assert reason_in(body) == reason


@pytest.mark.parametrize("body", [b"x" * 1_000_000, b'{"error": "' + b"x" * 1_000_000 + b'"}', b"[" * 100_000])
def test_a_long_reason_is_cut(body: bytes) -> None:
    assert 0 < len(reason_in(body)) <= MAX_REASON


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("", None),
        ("soon", None),
        ("-5", None),
        ("1.5", None),
        ("0", 0.0),
        (" 120 ", 120.0),
        ("86400", 86400.0),
        ("9" * 400, MAX_RETRY_AFTER),
        ("Mon, 01 Sep 2025 12:01:00 GMT", 60.0),
        ("Mon, 01 Sep 2025 11:00:00 GMT", 0.0),
        ("Mon, 01 Sep 2099 12:00:00 GMT", MAX_RETRY_AFTER),
        ("Mon, 99 Sep 2025 12:00:00 GMT", None),
    ],
)
def test_retry_after_is_read_in_both_forms_and_bounded(value: str | None, seconds: float | None) -> None:
    assert parse_retry_after(value, NOW) == seconds


def test_retry_after_reaches_the_retry() -> None:
    later = (NOW + timedelta(seconds=30)).strftime("%a, %d %b %Y %H:%M:%S GMT")
    fault = judge(503, b"", later, {}, NOW)
    assert isinstance(fault, TargetRetry)
    assert (fault.after, fault.may_be_sooner) == (30.0, False)
