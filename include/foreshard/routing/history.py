"""Rebuilds earlier versions of a routing table, compares two versions, and lists the steps back. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from foreshard.model import DefaultRule, Placement, RoutingTable
from foreshard.routing.table import locate


def table_before(
    table: RoutingTable,
    undone: Iterable[tuple[str, Placement | None]],
    version: int,
    rule: DefaultRule,
    published_at: datetime,
) -> RoutingTable:
    """Return the table as it was at ``version``.

    ``undone``: for every later change, newest first, its key and the placement before it (None: the key was not listed).
    ``rule`` and ``published_at`` belong to ``version``.
    """
    placements = dict(table.placements)
    for key, before in undone:
        if before is None:
            placements.pop(key, None)
        else:
            placements[key] = before
    return RoutingTable(version, placements, rule, published_at)


@dataclass(frozen=True, slots=True)
class Difference:
    """One key whose copies are on different partitions in two tables."""

    before: Placement
    after: Placement

    @property
    def key(self) -> str:
        """The key."""
        return self.before.key


def differences(old: RoutingTable, new: RoutingTable, keys: Iterable[str]) -> tuple[Difference, ...]:
    """Return the keys whose primary or shadows differ, in order. The default rule places unlisted keys."""
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
            return f"move {self.key!r} from {self.source} to {self.target}"
        return f"{self.kind} of {self.key!r} on {self.target} (primary on {self.source})"


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
