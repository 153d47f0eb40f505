"""Applies records from the topic to the replicas. Versions decide, so order and repetition do not matter."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from foreshard.consistency.reconcile import UNREAD, Action, Replica, VersionedDocument, reconcile
from foreshard.consistency.vectors import Order
from foreshard.consistency.versions import Version
from foreshard.errors import ReplicaRefused
from foreshard.model import ConflictPolicy
from foreshard.model.shadow_state import APPLYING
from foreshard.ports.replicas import ConflictStore, GuardsMoved, ReplicaStore, ReplicaWrite, Standing
from foreshard.ports.replication import ReplicationRecord, Shadow, ShadowStore
from foreshard.shadow.machine import step

Body = Callable[[bytes], bytes | None]
ATTEMPTS = 5


@dataclass
class ApplyCounts:
    """The number of records per outcome: written, discarded as obsolete or repeated, kept as conflicts, refused."""

    applied: int = 0
    discarded: int = 0
    conflicts: int = 0
    refused: int = 0

    def add(self, other: ApplyCounts) -> None:
        """Add the other counts to these."""
        self.applied += other.applied
        self.discarded += other.discarded
        self.conflicts += other.conflicts
        self.refused += other.refused


def route(records: Iterable[ReplicationRecord], shadows: Iterable[Shadow]) -> dict[str, list[ReplicationRecord]]:
    """Return target → its records, in order. If only the replica knows the key, every target of that origin gets the record.

    A shadow without a floor gets none. Whatever is consumed before its comparison begins is part of what that comparison reads.
    """
    of_key: dict[str, set[str]] = {}
    of_origin: dict[str, set[str]] = {}
    for shadow in shadows:
        if shadow.floor is not None:
            of_key.setdefault(shadow.key, set()).add(shadow.target)
            of_origin.setdefault(shadow.source, set()).add(shadow.target)
    routed: dict[str, list[ReplicationRecord]] = {}
    for record in records:
        targets = of_key.get(record.key, set()) if record.key is not None else set()
        if record.key is None or record.rekeyed:
            targets = targets | of_origin.get(record.origin, set())
        for target in targets:
            routed.setdefault(target, []).append(record)
    return routed


@dataclass
class Decider:
    """Folds one batch of records, in order, over the recorded states of one replica. It is called again for each attempt."""

    records: Sequence[ReplicationRecord]
    shadows: Mapping[str, Shadow]
    policies: Mapping[str, ConflictPolicy]
    conflicts: ConflictStore
    heed_floors: bool = True
    counts: ApplyCounts = field(default_factory=ApplyCounts)

    def __call__(self, standing: Mapping[bytes, Standing], body: Body) -> list[ReplicaWrite]:
        """Return the writes. Concurrent versions that are not shown are kept as conflicts first."""
        self.counts = ApplyCounts()
        now = dict(standing)
        touched: dict[bytes, ReplicationRecord] = {}
        for record in self.records:
            after = self._after(record, now.get(record.identity), body)
            if after is None:
                self.counts.discarded += 1
            else:
                now[record.identity] = after
                touched[record.identity] = record
        writes = []
        for identity, record in touched.items():
            before, after = standing.get(identity), now[identity]
            changed = before is None or before.replica.shown.version != after.replica.shown.version or before.key != after.key
            writes.append(ReplicaWrite(record.namespace, record.document_id, identity, after.key, after.replica, changed))
        return writes

    def _after(self, record: ReplicationRecord, standing: Standing | None, body: Body) -> Standing | None:
        """The state after ``record``; None if the record changes nothing."""
        if record.key is not None and record.key in self.shadows:
            return self._put(record, record.key, standing, body)
        if standing is not None and standing.key is not None:
            owner = self.shadows.get(standing.key)
            if owner is None or owner.source != record.origin:
                return None
            version = replace(record.version, epoch=owner.epoch)
            return self._merge(record, owner, standing, VersionedDocument(version, None), body)
        if record.rekeyed or record.key is not None:
            return None
        if standing is not None and standing.replica.shown.version.vector.compare(record.version.vector) is not Order.BEFORE:
            return None
        self.counts.applied += 1
        return Standing(None, Replica(VersionedDocument(record.version, None)))

    def _put(self, record: ReplicationRecord, key: str, standing: Standing | None, body: Body) -> Standing | None:
        incoming, owner = VersionedDocument(record.version, record.document), self.shadows[key]
        if standing is not None and standing.key != key:  # another key's, or a delete without a key: epochs cannot be compared
            if standing.replica.shown.version.vector.compare(record.version.vector) in (Order.AFTER, Order.EQUAL):
                return None
            standing = None
        return self._merge(record, owner, standing, incoming, body)

    def _merge(
        self, record: ReplicationRecord, owner: Shadow, standing: Standing | None, incoming: VersionedDocument, body: Body
    ) -> Standing | None:
        if self.heed_floors and owner.floor is not None and owner.floor.covers(incoming.version):
            return None
        policy = self.policies[record.namespace]
        existing = standing.replica if standing else None
        if existing is not None and _unread_rival(existing, incoming.version):
            existing = Replica(replace(existing.shown, body=body(record.identity)), existing.siblings)
        decision = reconcile(policy, existing, incoming)
        for copy in decision.conflicts:
            version = decision.replica.shown.version
            self.conflicts.keep(record.namespace, record.document_id, owner.key, policy, copy, version)
            self.counts.conflicts += 1
        if decision.action is Action.DISCARD or (decision.action is Action.KEEP and decision.replica == existing):
            return None
        self.counts.applied += decision.action is Action.APPLY
        return Standing(owner.key, decision.replica)


def _unread_rival(existing: Replica, incoming: Version) -> bool:
    """Return whether the shown document must be read, because it may have to be kept as a conflict."""
    return existing.shown.body == UNREAD and existing.shown.version.compare(incoming) is Order.CONCURRENT


class Applier:
    """Applies batches of records to the shadows of their keys."""

    def __init__(
        self,
        shadows: ShadowStore,
        replicas: Callable[[str], ReplicaStore],
        policies: Mapping[str, ConflictPolicy],
        conflicts: ConflictStore,
    ) -> None:
        self._shadows, self._replicas = shadows, replicas
        self._policies, self._conflicts = policies, conflicts

    def apply(self, records: Sequence[ReplicationRecord]) -> ApplyCounts:
        """Apply ``records``, read from the topic before this call, to all shadows. Each replica gets one transaction."""
        counts = ApplyCounts()
        known = [record for record in records if record.namespace in self._policies]
        for target, mine in route(known, self._shadows.shadows(APPLYING)).items():
            counts.add(self._apply_to(target, mine))
        return counts

    def _apply_to(self, target: str, records: Sequence[ReplicationRecord]) -> ApplyCounts:
        closed: dict[str, int] = {}
        for _ in range(ATTEMPTS):
            here = {
                s.key: s
                for s in self._shadows.shadows(APPLYING)
                if s.target == target and s.floor is not None and closed.get(s.key) != s.lease
            }
            try:
                return self._write(target, records, here)
            except GuardsMoved as moved:  # the shadow has a later lease or was removed
                closed |= {key: here[key].lease for key in moved.keys if key in here}
            except ReplicaRefused:
                return self._one_by_one(target, records, here)
        raise ReplicaRefused(f"the guards on {target} kept changing")

    def _write(self, target: str, records: Sequence[ReplicationRecord], here: Mapping[str, Shadow]) -> ApplyCounts:
        decider = Decider(records, here, self._policies, self._conflicts)
        identities = {record.identity: (record.namespace, record.document_id, record.identity) for record in records}
        leases = {key: shadow.lease for key, shadow in here.items()}
        self._replicas(target).write("apply", leases, list(identities.values()), decider)
        return decider.counts

    def _one_by_one(self, target: str, records: Sequence[ReplicationRecord], here: Mapping[str, Shadow]) -> ApplyCounts:
        """After a refusal, apply the records one by one. The refused record's shadow is compared again, so nothing is lost."""
        counts = ApplyCounts()
        for record in records:
            try:
                counts.add(self._write(target, [record], here))
            except ReplicaRefused as refused:
                counts.refused += 1
                shadow = here.get(record.key or "")
                if shadow is not None:
                    step(self._shadows, shadow, "recopy", {"lease": shadow.lease + 1, "floor": None, "problem": str(refused)})
        return counts
