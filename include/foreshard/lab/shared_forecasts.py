"""Forecasts that are made once and shared by all replays of a log: they depend neither on the capacity nor on the placement."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import replace
from typing import BinaryIO, cast

import numpy as np

from foreshard.forecast.hourly.forecaster import Forecaster, LoadForecast
from foreshard.lab.past import Past

MOST_BYTES = 8 * 2**30
"""The largest scratch file. Forecasts beyond it are made again."""


class SharedForecasts:
    """Passes on a forecaster's forecasts, and keeps them in a scratch file, not in memory.

    Mean and sigma are rounded to single precision, the first time too, so that every replay sees the same numbers.
    """

    def __init__(self, make: Callable[[], Forecaster[Past]], scratch: BinaryIO) -> None:
        """``make`` returns a forecaster that has learnt nothing yet. ``scratch`` is an empty file to read and write."""
        self._make, self._forecaster, self._file = make, make(), scratch
        self._hours: list[int] = []
        self._places: dict[int, tuple[int, int]] = {}
        self._end = 0

    def ahead(self, past: Past) -> LoadForecast:
        """Return the forecast from ``past.now`` on: the kept one if there is one."""
        packed = self._kept(past.now) or self._made(past)
        found = cast("LoadForecast", pickle.loads(packed))  # noqa: S301 written by this object
        return replace(found, mean=found.mean.astype(np.float64), sigma=found.sigma.astype(np.float64))

    def _kept(self, now: int) -> bytes | None:
        if now not in self._places:
            return None
        place, length = self._places[now]
        self._file.seek(place)
        return self._file.read(length)

    def _made(self, past: Past) -> bytes:
        """Make a forecast. In a second replay, teach a new forecaster as the first one was taught."""
        if self._hours and past.now <= self._hours[-1]:
            self._forecaster = self._make()
            self._hours = [hour for hour in self._hours if hour < past.now]
            for hour in self._hours:
                self._forecaster.ahead(past.at(hour))
        self._hours.append(past.now)
        made = self._forecaster.ahead(past)
        short = replace(made, mean=made.mean.astype(np.float32), sigma=made.sigma.astype(np.float32))
        packed = pickle.dumps(short, pickle.HIGHEST_PROTOCOL)
        if self._end + len(packed) <= MOST_BYTES:
            self._keep(past.now, packed)
        return packed

    def _keep(self, now: int, packed: bytes) -> None:
        self._file.seek(self._end)
        self._file.write(packed)
        self._places[now] = (self._end, len(packed))
        self._end += len(packed)
