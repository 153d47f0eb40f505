"""A plan under construction, and the steps that it takes.

A step applies a move or shadow to the model and records it with its reason, or is undone if it does harm.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property

import numpy as np

from foreshard.model import BoolArray, Move, PlannedShadow
from foreshard.model.decided import shadow_id
from foreshard.plan import _reasons as reasons
from foreshard.plan._clump import Allowance, MoveOption
from foreshard.plan._placement_model import PlacementModel
from foreshard.plan._reasons import RELIEF
from foreshard.plan._shadowing import ShadowCandidate, shadowable


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


LOWERED_PEAK = 0.01
"""The LPS that a move must remove from a partition that is already below its high-water mark."""

COPY_RISK = 0.01
"""The expected overload hours that the writes of a shadow may add if it relieves no overload now."""


def move_id(hour: datetime, key: str) -> str:
    """Return the id of the move of ``key`` in the plan for ``hour``."""
    digest = hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
    return f"{hour:%Y%m%dT%H}-{digest}"


def apply_move(
    builder: PlanBuilder, source: int, option: MoveOption, banned: set[tuple[int, int]], cause: str = RELIEF
) -> bool:
    """Move the clump. Undo the move if shared reads cancel its gain or push a partition above its mark, and return False."""
    model = builder.model
    risk, before = model.total_risk(), reasons.LoadBefore.of(model.utilisation()[source], model.policy.high_water)
    level = model.level(source) if cause == RELIEF else None
    change = model.move(option.keys, option.target)
    pays = cause != RELIEF or _pays(model, source, option, before, risk)
    if not pays or model.pushed_over(change, level) or float(model.lps().max()) > builder.ceiling:
        model.undo(change)
        banned.add((option.keys[0], option.target))
        return False
    record_move(builder, source, option, before, cause)
    return True


def record_move(
    builder: PlanBuilder, source: int, option: MoveOption, before: reasons.LoadBefore, cause: str, room_for: int | None = None
) -> None:
    """Add an applied move to the plan. ``room_for``: the key whose shadow needs the room."""
    model, snapshot = builder.model, builder.model.snapshot
    builder.size_bytes += option.size_bytes
    builder.targets.add(option.target)
    builder.moves += [
        Move(
            move_id=move_id(snapshot.hour, snapshot.keys[key]),
            units=(snapshot.keys[key],),
            source=snapshot.partitions[source].partition_id,
            target=snapshot.partitions[option.target].partition_id,
            estimated_bytes=int(snapshot.key_bytes[key]),
            clump=snapshot.keys[option.keys[0]],
            reason=reasons.move_reason(model, source, option, key, before, cause, room_for),
        )
        for key in option.keys
    ]


def _pays(model: PlacementModel, source: int, option: MoveOption, before: reasons.LoadBefore, risk: float) -> bool:
    """Return whether the applied move removes more risk than its price.

    Below the high-water mark it must also lower the peak.
    """
    lowers = before.lps > model.policy.high_water or float(model.lps()[source]) <= before.lps - LOWERED_PEAK
    return lowers and risk - model.total_risk() > option.price


def apply_if_harmless(builder: PlanBuilder, option: ShadowCandidate, fullest: float = np.inf) -> bool:
    """Add the shadow, unless it pushes a partition above its mark, fills the target beyond ``fullest``, or adds risk."""
    model, risk, before = builder.model, builder.model.total_risk(), _before(builder.model, option)
    change = model.add_shadow(option.key, option.target)
    refused = (
        model.pushed_over(change)
        or model.lps()[option.target] > fullest
        or float(model.lps().max(initial=0.0)) > builder.ceiling
        or model.total_risk() > risk + COPY_RISK
    )
    if refused:
        model.undo(change)
    else:
        _record_shadow(builder, option, before)
    return not refused


def apply_shadow(builder: PlanBuilder, option: ShadowCandidate) -> None:
    """Add the shadow."""
    before = _before(builder.model, option)
    builder.model.add_shadow(option.key, option.target)
    _record_shadow(builder, option, before)


def _before(model: PlacementModel, option: ShadowCandidate) -> reasons.LoadBefore:
    return reasons.LoadBefore.of(model.utilisation()[int(model.primary[option.key])], model.policy.high_water)


def _record_shadow(builder: PlanBuilder, option: ShadowCandidate, before: reasons.LoadBefore) -> None:
    """Add an applied shadow to the plan."""
    model, snapshot = builder.model, builder.model.snapshot
    source = int(model.primary[option.key])
    key, target = snapshot.keys[option.key], snapshot.partitions[option.target].partition_id
    builder.size_bytes += float(snapshot.key_bytes[option.key])
    builder.targets.add(option.target)
    builder.shadows.append(
        PlannedShadow(
            shadow_id=shadow_id(key, target),
            key=key,
            source=snapshot.partitions[source].partition_id,
            target=target,
            reason=reasons.shadow_reason(model, option, before),
        )
    )
