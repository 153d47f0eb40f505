"""Bundles: a slot and the keys that live in it without a row of their own. They move as one, whatever the plan says.

Such a key is a unit because of its load, but the routing table places it by its slot, until a move of its own lists it. A slot
and a key of it never move in one plan by different moves, because a move of a slot excludes all others that touch it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from foreshard.measure.demand import LoadProfile
from foreshard.model import BoolArray, FloatArray, IntArray
from foreshard.plan._placement_model import PlacementModel


@dataclass(frozen=True)
class Bundles:
    """Units that move in sets, one row each: ``units`` (n) and the keys that they bring along.

    ``followers`` (m) are those keys, ``bundle`` (m) the row of each one's slot. ``load`` (n, H) and ``size`` (n) include them.
    """

    units: IntArray
    followers: IntArray
    bundle: IntArray
    load: LoadProfile
    size: FloatArray

    @classmethod
    def of(cls, model: PlacementModel, units: IntArray) -> Bundles:
        """Return the bundles of these units."""
        snapshot = model.snapshot
        place = np.full(len(snapshot.keys), -1, np.int64)
        place[units] = np.arange(len(units))
        followers = np.flatnonzero(snapshot.follows_slot)
        bundle = place[snapshot.slot_row[followers]]
        followers, bundle = followers[bundle >= 0], bundle[bundle >= 0]
        load, size = model.hours.load(units), snapshot.key_bytes[units].copy()
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

    def allowed(self, model: PlacementModel, target: int) -> BoolArray:
        """Return which bundles may go to ``target``: rules allow all of their keys there, and none has left it lately."""
        rules, not_back_to = model.snapshot.rules, model.snapshot.not_back_to
        may = rules.home[rules.row[self.units], target] & (not_back_to[self.units] != target)
        refused = ~rules.home[rules.row[self.followers], target] | (not_back_to[self.followers] == target)
        may[self.bundle[refused]] = False
        return np.asarray(may)


def movable_slots(model: PlacementModel, source: int) -> IntArray:
    """Return the slots on ``source`` that may move: no key of them is being moved, pinned or shadowed, or moves by itself."""
    snapshot, here = model.snapshot, model.unmoved_on(source)
    slots = here[snapshot.slots[here] & snapshot.movable[here] & ~snapshot.rules.fixed_keys[here]]
    followers = np.flatnonzero(snapshot.follows_slot)
    held = followers[snapshot.rules.fixed_keys[followers] | model.has_shadow(followers)]
    touched = np.concatenate([held, model.moved, np.flatnonzero(snapshot.under_way)])
    return np.asarray(slots[~np.isin(slots, snapshot.slot_row[touched])])
