"""A world of moves without a server: partitions as dictionaries with a change log, one key or slot, a clock that counts events.

Before each call of a port, ``World.tick`` lets apps act and may kill the mover, so every interleaving of port calls can happen.
Apps route by tables that may be stale, as real clients do.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest

from foreshard.errors import MoveHasEnded, MoveSuperseded, StaleEpoch
from foreshard.model import Move, Placement, PlacementChange, Reason
from foreshard.model.key_space import KeySpace, slot_unit
from foreshard.model.move_state import OPEN, MoveState
from foreshard.model.unit_set import UnitSet
from foreshard.move.context import MoveContext
from foreshard.ports.move_journal import HistoryEntry, MoveRecord
from foreshard.ports.publishing import ATTEMPTS
from foreshard.ports.routing import Publication
from foreshard.settings import MigrateSettings

sys.path.insert(0, str(Path(__file__).parent))

from simulated_partition import START, Event, Partition, UnitCopy

KEY = "k"
SPACE = KeySpace(slots=16)
SLOT = slot_unit(SPACE.slot_of(KEY))


class CutOff(BaseException):
    """The mover dies here."""


class World:
    """Two partitions, one table row, one move, and apps that act until they are told to stop."""

    def __init__(self, seed: int, cut_share: float = 0.03) -> None:
        self.random = Random(seed)
        self.cut_share, self.cuts_left = cut_share, self.random.randint(1, 12)
        self.clock = 0
        self.quiet = False
        self.lifts_left = self.random.randint(0, 3)
        self.shadow_changes_left = self.random.randint(0, ATTEMPTS - 1)
        self.cut_after: int | None = None
        self.ticks = 0
        self.partitions = {"a": Partition(), "b": Partition(fenced=True, listed=True)}
        self.unit = self.random.choice([KEY, SLOT])
        self.table = Placement(self.unit, "a", (), 1)
        self.old_table = self.table
        self.table_version, self.publications = 1, [Publication(1, (), "first", START)]
        self.expected: dict[bytes, bytes | None] = {}
        self.written_since: set[bytes] = set()
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
        """Everything that happens before the mover's next call."""
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
        """An app sets its own validator over the source's fence (not while the source is being cleaned)."""
        source = self.partitions["a"]
        if self.lifts_left and source.fenced and self.get("m").state not in (MoveState.CLEANING, MoveState.DONE):
            self.lifts_left -= 1
            source.fenced = False
            source.log.append(Event("unfence"))

    def act(self) -> None:
        """One app operation, first by a stale table if its client has one."""
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
        """Try one operation on a partition. Return True if it was acknowledged and matched something."""
        partition = self.partitions[name]
        if choice >= 0.8:
            if identity not in partition.documents:
                return False
            self.remove(name, identity)
            if name == self.table.primary or identity not in self.written_since:
                self.expected[identity] = None
            self._write_at_owner(name, identity)
            return True
        if partition.fenced:
            self.refusals += 1
            return False
        if choice >= 0.4 and identity not in partition.documents:
            return False
        raw = b"%d" % self.clock
        self.put(name, identity, raw)
        self.expected[identity] = raw
        self._write_at_owner(name, identity)
        return True

    def _write_at_owner(self, name: str, identity: bytes) -> None:
        """A stale client's delete gives way to such a write."""
        if name == self.table.primary == "b":
            self.written_since.add(identity)

    # ── routing (RoutingStore) and shadows ────────────────────────────────────────────────────────────────────

    def placements(self, units: Any) -> dict[str, Placement]:
        self.tick()
        return {unit: self.table if unit == self.unit else Placement(unit, "z", (), 7) for unit in units}

    def listed_in(self, slots: Any) -> tuple[Placement, ...]:
        return (self.table,) if self.unit == KEY else ()

    def version(self) -> int:
        return self.table_version

    def since(self, version: int) -> tuple:
        return tuple(self.publications[version - 1 :])

    def shadow_comes_or_goes(self) -> None:
        """Another publication about the key that does not raise its epoch. Slots have no shadows."""
        if self.unit == SLOT:
            return
        self.table = replace(self.table, shadows=() if self.table.shadows else ("c",))
        change = PlacementChange(self.unit, self.table.primary, self.table.shadows, self.table.epoch, self.table.epoch)
        self.table_version += 1
        self.publications.append(Publication(self.table_version, (change,), "shadow", START))

    def publish(self, changes: Any, cause: str, *, within: Any = None, move_id: str = "") -> int:
        self.tick()
        if self.shadow_changes_left and self.random.random() < 0.3:
            self.shadow_changes_left -= 1
            self.shadow_comes_or_goes()
        (change,) = changes
        if change.expected_epoch != self.table.epoch:
            raise StaleEpoch(change.key, change.expected_epoch, self.table.epoch)
        before = self.record
        try:
            within(None, self.table_version + 1)
        except BaseException:
            self.record = before
            raise
        self.shadows_before_switch = self.table.shadows
        self.old_table, self.table = self.table, Placement(self.unit, change.primary, change.shadows, change.new_epoch)
        self.table_version += 1
        self.publications.append(Publication(self.table_version, tuple(changes), cause, START))
        self.tick()
        return self.table_version

    def acknowledged(self, version: int, *, heard_since: datetime) -> tuple[int, int]:
        return (1, 1)

    def absorb(self, units: UnitSet, partition_id: str) -> None:
        self.tick()

    # ── journal (MoveJournal) ────────────────────────────────────────────────────────────────────────────────────────

    def plan(self) -> MoveRecord:
        move = Move("m", (self.unit,), "a", "b", 1, "c", Reason("r", "s", {}))
        self.record = MoveRecord(move, MoveState.PLANNED, history=(HistoryEntry(MoveState.PLANNED, "plan", START, 0),))
        return self.record

    def get(self, move_id: str) -> MoveRecord:
        assert self.record is not None
        return self.record

    def take(self, move_id: str, states: Any = OPEN, *, silent: bool = False) -> MoveRecord:
        if self.get(move_id).state not in states:
            raise MoveHasEnded(move_id, self.get(move_id).state)
        self.record = replace(self.get(move_id), lease=self.get(move_id).lease + 1, stop_requested=False)
        return self.record

    def claim_place(self, record: MoveRecord, most: int) -> MoveRecord:
        return self.beat(record, {"notes.placed": True})

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

    def release(self, record: MoveRecord, waiting: str | None) -> MoveRecord:
        return self.beat(record, {"lease_until": None, "notes.waiting": waiting})

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

    def context(self) -> MoveContext:
        """The ports of a new mover."""
        limits = MigrateSettings(batch_documents=3, source_kept=timedelta(), fence_timeout=timedelta(hours=1))
        copies = UnitCopy(self, "a"), UnitCopy(self, "b")
        units = UnitSet(SPACE, (self.unit,))
        return MoveContext(self, units, *copies, self, self, limits, beat_every=timedelta())  # type: ignore[arg-type]


@pytest.fixture(scope="session")
def simulate() -> type[World]:
    """The world's class."""
    World.CutOff = CutOff
    return World
