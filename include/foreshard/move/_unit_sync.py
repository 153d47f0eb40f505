"""Makes the units' documents on the target equal to those on the source: copy, synchronise, compare.

``copy_absent`` inserts absent documents only. ``sync`` reads the current state of the given documents on both sides and makes
the target equal, so it may run late and more than once. ``compare`` compares bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from functools import partial
from itertools import zip_longest

from foreshard.errors import VerificationFailed
from foreshard.move.context import Together, one_after_the_other
from foreshard.ports.migration import DocumentId, RawDocument, UniqueConflict, UnitCopy

Suspects = dict[str, set[DocumentId]]
"""Namespace → ids of documents that are not known to be equal."""

MAXIMUM_CONFLICTS = 50
BUCKETS = 65_536
"""Buckets of a comparison. In one of a million documents, a different bucket has 15 of them."""


class UnitSync:
    """Source and target of one move. One transaction writes at most ``batch`` documents."""

    def __init__(self, source: UnitCopy, target: UnitCopy, batch: int, together: Together = one_after_the_other) -> None:
        self._source, self._target, self._batch, self._together = source, target, batch, together

    def copy_absent(self, noted: Callable[[str, int, int], None], *, skip: Mapping[str, int], target_is_empty: bool) -> None:
        """Insert the documents that are absent on the target, except the first ``skip`` of a namespace.

        Call ``noted(namespace, documents, bytes)`` after each batch. ``target_is_empty`` skips the check for existing
        documents. An insert that meets one falls back to ``sync``.
        """
        for namespace in self._source.namespaces:
            for batch in self._source.scan(namespace, skip.get(namespace, 0)):
                there = {} if target_is_empty else self._target.fetch(namespace, [document.id for document in batch])
                absent = [document for document in batch if document.id not in there]
                if absent:
                    self._insert(namespace, absent)
                noted(namespace, len(batch), sum(len(document.raw) for document in batch))

    def _insert(self, namespace: str, documents: Collection[RawDocument]) -> None:
        try:
            self._target.write(namespace, (), tuple(documents))
        except UniqueConflict as conflict:
            self.sync({namespace: {document.id for document in documents} | conflict.ids})

    def sync(self, touched: Mapping[str, Collection[DocumentId]]) -> Suspects:
        """Make the target equal to the source for these documents. Return the ids that either side has or had."""
        return {
            namespace: set().union(*(self._sync_some(namespace, set(some)) for some in _portions(ids, self._batch)))
            for namespace, ids in touched.items()
        }

    def _sync_some(self, namespace: str, ids: set[DocumentId]) -> set[DocumentId]:
        for _ in range(MAXIMUM_CONFLICTS):
            now, there = self._source.fetch(namespace, ids), self._target.fetch(namespace, ids)
            put = [RawDocument(identity, raw) for identity, raw in now.items() if there.get(identity) != raw]
            remove = [identity for identity, raw in there.items() if now.get(identity) != raw]
            if not put and not remove:
                return set(now)
            try:
                self._target.write(namespace, remove, put)
            except UniqueConflict as conflict:
                ids |= conflict.ids
                continue
            return set(now) | set(there)
        raise VerificationFailed(
            f"{namespace} on {self._target.partition_id}", ["a unique index refuses documents of the source"]
        )

    def compare_all(self, noted: Callable[[], None]) -> Suspects:
        """Return the documents that differ or exist on one side only.

        Both sides add a hash of each document to the bucket of its id. Only documents in different buckets are compared by id,
        so memory holds the buckets, and the ids in different ones.
        """
        suspects: Suspects = {}
        for namespace in self._source.namespaces:
            here, there = [0] * BUCKETS, [0] * BUCKETS
            for _ in zip_longest(self._source.digest(namespace, here), self._target.digest(namespace, there)):
                noted()
            different = {bucket for bucket, (one, other) in enumerate(zip(here, there, strict=True)) if one != other}
            suspects[namespace] = self._ids_in(namespace, different, noted) if different else set()
        return self.compare(suspects)

    def _ids_in(self, namespace: str, buckets: Collection[int], noted: Callable[[], None]) -> set[DocumentId]:
        ids: set[DocumentId] = set()
        for side in (self._source, self._target):
            for some in side.ids_in(namespace, buckets, BUCKETS):
                ids |= some
                noted()
        return ids

    def compare(self, suspects: Mapping[str, Collection[DocumentId]]) -> Suspects:
        """Return the suspects that are different now. Expired documents may be on one side only."""
        different: Suspects = {namespace: set() for namespace in self._source.namespaces}
        for namespace, ids in suspects.items():
            for some in _portions(ids, self._batch):
                now, there = self._together(
                    partial(self._source.fetch, namespace, some), partial(self._target.fetch, namespace, some)
                )
                different[namespace] |= self._unequal(namespace, some, now, there)
        return different

    def compare_and_count(self, suspects: Mapping[str, Collection[DocumentId]], *, counted: bool) -> tuple[Suspects, list[str]]:
        """Return the suspects that are different now and, if ``counted``, the counts that differ. One look at each side."""

        def look(side: UnitCopy) -> tuple[dict[str, dict[DocumentId, bytes]], Mapping[str, int]]:
            found = {namespace: side.fetch(namespace, ids) for namespace, ids in suspects.items() if ids}
            return found, side.count() if counted else {}

        (now, here), (there, numbers) = self._together(partial(look, self._source), partial(look, self._target))
        different: Suspects = {namespace: set() for namespace in self._source.namespaces}
        for namespace, of_source in now.items():
            different[namespace] = self._unequal(namespace, suspects[namespace], of_source, there[namespace])
        return different, self.count_differences() if here != numbers else []

    def _unequal(
        self, namespace: str, ids: Collection[DocumentId], now: Mapping[DocumentId, bytes], there: Mapping[DocumentId, bytes]
    ) -> set[DocumentId]:
        """Return the ids that differ, except where a TTL index may have deleted the document on one side."""
        unequal = {identity for identity in ids if now.get(identity) != there.get(identity)}
        single = {identity: raw for identity, raw in {**now, **there}.items() if identity not in now or identity not in there}
        return unequal - self._source.expired(namespace, single, self._source.clock()) if single else unequal

    def count_differences(self) -> list[str]:
        """Return one line for each collection whose document counts differ, expired documents left out."""
        here, there = self._together(self._source.count, self._target.count)
        if here != there:
            at = self._source.clock()
            here, there = self._together(lambda: self._source.count(at), lambda: self._target.count(at))
        return [f"{name}: {n} documents against {there.get(name, 0)}" for name, n in here.items() if there.get(name, 0) != n]

    def remove_all(self, side: UnitCopy, noted: Callable[[int], None]) -> None:
        """Remove every document of the units on ``side``. Call ``noted(documents)`` after each batch."""
        for namespace in side.namespaces:
            for batch in side.scan(namespace):
                side.write(namespace, [document.id for document in batch], ())
                noted(len(batch))


def merge(into: Suspects, more: Mapping[str, Collection[DocumentId]]) -> None:
    """Add ``more`` to ``into``."""
    for namespace, ids in more.items():
        into.setdefault(namespace, set()).update(ids)


def size(suspects: Mapping[str, Collection[DocumentId]]) -> int:
    """Return the number of documents."""
    return sum(len(ids) for ids in suspects.values())


def _portions(ids: Collection[DocumentId], limit: int) -> Iterator[list[DocumentId]]:
    ordered = sorted(ids)
    for start in range(0, len(ordered), limit):
        yield ordered[start : start + limit]
