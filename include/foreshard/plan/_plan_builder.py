"""A plan in the making: what has been chosen so far, and what is left of the hour's limits."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

from foreshard.model import BoolArray, Move, PlannedShadow
from foreshard.plan._clump import Allowance
from foreshard.plan._placement_model import PlacementModel
from foreshard.plan._shadowing import shadowable


@dataclass
class PlanBuilder:
    """A plan in the making.

    ``obstacles``: partition → why it isn't relieved further; ``held``: (partition, row of rules; None: draining) → why keys
    that must leave it stay.
    """

    view: PlacementModel
    ceiling: float
    moves: list[Move] = field(default_factory=list)
    shadows: list[PlannedShadow] = field(default_factory=list)
    removals: list[PlannedShadow] = field(default_factory=list)
    obstacles: dict[int, str] = field(default_factory=dict)
    relieving: set[int] = field(default_factory=set)
    targets: set[int] = field(default_factory=set)
    held: dict[tuple[int, int | None], str] = field(default_factory=dict)
    size_bytes: float = 0.0

    @property
    def changed(self) -> bool:
        """Whether the plan does anything."""
        return bool(self.moves or self.shadows or self.removals)

    @cached_property
    def shadowable(self) -> BoolArray:
        """Which keys may have shadows (K)."""
        return shadowable(self.view.snapshot, self.view.policy)

    @property
    def allowance(self) -> Allowance:
        """What is left of the limits for moves."""
        policy = self.view.policy
        return Allowance(policy.maximum_moves - len(self.moves), policy.maximum_bytes - self.size_bytes)
