"""Verify documents against the routing table."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from foreshard.model import Partition, RoutingTable, ShardedCollection

EXAMPLES = 20


@dataclass(frozen=True)
class ExpectedPlacement:
    """The expected copies: those of the table, and the (unit, partition) copies of open moves and of shadows not yet live."""

    table: RoutingTable
    in_transit: frozenset[tuple[str, str]] = frozenset()


@dataclass(frozen=True, slots=True)
class DocumentDifference:
    """One document that is where nothing explains it, or differs in a shadow. ``id`` is extended JSON."""

    kind: str
    namespace: str
    id: str
    key: str
    partition: str
    sentence: str


@dataclass(frozen=True, slots=True)
class Verification:
    """The result of a verification. Figures are numbers of documents unless stated otherwise. ``differences`` is bounded.

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
    differences: tuple[DocumentDifference, ...] = ()

    @property
    def examples(self) -> tuple[str, ...]:
        """The first differences as sentences."""
        return tuple(difference.sentence for difference in self.differences[:EXAMPLES])

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


@dataclass(frozen=True, slots=True)
class VerificationProgress:
    """How far a verification of all slots has come: all before ``next_slot``. ``figures``: those of a :class:`Verification`."""

    next_slot: int
    figures: Mapping[str, int]


class VerificationProgressStore(Protocol):
    """The progress of the last verification of all slots (``verifications`` in the control database)."""

    def load(self) -> VerificationProgress | None:
        """Return the progress of a verification that has not ended."""

    def save(self, progress: VerificationProgress | None) -> None:
        """Save the progress; None: it has ended."""
