"""Which keys are units in an hour, from the settings, the partitions' capacities and the routing table."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Protocol

import numpy as np

from foreshard.errors import NoRoutingTable
from foreshard.model import SECONDS_PER_HOUR
from foreshard.model.key_space import KeySpace
from foreshard.observe.units import UnitRule
from foreshard.stages._ports import WithObserveSettings, WithRegistry, WithRouting

if TYPE_CHECKING:
    from foreshard.model import HourCounts


class UnitPorts(WithObserveSettings, WithRegistry, WithRouting, Protocol):
    """Reads the partitions and the routing table."""


def unit_rule(ports: UnitPorts, counted: Iterable[HourCounts]) -> UnitRule:
    """Return the rule for a history of these hours. There is no floor if no hour had many keys, or without partitions."""
    settings = ports.observe_settings
    capacities = [p.capacity for p in ports.registry.partitions() if np.isfinite(p.capacity) and p.capacity > 0]
    many = max((hour.keys for hour in counted), default=0) > settings.few_keys
    mean = float(np.mean(capacities)) if capacities and many else 0.0
    return UnitRule(settings.floor_share * mean * SECONDS_PER_HOUR, settings.maximum_units)


def listed_keys(ports: UnitPorts) -> frozenset[str]:
    """Return the keys that the routing table lists; none without a table."""
    try:
        return frozenset(ports.routing.current().placements)
    except NoRoutingTable:
        return frozenset()


def key_space(_ports: UnitPorts) -> KeySpace:
    """Return how keys are divided into slots."""
    return KeySpace()
