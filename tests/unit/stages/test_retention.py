"""Retention, with a store that notes what it is asked to delete."""

from datetime import timedelta

import pytest
from tests.unit.stages.fakes import HOUR, Ports

from foreshard.errors import ConfigurationError
from foreshard.settings import ForecastSettings, Settings
from foreshard.stages.upkeep import forget_old


class Retention:
    def __init__(self):
        self.asked = []

    def forget(self, files, tallies, forecasts, records, *, dry_run=False):
        self.asked.append((files, tallies, forecasts, records, dry_run))
        return {"raw": 3}


def ports(history_days=28):
    return Ports(Settings(forecast=ForecastSettings(history_days=history_days)), retention=Retention())


def test_each_kind_is_deleted_before_its_own_age():
    at = ports()
    summary = forget_old(at, 7, 60, 14, 90, now=HOUR + timedelta(minutes=59))
    days = [HOUR - timedelta(days=days) for days in (7, 60, 14, 90)]
    assert at.retention.asked == [(*days, False)]
    assert (summary.files_before, summary.tallies_before, summary.forecasts_before, summary.records_before) == tuple(days)
    assert (summary.forgotten, summary.dry_run) == ({"raw": 3}, False)


def test_a_dry_run_is_passed_on():
    at = ports()
    assert forget_old(at, 7, 60, 14, 90, dry_run=True, now=HOUR).dry_run
    assert at.retention.asked[0][4]


@pytest.mark.parametrize(("history_days", "fewest"), [(28, 29), (56, 57), (7, 29)])
def test_tallies_that_forecasts_or_gates_still_read_are_kept(history_days, fewest):
    at = ports(history_days)
    with pytest.raises(ConfigurationError, match="tally_days"):
        forget_old(at, 7, fewest - 1, 14, 90, now=HOUR)
    assert at.retention.asked == []
    forget_old(at, 7, fewest, 14, 90, now=HOUR)


@pytest.mark.parametrize("days", [(0, 60, 14, 90), (7, 60, 0, 90), (7, 60, 14, 14)])
def test_less_than_a_day_is_refused(days):
    at = ports()
    with pytest.raises(ConfigurationError):
        forget_old(at, *days, now=HOUR)
    assert at.retention.asked == []
