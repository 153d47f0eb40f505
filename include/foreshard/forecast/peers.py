"""Forecasters of other libraries for backtests: AutoETS and MSTL of statsforecast, at about a second per series.

statsforecast is not a dependency of Foreshard; without it no peers are compared. AutoETS: Hyndman and Khandakar 2008. MSTL
with an ETS trend: Bandara, Hyndman and Bergmeir 2021.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

import numpy as np

from foreshard.model import HOURS_PER_DAY, HOURS_PER_WEEK, BoolArray, FloatArray

LIBRARY = "statsforecast"
AUTO_ETS, MSTL = "statsforecast_auto_ets", "statsforecast_mstl"
PEERS = (AUTO_ETS, MSTL)


def installed_peers() -> tuple[str, ...]:
    """Return the peers whose library is installed."""
    return PEERS if find_spec(LIBRARY) else ()


def peer_forecast(
    name: str, costs: FloatArray, observed: BoolArray, horizon: int, quantile: float
) -> tuple[FloatArray, FloatArray]:
    """Return the mean and upper quantile (K, horizon), clipped at zero.

    Hours that were not observed are filled with their key's mean.
    """
    model = _models()[name]
    level = round(100 * (2 * quantile - 1))
    filled = np.where(
        observed, costs, np.where(observed, costs, 0.0).sum(axis=1, keepdims=True) / observed.sum(axis=1)[:, None]
    )
    means, uppers = np.zeros((len(costs), horizon)), np.zeros((len(costs), horizon))
    for row, series in enumerate(filled):
        found = model.forecast(y=np.ascontiguousarray(series, dtype=np.float64), h=horizon, level=[level])
        means[row], uppers[row] = found["mean"], found[f"hi-{level}"]
    return np.maximum(means, 0.0), np.maximum(uppers, 0.0)


def _models() -> Mapping[str, Any]:
    from statsforecast import models

    seasons = [HOURS_PER_DAY, HOURS_PER_WEEK]
    return {AUTO_ETS: models.AutoETS(season_length=HOURS_PER_DAY), MSTL: models.MSTL(season_length=seasons)}
