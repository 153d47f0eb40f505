from datetime import UTC, datetime, timedelta

import pytest

from foreshard.demo._app import rides_of
from foreshard.demo._check import AppCheck
from foreshard.demo._sample import load_sample
from foreshard.demo.run import _refuse_failures
from foreshard.demo.stages import LATEST_RIDES, DemoOptions, cut
from foreshard.errors import ForeshardError

QUIET = datetime(2026, 11, 27, 13, tzinfo=UTC)
"""Nobody rode in the two hours before it."""
OPTIONS = DemoOptions(riders=1, lookups=5, weeks=5, live_hours=2, pace=240.0)


@pytest.mark.parametrize("hour", [QUIET, QUIET + timedelta(hours=8)], ids=["in the dead of night", "in the rush hour"])
def test_there_are_rides_to_ride_while_the_table_changes_at_any_hour(hour: datetime) -> None:
    parts = cut(load_sample(hour), OPTIONS)
    rides = rides_of(parts.latest)
    assert len(rides) == LATEST_RIDES
    assert rides[-1].at < hour
    assert {ride.request_type for ride in rides} == {"checkout", "return"}


def test_the_quiet_hours_are_played_as_quiet_as_they_were() -> None:
    assert cut(load_sample(QUIET), OPTIONS).live.empty


def test_a_demo_without_an_acknowledged_write_has_shown_nothing() -> None:
    with pytest.raises(ForeshardError, match="no write"):
        _refuse_failures(AppCheck(0, (), (), 0, ()))
    _refuse_failures(AppCheck(1, (), (), 0, ()))
