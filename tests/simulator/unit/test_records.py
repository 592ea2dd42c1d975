"""Records: written by one, followed by others."""

from __future__ import annotations

import os
from pathlib import Path

from nsps_simulator.records import ATTEMPT, DELIVERY, Attempt, Delivery, Follower, Writer, attempts, deliveries


def test_a_follower_sees_each_record_once(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "file", ATTEMPT)
    follower = Follower(tmp_path / "file", ATTEMPT)
    writer.add(1.0, 2.0, 3.0, 7, 202, 1, 0, 0, 0)
    assert list(follower.new()) == [], "not flushed yet"
    writer.flush()
    assert list(follower.new()) == [(1.0, 2.0, 3.0, 7, 202, 1, 0, 0, 0)]
    assert list(follower.new()) == []
    writer.add(4.0, 5.0, 6.0, 8, 503, 2, 1, 0, 0)
    writer.close()
    assert [record[3] for record in follower.new()] == [8]


def test_half_a_record_is_left_for_later(tmp_path: Path) -> None:
    path = tmp_path / "file"
    whole = DELIVERY.pack(1.0, 2.0, 3, 0, 0)
    path.write_bytes(whole + whole[:10])
    follower = Follower(path, DELIVERY)
    assert len(list(follower.new())) == 1
    path.write_bytes(whole + whole)
    assert len(list(follower.new())) == 1


def test_many_records_survive_the_buffers(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "file", ATTEMPT)
    for index in range(20_000):
        writer.add(0.0, 0.0, 0.0, index, 202, 1, 0, 0, 0)
    writer.close()
    assert [attempt.event for attempt in attempts([tmp_path / "file"])] == list(range(20_000))


def test_records_come_back_as_they_were(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "deliveries", DELIVERY)
    writer.add(1.25, 2.5, 4_294_967_295, 2, 1)
    writer.close()
    assert list(deliveries(tmp_path / "deliveries")) == [Delivery(1.25, 2.5, 4_294_967_295, 2, 1)]
    assert list(attempts([tmp_path / "absent"])) == []
    assert Attempt._fields[3] == Delivery._fields[2] == "event"


def test_a_disk_that_is_full_for_a_while_loses_no_record(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "file", ATTEMPT)
    descriptor = writer._file.fileno()
    kept, full = os.dup(descriptor), os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, descriptor)
    for index in range(20_000):
        writer.add(0.0, 0.0, 0.0, index, 202, 1, 0, 0, 0)
    writer.flush()
    assert "No space left on device" in (writer.error or "")
    os.dup2(kept, descriptor)
    writer.flush()
    assert writer.error is None
    writer.close()
    os.close(kept)
    os.close(full)
    assert [attempt.event for attempt in attempts([tmp_path / "file"])] == list(range(20_000))


def test_records_that_never_reach_the_disk_are_admitted(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.symlink_to("/dev/full")
    writer = Writer(path, ATTEMPT)
    writer.add(0.0, 0.0, 0.0, 1, 202, 1, 0, 0, 0)
    writer.close()
    assert writer.lost == ATTEMPT.size
    assert "No space left on device" in (writer.error or "")
