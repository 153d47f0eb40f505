"""The reasons why a plan does less than it should: a code and facts, and one sentence for people. All hours are UTC."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import numpy as np

from foreshard.model import SECONDS_PER_HOUR, BoolArray, FloatArray, IntArray, Reason, Refusal
from foreshard.plan._placement import PlannedPlacement, misplaced_units, rule_violations
from foreshard.plan._reasons import clock, horizon_time, reason
from foreshard.plan.input.migration_rate import MigrationRate


def refusal_reason(placement: PlannedPlacement, partition: int, obstacle: str, limits: dict[str, float]) -> Reason:
    """Why a partition stays above its high-water mark.

    ``obstacle`` is the result of the search. A more specific code replaces it if one applies: ``held_by_rules``,
    ``key_too_large`` or ``capacity_short``.
    """
    snapshot, mark = placement.snapshot, placement.policy.high_water
    upper = placement.utilisation() * placement.capacity[:, None]
    over = upper[partition] - mark * placement.capacity[partition]
    worst, first = int(over.argmax()), int((over > 0).argmax())
    since, short = clock(snapshot.hour, first), float(over[worst])
    room = np.maximum(mark * placement.capacity - upper[:, worst], 0.0)
    reach, held_share = _reach(placement, partition, worst)
    elsewhere = float(room[reach].sum())
    name, place = snapshot.partitions[partition].partition_id, snapshot.partitions[partition].geographic_location
    largest, share = _largest_key(placement, partition, worst)
    facts: dict[str, Any] = {
        "lps": round(float(placement.lps()[partition]), 4),
        "short": round(short, 4),
        "from_hour": horizon_time(snapshot.hour, first),
        "worst_hour": horizon_time(snapshot.hour, worst),
        "room_elsewhere": round(elsewhere, 4),
        "largest_key": largest,
        "largest_key_share": round(share, 4),
        "held_share": round(held_share, 4),
        **limits,
    }
    start = f"{name} stays {short:.3g} cost/s above its mark from {since}"
    if obstacle == "limit_reached":
        return reason(obstacle, f"{start}: this hour's limits are used up; the next hour's plan continues", **facts)
    if held_share > mark:
        sentence = f"{start}: keys that placement rules keep there take {held_share:.0%} of its capacity"
        return reason("held_by_rules", sentence, **facts)
    if share > mark:
        sentence = f"{start}: its key {largest} alone takes {share:.0%} of its capacity, and no shadow of it pays"
        return reason("key_too_large", sentence, **facts)
    if elsewhere < short:
        where = _where(placement, partition, reach, room, place)
        return reason("capacity_short", f"capacity short by {short - elsewhere:.3g} cost/s in {where} from {since}", **facts)
    return reason(obstacle, f"{start}: {OBSTACLES[obstacle]}", **facts)


def unfinished(
    placement: PlannedPlacement, obstacles: Mapping[tuple[int, int | None], str], limits: Mapping[str, float]
) -> list[Refusal]:
    """Return the units that must leave their partition and could not, with the reasons."""
    names = [partition.partition_id for partition in placement.snapshot.partitions]
    found = []
    for source, row in rule_violations(placement):
        units = misplaced_units(placement, source, row)
        obstacle = _leaving_obstacle(placement, units, obstacles.get((source, row), "no_target_fits"), row)
        found.append(Refusal(names[source], rule_violation_reason(placement, source, row, units, obstacle, limits)))
    for source in np.flatnonzero(~placement.snapshot.active).tolist():
        if len(placement.units_on(source)):
            obstacle = obstacles.get((source, None), "nothing_movable")
            found.append(Refusal(names[source], drain_reason(placement, source, obstacle, limits)))
    return found


def _leaving_obstacle(placement: PlannedPlacement, units: IntArray, obstacle: str, row: int) -> str:
    """Return a more specific obstacle, if there is one: pinned, no allowed partition, or shadows to remove first."""
    snapshot = placement.snapshot
    if snapshot.rules.fixed[row]:
        return "pinned"
    if not (snapshot.rules.home[row] & snapshot.active).any():
        return "nowhere_allowed"
    shadowed = {shadow.key for shadow in snapshot.shadows}
    return "shadowed" if shadowed.issuperset(units.tolist()) else obstacle


def rule_violation_reason(
    placement: PlannedPlacement, partition: int, row: int, keys: IntArray, obstacle: str, limits: Mapping[str, float]
) -> Reason:
    """Why ``keys``, which violate the rules of ``row``, stay on ``partition``."""
    snapshot = placement.snapshot
    name, first = snapshot.partitions[partition].partition_id, snapshot.shown(int(keys[0]))
    others = len(keys) - 1
    also = f" (and {others:,} more {'key' if others == 1 else 'keys'} there)" if others else ""
    return reason(
        "against_rule",
        f"{first} {snapshot.rules.claim(row)}, but stays on {name}{also}: {LEAVING_OBSTACLES[obstacle]}",
        rules=[rule.rule_id for rule in snapshot.rules.rules[row]],
        keys=len(keys),
        first_key=first,
        obstacle=obstacle,
        **limits,
    )


def drain_reason(placement: PlannedPlacement, partition: int, obstacle: str, limits: Mapping[str, float]) -> Reason:
    """Why a draining partition is not empty after this plan."""
    snapshot, keys = placement.snapshot, placement.units_on(partition)
    name = snapshot.partitions[partition].partition_id
    pinned = int((snapshot.rules.row[keys] != 0).sum())
    rules = f" ({pinned:,} of them under a placement rule)" if pinned else ""
    return reason(
        "drain_unfinished",
        f"{name} is being drained and keeps {len(keys):,} of its keys{rules} this hour: {LEAVING_OBSTACLES[obstacle]}",
        keys=len(keys),
        keys_under_rules=pinned,
        obstacle=obstacle,
        **limits,
    )


def late_reason(
    partition: str, moves: int, needed_by: datetime, finished_by: datetime, start: datetime, rate: MigrationRate
) -> Reason:
    """Relief comes after the hour that needs it."""
    late = (finished_by - needed_by).total_seconds() / 60
    pace = f"{rate.bytes_per_second / 2**20:.3g} MiB/s and {rate.move_seconds:.3g} s per move"
    source = f"measured over {rate.measured} moves" if rate.measured else "defaults, because too few moves have been measured"
    when = "now" if needed_by <= start else f"by {needed_by:%a %H:%M}"
    return reason(
        "finishes_late",
        f"{partition} needs its relief {when}; at {pace} ({source}) it comes at {finished_by:%a %H:%M}, {late:.0f} min late",
        moves=moves,
        needed_by=needed_by.isoformat(),
        finished_by=finished_by.isoformat(timespec="seconds"),
        late_seconds=round((finished_by - needed_by).total_seconds(), 1),
        bytes_per_second=round(rate.bytes_per_second, 1),
        move_seconds=round(rate.move_seconds, 3),
        measured_moves=rate.measured,
    )


LEAVING_OBSTACLES = {
    "pinned": "another rule pins it where it is; remove one of the rules",
    "nothing_movable": "they may not be moved now (being moved, shadowed, pinned, or larger than the limit)",
    "limit_reached": "this hour's limits are used up; the next hour's plan continues",
    "no_target_fits": "no allowed partition has room for them",
    "nowhere_allowed": "no active partition satisfies the rule",
    "shadowed": "its shadows must be removed first; this plan removes them",
}
OBSTACLES = {
    "nothing_movable": "none of its keys may be moved (being moved, shadowed, pinned, or larger than the limit)",
    "gain_too_small": "no move or shadow lowers the objective",
    "would_not_help": "the plan would have raised the worst predicted LPS",
}


def _reach(placement: PlannedPlacement, partition: int, hour: int) -> tuple[BoolArray, float]:
    """Return where any of this partition's keys are allowed (P), and the share of capacity of keys allowed nowhere."""
    snapshot, rules, keys = placement.snapshot, placement.snapshot.rules, placement.units_on(partition)
    others = snapshot.active.copy()
    others[partition] = False
    if not rules.any_rules or not len(keys):
        return others, 0.0
    may: BoolArray = np.logical_and(rules.home, others)
    may[rules.fixed] = False
    held = keys[~np.asarray(may.any(axis=1))[rules.row[keys]]]
    load = float(snapshot.demand.mean[held, hour].sum()) / SECONDS_PER_HOUR
    return np.asarray(may[np.unique(rules.row[keys])].any(axis=0)), load / float(placement.capacity[partition])


def _where(placement: PlannedPlacement, partition: int, reach: BoolArray, room: FloatArray, place: str) -> str:
    """Return the partitions without room, in words: all that the keys may move to."""
    homes = {p.geographic_location for other, p in enumerate(placement.snapshot.partitions) if reach[other]}
    rules = placement.snapshot.rules
    bound = rules.any_rules and (rules.row[placement.units_on(partition)] != 0).all()
    if bound and homes:
        return f"all of {', '.join(sorted(homes | {place}))}, where its keys must stay,"
    near = [n for n, p in enumerate(placement.snapshot.partitions) if p.geographic_location == place and reach[n]]
    return "all other partitions together" if room[near].any() else f"all of {place} and everywhere else"


def _largest_key(placement: PlannedPlacement, partition: int, hour: int) -> tuple[str | None, float]:
    keys = placement.units_on(partition)
    if not len(keys):
        return None, 0.0
    demand = placement.snapshot.demand
    upper = demand.mean[keys, hour] + placement.policy.serving.z * demand.sigma[keys, hour]
    largest = int(upper.argmax())
    return placement.snapshot.shown(int(keys[largest])), float(
        upper[largest] / SECONDS_PER_HOUR / placement.capacity[partition]
    )
