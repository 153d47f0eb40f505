"""The decisions of real hours: the lab replays the sample under the shipped settings, and keeps what the gates look at.

Each hour has the planner's plan, the scores of what is published then, and the routing table with its publications: the moves
and shadows that ended in the hour before.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from unittest import mock

import pandas as pd
from tests.slots import slot_map
from tests.unit.quality.sample_hours import SAMPLE

from foreshard.lab import planned
from foreshard.lab.past import Cluster, LabAction, Past
from foreshard.lab.planned import Planned
from foreshard.measure.lps import load_prediction_scores
from foreshard.measure.serving import partition_load
from foreshard.model import ONE_HOUR, Partition, Placement, PlacementChange, Plan, RoutingTable
from foreshard.plan.input.snapshot import PlanPolicy, Snapshot
from foreshard.plan.planner import make_plan
from foreshard.quality.changes import PublishedChange
from foreshard.routing.table import apply_changes
from foreshard.settings import Settings
from foreshard.stages.experiments import replay_policies
from foreshard.stages.experiments.replay_input import ReplayRequest, read_input
from foreshard.stages.publish import REMEMBERED_PUBLICATIONS
from foreshard.wiring import Wiring


@dataclass(frozen=True)
class Decided:
    """What the gates look at after an hour. ``under_way``: the moves and copies that are not finished."""

    hour: datetime
    plan: Plan
    scored: Mapping[str, float]
    table: RoutingTable
    changes: tuple[PublishedChange, ...]
    under_way: int
    partitions: tuple[Partition, ...]

    @property
    def listed(self) -> frozenset[str]:
        """The keys that the publications have listed. The lab delists none."""
        return frozenset(one.change.key for one in self.changes)


@dataclass
class _Kept:
    """The hours so far, the published table, and what its publications have changed."""

    partitions: tuple[Partition, ...]
    hours: list[Decided] = field(default_factory=list)
    table: RoutingTable | None = None
    changes: list[PublishedChange] = field(default_factory=list)
    cluster: Cluster | None = None

    def plan(self, snapshot: Snapshot, policy: PlanPolicy) -> Plan:
        """Make the plan, and keep it with the scores and the table of its hour."""
        assert self.cluster is not None
        plan = make_plan(snapshot, policy)
        self._publish(self._published(snapshot.keys), plan.hour)
        assert self.table is not None
        recent = [one for one in self.changes if one.version > self.table.version - REMEMBERED_PUBLICATIONS]
        scored = self._scores(snapshot, policy)
        under_way = len(self.cluster.pending)
        self.hours.append(Decided(plan.hour, plan, scored, self.table, tuple(recent), under_way, self.partitions))
        return plan

    def _published(self, keys: tuple[str, ...]) -> dict[str, tuple[str, tuple[str, ...]]]:
        """Return the primary partition and the shadows of each key."""
        assert self.cluster is not None
        names = [partition.partition_id for partition in self.partitions]
        shadows: dict[int, list[str]] = {}
        for key, partition in sorted(self.cluster.shadows):
            shadows.setdefault(key, []).append(names[partition])
        return {key: (names[self.cluster.primary[row]], tuple(shadows.get(row, ()))) for row, key in enumerate(keys)}

    def _publish(self, placed: Mapping[str, tuple[str, tuple[str, ...]]], hour: datetime) -> None:
        """Publish what has changed: each finished move by itself, like a switch, and the shadows together."""
        if self.table is None:
            names = tuple(partition.partition_id for partition in self.partitions)
            slots = slot_map(names, (1.0,) * len(names))
            self.table = RoutingTable(1, {key: Placement(key, *at) for key, at in placed.items()}, slots, hour)
        shadowed = []
        for key, (primary, shadows) in placed.items():
            before = self.table.placements[key]
            if primary != before.primary:
                change = PlacementChange(key, primary, shadows, before.epoch, before.epoch + 1)
                self._apply([change], hour, {key: self._last_target(key)})
            elif set(shadows) != set(before.shadows):
                shadowed.append(PlacementChange(key, primary, shadows, before.epoch, before.epoch))
        if shadowed:
            self._apply(shadowed, hour, {})

    def _last_target(self, key: str) -> str | None:
        """Return where the newest planned move of a key goes."""
        moves = (move for made in reversed(self.hours) for move in made.plan.moves if key in move.units)
        return next((move.target for move in moves), None)

    def _apply(self, changes: list[PlacementChange], hour: datetime, moved_to: Mapping[str, str | None]) -> None:
        assert self.table is not None
        version = self.table.version + 1
        self.changes += [
            PublishedChange(version, change, self.table.placements[change.key], moved_to.get(change.key)) for change in changes
        ]
        self.table = apply_changes(self.table, changes, version, hour)

    def _scores(self, snapshot: Snapshot, policy: PlanPolicy) -> dict[str, float]:
        """Return the LPS of each partition under the published table, as the score stage computes it."""
        assert self.cluster is not None
        capacity, shadows = snapshot.capacity, sorted(self.cluster.shadows)
        rule, km = policy.serving, snapshot.distance_km
        load, _ = partition_load(snapshot.demand, self.cluster.primary, shadows, capacity, km, rule)
        lps = load_prediction_scores(load.upper(rule), capacity)
        return {one.partition_id: float(score) for one, score in zip(self.partitions, lps, strict=True)}


def decided_hours(since: datetime, days: int, folder: Path, utilisation: float = 0.7) -> tuple[Decided, ...]:
    """Replay ``days`` of the sample from ``since`` on, on partitions of this ``utilisation``. Return each hour's decisions."""
    settings = Settings.load(data_dir=folder)
    first, last = since - settings.forecast.history_days * 24 * ONE_HOUR, since + days * 24 * ONE_HOUR
    frame = pd.read_parquet(SAMPLE)
    times = pd.to_datetime(frame["timestamp"], utc=True)
    frame[(times >= first) & (times < last)].to_parquet(folder / "log.parquet")
    locations = SAMPLE.with_name("bikeshare-2014-locations.csv")
    request = ReplayRequest(policies=("predictive",), days=days, locations=locations, processes=1, utilisation=utilisation)
    with Wiring(settings) as wiring:
        given = read_input(wiring, folder / "log.parquet", request)
    kept = _Kept(given.layout.partitions)

    class Watched(Planned):
        def decide(self, past: Past, cluster: Cluster) -> list[LabAction]:
            kept.cluster = cluster
            return super().decide(past, cluster)

    with mock.patch.object(planned, "make_plan", kept.plan), mock.patch.object(replay_policies, "Planned", Watched):
        replay_policies.run_policy(given, "predictive", search=False)
    return tuple(kept.hours)
