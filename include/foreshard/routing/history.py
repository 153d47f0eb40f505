"""Rebuilds earlier versions of a routing table, compares two versions, and lists the steps back. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from foreshard.model import Placement, RoutingTable
from foreshard.model.key_space import slot_number, unit_label
from foreshard.routing.table import locate


def table_before(
    table: RoutingTable, undone: Iterable[tuple[str, Placement | None]], version: int, published_at: datetime
) -> RoutingTable:
    """Return the table as it was at ``version``, published at ``published_at``.

    ``undone``: for every later change, newest first, its unit and the placement before it (None: the key was not listed).
    """
    placements = dict(table.placements)
    slots: dict[int, Placement] = {}
    for unit, before in undone:
        slot = slot_number(unit)
        if before is None:
            placements.pop(unit, None)
        elif slot is None:
            placements[unit] = before
        else:
            slots[slot] = before
    return RoutingTable(version, placements, table.slots.laid_over(slots), published_at)


@dataclass(frozen=True, slots=True)
class Difference:
    """One key or slot whose copies are on different partitions in two tables."""

    before: Placement
    after: Placement

    @property
    def key(self) -> str:
        """The unit."""
        return self.before.key


def differences(old: RoutingTable, new: RoutingTable, keys: Iterable[str]) -> tuple[Difference, ...]:
    """Return the units whose primary or shadows differ, in order. Slots place keys that are not listed."""
    pairs = (Difference(locate(old, key), locate(new, key)) for key in sorted(set(keys)))
    return tuple(d for d in pairs if d.before.primary != d.after.primary or set(d.before.shadows) != set(d.after.shadows))


@dataclass(frozen=True, slots=True)
class ReverseStep:
    """One step back. ``kind`` is ``move``, ``shadow`` or ``remove shadow``; ``source`` holds the primary now."""

    kind: str
    key: str
    source: str
    target: str

    def __str__(self) -> str:
        if self.kind == "move":
            return f"move {unit_label(self.key)} from {self.source} to {self.target}"
        return f"{self.kind} of {unit_label(self.key)} on {self.target} (primary on {self.source})"


def reverse_steps(changed: Iterable[Difference]) -> tuple[ReverseStep, ...]:
    """Return the steps that restore ``before`` from ``after``: removals first, then moves, then new shadows."""
    removals, moves, shadows = [], [], []
    for d in changed:
        now, then = d.after, d.before
        removals += [ReverseStep("remove shadow", d.key, now.primary, s) for s in now.shadows if s not in then.shadows]
        if now.primary != then.primary:
            moves.append(ReverseStep("move", d.key, now.primary, then.primary))
        shadows += [ReverseStep("shadow", d.key, then.primary, s) for s in then.shadows if s not in now.shadows]
    return (*removals, *moves, *shadows)
