"""The reasons of a plan's steps: a code and facts for machines, one sentence for people. All hours are UTC."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Any

import numpy as np

from foreshard.model import ONE_HOUR, FloatArray, Reason
from foreshard.model.key_space import units_label
from foreshard.plan._clump import MoveOption
from foreshard.plan._placement_model import PlacementModel
from foreshard.plan._shadowing import ShadowCandidate, peak_share

RELIEF, DRAINING, RULE, SETTLING, ROOM = "relief", "draining", "rule", "settling", "room"
"""The purposes of moves."""

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


@dataclass(frozen=True, slots=True)
class LoadBefore:
    """A partition before a decision: its LPS, its peak hour, and its first hour above the mark (else the last), as indices."""

    lps: float
    peak: int
    needed_by: int

    @classmethod
    def of(cls, utilisation: FloatArray, high_water: float) -> LoadBefore:
        """From the partition's utilisation per hour."""
        over = utilisation > high_water
        return cls(float(utilisation.max()), int(utilisation.argmax()), int(over.argmax()) if over.any() else len(over) - 1)


def reason(code: str, sentence: str, **facts: Any) -> Reason:
    """Build a reason with read-only facts."""
    return Reason(code, sentence, MappingProxyType(facts))


def clock(hour: datetime, index: int) -> str:
    """Return the start of horizon hour ``index``, formatted for people."""
    return f"{hour + (index + 1) * ONE_HOUR:%a %H:%M}"


def horizon_time(hour: datetime, index: int) -> str:
    """Return the start of horizon hour ``index`` in ISO 8601."""
    return (hour + (index + 1) * ONE_HOUR).isoformat()


def move_reason(
    model: PlacementModel,
    source: int,
    option: MoveOption,
    key: int,
    before: LoadBefore,
    cause: str,
    room_for: int | None = None,
) -> Reason:
    """Return the reason for moving ``key``. ``model`` already includes the move; ``before`` is the source before it.

    ``room_for``: the large key whose shadow needs the room.
    """
    snapshot, names = model.snapshot, _names(model)
    lps = model.lps()
    here, there, hot = names[source], names[option.target], snapshot.shown(option.keys[0])
    full = f"{lps[option.target]:.2f}"
    after = f"leaving {here} at {lps[source]:.2f} and {there} at {full}"
    others, peak = len(option.keys) - 1, clock(snapshot.hour, before.peak)
    needed_by = before.needed_by
    facts: dict[str, Any] = {"returns": bool(snapshot.last_source[key] == option.target)}
    if cause == RULE:
        rules, row = snapshot.rules, int(snapshot.rules.row[key])
        code, needed_by = rules.rules[row][0].kind.value, 0
        facts["rules"] = [rule.rule_id for rule in rules.rules[row]]
        sentence = f"{snapshot.shown(key)} {rules.claim(row)}; it moves from {here} to {there}, which is then at {full}"
    elif cause == DRAINING:
        code, sentence = (
            "draining",
            f"{here} is being drained; {snapshot.shown(key)} moves to {there}, which is then at {full}",
        )
    elif cause == SETTLING:
        code, needed_by = "settling", snapshot.demand.hours - 1
        sentence = (
            f"{snapshot.shown(key)} moves{_with_others(others)} from {here} to {there}:"
            f" {round(-option.distance_km):+d} km nearer to its users, {-option.crossing:+.1f} co-accesses an hour on one"
            f" partition; {there} is then at {full}"
        )
    elif cause == ROOM and room_for is not None:
        code, sentence = (
            "makes_room",
            f"{here} would reach {before.lps:.2f} of its capacity at {peak} with {snapshot.shown(room_for)}, which gets a"
            f" shadow; {snapshot.shown(key)} makes room for it{_with_others(others)}, {after}",
        )
    elif key == option.keys[0]:
        code = "overload"
        sentence = (
            f"{here} would reach {before.lps:.2f} of its capacity at {peak}; its hot key moves{_with_others(others)}, {after}"
        )
    else:
        code, sentence = (
            "co_accessed",
            f"co-accessed with {hot}, which moves from {here} ({before.lps:.2f} at {peak}) to {there}",
        )
    return reason(
        code,
        sentence,
        source_lps_before=round(before.lps, 4),
        source_lps_after=round(float(lps[source]), 4),
        target_lps_after=round(float(lps[option.target]), 4),
        peak_hour=horizon_time(snapshot.hour, before.peak),
        needed_by=horizon_time(snapshot.hour, needed_by),
        gain_overload_hours=round(option.worth, 4) if cause in (RELIEF, ROOM) else None,
        value_overload_hours=round(option.value, 4) if cause in (RELIEF, ROOM, SETTLING) else None,
        clump_keys=len(option.keys),
        crossing_uses_per_hour=round(option.crossing, 4),
        distance_change_km=round(option.distance_km, 1),
        **facts,
    )


