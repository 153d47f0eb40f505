"""The history of units: the cost of each in every hour, and its sums by location and request type over all hours.

It is rolled from hour to hour: the oldest hour leaves, the new one is added, cooled keys return to their slots, and slots from
which keys have grown are summed again. Rolling gives what summing all hours gives.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import pandas as pd

from foreshard.model import HOURS_PER_WEEK, ONE_HOUR, BoolArray, IntArray, SeriesMatrix
from foreshard.model.key_space import KeySpace, slot_number, slot_unit
from foreshard.observe.units import UNIT_LOAD_COLUMNS, UnitLoad, by_unit, coded

_Number = TypeVar("_Number", bound=np.generic)


class UnitHistory:
    """A history of ``length`` hours up to and including ``hour``. It is changed in place.

    Each unit has a row, each pair of location and request type a column of the totals.
    """

    def __init__(self, hour: datetime, length: int, space: KeySpace) -> None:
        self.hour, self.length, self._space = hour, length, space
        self._rows: dict[str, int] = {}
        self._cells: dict[tuple[str, str], int] = {}
        self._costs: npt.NDArray[np.float32] = np.zeros((0, length), np.float32)
        self._count: npt.NDArray[np.int64] = np.zeros((0, 0), np.int64)
        self._cost: npt.NDArray[np.float64] = np.zeros((0, 0), np.float64)

    @classmethod
    def of(cls, series: SeriesMatrix, totals: pd.DataFrame, space: KeySpace) -> UnitHistory:
        """Return a history as it was saved."""
        made = cls(series.hour, series.costs.shape[1], space)
        rows = made._place(series.keys)
        made._costs[rows] = series.costs
        (unit, units), (place, places), (kind, kinds) = (coded(totals[name]) for name in UNIT_LOAD_COLUMNS[:3])
        count, cost = totals["count"].to_numpy(np.int64), totals["cost"].to_numpy(np.float64)
        made._sum(UnitLoad(units, places, kinds, unit, place, kind, count, cost), 1)
        return made

    @property
    def named(self) -> set[str]:
        """The keys that are units by themselves."""
        return {unit for unit in self._rows if slot_number(unit) is None}

    def has(self, unit: str) -> bool:
        """Return whether the unit has a row."""
        return unit in self._rows

    def peaks(self, hours: int = HOURS_PER_WEEK) -> pd.Series[float]:
        """Return the highest hourly cost of each named key in the last ``hours`` hours."""
        names = sorted(self.named)
        rows = [self._rows[name] for name in names]
        highest = self._costs[rows, -hours:].max(axis=1, initial=0.0).astype(np.float64)
        return pd.Series(highest, index=pd.Index(names, dtype=object))

    def advance(self, hour: datetime) -> None:
        """Move the end of the history to ``hour``. :meth:`remove` takes the hours that leave out of the totals."""
        steps = min((hour - self.hour) // ONE_HOUR, self.length)
        self._costs = np.concatenate([self._costs[:, steps:], np.zeros((len(self._costs), steps), np.float32)], axis=1)
        self.hour = hour

    def add(self, moment: datetime, rows: pd.DataFrame, named: Collection[str], only: Collection[str] | None = None) -> None:
        """Add the tally of one hour. ``only``: leave other units as they are."""
        load = by_unit(rows, named, self._space)
        load = load if only is None else load.only(only)
        self._sum(load, 1)
        sums = np.bincount(load.unit, load.cost, len(load.units))
        used = np.unique(load.unit)
        place = self.length - 1 - (self.hour - moment) // ONE_HOUR
        self._costs[self._place(load.units[used].tolist()), place] += sums[used].astype(np.float32)

    def remove(self, rows: pd.DataFrame, named: Collection[str]) -> None:
        """Take an hour that leaves the history out of the totals."""
        self._sum(by_unit(rows, named, self._space), -1)

    def fold(self, keys: Collection[str]) -> None:
        """Add these keys to their slots. They cease to be units."""
        here = [key for key in keys if key in self._rows]
        targets = self._place([slot_unit(self._space.slot_of(key)) for key in here])
        rows = [self._rows[key] for key in here]
        for values in (self._costs, self._count, self._cost):
            np.add.at(values, targets, values[rows])
        gone = set(here)
        kept = [unit for unit in self._rows if unit not in gone]
        order = [self._rows[unit] for unit in kept]
        self._costs, self._count, self._cost = self._costs[order], self._count[order], self._cost[order]
        self._rows = {unit: row for row, unit in enumerate(kept)}

    def forget(self, units: Collection[str]) -> None:
        """Set the whole history of these units to nothing, so that it can be added again."""
        rows = [self._rows[unit] for unit in units if unit in self._rows]
        for values in (self._costs, self._count, self._cost):
            values[rows] = 0

    def series(self, counted: BoolArray) -> SeriesMatrix:
        """Return the units that have any load, sorted. ``counted`` marks the hours that were counted."""
        loaded = np.asarray(self._costs.any(axis=1))
        units = sorted(unit for unit, row in self._rows.items() if loaded[row])
        return SeriesMatrix(self.hour, tuple(units), self._costs[[self._rows[unit] for unit in units]], counted)

    def totals(self) -> pd.DataFrame:
        """Return the sums over the whole history: ``UNIT_LOAD_COLUMNS``, sorted."""
        row, cell = np.nonzero(self._count * (self._count > 0))
        units, pairs = np.array([*self._rows], object), list(self._cells)
        places, kinds = (np.array([pair[place] for pair in pairs], object) for place in (0, 1))
        columns = (units[row], places[cell], kinds[cell], self._count[row, cell], self._cost[row, cell])
        table = pd.DataFrame(dict(zip(UNIT_LOAD_COLUMNS, columns, strict=True)))
        return table.sort_values(list(UNIT_LOAD_COLUMNS[:3]), ignore_index=True)

    def _sum(self, load: UnitLoad, sign: int) -> None:
        """Add to the totals, or subtract from them."""
        pairs, cell = np.unique(load.location * max(len(load.request_types), 1) + load.request_type, return_inverse=True)
        named = [(load.locations[p // len(load.request_types)], load.request_types[p % len(load.request_types)]) for p in pairs]
        columns = np.array([self._cells.setdefault(pair, len(self._cells)) for pair in named], np.int64)
        units, unit = np.unique(load.unit, return_inverse=True)
        rows = self._place(load.units[units].tolist())
        np.add.at(self._count, (rows[unit], columns[cell]), sign * load.count)
        np.add.at(self._cost, (rows[unit], columns[cell]), sign * load.cost)

    def _place(self, units: Sequence[str]) -> IntArray:
        """Return the rows of these units. There is a row for every unit and a column for every cell afterwards."""
        for unit in units:
            self._rows.setdefault(unit, len(self._rows))
        height = self._costs.shape[0]
        if len(self._rows) > height:
            height = max(len(self._rows), height * 3 // 2)
        self._costs = _grown(self._costs, (height, self.length))
        self._count = _grown(self._count, (height, len(self._cells)))
        self._cost = _grown(self._cost, (height, len(self._cells)))
        return np.array([self._rows[unit] for unit in units], np.int64)


def _grown(values: npt.NDArray[_Number], shape: tuple[int, int]) -> npt.NDArray[_Number]:
    """Return the values in an array of this shape, which is at least as large. New elements are 0."""
    if values.shape == shape:
        return values
    grown = np.zeros(shape, values.dtype)
    grown[: values.shape[0], : values.shape[1]] = values
    return grown
