"""What people read about a move: its activity, how far it is, how long it takes, and what they should know."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from foreshard.model import Move, Reason
from foreshard.model.move_state import MoveState
from foreshard.ports.move_journal import HistoryEntry, MoveRecord
from foreshard.settings import MigrateSettings
from foreshard.stages.moving.progress import is_stuck, progress_of

NOW = datetime(2026, 1, 5, 8, tzinfo=UTC)
LIMITS = MigrateSettings()
MOVE = Move("m1", ("k",), "alpha", "beta", 1, "k", Reason("test", "for a test"))
LONG = LIMITS.stuck_after + timedelta(minutes=1)


def record(state: MoveState, since: timedelta = timedelta(seconds=100), *, alive: bool = True, **fields: Any) -> MoveRecord:
    lease = NOW + timedelta(seconds=5) if alive else NOW - timedelta(seconds=5)
    history = (HistoryEntry(state, "event", NOW - since, 1),)
    return replace(MoveRecord(MOVE, state, lease_until=lease, history=history), **fields)


def sentence(found: MoveRecord) -> str:
    return progress_of(found, NOW, LIMITS).sentence


def test_a_copying_move_has_rates_and_the_time_left():
    counters = {"documents": 250_000, "total": 1_000_000, "bytes": 250_000_000}
    progress = progress_of(record(MoveState.COPYING, counters=counters), NOW, LIMITS)
    assert progress.sentence == (
        "copying; 250,000 of 1,000,000 documents, 250 MB of 1.0 GB; 2,500 documents and 2 MB per second; 0:05:00 left"
    )
    assert (progress.documents_per_second, progress.bytes_per_second, progress.seconds_left) == (2_500, 2_500_000, 300)


def test_a_move_that_has_copied_nothing_yet_has_no_rate():
    assert sentence(record(MoveState.COPYING)) == "copying"
    assert sentence(record(MoveState.COPYING, counters={"total": 5.0})) == "copying; 0 of 5 documents"


def test_a_waiting_move_says_for_what():
    waits = record(MoveState.CATCHING_UP, notes={"waiting": "waiting for an open transaction on beta"})
    assert sentence(waits) == "waiting for an open transaction on beta"


def test_a_move_without_a_mover_is_stuck_and_says_what_to_do():
    silent = record(MoveState.CATCHING_UP, alive=False)
    assert sentence(silent) == "stuck: no mover: `foreshard moves resume m1`"
    assert sentence(replace(silent, error="beta does not answer")) == (
        "stuck: no mover (beta does not answer): `foreshard moves resume m1`"
    )


def test_a_paused_move_is_not_stuck():
    paused = record(MoveState.COPYING, LONG, stop_requested=True, lease_until=None)
    assert sentence(paused) == "paused in copying; `foreshard moves resume m1` goes on"
    assert not is_stuck(paused, NOW, LIMITS)


@pytest.mark.parametrize("state", [MoveState.PLANNED, MoveState.CATCHING_UP, MoveState.FENCED, MoveState.REVERTING])
def test_a_move_is_stuck_after_too_long_in_one_state(state):
    assert sentence(record(state, LONG)).startswith(f"stuck: {state} for 0:16:00; ")
    assert not is_stuck(record(state), NOW, LIMITS)


def test_a_long_copy_with_a_living_mover_is_not_stuck():
    assert not is_stuck(record(MoveState.COPYING, 10 * LONG), NOW, LIMITS)


def test_a_switched_move_is_not_stuck_while_its_sources_copy_is_kept_or_read():
    assert not is_stuck(record(MoveState.SWITCHED, LIMITS.source_kept + timedelta(minutes=14), alive=False), NOW, LIMITS)
    assert is_stuck(record(MoveState.SWITCHED, LIMITS.source_kept + LONG), NOW, LIMITS)
    assert not is_stuck(
        record(MoveState.SWITCHED, LIMITS.source_kept + LONG, notes={"waiting": "waiting for 2 reads"}), NOW, LIMITS
    )


@pytest.mark.parametrize("state", [MoveState.DONE, MoveState.REVERTED])
def test_an_ended_move_says_its_state(state):
    assert sentence(record(state, LONG, alive=False)) == state


def test_people_are_told_what_the_move_noted():
    notes = {
        "late_changes_unknown": "the oplog of alpha was too short",
        "exceptions": ["a", "b"],
        "dropped": ["c"],
        "retreat": "draining took too long",
        "strays_refused": "email is not unique",
    }
    counters = {"retreats": 1, "strays": 3, "strays_merged": 2}
    assert progress_of(record(MoveState.COPYING, notes=notes, counters=counters), NOW, LIMITS).notes == (
        "late changes on the source may be missing: the oplog of alpha was too short",
        "3 documents had been written on the target, 2 of them were merged; email is not unique",
        "the fence was lifted 1 time before the switch: draining took too long",
        "2 listed keys of its slots stay where they are",
        "1 units were not on alpha any more and were left out",
    )
