"""When a plan's moves finish, at the measured rate of recent moves, and which finish too late."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from types import MappingProxyType

from foreshard.model import ONE_HOUR, Move, PlanWarning, RuleKind
from foreshard.plan._refusals import late_reason
from foreshard.plan.input.snapshot import PlanPolicy, Snapshot

ALWAYS_DUE = frozenset(kind.value for kind in RuleKind)
"""Moves required by a rule. They are always due at once, so they never count as late."""


def schedule(snapshot: Snapshot, policy: PlanPolicy, moves: Sequence[Move]) -> tuple[tuple[Move, ...], tuple[PlanWarning, ...]]:
    """Order ``moves`` by urgency, keeping clumps together. Add the finishing time of each, and warn about late ones.

    The moves begin in this order when the plan's hour is over, ``policy.parallel_moves`` at once from and to a partition.
    """
    start = snapshot.hour + ONE_HOUR
    urgent: dict[tuple[str, str], datetime] = {}
    for move in moves:
        of = (move.source, move.clump)
        urgent[of] = min(urgent.get(of, _needed_by(move)), _needed_by(move))
    ordered = sorted(moves, key=lambda move: urgent[move.source, move.clump])
    lanes: dict[tuple[str, str], list[float]] = defaultdict(lambda: [0.0] * policy.parallel_moves)
    finished: list[tuple[Move, datetime]] = []
    for move in ordered:
        places = lanes["from", move.source], lanes["to", move.target]
        ends = max(map(heapq.heappop, places)) + snapshot.migration.seconds(move.estimated_bytes)
        for place in places:
            heapq.heappush(place, ends)
        at = start + timedelta(seconds=ends)
        facts = {**move.reason.facts, "finished_by": at.isoformat(timespec="seconds"), "in_time": at <= _needed_by(move)}
        finished.append((replace(move, reason=replace(move.reason, facts=MappingProxyType(facts))), at))
    return tuple(move for move, _ in finished), _late_warnings(snapshot, finished, start)


def _needed_by(move: Move) -> datetime:
    return datetime.fromisoformat(str(move.reason.facts["needed_by"]))


def _late_warnings(snapshot: Snapshot, finished: Sequence[tuple[Move, datetime]], start: datetime) -> tuple[PlanWarning, ...]:
    """Return one warning per partition whose relief comes after the hour that needs it."""
    warnings = []
    for source in dict.fromkeys(move.source for move, _ in finished):
        mine = [(move, at) for move, at in finished if move.source == source and move.reason.code not in ALWAYS_DUE]
        late = [(move, at) for move, at in mine if at > _needed_by(move)]
        if late:
            needed, at = min(_needed_by(move) for move, _ in late), max(at for _, at in late)
            why = late_reason(source, len(late), needed, at, start, snapshot.migration)
            warnings.append(PlanWarning(source, why))
    return tuple(warnings)
