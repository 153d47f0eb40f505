"""Steps that a plan may take, what they change in the objective, and each unit's price."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from foreshard.model import FloatArray, IntArray
from foreshard.plan._placement import PlannedPlacement
from foreshard.plan.input.snapshot import IndexedShadow
from foreshard.plan.objective import churn_price, resolution, wholes

GROUPED = 0.5
"""Slots, and units below this part of a whole, move together as one move; larger ones are moves of their own."""


@dataclass(frozen=True, slots=True)
class Terms:
    """The change of each of the objective's terms, in overload hours; ``overload`` as far as it is believed."""

    overload: float = 0.0
    work: float = 0.0
    copies: float = 0.0
    misplaced: float = 0.0
    churn: float = 0.0

    @property
    def total(self) -> float:
        """The change of the objective."""
        return self.overload + self.work + self.copies + self.misplaced + self.churn


@dataclass(frozen=True, slots=True)
class MoveStep:
    """A set of units that moves from ``source`` to ``target``, the unit that leads it first."""

    units: IntArray
    source: int
    target: int
    terms: Terms
    clump: bool = False


@dataclass(frozen=True, slots=True)
class Allowance:
    """How many moves, and bytes, one plan may still have."""

    moves: int
    size_bytes: float


class UnitPrices:
    """What is known of each unit (K) before the plan: its part of a whole, prices, and whether it moves in a group."""

    def __init__(self, placement: PlannedPlacement) -> None:
        snapshot = placement.snapshot
        peak = placement.hours.mean[:, : placement.hours.coming].max(axis=1, initial=0.0)
        hours = float(placement.hours.weight.sum())
        self.typical = placement.hours.mean @ (placement.hours.weight / hours)
        self.whole = wholes(np.maximum(peak, self.typical) / float(placement.capacity.mean()))
        churn = placement.policy.churn
        self.churn = churn * churn_price(self.whole, snapshot.key_bytes, snapshot.idle_hours, hours)
        self.unresolved = churn * resolution(self.whole, snapshot.idle_hours)
        self.again = self.unresolved - churn * resolution(self.whole, np.full(len(self.whole), np.inf))
        self.grouped = snapshot.slots | (self.whole < GROUPED)

    def moves(self, units: IntArray) -> IntArray:
        """Return how many moves the first 1, 2, … of these units are."""
        grouped = self.grouped[units]
        return np.asarray((~grouped).cumsum() + (grouped.cumsum() > 0))


@dataclass(frozen=True, slots=True)
class ShadowStep:
    """A shadow of ``key`` that is added on ``target``, or removed from there. ``saved_km``: per read, by the shadow."""

    key: int
    target: int
    terms: Terms
    saved_km: float = 0.0


@dataclass(frozen=True, slots=True)
class LoadBefore:
    """A partition before a step: its LPS, whether that is above the mark, its peak hour, and its first hour above the mark.

    Hours are indices; without one above the mark the last counts.
    """

    lps: float
    full: bool
    peak: int
    needed_by: int

    @classmethod
    def of(cls, utilisation: FloatArray, high_water: float) -> LoadBefore:
        """From the partition's utilisation per hour."""
        over = utilisation > high_water
        first = int(over.argmax()) if over.any() else len(over) - 1
        return cls(float(utilisation.max()), bool(over.any()), int(utilisation.argmax()), first)


@dataclass(frozen=True, slots=True)
class TakenStep:
    """A step of the plan with what its reason is made of.

    ``code``: empty for a step that the objective alone has chosen, else why it was required. ``room_for``: the unit that
    another step of the same chain brings. ``lps``: of source and target after the step.
    """

    step: MoveStep | ShadowStep
    source: int
    before: LoadBefore
    lps: tuple[float, float]
    code: str = ""
    room_for: int | None = None
    removed: IndexedShadow | None = None
