from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pydantic import SecretStr
from pymongo import MongoClient

from foreshard.errors import GateFailed, MissingStageResult
from foreshard.model import KEY_LOAD_COLUMNS, ONE_HOUR, HourCounts
from foreshard.model.key_space import KeySpace
from foreshard.observe.units import FINE_SLOT, fine_slots
from foreshard.settings import ForecastSettings, Settings
from foreshard.stack.mongod import Mongod
from foreshard.stages.accuracy import measure_accuracy
from foreshard.stages.forecast import fit_chunk, gate_forecasts, prepare_chunks
from foreshard.stages.judging.acceptance import accept_result
from foreshard.wiring import Wiring

HOUR = datetime(2026, 3, 1, 23, tzinfo=UTC)
LEVELS = {"quiet": 2.0, "busy": 20.0, "hot": 90.0}


class CountedHours:
    """Key load in memory."""

    def __init__(self, key_load: pd.DataFrame, counted: list[datetime]) -> None:
        self._key_load, self._counted = key_load, counted

    def hours(self, since: datetime, until: datetime) -> tuple[datetime, ...]:
        return tuple(hour for hour in self._counted if since <= hour < until)

    def counts(self, hours: Sequence[datetime]) -> tuple[HourCounts, ...]:
        return tuple(HourCounts(hour, len(LEVELS), len(LEVELS)) for hour in sorted(set(hours) & set(self._counted)))

    def hour_load(self, hour: datetime, slots: Collection[int] | None = None) -> pd.DataFrame:
        rows = self._key_load[self._key_load["hour"] == hour]
        rows = rows.assign(**{FINE_SLOT: fine_slots(rows["partitionable_key"], KeySpace())})
        return rows if slots is None else rows[rows[FINE_SLOT].isin(list(slots))]


def tallies(days: int) -> CountedHours:
    random = np.random.default_rng(5)
    hours = [HOUR - i * ONE_HOUR for i in range(days * 24)]
    rows = [
        (hour, key, "here", "read", 1, float(random.poisson(level * (1 + np.sin(hour.hour / 24 * 2 * np.pi)))), 1)
        for hour in hours
        for key, level in LEVELS.items()
    ]
    return CountedHours(pd.DataFrame(rows, columns=KEY_LOAD_COLUMNS), hours)


@pytest.fixture
def wiring(mongods: tuple[Mongod, ...], control: MongoClient, unique_name: str, work_folder: Path) -> Iterator[Wiring]:
    settings = Settings(
        control_uri=SecretStr(mongods[0].uri),
        control_database=unique_name,
        data_dir=work_folder,
        forecast=ForecastSettings(engine="prophet", chunk_keys=2, history_days=14),
    )
    with Wiring(settings) as built:
        built.tallies = tallies(14)
        yield built


def test_the_stages_forecast_every_key_and_the_gate_passes(wiring: Wiring) -> None:
    chunks = prepare_chunks(wiring, HOUR)
    assert chunks == (0, 1)
    assert [fit_chunk(wiring, HOUR, chunk).keys for chunk in chunks] == [2, 1]
    gate_forecasts(wiring, HOUR)
    batch = wiring.forecasts.load(HOUR)
    assert batch.keys == ("busy", "hot", "quiet")
    assert (batch.mean.mean(axis=1) > np.array([15.0, 70.0, 1.0])).all()


def test_running_a_stage_twice_changes_nothing(wiring: Wiring) -> None:
    prepare_chunks(wiring, HOUR)
    for chunk in (0, 1, 1, 0):
        fit_chunk(wiring, HOUR, chunk)
    first = wiring.forecasts.load(HOUR)
    assert prepare_chunks(wiring, HOUR) == (0, 1)
    fit_chunk(wiring, HOUR, 0)
    again = wiring.forecasts.load(HOUR)
    assert again.keys == first.keys
    np.testing.assert_array_equal(again.mean, first.mean)


def test_yesterday_s_forecast_is_scored_by_model(wiring: Wiring) -> None:
    made_for = HOUR - 24 * ONE_HOUR
    for chunk in prepare_chunks(wiring, made_for):
        fit_chunk(wiring, made_for, chunk)
    summary = measure_accuracy(wiring, HOUR)
    assert summary.made_for == made_for
    assert set(summary.models) == {"all", "prophet", "seasonal_naive"}
    assert summary.models["all"]["keys"] == 3
    wape = summary.models["all"]["wape"]
    assert wape is not None
    assert 0.05 < wape < 0.4
    naive = summary.models["seasonal_naive"]["wape"]
    assert naive is not None
    assert wape < naive < 0.6
    ((hour, figures),) = wiring.accuracy.latest()
    assert hour == HOUR
    assert figures == summary.models
    assert measure_accuracy(wiring, HOUR) == summary
    assert len(wiring.accuracy.latest(5)) == 1


def test_nothing_is_scored_without_a_forecast_or_with_an_uncounted_hour(wiring: Wiring) -> None:
    assert measure_accuracy(wiring, HOUR).models == {}
    for chunk in prepare_chunks(wiring, HOUR):
        fit_chunk(wiring, HOUR, chunk)
    assert measure_accuracy(wiring, HOUR + 24 * ONE_HOUR).models == {}
    assert wiring.accuracy.latest() == []


def test_an_hour_that_was_not_counted_cannot_be_forecast(wiring: Wiring) -> None:
    with pytest.raises(MissingStageResult, match="no tally for"):
        prepare_chunks(wiring, HOUR + ONE_HOUR)


def test_the_gate_refuses_forecasts_that_are_mostly_fallbacks(wiring: Wiring, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("foreshard.forecast._prophet_engine._new_prophet", lambda *_: 1 / 0)
    for chunk in prepare_chunks(wiring, HOUR):
        fit_chunk(wiring, HOUR, chunk)
    with pytest.raises(GateFailed, match="fallbacks forecast"):
        gate_forecasts(wiring, HOUR)


def test_the_gate_compares_past_forecasts_with_last_weeks_load_and_a_person_can_accept_them(wiring: Wiring) -> None:
    for chunk in prepare_chunks(wiring, HOUR):
        fit_chunk(wiring, HOUR, chunk)

    def measured(since: int, until: int, error: float) -> None:
        for back in range(since, until):
            hour = HOUR - back * ONE_HOUR
            wiring.accuracy.save(hour, hour - 24 * ONE_HOUR, {"all": {"wape": error}, "seasonal_naive": {"wape": 0.4}})

    measured(-100, 0, 9.0)
    measured(168, 300, 9.0)
    measured(0, 60, 0.3)
    assert gate_forecasts(wiring, HOUR).warnings == ()
    measured(0, 60, 0.5)
    line = "the error of the last 60 measured forecasts is 1.25 × that of last week's load as the forecast (limit: 1.1)"
    assert gate_forecasts(wiring, HOUR).warnings == (line,)
    measured(0, 60, 0.8)
    with pytest.raises(GateFailed, match=r"is 2 × that of last week's load as the forecast \(limit: 1\.5\)"):
        gate_forecasts(wiring, HOUR)
    accept_result(wiring, "forecasts", HOUR, "Ann", "a new product, nothing is like last week")
    (accepted,) = gate_forecasts(wiring, HOUR).warnings
    assert accepted.startswith("accepted by Ann (a new product, nothing is like last week): the error of ")
