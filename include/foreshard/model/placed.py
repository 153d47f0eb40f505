"""Who owns a key: placements, the routing table and its changes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a key lives: its primary partition, its readable shadows, and the epoch that each of its moves raises."""

    key: str
    primary: str
    shadows: tuple[str, ...] = ()
    epoch: int = 1


@dataclass(frozen=True, slots=True)
class DefaultRule:
    """Where unlisted keys live: rendezvous hashing over these partitions, weighted by their published capacities."""

    partitions: tuple[str, ...]
    weights: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class RoutingTable:
    """A published version: key → placement, and the rule for every key that it does not list."""

    version: int
    placements: Mapping[str, Placement]
    default_rule: DefaultRule
    published_at: datetime


@dataclass(frozen=True, slots=True)
class PlacementChange:
    """One row of a publication; refused as a whole unless the key's epoch is ``expected_epoch`` (0: not listed yet)."""

    key: str
    primary: str
    shadows: tuple[str, ...]
    expected_epoch: int
    new_epoch: int
