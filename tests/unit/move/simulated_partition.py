"""A partition of the simulated world as a dictionary with a change log, and a move's view of it."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from foreshard.errors import MoveRefused, MoveSuperseded
from foreshard.ports.migration import ChangeKind, Changes, LateChange, RawDocument, Touch, UniqueConflict

if TYPE_CHECKING:
    from conftest import World

NAMESPACE = "db.trips"
START = datetime(2026, 1, 5, tzinfo=UTC)


@dataclass
class Event:
    kind: str
    identity: bytes = b""
    at: int = 0
    mine: bool = False
    revision: int = 0
    mark: int = 0


@dataclass
class Partition:
    """The documents of the move, the change log, the fence, the leases, and the units whose removal was announced."""

    documents: dict[bytes, bytes] = field(default_factory=dict)
    log: list[Event] = field(default_factory=list)
    fenced: bool = False
    listed: bool = False
    revision: int = 0
    marks: int = 0
    leases: dict[str, int] = field(default_factory=dict)
    removed: set[str] = field(default_factory=set)


class UnitCopy:
    """:class:`foreshard.ports.migration.UnitCopy` over a partition of the world."""

    namespaces = (NAMESPACE,)

    def __init__(self, world: World, partition_id: str) -> None:
        self.partition_id, self._world = partition_id, world
        self.partition = world.partitions[partition_id]
        self._lease = 0

    def _under_lease(self) -> None:
        self._world.tick()
        if self.partition.leases.get("m") != self._lease:
            raise MoveSuperseded("m", self._lease)

    def claim(self, lease: int) -> None:
        self._world.tick()
        if self.partition.leases.get("m", 0) > lease:
            raise MoveSuperseded("m", lease)
        self.partition.leases["m"] = self._lease = lease

    def shape(self) -> dict:
        return {}

    def prepare(self, shape: Any) -> None:
        self._world.tick()

    def now(self) -> dict:
        self._world.tick()
        return {"at": len(self.partition.log)}

    def feed(self, position: Any, *, strays: bool = False) -> Feed:
        self._world.tick()
        return Feed(self._world, self.partition, position["at"], strays)

    def set_aside(self, namespace: str, documents: Any) -> None:
        self.write(namespace, [document.id for document in documents], ())

    def count(self, unexpired_at: Any = None) -> dict:
        self._world.tick()
        return {NAMESPACE: len(self.partition.documents)}

    def clock(self) -> datetime:
        return START

    def expired(self, namespace: str, documents: Any, at: Any) -> frozenset:
        return frozenset()

    def scan(self, namespace: str, skip: int = 0):
        ids = sorted(self.partition.documents)[skip:]
        for start in range(0, len(ids), 3):
            self._world.tick()
            there = self.partition.documents
            yield tuple(RawDocument(i, there[i]) for i in ids[start : start + 3] if i in there)

    def digest(self, namespace: str, into: list[int]):
        for batch in self.scan(namespace):
            for document in batch:
                into[zlib.crc32(document.id) % len(into)] += hash((document.id, document.raw))
            yield len(batch)

    def ids_in(self, namespace: str, buckets: Any, of: int):
        for batch in self.scan(namespace):
            yield frozenset(document.id for document in batch if zlib.crc32(document.id) % of in buckets)

    def fetch(self, namespace: str, ids: Any) -> dict:
        self._world.tick()
        return {i: self.partition.documents[i] for i in ids if i in self.partition.documents}

    def strayed(self, namespace: str, ids: Any) -> frozenset:
        return frozenset()

    def write(self, namespace: str, remove: Any, put: Any) -> None:
        self._under_lease()
        self._require_fence()
        for identity in remove:
            if identity in self.partition.documents:
                self._world.remove(self.partition_id, identity, mine=True)
        for document in put:
            if document.id in self.partition.documents:
                raise UniqueConflict(namespace, frozenset({document.id}))
            self._world.put(self.partition_id, document.id, document.raw, mine=True)

    def announce_removal(self, epochs: Any) -> None:
        self._under_lease()
        self.partition.removed |= set(epochs)

    def cursors_opened_before(self, at: datetime) -> int:
        return 0

    def _require_fence(self) -> None:
        if not self.partition.listed:
            raise MoveRefused("m", f"{self.partition_id} accepts writes of its units", "check the owner")

    def remove_unchanged(self, namespace: str, documents: Any) -> int:
        self._under_lease()
        self._require_fence()
        assert self.partition.removed, "nothing is removed before readers are told"
        same = [d.id for d in documents if self.partition.documents.get(d.id) == d.raw]
        for identity in same:
            self._world.remove(self.partition_id, identity, mine=True)
        return len(same)

    def forward(self, namespace: str, changes: dict[bytes, LateChange], since: Any) -> frozenset:
        self._under_lease()
        written = {e.identity: e.at for e in self.partition.log[since["at"] :] if not e.mine and e.kind in ("put", "remove")}
        kept = frozenset(
            i for i, c in changes.items() if i in written and (c.raw is None or written[i] >= (c.at - START).total_seconds())
        )
        for identity, change in changes.items():
            if identity in kept or self.partition.documents.get(identity) == change.raw:
                continue
            if change.raw is None:
                self._world.remove(self.partition_id, identity, mine=True)
            else:
                self._world.put(self.partition_id, identity, change.raw, mine=True)
                self._world.expected.setdefault(identity, change.raw)
        return kept

    def mark(self) -> int:
        self._world.tick()
        self.partition.marks += 1
        self.partition.log.append(Event("mark", mark=self.partition.marks))
        return self.partition.marks

    def probe(self) -> None:
        self._world.tick()

    def arm_fence(self) -> None:
        self._under_lease()

    def arm_opening(self) -> None:
        self._under_lease()

    def settle(self) -> None:
        self._world.tick()

    def explain(self, error: Exception) -> None:
        return None

    def fence(self) -> dict:
        self._under_lease()
        return self._set_fence(True)

    def unfence(self) -> None:
        self._under_lease()
        self._set_fence(False)

    def _set_fence(self, fenced: bool) -> dict:
        self.partition.fenced = self.partition.listed = fenced
        self.partition.revision += 1
        self.partition.log.append(Event("fence" if fenced else "unfence", revision=self.partition.revision))
        return {NAMESPACE: self.partition.revision}

    def is_fenced(self) -> bool:
        self._world.tick()
        return self.partition.fenced

    def close(self) -> None:
        pass


class Feed:
    """:class:`foreshard.ports.migration.MoveFeed` over a partition's log."""

    def __init__(self, world: World, partition: Partition, at: int, strays: bool) -> None:
        self._world, self._partition, self._at, self._strays = world, partition, at, strays
        self.fences_seen: dict[str, int] = {}
        self.mark_seen = -1

    @property
    def position(self) -> dict:
        return {"at": self._at}

    def poll(self, limit: int, *, until_fences: Any = None, until_mark: int | None = None) -> Changes:
        self._world.tick()
        touched: dict[bytes, Touch] = {}
        unfenced: set[str] = set()
        wanted = self._world.random.randint(1, 20)
        while self._at < len(self._partition.log) and wanted:
            event = self._partition.log[self._at]
            self._at += 1
            wanted -= 1
            at = START + timedelta(seconds=event.at)
            if self._strays and (event.mine or event.kind not in ("put", "remove")):
                continue
            if event.kind == "put":
                touched[event.identity] = Touch(ChangeKind.PUT, at)
            elif event.kind == "remove" and not event.mine:
                touched[event.identity] = Touch(ChangeKind.REMOVE, at)
            elif event.kind == "fence":
                self.fences_seen[NAMESPACE] = event.revision
                unfenced.discard(NAMESPACE)
            elif event.kind == "unfence":
                self.fences_seen.pop(NAMESPACE, None)
                unfenced.add(NAMESPACE)
            elif event.kind == "mark":
                self.mark_seen = max(self.mark_seen, event.mark)
        at_end = self._at >= len(self._partition.log)
        return Changes({NAMESPACE: touched}, frozenset(unfenced), None, at_end, timedelta())

    def close(self) -> None:
        pass
