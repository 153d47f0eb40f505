"""A world of moves without a server: partitions as dictionaries with a change log, one key, a clock that counts events.

Before each call of a port, ``World.tick`` lets apps act and may cut the mover off, so that every interleaving at the ports'
granularity can happen. Apps route by tables that may be stale, as real clients do.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import pytest

from foreshard.errors import MoveSuperseded, StaleEpoch
from foreshard.migrate.ends import MoveEnds, MoveLimits
from foreshard.model import Move, Placement, Reason
from foreshard.ports.migration import (
    ChangeKind,
    Changes,
    HistoryEntry,
    LateChange,
    MoveRecord,
    MoveState,
    RawDocument,
    Touch,
)

NAMESPACE, KEY = "db.trips", "k"
START = datetime(2026, 1, 5, tzinfo=UTC)
ENDED = (MoveState.DONE, MoveState.REVERTED)


class CutOff(BaseException):
    """The mover dies here."""


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
    """Documents of the key, the change log, the fence, and the leases written down here."""

    documents: dict[bytes, bytes] = field(default_factory=dict)
    log: list[Event] = field(default_factory=list)
    fenced: bool = False
    revision: int = 0
    marks: int = 0
    leases: dict[str, int] = field(default_factory=dict)


class World:
    """Two partitions, one table row, one move, and apps that never rest until they are told to."""

    def __init__(self, seed: int, cut_share: float = 0.03) -> None:
        self.random = Random(seed)
        self.cut_share, self.cuts_left = cut_share, self.random.randint(1, 12)
        self.clock = 0
        self.quiet = False
        self.lifts_left = self.random.randint(0, 3)
        self.cut_after: int | None = None
        self.ticks = 0
        self.partitions = {"a": Partition(), "b": Partition()}
        self.table = Placement(KEY, "a", (), 1)
        self.old_table = self.table
        self.expected: dict[bytes, bytes | None] = {}
        self.refusals = 0
        self.record: MoveRecord | None = None
        self.stopping = False
        for number in range(12):
            self.put("a", b"%d" % number, b"%d.0" % number)
            self.expected[b"%d" % number] = b"%d.0" % number
        self.partitions["b"].documents[b"leftover"] = b"old"

    def now(self) -> int:
        self.clock += 1
        return self.clock

    def put(self, name: str, identity: bytes, raw: bytes, mine: bool = False) -> None:
        self.partitions[name].documents[identity] = raw
        self.partitions[name].log.append(Event("put", identity, self.now(), mine))

    def remove(self, name: str, identity: bytes, mine: bool = False) -> None:
        del self.partitions[name].documents[identity]
        self.partitions[name].log.append(Event("remove", identity, self.now(), mine))

    # ── apps ─────────────────────────────────────────────────────────────────────────────────────────────────────────

    def tick(self) -> None:
        """What happens before the mover's next step in the world."""
        if self.quiet:
            return
        while self.random.random() < 0.5:
            self.act()
        self.ticks += 1
        if self.ticks == self.cut_after:
            raise CutOff
        if self.cuts_left and self.random.random() < self.cut_share:
            self.cuts_left -= 1
            raise CutOff

    def lift_fence(self) -> None:
        """An app sets a validator of its own over the source's fence (not any more once the source is being cleaned)."""
        source = self.partitions["a"]
        if self.lifts_left and source.fenced and self.get("m").state not in (MoveState.CLEANING, MoveState.DONE):
            self.lifts_left -= 1
            source.fenced = False
            source.log.append(Event("unfence"))

    def act(self) -> None:
        """One app operation, by a stale table first where its client has one."""
        if self.random.random() < 0.03:
            self.lift_fence()
        choice, identity = self.random.random(), b"n%d" % self.now()
        standing = [identity for identity, raw in self.expected.items() if raw is not None]
        if standing and (choice >= 0.4 or len(standing) > 30):
            choice, identity = max(choice, 0.4), self.random.choice(standing)
        tables = [self.old_table, self.table] if self.random.random() < 0.5 else [self.table]
        for table in tables:
            if self.operate(table.primary, choice, identity):
                return

    def operate(self, name: str, choice: float, identity: bytes) -> bool:
        """Try one operation on a partition; True where it was acknowledged (and had something to act on)."""
        partition = self.partitions[name]
        if choice >= 0.8:
            if identity not in partition.documents:
                return False
            self.remove(name, identity)
            self.expected[identity] = None
            return True
        if partition.fenced:
            self.refusals += 1
            return False
        if choice >= 0.4 and identity not in partition.documents:
            return False
        raw = b"%d" % self.clock
        self.put(name, identity, raw)
        self.expected[identity] = raw
        return True

    # ── routing (RoutingStore) and owner, shadows ────────────────────────────────────────────────────────────────────

    def owner(self, key: str) -> Placement:
        self.tick()
        return self.table

    def publish(self, changes: Any, cause: str, *, within: Any = None) -> int:
        self.tick()
        (change,) = changes
        if change.expected_epoch != self.table.epoch:
            raise StaleEpoch(change.key, change.expected_epoch, self.table.epoch)
        before = self.record
        try:
            within(None, change.new_epoch)
        except BaseException:
            self.record = before
            raise
        self.old_table, self.table = self.table, Placement(KEY, change.primary, change.shadows, change.new_epoch)
        self.tick()
        return change.new_epoch

    def acknowledged(self, version: int, *, heard_since: datetime) -> tuple[int, int]:
        return (1, 1)

    def absorb(self, key: str, partition_id: str) -> None:
        self.tick()

    # ── journal (MoveJournal) ────────────────────────────────────────────────────────────────────────────────────────

    def plan(self) -> MoveRecord:
        move = Move("m", KEY, "a", "b", 1, "c", Reason("r", "s", {}))
        self.record = MoveRecord(move, MoveState.PLANNED, history=(HistoryEntry(MoveState.PLANNED, "plan", START, 0),))
        return self.record

    def get(self, move_id: str) -> MoveRecord:
        assert self.record is not None
        return self.record

    def take(self, move_id: str) -> MoveRecord:
        self.record = replace(self.get(move_id), lease=self.get(move_id).lease + 1, stop_requested=False)
        return self.record

    def advance(self, record: MoveRecord, to: MoveState, event: str, changes: Any = None, session: Any = None) -> MoveRecord:
        self.tick()
        entry = HistoryEntry(to, str(event), START + timedelta(seconds=self.now()), record.lease)
        self._change(record, {**(changes or {}), "state": to})
        self.record = replace(self.get("m"), history=(*record.history, entry))
        return self.record

    def beat(self, record: MoveRecord, changes: Any) -> MoveRecord:
        self.tick()
        self._change(record, changes)
        return self.get("m")

    def pause(self, record: MoveRecord) -> MoveRecord:
        return self.get("m")

    def _change(self, record: MoveRecord, changes: Any) -> None:
        standing = self.get("m")
        if (standing.state, standing.lease) != (record.state, record.lease):
            raise MoveSuperseded("m", record.lease)
        fields: dict[str, Any] = {}
        for name, value in changes.items():
            outer, _, inner = name.partition(".")
            if inner:
                fields[outer] = {**fields.get(outer, getattr(standing, outer)), inner: value}
            else:
                fields[name] = value
        self.record = replace(standing, **fields)

    def ends(self) -> MoveEnds:
        """A new mover's world."""
        limits = MoveLimits(
            batch_documents=3, grace_period=timedelta(), beat_every=timedelta(), fence_timeout=timedelta(hours=1)
        )
        return MoveEnds(self, KeyCopy(self, "a"), KeyCopy(self, "b"), self, self.owner, self, limits)  # type: ignore[arg-type]


