"""How a run is getting on."""

from __future__ import annotations

from pathlib import Path

from nsps_simulator.records import APPLIED, ATTEMPT, DELIVERY, NO_ANSWER, NO_EVENT, REFUSED, UNANSWERED, Writer
from nsps_simulator.running.progress import Progress


def test_repeats_do_not_hide_events_that_are_still_missing(tmp_path: Path) -> None:
    progress = Progress(tmp_path, 1, 3)
    writer = Writer(tmp_path / "deliveries", DELIVERY)
    calls = [(0, APPLIED), (0, APPLIED), (1, REFUSED), (NO_EVENT, APPLIED), (2, UNANSWERED), (2, APPLIED)]
    for at, (event, outcome) in enumerate(calls):
        writer.add(at, at, event, outcome, 0)
    writer.close()
    progress.look()
    assert progress.delivered == 2
    assert progress.retrying == 1


def test_attempts_are_told_apart_by_their_end(tmp_path: Path) -> None:
    progress = Progress(tmp_path, 2, 3)
    ends = [(0, 202, 1), (1, 503, 1), (1, 202, 2), (2, NO_ANSWER, 1), (NO_EVENT, 400, 1)]
    for number in range(2):
        writer = Writer(tmp_path / f"attempts-{number}", ATTEMPT)
        for event, status, attempt in ends[number::2]:
            writer.add(1.0, 1.0, 1.5, event, status, attempt, 0, 0, 0)
        writer.close()
    progress.look()
    progress.look()
    assert (progress.events, progress.retries) == (3, 1)
    assert (progress.accepted, progress.refused, progress.unanswered) == (2, 1, 1)
    assert progress.percentiles == (0.5, 0.5, 0.5)
