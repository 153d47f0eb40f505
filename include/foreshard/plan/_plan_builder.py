"""A plan under construction: the steps chosen so far, and the remaining limits of the hour."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

from foreshard.model import BoolArray, Move, PlannedShadow
from foreshard.plan._clump import Allowance
from foreshard.plan._placement_model import PlacementModel
from foreshard.plan._shadowing import shadowable


@dataclass
class PlanBuilder:
    """A plan under construction.

    ``ceiling``: the highest LPS that the plan may cause. ``obstacles``: partition → why it is not relieved further.
    ``leaving_obstacles``: (partition, rule row; None: draining) → why keys that must leave it stay. ``relieving``: partitions
    that relief has changed. ``targets``: partitions that receive keys or shadows.
    """

    model: PlacementModel
    ceiling: float
    moves: list[Move] = field(default_factory=list)
    shadows: list[PlannedShadow] = field(default_factory=list)
    removals: list[PlannedShadow] = field(default_factory=list)
    obstacles: dict[int, str] = field(default_factory=dict)
    relieving: set[int] = field(default_factory=set)
    targets: set[int] = field(default_factory=set)
    leaving_obstacles: dict[tuple[int, int | None], str] = field(default_factory=dict)
    size_bytes: float = 0.0

    @property
    def changed(self) -> bool:
        """Whether the plan has any step."""
        return bool(self.moves or self.shadows or self.removals)

    @cached_property
    def shadowable(self) -> BoolArray:
        """Which keys may have shadows (K)."""
        return shadowable(self.model.snapshot, self.model.policy)

    @property
    def allowance(self) -> Allowance:
        """The remaining limits for moves."""
        policy = self.model.policy
        return Allowance(policy.maximum_moves - len(self.moves), policy.maximum_bytes - self.size_bytes)
