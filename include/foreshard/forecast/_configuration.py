"""Which Prophet a batch is fitted with: its arguments, and the columns that its conditions and regressors need."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import pandas as pd

from foreshard.forecast._quiet import silence
from foreshard.model import BoolArray

if TYPE_CHECKING:
    from prophet import Prophet

Columns = Callable[[pd.DatetimeIndex], Mapping[str, Any]]


@dataclass(frozen=True)
class Configuration:
    """A recipe for equal ``Prophet`` objects.

    ``arguments`` are Prophet's own, each of ``seasonalities`` those of ``add_seasonality``, each of ``regressors`` those of
    ``add_regressor``; ``columns`` computes the condition and regressor columns for any (naive UTC) hours.
    """

    name: str
    arguments: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    seasonalities: tuple[Mapping[str, Any], ...] = ()
    regressors: tuple[Mapping[str, Any], ...] = ()
    columns: Columns | None = None

    def new(self) -> Prophet:
        """A fresh, unfitted Prophet; its own sampling of uncertainty is off unless ``arguments`` say otherwise."""
        silence()
        from prophet import Prophet

        return self._complete(Prophet(**self._arguments()))

    def outline(self) -> Prophet:
        """As :meth:`new`, without the optimiser behind it (loading that starts a process): for designs and for predicting."""
        silence()
        from foreshard.forecast._outline import Outline

        return self._complete(Outline(**self._arguments()))

    def _arguments(self) -> dict[str, Any]:
        return {"uncertainty_samples": 0, **self.arguments}

    def _complete(self, model: Prophet) -> Prophet:
        for seasonality in self.seasonalities:
            model.add_seasonality(**seasonality)
        for regressor in self.regressors:
            model.add_regressor(**regressor)
        return model

    def frame(self, hours: pd.DatetimeIndex) -> pd.DataFrame:
        """``ds`` and the columns of the conditions and regressors."""
        frame = pd.DataFrame({"ds": hours})
        for name, values in (self.columns(hours) if self.columns else {}).items():
            frame[name] = values
        return frame


def weekend_columns(hours: pd.DatetimeIndex) -> Mapping[str, BoolArray]:
    """The conditions ``weekday`` and ``weekend``, in UTC."""
    weekend = hours.dayofweek.to_numpy() >= 5
    return {"weekday": ~weekend, "weekend": weekend}


def plain(growth: str = "linear", mode: str = "additive") -> Configuration:
    """Prophet as it comes: daily and weekly seasonality where Prophet thinks that the history suffices."""
    return Configuration(f"prophet_{mode}", {"growth": growth, "seasonality_mode": mode})


def by_day_type(growth: str = "flat", order: int = 8) -> Configuration:
    """A daily shape for weekdays and another for weekends, and a weekly one."""
    kinds = ("weekday", "weekend")
    shapes = tuple({"name": f"daily_{kind}", "period": 1, "fourier_order": order, "condition_name": kind} for kind in kinds)
    arguments = {"growth": growth, "daily_seasonality": False}
    return Configuration("prophet_day_type", arguments, shapes, columns=weekend_columns)
