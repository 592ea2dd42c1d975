"""Trouble: for which events, and of what kind."""

from __future__ import annotations

from collections import Counter

import orjson
import pytest

from nsps_simulator.wire.chaos import CALM, GARBAGE, MIXED, Chaos, Fate, Trouble, garbage


def test_trouble_comes_in_the_shares_asked_for() -> None:
    fate = Fate(1, Chaos(cut=0.2, slow=0.1, token=0.05, garbage=0.02), 20_000)
    counts = Counter(fate.of(index) for index in range(20_000))
    assert counts[Trouble.CUT] / 20_000 == pytest.approx(0.2, abs=0.01)
    assert counts[Trouble.SLOW] / 20_000 == pytest.approx(0.1, abs=0.01)
    assert counts[Trouble.TOKEN] / 20_000 == pytest.approx(0.05, abs=0.01)
    assert counts[Trouble.GARBAGE] / 20_000 == pytest.approx(0.02, abs=0.01)


def test_trouble_repeats_by_seed() -> None:
    first, second, other = Fate(1, MIXED, 5000), Fate(1, MIXED, 5000), Fate(2, MIXED, 5000)
    fates = [first.of(index) for index in range(5000)]
    assert fates == [second.of(index) for index in range(5000)]
    assert fates != [other.of(index) for index in range(5000)]


def test_calm_troubles_nobody() -> None:
    assert not CALM.any
    assert {Fate(1, CALM, 1000).of(index) for index in range(1000)} == {Trouble.NONE}


@pytest.mark.parametrize("shares", [{"cut": -0.1}, {"slow": 1.1}, {"cut": 0.6, "token": 0.6}, {"cut": float("nan")}])
def test_impossible_shares_are_refused(shares: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="shares of chaos"):
        Chaos(**shares)


def test_no_garbage_could_pass_for_an_event() -> None:
    for number in range(len(GARBAGE)):
        request = garbage(number, b"/process-event", b"Host: x\r\n")
        head, _, body = request.partition(b"\r\n\r\n")
        if not head.startswith(b"POST /process-event HTTP/1.1\r\n"):
            continue
        declared = int(head.split(b"Content-Length: ")[1])
        assert declared == len(body), "a wrong length would make the connector wait instead of answer"
        try:
            document = orjson.loads(body)
        except orjson.JSONDecodeError:
            continue
        assert not (isinstance(document, dict) and isinstance(document.get("data"), dict) and "pb_data" in document)


@pytest.mark.parametrize("events", [5, 100, 1_000_000])
def test_each_trouble_that_was_asked_for_happens_at_least_once(events: int) -> None:
    fate = Fate(1, Chaos(cut=1e-9, slow=1e-9, token=1e-9, garbage=1e-9), events)
    made = [trouble for index in range(min(events, 1000)) if (trouble := fate.of(index))]
    assert sorted(made) == [Trouble.CUT, Trouble.SLOW, Trouble.TOKEN, Trouble.GARBAGE]
    assert not any(Fate(1, Chaos(cut=0.5), events).of(index) == Trouble.TOKEN for index in range(5))
