"""A replica in memory, and records to give to it."""

from __future__ import annotations

from dataclasses import dataclass, field
from dataclasses import replace as with_

from foreshard.consistency.clock import HybridTime
from foreshard.consistency.reconcile import UNREAD, Copy, Replica
from foreshard.consistency.vectors import VersionVector
from foreshard.consistency.versions import Version
from foreshard.model import ConflictPolicy
from foreshard.ports.replicas import Standing
from foreshard.ports.replication import ReplicationRecord, Shadow, ShadowState
from foreshard.shadow.apply import Decider

NAMESPACE = "app.documents"


def shadow(key="k", source="alpha", target="beta", state=ShadowState.LIVE, epoch=1, floor=0, **fields) -> Shadow:
    version = None if floor is None else version_at(floor, source, epoch)
    return Shadow(f"{key}|{target}", key, source, target, state, epoch, 7, "because", floor=version, **fields)


def version_at(time: int, origin="alpha", epoch=1) -> Version:
    return Version(epoch, HybridTime(time, 0, origin), VersionVector.of({origin: time}))


def record(time: int, key: str | None = "k", body: bytes | None = b"body", document=1, origin="alpha", epoch=1, rekeyed=False):
    """A change of ``origin`` at ``time``; without a key it's a delete."""
    version = version_at(time, origin, epoch if key is not None else 0)
    identity = b"%d" % document
    return ReplicationRecord(NAMESPACE, document, identity, key, origin, version, body if key is not None else None, rekeyed)


@dataclass
class Kept:
    """A conflict store in memory."""

    copies: list[Copy] = field(default_factory=list)

    def keep(self, namespace, document_id, key, policy, copy, shown) -> None:
        self.copies.append(copy)


@dataclass
class MemoryReplica:
    """What stands on record per identity, and the documents that an app would find."""

    policy: ConflictPolicy = ConflictPolicy.LAST_WRITE_WINS
    standing: dict[bytes, Standing] = field(default_factory=dict)
    documents: dict[bytes, tuple[str, bytes]] = field(default_factory=dict)
    conflicts: Kept = field(default_factory=Kept)

    def take(self, records, shadows) -> None:
        """One batch, as an adapter would write it: the shown document stands apart and is read only when it's asked for."""
        here = {s.key: s for s in shadows}
        decider = Decider(records, here, {NAMESPACE: self.policy}, self.conflicts)
        for write in decider(dict(self.standing), lambda identity: self.documents.get(identity, (None, None))[1]):
            shown = write.replica.shown
            if write.shown_changed and write.key is not None:
                self.documents.pop(write.identity, None)
                if shown.body is not None:
                    self.documents[write.identity] = (write.key, shown.body)
            unread = with_(shown, body=None if shown.deleted else UNREAD)
            self.standing[write.identity] = Standing(write.key, Replica(unread, write.replica.siblings))