def set_reason(
    model: PlacementModel, source: int, target: int, units: Sequence[str], before: LoadBefore, is_drain: bool
) -> Reason:
    """Return the reason for moving a set of units. ``model`` already includes the move; ``before`` is the source before it."""
    snapshot, names, lps = model.snapshot, _names(model), model.lps()
    here, there, moved = names[source], names[target], units_label(units)
    moves = "moves" if len(units) == 1 else "move"
    if is_drain:
        code, sentence = "draining", f"{here} is being drained; {moved} {moves} to {there}, which is then at {lps[target]:.2f}"
    else:
        code, sentence = (
            "overload",
            f"{here} would reach {before.lps:.2f} of its capacity at {clock(snapshot.hour, before.peak)}; {moved} {moves}"
            f" together, leaving {here} at {lps[source]:.2f} and {there} at {lps[target]:.2f}",
        )
    return reason(
        code,
        sentence,
        source_lps_before=round(before.lps, 4),
        source_lps_after=round(float(lps[source]), 4),
        target_lps_after=round(float(lps[target]), 4),
        peak_hour=horizon_time(snapshot.hour, before.peak),
        needed_by=horizon_time(snapshot.hour, before.needed_by),
        units=len(units),
        returns=False,
    )


def _with_others(others: int) -> str:
    return f" with {others} co-accessed {'key' if others == 1 else 'keys'}" if others else ""


def shadow_reason(model: PlacementModel, option: ShadowCandidate, before: LoadBefore) -> Reason:
    """Return the reason for a shadow. ``model`` already includes it."""
    snapshot, names, lps = model.snapshot, _names(model), model.lps()
    source = int(model.primary[option.key])
    key, here, there = snapshot.keys[option.key], names[source], names[option.target]
    kilometres, peak = float(snapshot.partition_km[source, option.target]), clock(snapshot.hour, before.peak)
    if option.code == "far_reads":
        sentence = f"{key} is read from far away: a shadow on {there} saves {option.saved_km:.0f} km per read on average"
    elif option.code == "reserve":
        reads = float(peak_share(model, np.array([option.key]))[0] * snapshot.demand.read_share[option.key])
        sentence = (
            f"a burst could overload {here}: a shadow of {key} on {there}, {kilometres:.0f} km away, can take its reads,"
            f" up to {reads:.0%} of the capacity of {here}"
        )
    else:
        sentence = (
            f"{here} would reach {before.lps:.2f} of its capacity at {peak}; a shadow of its hot key {key} on {there},"
            f" {kilometres:.0f} km away, takes over reads ({here} {lps[source]:.2f}, {there} {lps[option.target]:.2f})"
        )
    return reason(
        option.code,
        sentence,
        source_lps_before=round(before.lps, 4),
        source_lps_after=round(float(lps[source]), 4),
        target_lps_after=round(float(lps[option.target]), 4),
        peak_hour=horizon_time(snapshot.hour, before.peak),
        read_share=round(float(snapshot.demand.read_share[option.key]), 4),
        value=round(option.value, 4),
        saved_km_per_read=round(option.saved_km, 1),
        distance_km=round(kilometres, 1),
    )


def removal_reason(model: PlacementModel, code: str, key: int, target: int) -> Reason:
    """Return the reason for removing a shadow. ``model`` no longer includes it."""
    snapshot, names = model.snapshot, _names(model)
    source = int(model.primary[key])
    facts: dict[str, Any] = {
        "write_share": round(1.0 - float(snapshot.demand.read_share[key]), 4),
        "lps_without": round(float(model.lps()[source]), 4),
    }
    if code in ("against_rule", "primary_against_rule"):
        facts["claim"] = snapshot.rules.claim(int(snapshot.rules.row[key]))
    sentence = REMOVALS[code].format(key=snapshot.keys[key], source=names[source], target=names[target], **facts)
    return reason(code, sentence, **facts)


def _names(model: PlacementModel) -> list[str]:
    return [partition.partition_id for partition in model.snapshot.partitions]
