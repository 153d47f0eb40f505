"""Chooses the keys that are units by themselves, and sums all other keys into their slots.

A key is a unit of its own if it is listed, or if an hour of its last week reached the floor. It stays one while an hour of its
last week reaches half the floor, so that a key at the floor does not change back and forth. Sums by unit lose nothing: every
row of a tally counts in exactly one unit.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from foreshard.model import FloatArray, IntArray
from foreshard.model.key_space import MOST_SLOTS, KeySpace, slot_unit

FINE_SLOT = "fine_slot"
"""The column with a key's slot among ``MOST_SLOTS`` slots. Dividing it gives the slot among any smaller number of slots."""

UNIT_LOAD_COLUMNS = ("partitionable_key", "location", "request_type", "count", "cost")
"""One row per unit × location × request type. The first column is a unit: a key, or the name of a slot."""

STANDING_WEIGHT = 2.0
"""How much more a key that is a unit already counts, at the floor and in the order of the hottest keys."""


@dataclass(frozen=True, slots=True)
class UnitRule:
    """Which keys are units: those with ``floor`` cost in an hour (0: every key), at most ``most`` besides the listed ones."""

    floor: float
    most: int

    def choose(self, peaks: pd.Series[float], standing: Collection[str], listed: Collection[str]) -> tuple[str, ...]:
        """Return the keys that are units, sorted. ``peaks``: each key's highest hourly cost of the last week.

        ``standing``: keys that are units already; they stay down to half the floor. Keys without a peak have no load.
        """
        stands = peaks.index.isin(list(standing))
        level = peaks.to_numpy(np.float64) * np.where(stands, STANDING_WEIGHT, 1.0)
        free = (level >= self.floor) & ~peaks.index.isin(list(listed))
        names = peaks.index.to_numpy(object)[free]
        if len(names) > self.most:
            names = names[np.lexsort((names.astype(str), -level[free]))[: self.most]]
        return tuple(sorted({*listed, *names.tolist()}))


def fine_slots(names: Iterable[str], space: KeySpace) -> npt.NDArray[np.uint16]:
    """Return the slot of each key among ``MOST_SLOTS`` slots."""
    return np.array(KeySpace(space.key_type, MOST_SLOTS).slots_of(names), np.uint16)


def key_costs(rows: pd.DataFrame) -> pd.Series[float]:
    """Return each key's cost in the rows of one hour."""
    codes, names = coded(rows["partitionable_key"])
    return pd.Series(np.bincount(codes, rows["cost"].to_numpy(np.float64), len(names)), index=pd.Index(names, dtype=object))


@dataclass(frozen=True)
class UnitLoad:
    """The sums of a tally by unit, location and request type, as codes into their names."""

    units: npt.NDArray[Any]
    locations: npt.NDArray[Any]
    request_types: npt.NDArray[Any]
    unit: IntArray
    location: IntArray
    request_type: IntArray
    count: IntArray
    cost: FloatArray

    def frame(self) -> pd.DataFrame:
        """Return ``UNIT_LOAD_COLUMNS``, sorted."""
        columns = (self.units[self.unit], self.locations[self.location], self.request_types[self.request_type])
        table = pd.DataFrame(dict(zip(UNIT_LOAD_COLUMNS, (*columns, self.count, self.cost), strict=True)))
        return table.sort_values(list(UNIT_LOAD_COLUMNS[:3]), ignore_index=True)

    def only(self, units: Collection[str]) -> UnitLoad:
        """Return the sums of these units."""
        kept = np.flatnonzero(pd.Index(self.units, dtype=object).isin(list(units))[self.unit])
        unit, location, request_type = self.unit[kept], self.location[kept], self.request_type[kept]
        names = (self.units, self.locations, self.request_types)
        return UnitLoad(*names, unit, location, request_type, self.count[kept], self.cost[kept])


def by_unit(rows: pd.DataFrame, named: Collection[str], space: KeySpace) -> UnitLoad:
    """Sum the rows of a tally by unit, location and request type. All keys but the ``named`` ones count in their slots.

    ``rows`` may have the column ``FINE_SLOT``; else the keys are hashed. Text columns may be categorical.
    """
    units, unit = unit_codes(rows, named, space)
    places, place_names = coded(rows["location"])
    kinds, kind_names = coded(rows["request_type"])
    cells = (unit * len(place_names) + places) * len(kind_names) + kinds
    found, counts, costs = _summed(
        cells, len(units) * len(place_names) * len(kind_names), rows["count"].to_numpy(), rows["cost"].to_numpy()
    )
    pairs, kind = np.divmod(found, max(len(kind_names), 1))
    owner, place = np.divmod(pairs, max(len(place_names), 1))
    return UnitLoad(units, place_names, kind_names, owner, place, kind, counts, costs)


def unit_codes(rows: pd.DataFrame, named: Collection[str], space: KeySpace) -> tuple[npt.NDArray[Any], IntArray]:
    """Return the names of units, and each row's index into them."""
    codes, names = coded(rows["partitionable_key"])
    by_name = pd.Index(names, dtype=object).isin(list(named))
    slots = _slots(rows, codes, names, ~by_name, space)
    used = np.unique(slots[~by_name])
    unit_of_name = np.empty(len(names), np.int64)
    unit_of_name[by_name] = np.arange(int(by_name.sum()))
    unit_of_name[~by_name] = int(by_name.sum()) + np.searchsorted(used, slots[~by_name])
    units = np.array([*names[by_name].tolist(), *map(slot_unit, used.tolist())], object)
    return units, unit_of_name[codes]


def coded(column: pd.Series[Any]) -> tuple[IntArray, npt.NDArray[Any]]:
    """Return a text column as codes and their names. Categorical columns need no search."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        return column.cat.codes.to_numpy().astype(np.int64), column.cat.categories.to_numpy(object)
    codes, names = pd.factorize(column)
    return codes.astype(np.int64), np.asarray(names, object)


def _slots(rows: pd.DataFrame, codes: IntArray, names: npt.NDArray[Any], wanted: npt.NDArray[Any], space: KeySpace) -> IntArray:
    """Return the slot of each name; 0 where it is not ``wanted``."""
    fine = np.zeros(len(names), np.int64)
    if FINE_SLOT in rows:
        fine[codes] = rows[FINE_SLOT].to_numpy()
    elif wanted.any():
        fine[wanted] = fine_slots(names[wanted].tolist(), space)
    return fine // (MOST_SLOTS // space.slots)


def _summed(
    cells: IntArray, size: int, count: npt.NDArray[Any], cost: npt.NDArray[Any]
) -> tuple[IntArray, IntArray, FloatArray]:
    """Return the cells that occur, and the sums of their counts and costs."""
    if size > 4 * len(cells) + 65_536:
        found, cells = np.unique(cells, return_inverse=True)
        size = len(found)
    else:
        found = np.flatnonzero(np.bincount(cells, minlength=size))
    counts = np.bincount(cells, count, size).astype(np.int64)
    costs: FloatArray = np.bincount(cells, cost.astype(np.float64), size).astype(np.float64)
    if len(found) < size:
        counts, costs = counts[found], costs[found]
    return found.astype(np.int64), counts, costs
