"""A replica in memory, and records for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from dataclasses import replace as with_

from foreshard.consistency.clock import HybridTime
from foreshard.consistency.reconcile import UNREAD, Replica, VersionedDocument
from foreshard.consistency.vectors import VersionVector
from foreshard.consistency.versions import COUNTER_EPOCH, Version, version_of_write
from foreshard.model import ConflictPolicy
from foreshard.model.shadow_state import ShadowState
from foreshard.ports.replicas import Standing
from foreshard.ports.replication import ReplicationRecord, Shadow
from foreshard.shadow._apply import Decider

NAMESPACE = "app.documents"


def shadow(key="k", source="alpha", target="beta", state=ShadowState.LIVE, epoch=1, floor=0, **fields) -> Shadow:
    version = None if floor is None else version_at(floor, source, epoch)
    return Shadow(f"{key}|{target}", key, source, target, state, epoch, 7, "because", floor=version, **fields)


def version_at(time: int, origin="alpha", epoch=1) -> Version:
    return Version(epoch, HybridTime(time, 0, origin), VersionVector.of({origin: time}))


def record(time: int, key: str | None = "k", body: bytes | None = b"body", document=1, origin="alpha", epoch=1, rekeyed=False):
    """A change of ``origin`` at ``time``. Without a key it is a delete."""
    version = version_at(time, origin, epoch if key is not None else 0)
    identity = b"%d" % document
    return ReplicationRecord(NAMESPACE, document, identity, key, origin, version, body if key is not None else None, rekeyed)


@dataclass
class Kept:
    """A conflict store in memory."""

    copies: list[VersionedDocument] = field(default_factory=list)

    def keep(self, namespace, document_id, key, policy, copy, shown) -> None:
        self.copies.append(copy)


@dataclass
class MemoryReplica:
    """The recorded state per identity, and the documents that an app would find."""

    policy: ConflictPolicy = ConflictPolicy.LAST_WRITE_WINS
    standing: dict[bytes, Standing] = field(default_factory=dict)
    documents: dict[bytes, tuple[str, bytes]] = field(default_factory=dict)
    conflicts: Kept = field(default_factory=Kept)

    def take(self, records, shadows) -> None:
        """Apply one batch of records, as the applier does."""
        self.write("apply", {}, (), Decider(records, {s.key: s for s in shadows}, {NAMESPACE: self.policy}, self.conflicts))

    def write(self, role, leases, identities, decide) -> int:
        """Like a store: the shown document is separate and is read only on request."""
        writes = decide(dict(self.standing), lambda identity: self.documents.get(identity, (None, None))[1])
        for write in writes:
            shown = write.replica.shown
            if write.shown_changed and write.key is not None:
                self.documents.pop(write.identity, None)
                if shown.body is not None:
                    self.documents[write.identity] = (write.key, shown.body)
            unread = with_(shown, body=None if shown.deleted else UNREAD)
            self.standing[write.identity] = Standing(write.key, Replica(unread, write.replica.siblings))
        return len(writes)


class MemoryReader:
    """Reads ``documents``, number → (key, body)."""

    documents: dict[int, tuple[str, bytes]]

    def copy_indexes_from(self, other, collection) -> None:
        pass

    def scan(self, collection, key, batch):
        yield self.fetch(collection, key, list(self.documents))

    def fetch(self, collection, key, ids):
        return {b"%d" % i: (i, self.documents[i][1]) for i in ids if i in self.documents and self.documents[i][0] == key}

    def present(self, collection, key, ids):
        return frozenset(self.fetch(collection, key, ids))


class MemoryTarget(MemoryReader):
    """A replica's documents for a comparison."""

    def __init__(self, replica: MemoryReplica) -> None:
        self._replica = replica

    @property
    def documents(self):
        return {int(identity): document for identity, document in self._replica.documents.items()}


class MemoryPrimary(MemoryReader):
    """A source with its own clock, and the records of the app's changes. The key ``k`` is captured."""

    def __init__(self) -> None:
        self.documents = {}
        self.records: list[ReplicationRecord] = []
        self.after_scan: Callable[[], None] = lambda: None
        self._time = 0

    def tick(self) -> tuple[int, int]:
        self._time += 1
        return COUNTER_EPOCH + self._time, 0

    def scan(self, collection, key, batch):
        for found in super().scan(collection, key, batch):
            self.after_scan()
            yield found

    def put(self, document: int, key: str, body: bytes) -> None:
        """Replace the document."""
        self.documents[document] = (key, body)
        self._record(document, key if key == "k" else None, body, rekeyed=True)

    def delete(self, document: int) -> None:
        del self.documents[document]
        self._record(document, None, None, rekeyed=False)

    def _record(self, document, key, body, rekeyed) -> None:
        version = version_of_write("alpha", 1 if key else 0, *self.tick())
        shown = body if key else None
        self.records.append(ReplicationRecord(NAMESPACE, document, b"%d" % document, key, "alpha", version, shown, rekeyed))
