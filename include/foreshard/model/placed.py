"""Who owns a key: placements, the routing table and its changes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Placement:
    """A key's primary partition, its live shadows, and its epoch, which each of its moves raises."""

    key: str
    primary: str
    shadows: tuple[str, ...] = ()
    epoch: int = 1


@dataclass(frozen=True, slots=True)
class DefaultRule:
    """Where unlisted keys are: rendezvous hashing over these partitions, weighted by their published capacities."""

    partitions: tuple[str, ...]
    weights: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class RoutingTable:
    """A published version: key → placement, and the default rule for all other keys."""

    version: int
    placements: Mapping[str, Placement]
    default_rule: DefaultRule
    published_at: datetime


@dataclass(frozen=True, slots=True)
class PlacementChange:
    """One row of a publication. The publication fails unless the key is at ``expected_epoch`` (0: not listed)."""

    key: str
    primary: str
    shadows: tuple[str, ...]
    expected_epoch: int
    new_epoch: int
