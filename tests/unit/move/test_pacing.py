"""Pacing: never faster than the limits, never longer than they ask for, and slower while something suffers."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foreshard.move._pacing import BURST_SECONDS, LOWEST_SHARE, RISE, Pace, looked, pause_after
from foreshard.move.pacer import HELD, Pacer
from foreshard.ports.pacing import MigrationLimits
from foreshard.stores.control import shadow_strain
from foreshard.stores.control.shadow_strain import ShadowGauge

BATCHES = st.lists(
    st.tuples(st.floats(0, 5), st.integers(0, 1_000), st.integers(0, 10**7)), min_size=1, max_size=50
)  # seconds of work, documents, bytes
LIMITS = MigrationLimits(bytes_per_second=10**6, documents_per_second=500)


@given(BATCHES)
def test_whatever_the_batches_no_limit_is_exceeded_over_any_stretch_that_begins_with_the_move(batches):
    now, pace, documents, size = 0.0, Pace(0.0, 0.0), 0, 0
    for worked, some, more in batches:
        now += worked
        documents, size = documents + some, size + more
        pace, pause = pause_after(pace, now, some, more, LIMITS)
        assert pause >= 0
        now += pause
        assert size <= LIMITS.bytes_per_second * (now + BURST_SECONDS) * (1 + 1e-9)
        assert documents <= LIMITS.documents_per_second * (now + BURST_SECONDS) * (1 + 1e-9)


@given(BATCHES)
def test_a_move_below_its_limits_never_pauses(batches):
    now, pace = 0.0, Pace(0.0, 0.0)
    for _, some, more in batches:
        now += max(more / LIMITS.bytes_per_second, some / LIMITS.documents_per_second)
        pace, pause = pause_after(pace, now, some, more, LIMITS)
        assert pause == pytest.approx(0, abs=1e-6)


def test_without_limits_nothing_pauses():
    assert pause_after(Pace(0.0, 0.0), 1.0, 10**6, 10**12, MigrationLimits())[1] == 0


def test_a_quarter_of_the_time_means_three_times_the_work_as_a_pause():
    assert pause_after(Pace(0.0, 10.0, share=0.25), 12.0, 1, 1, MigrationLimits())[1] == 6


@given(st.lists(st.booleans(), max_size=100))
def test_the_share_stays_between_its_bounds(looks):
    pace = Pace(0.0, 0.0)
    for suffers in looks:
        before, pace = pace.share, looked(pace, suffers=suffers)
        assert LOWEST_SHARE <= pace.share <= 1
        assert pace.share <= before if suffers else pace.share >= before


def test_the_share_is_halved_while_something_suffers_and_comes_back_in_steps():
    assert looked(Pace(0, 0), suffers=True).share == 0.5
    assert looked(Pace(0, 0, share=0.5), suffers=False).share == 0.5 + RISE


class Limits:
    def __init__(self) -> None:
        self.now = MigrationLimits()

    def read(self) -> MigrationLimits:
        return self.now


class Gauge:
    def __init__(self) -> None:
        self.suffers: str | None = None

    def strain(self) -> str | None:
        return self.suffers


def test_a_pacer_follows_changed_limits_holds_and_gauges():
    clock, limits, gauge = [0.0], Limits(), Gauge()
    paced = Pacer(limits, [gauge], lambda: clock[0])
    assert paced.pause_after(1_000, 10**6) == 0
    limits.now = MigrationLimits(bytes_per_second=10**6)
    clock[0] = 1.0
    assert paced.pause_after(1_000, 2 * 10**6) == pytest.approx(1)
    assert "limit" in paced.reason
    gauge.suffers = "writes on alpha take 40 ms instead of 4"
    clock[0] = 3.0
    assert paced.pause_after(1, 1) > 0
    assert paced.reason == gauge.suffers
    limits.now = MigrationLimits(hold=True)
    clock[0] = 5.0
    assert paced.is_held()
    assert paced.reason == HELD


def test_only_a_shadow_that_falls_behind_during_the_move_counts(monkeypatch):
    now = datetime(2026, 1, 5, tzinfo=UTC)
    monkeypatch.setattr(shadow_strain, "READ_EVERY", 0.0)
    monkeypatch.setattr(shadow_strain, "datetime", SimpleNamespace(now=lambda _zone: now))
    fresh, stale = now, now - timedelta(minutes=1)

    def shadow(name: str, caught_up_at: datetime, source: str = "alpha") -> SimpleNamespace:
        return SimpleNamespace(shadow_id=name, source=source, target="gamma", caught_up_at=caught_up_at)

    found = [shadow("a", stale), shadow("b", fresh), shadow("c", fresh, "delta")]
    gauge = ShadowGauge(SimpleNamespace(shadows=lambda _states: found), ["alpha", "beta"], timedelta(seconds=10))  # type: ignore[arg-type]
    assert gauge.strain() is None
    found[2] = shadow("c", stale, "delta")
    assert gauge.strain() is None
    found[1] = shadow("b", stale)
    assert gauge.strain() == "shadow b is more than 10 s behind"
