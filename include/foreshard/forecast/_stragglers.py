"""What the batched solver has not brought to convergence is finished by Prophet's own fit, series by series."""

from __future__ import annotations

import logging

import numpy as np
import pandas as pd

from foreshard.forecast._configuration import Configuration
from foreshard.forecast._map_problem import MapFit
from foreshard.forecast.series import IntArray
from foreshard.model import FloatArray

_log = logging.getLogger(__name__)


def finish(configuration: Configuration, hours: pd.DatetimeIndex, series: FloatArray, fit: MapFit, rows: IntArray) -> IntArray:
    """Replace the parameters of ``rows`` in ``fit`` by Prophet's own; return the rows on which Prophet failed too."""
    lost = []
    for row in rows:
        model = configuration.new()
        frame = configuration.frame(hours)
        frame["y"] = series[row]
        try:
            model.fit(frame)
        except Exception as error:  # Stan fails in many ways; one series must not cost the others their fit
            _log.warning("Prophet.fit failed on a series that the batched solver left (%s)", type(error).__name__)
            lost.append(int(row))
            continue
        finally:
            model.stan_backend.cleanup()
        fit.k[row], fit.m[row] = model.params["k"].item(), model.params["m"].item()
        if fit.delta.shape[1]:
            fit.delta[row] = model.params["delta"][0]
        fit.beta[row] = model.params["beta"][0]
        fit.variance[row] = model.params["sigma_obs"].item() ** 2
    return np.array(lost, dtype=np.int64)
