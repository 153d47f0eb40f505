from datetime import UTC, datetime, timedelta

import pytest

from foreshard.plan.planner import may_act

HOUR = datetime(2024, 3, 5, 7, tzinfo=UTC)
EARLIER, LATER = HOUR - timedelta(hours=1), HOUR + timedelta(hours=1)


@pytest.mark.parametrize("newest", [None, EARLIER, HOUR])
def test_the_newest_counted_hour_may_act(newest):
    assert may_act(HOUR, newest)


def test_an_old_hour_may_not_act_unless_asked():
    assert not may_act(HOUR, LATER)
    assert may_act(HOUR, LATER, act_on_old_hours=True)


@pytest.mark.parametrize("newest", [None, HOUR, LATER])
def test_a_dry_run_never_acts(newest):
    assert not may_act(HOUR, newest, dry_run=True, act_on_old_hours=True)
