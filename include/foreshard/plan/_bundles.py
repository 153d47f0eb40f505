"""Bundles: units that move in sets. A slot brings along the small keys of it that are on the same partition.

A move of a slot excludes every other move that touches the slot, so a slot and its keys move in one plan together or not at
all. Keys of a slot that have a reason to be placed by name stay: they are listed before the slot leaves.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from foreshard.measure.demand import LoadProfile
from foreshard.model import BoolArray, FloatArray, IntArray
from foreshard.plan._placement_model import PlacementModel


@dataclass(frozen=True)
class Bundles:
    """Units that may move in sets, one row each: ``units`` (n), slots and keys without one, and what they bring along.

    ``followers`` (m) are keys, ``bundle`` (m) the row of each one's slot. ``load`` (n, H) and ``size`` (n) include them.
    """

    units: IntArray
    followers: IntArray
    bundle: IntArray
    load: LoadProfile
    size: FloatArray

    @classmethod
    def of(cls, model: PlacementModel, slots: IntArray, keys: IntArray) -> Bundles:
        """Return the bundles of these slots and keys of one partition."""
        snapshot = model.snapshot
        place = np.full(len(snapshot.keys), -1, np.int64)
        place[slots] = np.arange(len(slots))
        bundle = place[snapshot.slot_row[keys]]
        followers, units = keys[bundle >= 0], np.concatenate([slots, keys[bundle < 0]])
        bundle = bundle[bundle >= 0]
        load, size = model.hours.load(units), snapshot.key_bytes[units]
        np.add.at(size, bundle, snapshot.key_bytes[followers])
        for total, part in zip(load.parts(), model.hours.load(followers).parts(), strict=True):
            np.add.at(total, bundle, part)
        return cls(units, followers, bundle, load, size)

    def rows(self, chosen: IntArray | BoolArray) -> Bundles:
        """Return some of the bundles."""
        place = np.full(len(self.units), -1, np.int64)
        kept = np.arange(len(self.units))[chosen]
        place[kept] = np.arange(len(kept))
        bundle = place[self.bundle]
        there = bundle >= 0
        return Bundles(self.units[kept], self.followers[there], bundle[there], self.load.rows(kept), self.size[kept])

    @property
    def members(self) -> IntArray:
        """Every unit that moves: the units and the keys that they bring along."""
        return np.concatenate([self.units, self.followers])

    @property
    def keys(self) -> IntArray:
        """The number of keys that each bundle brings along (n)."""
        return np.bincount(self.bundle, minlength=len(self.units))

    def allowed(self, model: PlacementModel, target: int) -> BoolArray:
        """Return which bundles may go to ``target``: rules allow all of their units there, and none has left it lately."""
        rules, not_back_to = model.snapshot.rules, model.snapshot.not_back_to
        may = rules.home[rules.row[self.units], target] & (not_back_to[self.units] != target)
        refused = ~rules.home[rules.row[self.followers], target] | (not_back_to[self.followers] == target)
        may[self.bundle[refused]] = False
        return np.asarray(may)


def movable_slots(model: PlacementModel, source: int) -> IntArray:
    """Return the slots on ``source`` that may move: neither pinned nor resting, and no other move touches them."""
    snapshot, here = model.snapshot, model.unmoved_on(source)
    slots = here[snapshot.slots[here] & snapshot.movable[here] & ~snapshot.rules.fixed_keys[here]]
    touched = np.concatenate([model.moved, np.flatnonzero(snapshot.under_way)])
    return np.asarray(slots[~np.isin(slots, snapshot.slot_row[touched])])
