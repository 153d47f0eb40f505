"""Which keys are units in an hour, from the settings, the partitions' capacities and the routing table."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from foreshard.errors import MissingStageResult, NoRoutingTable
from foreshard.model import SECONDS_PER_HOUR
from foreshard.model.key_space import KeySpace, slot_number
from foreshard.observe.hours import hours_between
from foreshard.observe.units import UnitRule
from foreshard.stages._ports import WithObserveSettings, WithRegistry, WithRouting, WithSeries, WithTallies

if TYPE_CHECKING:
    from datetime import datetime

    import pandas as pd

    from foreshard.model import HourCounts
    from foreshard.settings import ObserveSettings


@dataclass(frozen=True)
class UnitChoice:
    """Which keys are units by themselves while an hour is counted.

    ``crowded``: the rule of a history with many keys in an hour, which applies from ``few_keys`` on or if ``many``.
    """

    crowded: UnitRule
    few_keys: int
    many: bool
    standing: frozenset[str]
    listed: frozenset[str]

    def named(self, costs: pd.Series[float]) -> frozenset[str] | None:
        """Return the keys of an hour with these ``costs`` that are or may become units; None: all."""
        floor = self.crowded.floor if self.many or len(costs) > self.few_keys else 0.0
        if floor == 0 and len(costs) <= self.crowded.most:
            return None
        return self.standing.union(UnitRule(floor, self.crowded.most).choose(costs, self.standing, self.listed))


class UnitPorts(WithObserveSettings, WithRegistry, WithRouting, Protocol):
    """Reads the partitions and the routing table."""


class ChoicePorts(UnitPorts, WithTallies, WithSeries, Protocol):
    """Reads tallies and the newest saved history too."""


def unit_rule(ports: UnitPorts, counted: Iterable[HourCounts]) -> UnitRule:
    """Return the rule for a history of these hours. The floor is 0 if no hour had many keys, or without partitions."""
    settings = ports.observe_settings
    return _crowded(ports) if _many(settings, counted) else UnitRule(0.0, settings.maximum_units)


def unit_choice(ports: ChoicePorts, since: datetime, hour: datetime) -> UnitChoice:
    """Return the choice for ``hour`` after the history that begins with ``since``."""
    many = _many(ports.observe_settings, ports.tallies.counts(hours_between(since, hour)))
    standing = saved_keys(ports, since, hour)
    return UnitChoice(_crowded(ports), ports.observe_settings.few_keys, many, standing, listed_keys(ports))


def _many(settings: ObserveSettings, counted: Iterable[HourCounts]) -> bool:
    return max((hour.keys for hour in counted), default=0) > settings.few_keys


def _crowded(ports: UnitPorts) -> UnitRule:
    settings = ports.observe_settings
    capacities = [p.capacity for p in ports.registry.partitions() if np.isfinite(p.capacity) and p.capacity > 0]
    mean = float(np.mean(capacities)) if capacities else 0.0
    return UnitRule(settings.floor_share * mean * SECONDS_PER_HOUR, settings.maximum_units)


def listed_keys(ports: UnitPorts) -> frozenset[str]:
    """Return the keys that the routing table lists; none without a table."""
    try:
        return frozenset(ports.routing.current().placements)
    except NoRoutingTable:
        return frozenset()


def saved_keys(ports: WithSeries, since: datetime, until: datetime) -> frozenset[str]:
    """Return the keys that are units by themselves in the newest saved history that ends in [since, until)."""
    saved = ports.series.latest(since, until)
    if saved is None:
        return frozenset()
    try:
        return frozenset(key for chunk in ports.series.load(saved) for key in chunk.keys if slot_number(key) is None)
    except MissingStageResult:
        return frozenset()


def current_space(ports: UnitPorts) -> KeySpace:
    """Return how keys are divided into slots; the default division without a table."""
    try:
        return ports.routing.space()
    except NoRoutingTable:
        return KeySpace()
