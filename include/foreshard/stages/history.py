"""Read the history that forecasts, scores and plans are made from.

The forecast stage reads the key load once per hour and saves it as series and totals; scoring and planning read those.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Protocol

from foreshard.errors import MissingStageResult
from foreshard.forecast.series import SeriesBuilder, day_slices
from foreshard.model import ONE_HOUR
from foreshard.plan.key_history import KeyHistory, busiest_series, gather_history, sum_key_load
from foreshard.stages._ports import WithForecastSettings, WithSeries, WithTallies

if TYPE_CHECKING:
    import pandas as pd

    from foreshard.model import SeriesMatrix


class KeyLoadPorts(WithForecastSettings, WithTallies, Protocol):
    """Reads tallies."""


class HistoryPorts(KeyLoadPorts, WithSeries, Protocol):
    """Reads series, or tallies if the series are deleted."""


def read_key_load(ports: KeyLoadPorts, hour: datetime, counted: Sequence[datetime]) -> tuple[SeriesMatrix, pd.DataFrame]:
    """Read the key load of the history that ends with ``hour``, day by day; return it as series and as totals."""
    days = ports.forecast_settings.history_days
    builder = SeriesBuilder(hour, days, counted)

    def slices() -> Iterator[pd.DataFrame]:
        for since, until in day_slices(hour, days):
            load = ports.tallies.key_load(since, until)
            builder.add(load)
            yield load

    totals = sum_key_load(slices())
    return builder.build(), totals


def load_history(ports: HistoryPorts, hour: datetime, keys: Sequence[str]) -> KeyHistory:
    """Load the history of ``keys`` as the forecast stage saved it, or from the tallies if its files are deleted."""
    try:
        return gather_history(keys, ports.series.load_totals(hour), ports.series.load(hour))
    except MissingStageResult:
        since = day_slices(hour, ports.forecast_settings.history_days)[0][0]
        series, totals = read_key_load(ports, hour, ports.tallies.hours(since, hour + ONE_HOUR))
        history = gather_history(keys, totals, [series])
    try:
        return replace(history, busiest=busiest_series(ports.series.load(hour)))
    except MissingStageResult:
        return replace(history, busiest=busiest_series(()))
