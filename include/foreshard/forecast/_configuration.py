"""The Prophet that a batch is fitted with: its arguments, and the columns that its conditions and regressors need."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import pandas as pd

if TYPE_CHECKING:
    from prophet import Prophet

Columns = Callable[[pd.DatetimeIndex], Mapping[str, Any]]


@dataclass(frozen=True)
class Configuration:
    """Everything needed to construct equal ``Prophet`` objects.

    ``arguments`` are passed to ``Prophet``, each of ``seasonalities`` to ``add_seasonality``, each of ``regressors`` to
    ``add_regressor``. ``columns`` computes the condition and regressor columns for any (naive UTC) hours.
    """

    name: str
    arguments: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    seasonalities: tuple[Mapping[str, Any], ...] = ()
    regressors: tuple[Mapping[str, Any], ...] = ()
    columns: Columns | None = None

    def new(self) -> Prophet:
        """Return a new, unfitted Prophet. It does not sample its uncertainty unless ``arguments`` say so."""
        silence_prophet()
        from prophet import Prophet

        return self._complete(Prophet(**self._arguments()))

    def outline(self) -> Prophet:
        """Like :meth:`new`, but without an optimiser: it builds designs and predicts, but cannot fit."""
        silence_prophet()
        return self._complete(_outline_class()(**self._arguments()))

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


def plain(growth: str = "linear", mode: str = "additive") -> Configuration:
    """Prophet with its default arguments. It adds daily and weekly seasonality if the history is long enough."""
    return Configuration(f"prophet_{mode}", {"growth": growth, "seasonality_mode": mode})


@cache
def silence_prophet() -> None:
    """Silence Prophet and cmdstanpy, which log every fit; once per process.

    cmdstanpy overwrites a log level that is set before its first fit, so its own switch is used. Importing Prophet sets its
    logger's level, so that level is set before and after the import.
    """
    import cmdstanpy

    cmdstanpy.disable_logging().__enter__()
    logging.getLogger("prophet").setLevel(logging.CRITICAL)
    import prophet  # noqa: F401  # sets its logger's level

    logging.getLogger("prophet").setLevel(logging.CRITICAL)


@cache
def _outline_class() -> type[Prophet]:
    """Prophet without its Stan backend. Loading the backend starts a process and takes longer than fitting 1,000 keys."""
    from prophet import Prophet

    class Outline(Prophet):  # type: ignore[misc]
        def _load_stan_backend(self, stan_backend: str | None) -> None:
            del stan_backend
            self.stan_backend = None

    return Outline
