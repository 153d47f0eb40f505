"""The plan's reasons: a code and figures for machines, one sentence for people. All hours are UTC."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Any

import numpy as np

from foreshard.model import ONE_HOUR, FloatArray, Reason
from foreshard.plan._move_search import MoveOption
from foreshard.plan._placement_model import PlacementModel
from foreshard.plan._shadowing import ShadowCandidate, peak_share

RELIEF, DRAINING, RULE, SETTLING, ROOM = "relief", "draining", "rule", "settling", "room"
"""What a move is made for."""

REMOVALS = {
    "against_rule": "{key} {claim}, so it gives up its shadow on {target}",
    "primary_against_rule": "{key} {claim}; it gives up its shadow on {target} so that it can be moved from {source}",
    "redundant": "{key} has its primary copy on {target} now, which makes the shadow there redundant",
    "target_draining": "{target} is being drained, so it gives up its shadow of {key}",
    "primary_draining": "{source} is being drained; {key} gives up its shadow on {target} so that it can be moved",
    "write_heavy": "{key} is written too much by now: its shadow on {target} pays {write_share:.0%} of its cost again",
    "writes_cost_more": "hardly any partition has room, and writing {key} to its shadow on {target} costs more than that saves",
    "no_longer_needed": "without its shadow on {target}, {key} leaves {source} at {lps_without:.2f} of its capacity",
}


@dataclass(frozen=True, slots=True)
class Before:
    """A partition before a decision: its LPS, its peak's horizon hour, and the first one over its mark (or the last of all)."""

    lps: float
    peak: int
    needed_by: int

    @classmethod
    def of(cls, utilisation: FloatArray, high_water: float) -> Before:
        """Read it from the partition's utilisation per hour."""
        over = utilisation > high_water
        return cls(float(utilisation.max()), int(utilisation.argmax()), int(over.argmax()) if over.any() else len(over) - 1)


def reason(code: str, sentence: str, **facts: Any) -> Reason:
    """Build a reason with read-only facts."""
    return Reason(code, sentence, MappingProxyType(facts))


def clock(hour: datetime, index: int) -> str:
    """The start of horizon hour ``index``, as people read it."""
    return f"{hour + (index + 1) * ONE_HOUR:%a %H:%M}"


def horizon_time(hour: datetime, index: int) -> str:
    """The start of horizon hour ``index`` in ISO 8601."""
    return (hour + (index + 1) * ONE_HOUR).isoformat()


def move_reason(
    view: PlacementModel, source: int, option: MoveOption, key: int, was: Before, cause: str, room_for: int | None = None
) -> Reason:
    """Why ``key`` moves; ``view`` already has the move applied, ``was`` is the source before it.

    ``room_for``: the large key for whose copy room is made.
    """
    snapshot, names = view.snapshot, _names(view)
    lps = view.lps()
    here, there, hot = names[source], names[option.target], snapshot.keys[option.keys[0]]
    full = f"{lps[option.target]:.2f}"
    after = f"which leaves {here} at {lps[source]:.2f} and {there} at {full}"
    others, peak = len(option.keys) - 1, clock(snapshot.hour, was.peak)
    needed_by = was.needed_by
    facts: dict[str, Any] = {"returns": bool(snapshot.last_source[key] == option.target)}
    if cause == RULE:
        rules, row = snapshot.rules, int(snapshot.rules.row[key])
        code, needed_by = rules.rules[row][0].kind.value, 0
        facts["rules"] = [rule.rule_id for rule in rules.rules[row]]
        sentence = f"{snapshot.keys[key]} {rules.claim(row)}; it moves from {here} to {there}, which is then at {full}"
    elif cause == DRAINING:
        code, sentence = (
            "draining",
            f"{here} is being drained; {snapshot.keys[key]} moves to {there}, which is then at {full}",
        )
    elif cause == SETTLING:
        code, needed_by = "settling", snapshot.demand.hours - 1
        sentence = (
            f"{snapshot.keys[key]} moves{_company(others)} from {here} to {there}: {round(-option.distance_km):+d} km nearer to"
            f" its users, {-option.crossing:+.1f} common uses an hour on one partition; {there} is then at {full}"
        )
    elif cause == ROOM and room_for is not None:
        code, sentence = (
            "makes_room",
            f"{here} would reach {was.lps:.2f} of its capacity at {peak} with {snapshot.keys[room_for]}, which gets a copy;"
            f" {snapshot.keys[key]} makes room{_company(others)}, {after}",
        )
    elif key == option.keys[0]:
        code = "overload"
        sentence = f"{here} would reach {was.lps:.2f} of its capacity at {peak}; its hot key moves{_company(others)}, {after}"
    else:
        code, sentence = (
            "co_accessed",
            f"used together with {hot}, which leaves {here} ({was.lps:.2f} at {peak}) for {there}",
        )
    return reason(
        code,
        sentence,
        source_lps_before=round(was.lps, 4),
        source_lps_after=round(float(lps[source]), 4),
        target_lps_after=round(float(lps[option.target]), 4),
        peak_hour=horizon_time(snapshot.hour, was.peak),
        needed_by=horizon_time(snapshot.hour, needed_by),
        gain_overload_hours=round(option.worth, 4) if cause in (RELIEF, ROOM) else None,
        value_overload_hours=round(option.value, 4) if cause in (RELIEF, ROOM, SETTLING) else None,
        clump_keys=len(option.keys),
        crossing_uses_per_hour=round(option.crossing, 4),
        distance_change_km=round(option.distance_km, 1),
        **facts,
    )


