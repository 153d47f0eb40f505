"""The changes in the control database that a sidecar follows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from foreshard.model import PartitionLoad
from foreshard.model.cluster_time import ClusterTime


@dataclass(frozen=True, slots=True)
class TableChanged:
    """A version of the routing table was published, or the table was replaced."""


@dataclass(frozen=True, slots=True)
class RegistryChanged:
    """A partition or a location was registered or changed."""


@dataclass(frozen=True, slots=True)
class LoadReported:
    """A partition's load was reported."""

    load: PartitionLoad


@dataclass(frozen=True, slots=True)
class ShadowFreshness:
    """The shadow of ``key`` on ``partition`` has all writes up to ``caught_up_at`` (None: it can't be used).

    ``applied_to``: the same as a cluster time of its source (None: unknown).
    """

    key: str
    partition: str
    caught_up_at: float | None
    applied_to: ClusterTime | None = None


@dataclass(frozen=True, slots=True)
class Unclear:
    """Something was removed or replaced: read everything again."""


ControlFact = TableChanged | RegistryChanged | LoadReported | ShadowFreshness | Unclear


class ControlFeed(Protocol):
    """Follows one control database."""

    def follow(self) -> AbstractContextManager[Iterator[ControlFact | None]]:
        """Open an endless iterator over the facts from now on. It yields None if nothing happens for half a second.

        Read the state *after* entering, so that no change is missed. Raises like ``reaching`` inside the block.
        """

    def freshness(self) -> tuple[ShadowFreshness, ...]:
        """How fresh each shadow is that can be used."""

    def reaching(self) -> AbstractContextManager[None]:
        """Raise :class:`foreshard.errors.Unreachable` instead of any database error inside the block."""
