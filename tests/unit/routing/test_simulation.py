"""The decision in simulated worlds: sidecars that route reads, and partitions with late, smoothed load reports."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from random import Random

import numpy as np
import pytest
from tests.benchmarks.decision_world import (
    POLICIES,
    STEP,
    Policy,
    Prepared,
    Simulated,
    World,
    by_decision,
    least_loaded,
    simulate,
)

from foreshard.model import Location, Partition, Placement

PLACES = (Location("west", 37.8, -122.4), Location("near", 37.5, -122.2), Location("east", 40.7, -74.0))


@dataclass(frozen=True)
class SmallWorld(Simulated):
    """``reads``: reads per second of all sidecars at a time. ``fixed``: load that can't be moved."""

    capacities: dict[str, float]
    where: Mapping[str, str]
    copies: tuple[Placement, ...]
    reads: Callable[[float], float]
    origins: tuple[str, ...] = ("west",)
    policy: Policy = by_decision
    fixed: Mapping[str, float] = field(default_factory=dict)
    sidecars: int = 50
    report_every: float = 2.0
    report_delay: float = 1.0
    smoothing: float = 4.0
    seed: int = 7
    places: tuple[Location, ...] = PLACES

    def partitions(self) -> dict[str, Partition]:
        return {name: Partition(name, self.where[name], size) for name, size in self.capacities.items()}

    def placements(self) -> list[Placement]:
        return list(self.copies)

    def arrivals(self, draw: np.random.Generator, second: float) -> np.ndarray:
        """The same number in every step, of random keys."""
        count = self.reads(second) * STEP
        whole = int(count) + int(draw.random() < count % 1)
        return draw.multinomial(whole, [1 / len(self.copies)] * len(self.copies))[np.newaxis]

    def delays(self, random: Random) -> list[float]:
        return [self.report_delay] * self.sidecars

    def unmovable(self, name: str) -> float:
        return self.fixed.get(name, 0.0)

    def run(self, seconds: int) -> dict[str, list[float]]:
        """Run the world; return each partition's utilisation, one figure per second."""
        outcome = simulate(self, self.policy, seconds)
        return dict(zip(outcome.names, outcome.utilisation.tolist(), strict=True))


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def swing(values: list[float]) -> float:
    """The largest deviation of five-second means from their mean."""
    means = [mean(values[n : n + 5]) for n in range(0, len(values) - 4, 5)]
    return max(abs(m - mean(means)) for m in means)


KEYS = tuple(Placement(f"k{n}", "a", ("b",)) for n in range(5))
APART = {"capacities": {"a": 100.0, "b": 100.0}, "where": {"a": "west", "b": "east"}, "copies": KEYS}


def spike(low: float, high: float) -> Callable[[float], float]:
    return lambda seconds: low if seconds < 20 else high


def test_without_a_spike_every_read_stays_near():
    series = SmallWorld(reads=lambda _: 60.0, **APART).run(60)
    assert sum(series["b"]) == 0


@pytest.mark.parametrize("policy", [by_decision, Prepared()])
@pytest.mark.parametrize("delay", [1.0, 4.0])
def test_a_spike_is_shed_to_the_distant_copy_and_stays_at_the_mark(delay, policy):
    series = SmallWorld(reads=spike(60, 140), report_delay=delay, policy=policy, **APART).run(120)
    late = {name: values[60:] for name, values in series.items()}
    assert abs(mean(late["a"]) - 0.8) < 0.06
    assert swing(late["a"]) < 0.1
    assert swing(late["b"]) < 0.1


def test_the_same_world_oscillates_if_every_sidecar_reads_from_the_least_loaded():
    late = SmallWorld(reads=spike(60, 140), policy=least_loaded, **APART).run(120)["a"][60:]
    assert max(late) > 1.3
    assert min(late) < 0.1


def test_if_everything_is_overloaded_the_copies_end_up_equally_loaded():
    series = SmallWorld(reads=spike(60, 240), **APART).run(150)
    late = {name: mean(values[90:]) for name, values in series.items()}
    assert max(late.values()) < 1.15 * 1.2
    assert all(swing(values[90:]) < 0.2 for values in series.values())


def test_three_copies_of_unequal_size_share_an_overload():
    world = SmallWorld(
        {"a": 100.0, "b": 50.0, "c": 200.0},
        {"a": "west", "b": "near", "c": "east"},
        tuple(Placement(f"k{n}", "a", ("b", "c")) for n in range(5)),
        spike(60, 420),
    )
    late = {name: mean(values[100:]) for name, values in world.run(180).items()}
    assert max(late.values()) < 1.15 * 1.2


def test_reads_return_after_the_spike():
    series = SmallWorld(reads=lambda t: 140.0 if 20 <= t < 60 else 60.0, **APART).run(120)
    assert mean(series["b"][40:60]) > 0.4
    assert mean(series["b"][100:]) < 0.1


def test_immovable_load_drives_movable_reads_away():
    late = SmallWorld(reads=lambda _: 60.0, fixed={"a": 160.0}, **APART).run(120)
    assert mean(late["b"][80:]) > 0.5


@pytest.mark.parametrize("policy", [by_decision, Prepared()])
def test_equally_near_copies_share_without_oscillation(policy):
    world = SmallWorld(**{**APART, "where": {"a": "west", "b": "west"}}, reads=lambda _: 100.0, policy=policy)
    series = world.run(100)
    for values in series.values():
        assert abs(mean(values[40:]) - 0.5) < 0.05
        assert swing(values[40:]) < 0.15


def test_sixty_sidecars_come_near_the_best_possible_split_and_plain_policies_do_not():
    """The short form of the decision benchmark: a spike in one place that leaves hardly any room anywhere."""
    world = World(0.55, 4.0, spike_at=20.0, scale=0.25)
    limit = 1.15 * world.best_split()
    seen = {name: simulate(world, policy, 150) for name, policy in POLICIES.items()}
    late = {name: float(outcome.utilisation[:, 70:].mean(axis=1).max()) for name, outcome in seen.items()}
    assert 0.8 < world.best_split() < 1.0
    for name in ("decision", "decision, prepared"):
        assert late[name] < limit
        assert seen[name].settled_after(world.spike_at, limit) is not None
    assert seen["nearest only"].settled_after(world.spike_at, limit) is None
    assert seen["least loaded"].settled_after(world.spike_at, limit) is None
    assert seen["decision"].swing(70) < seen["least loaded"].swing(70) / 1.5
    assert seen["decision"].milliseconds[:20].mean() < 0.6 * seen["random of two"].milliseconds[:20].mean()
