"""Worlds as text: partitions and units, one line each, then the plan that the planner makes of them.

    partition NAME CAPACITY at PLACE [draining]        capacity in cost/s
    unit NAME on PARTITION load L [L …] [count N] [sigma S] [reads R] [bytes B] [idle H] [from PLACE]
                                                       load in cost/s, one for all hours or one per hour; sigma: its share of it
    together UNIT UNIT PER_HOUR                        co-accesses
    shadow of UNIT on PARTITION [idle H]
    km PLACE PLACE KM                                  100 km if not given
    pin UNIT PARTITION / reside UNIT PLACE [PLACE …]   placement rules
    hours N · week · policy NAME VALUE                 horizon; whether the mean week is known and like these loads; settings

A ``unit`` with a count is as many units, named with a number; ``slot`` instead of ``unit`` gives slots.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from tests.unit.plan.conftest import build_policy, build_world

from foreshard.measure.demand import OriginShares
from foreshard.measure.placement_rules import PlacementRules
from foreshard.model import HOURS_PER_WEEK, SECONDS_PER_HOUR, PartitionState, PlacementRule, Plan, RuleKind
from foreshard.model.key_space import slot_unit, units_label
from foreshard.plan.input.mean_week import MeanWeek
from foreshard.plan.input.snapshot import IndexedShadow, PlanPolicy, Snapshot

LINE = "-" * 60
SHOWN = 12


@dataclass
class _World:
    hours: int = 1
    week: bool = False
    partitions: list[tuple[str, float, str, bool]] = field(default_factory=list)
    units: list[tuple[str, str, list[float], dict[str, str]]] = field(default_factory=list)
    together: list[tuple[str, str, float]] = field(default_factory=list)
    shadows: list[tuple[str, str, float]] = field(default_factory=list)
    km: dict[frozenset[str], float] = field(default_factory=dict)
    rules: list[PlacementRule] = field(default_factory=list)
    policy: dict[str, float] = field(default_factory=dict)


def read_world(text: str) -> tuple[Snapshot, PlanPolicy]:
    """Return the snapshot and policy that the lines before ``LINE`` describe."""
    world = _World()
    for line in text.split(LINE)[0].splitlines():
        words = line.split("#")[0].split()
        if words:
            _LINES[words[0]](world, words[1:])
    return _snapshot(world), build_policy(**{name: type(getattr(build_policy(), name))(v) for name, v in world.policy.items()})


def show_plan(plan: Plan) -> str:
    """Return a plan as text: LPS before and after, and every step and refusal with its code and sentence."""
    lines = ["LPS " + "  ".join(f"{name} {plan.lps_before[name]:.2f} → {plan.lps_after[name]:.2f}" for name in plan.lps_before)]
    moves = [
        f"move {units_label(m.units) if len(m.units) > 1 else m.units[0]}: {m.source} → {m.target} [{m.reason.code}]"
        f" {m.reason.sentence}"
        for m in plan.moves
    ]
    lines += moves[:SHOWN] + ([f"… and {len(moves) - SHOWN} more moves"] if len(moves) > SHOWN else [])
    lines += [f"shadow {s.key}: {s.source} → {s.target} [{s.reason.code}] {s.reason.sentence}" for s in plan.shadows]
    lines += [f"remove {s.key}: on {s.target} [{s.reason.code}] {s.reason.sentence}" for s in plan.removals]
    lines += [f"refuse {r.partition_id}: [{r.reason.code}] {r.reason.sentence}" for r in plan.refusals]
    lines += [f"warn {w.partition_id}: [{w.reason.code}] {w.reason.sentence}" for w in plan.warnings]
    return "\n".join(lines) + "\n"


def _partition(world: _World, words: list[str]) -> None:
    world.partitions.append((words[0], float(words[1]), words[3], "draining" in words[4:]))


def _unit(world: _World, words: list[str], name: str = "{name}") -> None:
    place, at = words[2], words.index("load") + 1
    loads = []
    while at < len(words) and words[at][0].isdigit():
        loads.append(float(words[at]))
        at += 1
    more = dict(zip(words[at::2], words[at + 1 :: 2], strict=True))
    count = int(more.pop("count", 1))
    width = len(str(count - 1))
    for number in range(count):
        shown = words[0] if count == 1 else f"{words[0]}-{number:0{width}}"
        world.units.append((slot_unit(number) if name == "slot" else shown, place, loads, more))


def _setting(world: _World, words: list[str]) -> None:
    world.policy[words[0]] = float(words[1])


def _hours(world: _World, words: list[str]) -> None:
    world.hours = int(words[0])


def _week(world: _World, _: list[str]) -> None:
    world.week = True


def _together(world: _World, words: list[str]) -> None:
    world.together.append((words[0], words[1], float(words[2])))


def _shadow(world: _World, words: list[str]) -> None:
    world.shadows.append((words[1], words[3], float(words[5]) if "idle" in words else np.inf))


def _km(world: _World, words: list[str]) -> None:
    world.km[frozenset(words[:2])] = float(words[2])


def _pin(world: _World, words: list[str]) -> None:
    world.rules.append(PlacementRule(RuleKind.PIN, words[0], False, words[1]))


def _reside(world: _World, words: list[str]) -> None:
    world.rules.append(PlacementRule(RuleKind.RESIDENCY, words[0], False, None, tuple(words[1:])))


_LINES = {
    "partition": _partition,
    "unit": _unit,
    "slot": lambda world, words: _unit(world, words, "slot"),
    "together": _together,
    "shadow": _shadow,
    "km": _km,
    "pin": _pin,
    "reside": _reside,
    "hours": _hours,
    "week": _week,
    "policy": _setting,
}


def _snapshot(world: _World) -> Snapshot:
    world.units.sort(key=lambda unit: unit[0])
    names = [name for name, *_ in world.units]
    row, places = {name: n for n, name in enumerate(names)}, [partition[2] for partition in world.partitions]
    index = {partition[0]: n for n, partition in enumerate(world.partitions)}
    loads = np.array([load * world.hours if len(load) == 1 else load for _, _, load, _ in world.units])

    def of(name: str, default: float) -> np.ndarray:
        return np.array([float(more.get(name, default)) for *_, more in world.units])

    origins = [(n, places.index(more["from"])) for n, (*_, more) in enumerate(world.units) if "from" in more]
    known = OriginShares.build(*zip(*origins, strict=True), np.ones(len(origins)), len(names)) if origins else None
    km = np.array([[0.0 if a == b else world.km.get(frozenset((a, b)), 100.0) for b in places] for a in places])
    snapshot = build_world(
        loads,
        [index[place] for _, place, *_ in world.units],
        [partition[1] for partition in world.partitions],
        sigma=loads * of("sigma", 0.0)[:, None],
        read_share=of("reads", 0.0),
        origins=known,
        co_access=[(row[a], row[b], weight) for a, b, weight in world.together],
        locations=places,
        km=km,
        states=[PartitionState.DRAINING if partition[3] else PartitionState.ACTIVE for partition in world.partitions],
        key_bytes=of("bytes", 1000.0),
        idle_hours=of("idle", np.inf),
        shadows=tuple(IndexedShadow(f"{a}|{p}", row[a], index[p], "hot_key", idle) for a, p, idle in world.shadows),
        week=_mean_week(loads) if world.week else None,
    )
    named = tuple(replace(p, partition_id=name) for p, (name, *_) in zip(snapshot.partitions, world.partitions, strict=True))
    bounds = PlacementRules(world.rules).bounds(names, named) if world.rules else None
    return replace(snapshot, keys=tuple(names), partitions=named, bounds=bounds)


def _mean_week(loads: np.ndarray) -> MeanWeek:
    repeated = np.resize(np.tile(loads, HOURS_PER_WEEK), (len(loads), HOURS_PER_WEEK)) if len(loads) else loads
    days = np.stack([np.resize(load, HOURS_PER_WEEK) for load in loads]) if len(loads) else repeated
    return MeanWeek((days * SECONDS_PER_HOUR).astype(np.float32), np.ones(len(loads), np.float32), 4.0)
