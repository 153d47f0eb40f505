"""A small world for moves: two collections on three partitions, a published table, routed writers, and killed movers."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest
from pydantic import SecretStr
from pymongo import MongoClient
from pymongo.errors import WriteError

from foreshard.model import Location, Move, Partition, Placement, Reason, RoutingTable
from foreshard.model.key_space import KeySpace, KeyType, slot_unit
from foreshard.routing.slots import first_slots
from foreshard.routing.table import locate
from foreshard.settings import CollectionSetting, MigrateSettings, Settings
from foreshard.stages import migrate
from foreshard.stores.control.move_journal import MongoMoveJournal
from foreshard.wiring import Wiring

REFUSED = 121
MAXIMUM_HELD = 60
MOVER = Path(__file__).with_name("mover_process.py")
PARTITIONS = ("alpha", "beta", "gamma")


@dataclass
class World:
    """The fixtures of a test of moves. ``key`` starts on alpha: listed, or by its ``slot``, which is what moves then."""

    wiring: Wiring
    clients: dict[str, MongoClient]
    database: str
    environment: dict[str, str]
    key: str = "Embarcadero / Sansome $1.é"
    numbers: Iterator[int] = field(default_factory=lambda: iter(range(10**9)))
    by_slot: bool = False

    @property
    def unit(self) -> str:
        """What is moved."""
        return slot_unit(KeySpace().slot_of(self.key)) if self.by_slot else self.key

    def trips(self, partition: str) -> Any:
        return self.clients[partition][self.database]["trips"]

    def stations(self, partition: str) -> Any:
        return self.clients[partition][self.database]["stations"]

    def owner(self, key: str | None = None) -> str:
        return self.wiring.routing.placement(key or self.key).primary

    def fill(self, documents: int, partition: str = "alpha", key: str | None = None) -> None:
        """Insert ``documents`` trips and one station of the key, and as many trips of other keys."""
        key = key or self.key
        made = [{"_id": f"{key}:{n}", "at": {"station": key}, "n": n, "pad": "x" * 100} for n in range(documents)]
        others = [{"_id": f"other-{partition}:{key}:{n}", "at": {"station": "other"}, "n": n} for n in range(documents)]
        if made:
            self.trips(partition).insert_many(made + others)
        self.stations(partition).insert_one({"_id": f"station:{key}", "name": key, "docks": 27})

    def plan(self, source: str, target: str, key: str | None = None) -> str:
        """Journal a move and return its id."""
        move_id = f"move-{next(self.numbers)}"
        move = Move(move_id, (key or self.unit,), source, target, 1, "clump", Reason("test", "for a test", {"lps": 0.9}))
        self.wiring.move_journal.plan(move, datetime(2026, 1, 5, 8, tzinfo=UTC))
        return move_id

    def move(self, source: str, target: str, key: str | None = None) -> Any:
        """Move a key up to its switch."""
        return migrate.run_move(self.wiring, self.plan(source, target, key))

    def run_until_cut_off(self, move_id: str) -> None:
        """Run a move that ``cut_off`` interrupts."""
        with pytest.raises(CutOff):
            migrate.run_move(self.wiring, move_id)

    def state(self, move_id: str) -> str:
        return str(self.wiring.move_journal.get(move_id).state)

    def copies(self, key: str | None = None) -> dict[str, dict[Any, dict]]:
        """Partition → id → trip of the key."""
        wanted = {"at.station": key or self.key}
        return {name: {d["_id"]: d for d in self.trips(name).find(wanted)} for name in PARTITIONS}

    def refused(self, partition: str, key: str | None = None) -> bool:
        """Return whether a partition refuses an app's insert for the key."""
        identity = f"probe-{next(self.numbers)}"
        try:
            self.trips(partition).insert_one({"_id": identity, "at": {"station": key or self.key}})
        except WriteError as error:
            return error.code == REFUSED
        self.trips(partition).delete_one({"_id": identity})
        return False

    def process(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run ``mover_process.py`` in its own process."""
        command = [sys.executable, str(MOVER), *arguments]
        return subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False, timeout=120)


@pytest.fixture
def world(request, mongods, partition_clients, unique_name, control) -> Iterator[World]:
    kind = getattr(request, "param", "key")
    key_type = KeyType.INT if kind == "int" else KeyType.STRING
    settings = Settings(
        control_uri=SecretStr(mongods[0].uri),
        control_database=unique_name,
        collections=(
            CollectionSetting(database=unique_name, collection="trips", key_field="at.station", key_type=key_type),
            CollectionSetting(database=unique_name, collection="stations", key_field="name", key_type=key_type),
        ),
        migrate=MigrateSettings(batch_documents=100, source_kept=timedelta(seconds=0.2)),
    )
    environment = {
        **os.environ,
        "FORESHARD_CONTROL_URI": mongods[0].uri,
        "FORESHARD_CONTROL_DATABASE": unique_name,
        "FORESHARD_COLLECTIONS": f"[{','.join(c.model_dump_json() for c in settings.collections)}]",
        "FORESHARD_MIGRATE": settings.migrate.model_dump_json(),
    }
    with Wiring(settings) as wiring:
        places = [Location("here", 37.8, -122.4)]
        wiring.registry.register([Partition(m.name, "here", 100.0, m.uri) for m in mongods[1:]], places)
        made = World(wiring, partition_clients, unique_name, environment, by_slot=kind == "slot")
        listed = {made.key: Placement(made.key, "alpha")} if kind == "key" else {}
        table = RoutingTable(1, listed, first_slots(KeySpace(key_type), {"alpha": 1.0}), datetime.now(UTC))
        wiring.routing.initialise(table)
        yield made


class Writer(threading.Thread):
    """An app's client. It routes by a table that may be stale, reads the table again when refused, and remembers acknowledged
    writes.

    An update or delete that matches nothing under a stale table is retried under the new one, as a routed client does.
    """

    def __init__(self, world: World, number: int, stop: threading.Event) -> None:
        super().__init__()
        self._world, self._number, self._stopping = world, number, stop
        self._random = Random(number)
        self._table = world.wiring.routing.current()
        self.expected: dict[str, int] = {}
        self.removed: set[str] = set()
        self.refusals = self.acknowledged = 0
        self.failure: BaseException | None = None

    def run(self) -> None:
        try:
            turn = 0
            while not self._stopping.is_set():
                turn += 1
                self._act(turn)
                self._stopping.wait(0.004)
        except BaseException as error:
            self.failure = error

    def _act(self, turn: int) -> None:
        key, choice = self._world.key, self._random.random()
        if not self.expected or (choice < 0.4 and len(self.expected) < MAXIMUM_HELD):
            identity = f"w{self._number}:{turn}"
            document = {"_id": identity, "at": {"station": key}, "n": turn}
            self._acknowledge(lambda trips: trips.insert_one(document).acknowledged)
            self.expected[identity] = turn
            return
        identity = self._random.choice(list(self.expected))
        wanted = {"_id": identity, "at.station": key}
        if choice < 0.8:
            self._acknowledge(lambda trips: trips.update_one(wanted, {"$set": {"n": turn}}).matched_count)
            self.expected[identity] = turn
        elif choice < 0.9:
            replacement = {"_id": identity, "at": {"station": key}, "n": turn, "replaced": True}
            self._acknowledge(lambda trips: trips.replace_one(wanted, replacement).matched_count)
            self.expected[identity] = turn
        else:
            self._acknowledge(lambda trips: trips.delete_one(wanted).deleted_count)
            del self.expected[identity]
            self.removed.add(identity)

    def _acknowledge(self, operation: Callable[[Any], Any]) -> None:
        while True:
            try:
                if operation(self._world.trips(locate(self._table, self._world.key).primary)):
                    self.acknowledged += 1
                    return
            except WriteError as error:
                if error.code != REFUSED:
                    raise
                self.refusals += 1
            before, self._table = self._table.version, self._world.wiring.routing.current()
            if self._table.version == before:
                self._stopping.wait(0.002)


class CutOff(BaseException):
    """A mover ends here as if it were killed. Nothing catches this."""


@pytest.fixture
def cut_off(monkeypatch) -> Callable[[str], None]:
    """``cut_off(state)``: the next mover of this process ends with ``CutOff`` when it has entered ``state``."""
    advance, wanted = MongoMoveJournal.advance, [""]

    def advance_and_end(self, record, to, *rest, **more):
        entered = advance(self, record, to, *rest, **more)
        if wanted[0] == str(to):
            wanted[0] = ""
            raise CutOff
        return entered

    monkeypatch.setattr(MongoMoveJournal, "advance", advance_and_end)

    def arrange(state: str) -> None:
        wanted[0] = state

    arrange.error = CutOff
    return arrange


@pytest.fixture
def writers(world: World) -> Iterator[list[Writer]]:
    """Four writers that use the world's key until they are told to stop or the test ends."""
    stop = threading.Event()
    started = [Writer(world, number, stop) for number in range(4)]
    for writer in started:
        writer.start()
    try:
        yield started
    finally:
        stop.set()
        for writer in started:
            writer.join()


def finish(writers: list[Writer]) -> None:
    """Stop the writers. Raise an error that one of them met."""
    for writer in writers:
        writer._stopping.set()
    for writer in writers:
        writer.join()
        if writer.failure is not None:
            raise writer.failure


@pytest.fixture
def settled(world: World) -> Callable[[list[Writer]], None]:
    """Stop the writers and check that every acknowledged write exists exactly once, at the key's owner."""

    def check(writers: list[Writer]) -> None:
        finish(writers)
        migrate.clean_moves(world.wiring)
        copies, owner = world.copies(), world.owner()
        expected = {identity: n for writer in writers for identity, n in writer.expected.items()}
        found = {identity: d["n"] for identity, d in copies[owner].items() if identity.startswith("w")}
        assert found == expected
        assert not found.keys() & set().union(*(writer.removed for writer in writers))
        assert {name: len(held) for name, held in copies.items() if name != owner} == dict.fromkeys(
            set(PARTITIONS) - {owner}, 0
        )

    return check