def _company(others: int) -> str:
    return f" with the {others} {'key' if others == 1 else 'keys'} used with it" if others else ""


def shadow_reason(view: PlacementModel, option: ShadowCandidate, was: Before) -> Reason:
    """Why a shadow is made; ``view`` already has it."""
    snapshot, names, lps = view.snapshot, _names(view), view.lps()
    source = int(view.primary[option.key])
    key, here, there = snapshot.keys[option.key], names[source], names[option.target]
    kilometres, peak = float(snapshot.partition_km[source, option.target]), clock(snapshot.hour, was.peak)
    if option.code == "far_reads":
        sentence = f"{key} is read from far away: a copy on {there} saves {option.saved_km:.0f} km per read on average"
    elif option.code == "reserve":
        reads = float(peak_share(view, np.array([option.key]))[0] * snapshot.demand.read_share[option.key])
        sentence = (
            f"a burst could overload {here}: with a copy of {key} on {there}, {kilometres:.0f} km away, its reads can make way,"
            f" up to {reads:.0%} of the capacity of {here}"
        )
    else:
        sentence = (
            f"{here} would reach {was.lps:.2f} of its capacity at {peak}; a copy of its hot key {key} on {there},"
            f" {kilometres:.0f} km away, takes reads over ({here} {lps[source]:.2f}, {there} {lps[option.target]:.2f})"
        )
    return reason(
        option.code,
        sentence,
        source_lps_before=round(was.lps, 4),
        source_lps_after=round(float(lps[source]), 4),
        target_lps_after=round(float(lps[option.target]), 4),
        peak_hour=horizon_time(snapshot.hour, was.peak),
        read_share=round(float(snapshot.demand.read_share[option.key]), 4),
        value=round(option.value, 4),
        saved_km_per_read=round(option.saved_km, 1),
        distance_km=round(kilometres, 1),
    )


def removal_reason(view: PlacementModel, code: str, key: int, target: int) -> Reason:
    """Why a shadow goes; ``view`` no longer has it."""
    snapshot, names = view.snapshot, _names(view)
    source = int(view.primary[key])
    facts: dict[str, Any] = {
        "write_share": round(1.0 - float(snapshot.demand.read_share[key]), 4),
        "lps_without": round(float(view.lps()[source]), 4),
    }
    if code in ("against_rule", "primary_against_rule"):
        facts["claim"] = snapshot.rules.claim(int(snapshot.rules.row[key]))
    sentence = REMOVALS[code].format(key=snapshot.keys[key], source=names[source], target=names[target], **facts)
    return reason(code, sentence, **facts)


def _names(view: PlacementModel) -> list[str]:
    return [partition.partition_id for partition in view.snapshot.partitions]
