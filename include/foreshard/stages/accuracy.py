"""Yesterday's forecast against what came: after every hour, the forecast whose horizon ends with it is scored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

import numpy as np

from foreshard.errors import MissingStageResult
from foreshard.forecast.accuracy import Accuracy
from foreshard.forecast.series import HOURS_PER_DAY, build_series
from foreshard.model import ONE_HOUR, FloatArray, ForecastBatch

if TYPE_CHECKING:
    from foreshard.wiring import Wiring

ALL = "all"


@dataclass(frozen=True, slots=True)
class AccuracySummary:
    """The figures of the forecast made for ``made_for``, by model and for ``all`` keys; empty where there was none."""

    hour: datetime
    made_for: datetime
    models: dict[str, dict[str, float | None]]


def measure_accuracy(wiring: Wiring, hour: datetime) -> AccuracySummary:
    """Score and save the forecast whose last horizon hour is ``hour``.

    Nothing is scored (and the summary is empty) where no such forecast was made, or where an hour of its horizon was not
    counted. Keys that came without having been forecast count, with a forecast of zero, for ``all``.
    """
    horizon = wiring.settings.forecast.horizon_hours
    made_for = hour - horizon * ONE_HOUR
    since, until = made_for + ONE_HOUR, hour + ONE_HOUR
    counted = wiring.tallies.hours(since, until)
    try:
        batch = wiring.forecasts.load(made_for)
    except MissingStageResult:
        return AccuracySummary(hour, made_for, {})
    if len(counted) < horizon or batch.mean.shape[1] != horizon:
        return AccuracySummary(hour, made_for, {})
    days = -(-horizon // HOURS_PER_DAY)
    came = build_series(wiring.tallies.key_load(since, until), counted, hour, days)
    actual = dict(zip(came.keys, came.costs[:, -horizon:].astype(np.float64), strict=True))
    models = _figures(batch, actual)
    wiring.accuracy.save(hour, made_for, models)
    return AccuracySummary(hour, made_for, models)


def _figures(batch: ForecastBatch, actual: Mapping[str, FloatArray]) -> dict[str, dict[str, float | None]]:
    nothing = np.zeros(batch.mean.shape[1])
    truth = np.array([actual.get(key, nothing) for key in batch.keys]).reshape(batch.mean.shape)
    known = set(batch.keys)
    unforeseen = np.array([values for key, values in actual.items() if key not in known]).reshape(-1, batch.mean.shape[1])
    names = np.array(batch.models, dtype=object)
    figures: dict[str, dict[str, float | None]] = {}
    for name in (ALL, *sorted(set(batch.models))):
        rows = np.arange(len(names)) if name == ALL else np.flatnonzero(names == name)
        accuracy = Accuracy(batch.quantile)
        accuracy.add(batch.mean[rows], batch.upper[rows], truth[rows], np.zeros(len(rows)))
        if name == ALL and len(unforeseen):
            zero = np.zeros_like(unforeseen)
            accuracy.add(zero, zero, unforeseen, np.zeros(len(unforeseen)))
        measured = dict(accuracy.figures())
        figures[name] = {
            "keys": float(len(rows)),
            **{figure: measured[figure] for figure in ("wape", "pinball", "coverage", "bias")},
        }
    return figures