class KeyCopy:
    """:class:`foreshard.ports.migration.KeyCopy` over a partition of the world."""

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

    def feed(self, position: Any) -> Feed:
        self._world.tick()
        return Feed(self._world, self.partition, position["at"])

    def count(self) -> dict:
        self._world.tick()
        return {NAMESPACE: len(self.partition.documents)}

    def scan(self, namespace: str):
        ids = sorted(self.partition.documents)
        for start in range(0, len(ids), 3):
            self._world.tick()
            there = self.partition.documents
            yield tuple(RawDocument(i, there[i]) for i in ids[start : start + 3] if i in there)

    def fetch(self, namespace: str, ids: Any) -> dict:
        self._world.tick()
        return {i: self.partition.documents[i] for i in ids if i in self.partition.documents}

    def strayed(self, namespace: str, ids: Any) -> frozenset:
        return frozenset()

    def write(self, namespace: str, remove: Any, put: Any) -> None:
        self._under_lease()
        for identity in remove:
            if identity in self.partition.documents:
                self._world.remove(self.partition_id, identity, mine=True)
        for document in put:
            assert document.id not in self.partition.documents, "an insert found its id taken"
            self._world.put(self.partition_id, document.id, document.raw, mine=True)

    def remove_unchanged(self, namespace: str, documents: Any) -> int:
        self._under_lease()
        same = [d.id for d in documents if self.partition.documents.get(d.id) == d.raw]
        for identity in same:
            self._world.remove(self.partition_id, identity, mine=True)
        return len(same)

    def forward(self, namespace: str, changes: dict[bytes, LateChange], since: Any) -> frozenset:
        self._under_lease()
        written = {e.identity: e.at for e in self.partition.log[since["at"] :] if not e.mine and e.kind in ("put", "remove")}
        kept = frozenset(i for i, c in changes.items() if written.get(i, -1) >= (c.at - START).total_seconds())
        for identity, change in changes.items():
            if identity in kept or self.partition.documents.get(identity) == change.raw:
                continue
            if change.raw is None:
                self._world.remove(self.partition_id, identity, mine=True)
            else:
                self._world.put(self.partition_id, identity, change.raw, mine=True)
        return kept

    def mark(self) -> int:
        self._world.tick()
        self.partition.marks += 1
        self.partition.log.append(Event("mark", mark=self.partition.marks))
        return self.partition.marks

    def fence(self) -> dict:
        self._under_lease()
        return self._set_fence(True)

    def unfence(self) -> None:
        self._under_lease()
        self._set_fence(False)

    def _set_fence(self, fenced: bool) -> dict:
        self.partition.fenced = fenced
        self.partition.revision += 1
        self.partition.log.append(Event("fence" if fenced else "unfence", revision=self.partition.revision))
        return {NAMESPACE: self.partition.revision}

    def is_fenced(self) -> bool:
        self._world.tick()
        return self.partition.fenced

    def close(self) -> None:
        pass


class Feed:
    """:class:`foreshard.ports.migration.ChangeFeed` over a partition's log."""

    def __init__(self, world: World, partition: Partition, at: int) -> None:
        self._world, self._partition, self._at = world, partition, at
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


@pytest.fixture(scope="session")
def simulate() -> type[World]:
    """The world; it has everything else."""
    World.CutOff = CutOff
    return World
