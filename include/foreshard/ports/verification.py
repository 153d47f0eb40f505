"""Checking from the data itself that every document stands where the published table says, once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from foreshard.model import Partition, RoutingTable, ShardedCollection


@dataclass(frozen=True)
class ExpectedPlacement:
    """What should be where: the table, and the (key, partition) copies that a move or a shadow in the making explains."""

    table: RoutingTable
    in_transit: frozenset[tuple[str, str]] = frozenset()


@dataclass(frozen=True, slots=True)
class Verification:
    """What was found, in documents unless said otherwise.

    ``documents`` stand as primaries of ``keys`` keys where the table says. ``misplaced`` ones stand where nothing explains
    them: ``duplicated`` of these also at their primary (or as a primary of two keys at once), ``missing`` ones only there.
    ``shadow_copies`` (key × partition) hold ``shadow_documents``, of which ``shadow_differences`` are not as their primaries
    are (lacking, surplus or different). ``in_transit``: copies of moves and shadows under way. ``without_key`` can't be placed.
    """

    documents: int
    keys: int
    misplaced: int
    duplicated: int
    missing: int
    shadow_copies: int
    shadow_documents: int
    shadow_differences: int
    in_transit: int
    without_key: int
    examples: tuple[str, ...] = ()

    @property
    def sound(self) -> bool:
        """Whether every document is as it should be."""
        return not (self.misplaced or self.duplicated or self.shadow_differences)


class Verifier(Protocol):
    """Reads all sharded documents once; what looks wrong is looked at again, since apps write and keys move meanwhile."""

    def verify(
        self,
        partitions: Sequence[Partition],
        collections: Sequence[ShardedCollection],
        expected: Callable[[], ExpectedPlacement],
    ) -> Verification:
        """``expected`` is asked again before each second look; raise :class:`foreshard.errors.Unreachable`."""
