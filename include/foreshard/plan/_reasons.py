"""The reasons of a plan's steps: a code and facts for machines, one sentence for people. All hours are UTC.

A reason is made from the step and the terms of the objective that it changed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime
from types import MappingProxyType
from typing import Any

from foreshard.model import ONE_HOUR, Move, PlannedShadow, Reason
from foreshard.model.decided import shadow_id
from foreshard.model.key_space import units_label
from foreshard.plan._steps import MoveStep, ShadowStep, TakenStep, Terms, UnitPrices
from foreshard.plan.input.snapshot import IndexedShadow, Snapshot

REMOVALS = {
    "against_rule": "{key} {claim}, so its shadow on {target} is removed",
    "primary_against_rule": "{key} {claim}; its shadow on {target} is removed so that it can be moved from {source}",
    "redundant": "{key} now has its primary copy on {target}, so the shadow there is redundant",
    "target_draining": "{target} is being drained, so its shadow of {key} is removed",
    "primary_draining": "{source} is being drained; the shadow of {key} on {target} is removed so that {key} can be moved",
    "write_heavy": "{key} is now written too often: its shadow on {target} repeats {write_share:.0%} of its cost",
    "writes_cost_more": "hardly any partition has room, and writes to the shadow of {key} on {target} cost more than it saves",
    "no_longer_needed": "without the shadow of {key} on {target}, {source} is at {lps_without:.2f} of its capacity",
}


def reason(code: str, sentence: str, **facts: Any) -> Reason:
    """Build a reason with read-only facts."""
    return Reason(code, sentence, MappingProxyType(facts))


def clock(hour: datetime, index: int) -> str:
    """Return the start of horizon hour ``index``, formatted for people."""
    return f"{hour + (index + 1) * ONE_HOUR:%a %H:%M}"


def horizon_time(hour: datetime, index: int) -> str:
    """Return the start of horizon hour ``index`` in ISO 8601."""
    return (hour + (index + 1) * ONE_HOUR).isoformat()


def move_id(hour: datetime, key: str) -> str:
    """Return the id of the move of ``key`` in the plan for ``hour``."""
    digest = hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
    return f"{hour:%Y%m%dT%H}-{digest}"


def moves_of(snapshot: Snapshot, prices: UnitPrices, taken: TakenStep, step: MoveStep) -> list[Move]:
    """Return the moves of a set: one for all units that are moved as a group, and one for each other unit."""
    lead = int(step.units[0])
    grouped = step.units[prices.grouped[step.units]]
    sets = [[unit] for unit in step.units.tolist() if not prices.grouped[unit]]
    sets += [grouped.tolist()] if len(grouped) else []
    return [
        Move(
            move_id=move_id(snapshot.hour, snapshot.keys[units[0]]),
            units=tuple(snapshot.keys[unit] for unit in units),
            source=snapshot.partitions[step.source].partition_id,
            target=snapshot.partitions[step.target].partition_id,
            estimated_bytes=int(snapshot.key_bytes[units].sum()),
            clump=snapshot.keys[lead],
            reason=_move_reason(snapshot, taken, step, units),
        )
        for units in sets
    ]


def _move_reason(snapshot: Snapshot, taken: TakenStep, step: MoveStep, units: Sequence[int]) -> Reason:
    code, sentence = _move_code(snapshot, taken, step, units)
    needed_by = taken.before.needed_by
    if code in ("settling", "draining"):
        needed_by = snapshot.demand.hours - 1
    facts = _facts(snapshot, taken, step.terms)
    if code == "draining" or (taken.code and taken.code != "makes_room"):
        rules, row = snapshot.rules, int(snapshot.rules.row[units[0]])
        facts["rules"] = [rule.rule_id for rule in rules.rules[row]]
        needed_by = needed_by if code == "draining" else 0
    return reason(
        code,
        sentence,
        **facts,
        needed_by=horizon_time(snapshot.hour, needed_by),
        units=len(units),
        clump_keys=len(step.units),
        returns=bool((snapshot.last_source[list(units)] == step.target).any()),
    )


def _move_code(snapshot: Snapshot, taken: TakenStep, step: MoveStep, units: Sequence[int]) -> tuple[str, str]:
    names = [partition.partition_id for partition in snapshot.partitions]
    here, there, unit = names[step.source], names[step.target], snapshot.shown(units[0])
    what = unit if len(units) == 1 else units_label([snapshot.keys[n] for n in units])
    moves, others = "moves" if len(units) == 1 else "move", len(step.units) - len(units)
    left, full = taken.lps
    after = f"leaving {here} at {left:.2f} and {there} at {full:.2f}"
    would = f"{here} would reach {taken.before.lps:.2f} of its capacity at {clock(snapshot.hour, taken.before.peak)}"
    if taken.code == "draining":
        return "draining", f"{here} is being drained; {what} {moves} to {there}, which is then at {full:.2f}"
    if taken.code == "makes_room" and taken.room_for is not None:
        room = f"{snapshot.shown(taken.room_for)} comes to {here}; {what} {moves} away to make room for it"
        return "makes_room", f"{room}, {after}"
    if taken.code:
        claim = snapshot.rules.claim(int(snapshot.rules.row[units[0]]))
        return taken.code, f"{what} {claim}; it moves from {here} to {there}, which is then at {full:.2f}"
    if units[0] != step.units[0] and step.clump:
        lead = snapshot.shown(int(step.units[0]))
        return "co_accessed", f"co-accessed with {lead}, which moves from {here} to {there}"
    if step.terms.work < step.terms.overload:
        also = f" with {others} co-accessed {'key' if others == 1 else 'keys'}" if others else ""
        nearer = f"nearer to its users and to the keys that are used with it (worth {-step.terms.work:.2g} overload hours)"
        return "settling", f"{what} {moves}{also} from {here} to {there}: {nearer}; {there} is then at {full:.2f}"
    if len(units) > 1:
        return "overload", f"{would}; {what} move together, {after}"
    also = f" with {others} other {'unit' if others == 1 else 'units'}" if others else ""
    return "overload", f"{would}; {what} moves{also}, {after}"


def shadow_of(snapshot: Snapshot, taken: TakenStep, step: ShadowStep) -> PlannedShadow:
    """Return a planned shadow with its reason."""
    names = [partition.partition_id for partition in snapshot.partitions]
    key, here, there = snapshot.keys[step.key], names[taken.source], names[step.target]
    kilometres = float(snapshot.partition_km[taken.source, step.target])
    left, full = taken.lps
    if step.terms.work < step.terms.overload:
        code = "far_reads"
        saved = f"{step.saved_km:.{0 if step.saved_km >= 10 else 1}f}"
        sentence = f"{key} is read from far away: a shadow on {there} saves {saved} km per read on average"
    elif not taken.before.full:
        code = "reserve"
        sentence = f"a burst could overload {here}: a shadow of {key} on {there}, {kilometres:.0f} km away, can take its reads"
    else:
        code = "hot_key"
        sentence = (
            f"{here} would reach {taken.before.lps:.2f} of its capacity at {clock(snapshot.hour, taken.before.peak)}; a"
            f" shadow of its hot key {key} on {there}, {kilometres:.0f} km away, takes over reads"
            f" ({here} {left:.2f}, {there} {full:.2f})"
        )
    facts = _facts(snapshot, taken, step.terms)
    why = reason(
        code,
        sentence,
        **facts,
        read_share=round(float(snapshot.demand.read_share[step.key]), 4),
        saved_km_per_read=round(step.saved_km, 1),
        distance_km=round(kilometres, 1),
    )
    return PlannedShadow(shadow_id(key, there), key, here, there, why)


def removal_of(snapshot: Snapshot, taken: TakenStep, step: ShadowStep, removed: IndexedShadow) -> PlannedShadow:
    """Return the removal of a shadow with its reason."""
    names = [partition.partition_id for partition in snapshot.partitions]
    key, here, there = snapshot.keys[step.key], names[taken.source], names[step.target]
    facts: dict[str, Any] = {
        "write_share": round(1.0 - float(snapshot.demand.read_share[step.key]), 4),
        "lps_without": round(taken.lps[0], 4),
    }
    if taken.code in ("against_rule", "primary_against_rule"):
        facts["claim"] = snapshot.rules.claim(int(snapshot.rules.row[step.key]))
    sentence = REMOVALS[taken.code].format(key=key, source=here, target=there, **facts)
    return PlannedShadow(removed.shadow_id, key, here, there, reason(taken.code, sentence, **facts))


def _facts(snapshot: Snapshot, taken: TakenStep, terms: Terms) -> dict[str, Any]:
    """Return the facts of a step: LPS before and after, the peak, and what it changed in the objective, in overload hours."""
    left, full = taken.lps
    return {
        "source_lps_before": round(taken.before.lps, 4),
        "source_lps_after": round(left, 4),
        "target_lps_after": round(full, 4),
        "peak_hour": horizon_time(snapshot.hour, taken.before.peak),
        "gain_overload_hours": round(-terms.total, 6),
        "terms": {name: round(float(getattr(terms, name)), 6) for name in ("overload", "work", "copies", "misplaced", "churn")},
    }
