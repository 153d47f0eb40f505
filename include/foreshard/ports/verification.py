"""Verify documents against the routing table."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from foreshard.model import Partition, RoutingTable, ShardedCollection


@dataclass(frozen=True)
class ExpectedPlacement:
    """The expected copies: those of the table, and the (unit, partition) copies of open moves and of shadows not yet live."""

    table: RoutingTable
    in_transit: frozenset[tuple[str, str]] = frozenset()


@dataclass(frozen=True, slots=True)
class Verification:
    """The result of a verification. Figures are numbers of documents unless stated otherwise.

    ``documents`` of ``keys`` keys are at their primary partition. ``misplaced`` documents are where nothing explains them:
    ``duplicated`` ones are also at their primary (or belong to two keys), ``missing`` ones are not. ``shadow_copies`` is the
    number of key × partition pairs with shadows, which have ``shadow_documents``; ``shadow_differences`` of these are absent,
    surplus or different. ``in_transit`` documents belong to open moves and shadows. ``without_key`` documents have no key; they
    are found only if all documents are read. ``slots``: how many of the table's slots were checked.
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
    slots: int
    examples: tuple[str, ...] = ()

    @property
    def sound(self) -> bool:
        """Whether no document is misplaced, duplicated or different."""
        return not (self.misplaced or self.duplicated or self.shadow_differences)


class Verifier(Protocol):
    """Reads sharded documents once. It checks suspects again, because apps write and keys move meanwhile."""

    def documents(self, partitions: Sequence[Partition], collections: Sequence[ShardedCollection]) -> int:
        """Return the number of documents on all partitions, as the servers estimate it."""

    def verify(
        self,
        partitions: Sequence[Partition],
        collections: Sequence[ShardedCollection],
        expected: Callable[[], ExpectedPlacement],
        slots: Collection[int] | None = None,
    ) -> Verification:
        """Verify the documents of these slots on every partition (None: all). ``expected`` is called again for suspects.

        Raise :class:`foreshard.errors.Unreachable` if a partition does not answer.
        """
