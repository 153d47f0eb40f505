"""Measure forecast accuracy: after each hour, score the forecast whose horizon ends with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

import numpy as np

from foreshard.errors import MissingStageResult
from foreshard.forecast.accuracy import Accuracy
from foreshard.model import ONE_HOUR, FloatArray, ForecastBatch
from foreshard.observe.hours import hours_between
from foreshard.stages._ports import WithAccuracy, WithForecasts
from foreshard.stages.history import HistoryPorts, unit_costs

ALL = "all"
NAIVE = "seasonal_naive"
"""The baseline: last week's load as the forecast."""

WEEK = timedelta(days=7)


class AccuracyPorts(HistoryPorts, WithForecasts, WithAccuracy, Protocol):
    """Reads tallies, series and forecasts. Writes the forecast's accuracy."""


@dataclass(frozen=True, slots=True)
class AccuracySummary:
    """The figures of the forecast made for ``made_for``: by model, for ``all`` keys, and for ``seasonal_naive``."""

    hour: datetime
    made_for: datetime
    models: dict[str, dict[str, float | None]]


def measure_accuracy(ports: AccuracyPorts, hour: datetime) -> AccuracySummary:
    """Score and save the forecast whose last horizon hour is ``hour``.

    The summary is empty without such a forecast, or if an hour of its horizon was not counted. A key that was accessed
    without a forecast counts for ``all``, with a forecast of zero.
    """
    horizon = ports.forecast_settings.horizon_hours
    made_for = hour - horizon * ONE_HOUR
    since, until = made_for + ONE_HOUR, hour + ONE_HOUR
    counted = ports.tallies.hours(since, until)
    try:
        batch = ports.forecasts.load(made_for)
    except MissingStageResult:
        return AccuracySummary(hour, made_for, {})
    if len(counted) < horizon or batch.mean.shape[1] != horizon:
        return AccuracySummary(hour, made_for, {})
    actual = unit_costs(ports, hour, batch.keys, hours_between(since, until))
    models = _figures(batch, actual)
    before = hours_between(since - WEEK, until - WEEK)
    if len(ports.tallies.hours(before[0], until - WEEK)) == horizon:
        models[NAIVE] = _naive(unit_costs(ports, hour, batch.keys, before), actual, horizon)
    ports.accuracy.save(hour, made_for, models)
    return AccuracySummary(hour, made_for, models)


def _naive(before: Mapping[str, FloatArray], actual: Mapping[str, FloatArray], horizon: int) -> dict[str, float | None]:
    """Return error and bias of last week's load as the forecast. It has no quantile."""
    keys, nothing = sorted({*before, *actual}), np.zeros(horizon)
    mean, truth = (np.array([costs.get(key, nothing) for key in keys]).reshape(-1, horizon) for costs in (before, actual))
    accuracy = Accuracy(0.5)
    accuracy.add(mean, mean, truth, np.zeros(len(keys)))
    measured = accuracy.figures()
    return {"keys": float(len(keys)), "wape": measured["wape"], "bias": measured["bias"]}


def _figures(batch: ForecastBatch, actual: Mapping[str, FloatArray]) -> dict[str, dict[str, float | None]]:
    nothing = np.zeros(batch.mean.shape[1])
    truth = np.array([actual.get(key, nothing) for key in batch.keys]).reshape(batch.mean.shape)
    known = set(batch.keys)
    unforecast = np.array([values for key, values in actual.items() if key not in known]).reshape(-1, batch.mean.shape[1])
    names = np.array(batch.models, dtype=object)
    figures: dict[str, dict[str, float | None]] = {}
    for name in (ALL, *sorted(set(batch.models))):
        rows = np.arange(len(names)) if name == ALL else np.flatnonzero(names == name)
        accuracy = Accuracy(batch.quantile)
        accuracy.add(batch.mean[rows], batch.upper[rows], truth[rows], np.zeros(len(rows)))
        if name == ALL and len(unforecast):
            zero = np.zeros_like(unforecast)
            accuracy.add(zero, zero, unforecast, np.zeros(len(unforecast)))
        measured = dict(accuracy.figures())
        figures[name] = {
            "keys": float(len(rows)),
            **{figure: measured[figure] for figure in ("wape", "pinball", "coverage", "bias")},
        }
    return figures
