"""Two partitions and a control database for benchmarks of moves, and a process of apps that write while keys move."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count, islice
from pathlib import Path
from random import Random
from typing import Any

from pydantic import SecretStr
from pymongo import MongoClient
from pymongo.errors import PyMongoError, WriteError

sys.path.insert(0, str(Path(__file__).parents[2]))

from foreshard.model import Location, Partition, RoutingTable
from foreshard.model.key_space import KeySpace
from foreshard.model.move_state import MoveState
from foreshard.model.unit_set import unit_set
from foreshard.move._unit_sync import UnitSync
from foreshard.move.pacer import unpaced
from foreshard.ports.move_journal import MoveRecord
from foreshard.routing.slots import first_slots
from foreshard.settings import CollectionSetting, Settings
from foreshard.stack._process import free_port
from foreshard.stack.mongod import Mongod
from foreshard.stages import manual_moves
from foreshard.stages.moving import context
from foreshard.stores.partition.unit_copy import MongoUnitCopy
from foreshard.wiring import Wiring

KEY_FIELD, COLLECTION = "key", "things"
REFUSED = 121
WRITERS = 4
PAD = os.urandom(460).hex()
"""A document has 1 KB with it."""


class MoveWorld:
    """Partitions alpha and beta. Every key begins on alpha. Settings are the shipped ones."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.mongods = {name: Mongod(name, free_port(), folder / name) for name in ("control", "alpha", "beta")}
        for mongod in self.mongods.values():
            stack.callback(mongod.stop)
            mongod.start()
        self.database, self._names = "bench", (f"key {number}" for number in count())
        self.settings = settings_of({name: mongod.uri for name, mongod in self.mongods.items()}, self.database)
        self.wiring = stack.enter_context(Wiring(self.settings))
        partitions = [Partition(name, "here", 100.0, self.mongods[name].uri) for name in ("alpha", "beta")]
        self.wiring.registry.register(partitions, [Location("here", 37.8, -122.4)])
        self.wiring.routing.initialise(RoutingTable(1, {}, first_slots(KeySpace(), {"alpha": 1.0}), datetime.now(UTC)))
        self.clients: dict[str, Any] = {name: MongoClient(self.mongods[name].uri) for name in ("alpha", "beta")}

    @contextmanager
    def unpaced(self) -> Iterator[None]:
        """Let moves run without limits and without regard to others."""
        paced, context.Pacer = context.Pacer, lambda *_: unpaced()  # type: ignore[assignment, misc]
        try:
            yield
        finally:
            context.Pacer = paced  # type: ignore[misc]

    def things(self, partition: str, collection: str = COLLECTION) -> Any:
        return self.clients[partition][self.database][collection]

    def new_keys(self, number: int, documents: int) -> list[str]:
        """Insert ``documents`` documents of 1 KB for each of some new keys on alpha."""
        keys = list(islice(self._names, number))
        self.things("alpha").create_index(KEY_FIELD)
        made = (document_of(key, n) for n in range(documents) for key in keys)
        while some := list(islice(made, 5_000)):
            self.things("alpha").insert_many(some, ordered=False)
        return keys

    def move(self, keys: Sequence[str]) -> MoveRecord:
        """Move keys to beta in one move, up to its switch."""
        summary = manual_moves.move_units(self.wiring, keys, "beta")
        assert summary.state == "switched", summary
        return self.wiring.move_journal.get(summary.move_id)

    def kill_a_mover(self, key: str) -> MoveRecord:
        """Move a key by a process that is killed as soon as the source is fenced. Return what the journal says then."""
        uris = {name: mongod.uri for name, mongod in self.mongods.items()}
        mover = multiprocessing.get_context("spawn").Process(target=_move_and_die, args=(uris, self.database, key))
        mover.start()
        mover.join()
        [record] = self.wiring.move_journal.find((MoveState.FENCED,))
        return record

    def takes_writes(self, partition: str, key: str) -> bool:
        """Return whether a partition accepts a write of the key."""
        try:
            self.things(partition).update_one({"_id": f"{key}:{0:08d}"}, {"$inc": {"n": 1}})
        except WriteError:
            return False
        return True

    def copy_plainly(self, key: str) -> float:
        """Copy a key by the loop that a move is compared with. Return the seconds."""
        plain = self.things("beta", "plain")
        plain.drop()
        plain.create_index(KEY_FIELD)
        begun = time.perf_counter()
        found = self.things("alpha").find({KEY_FIELD: key}, batch_size=1_000)
        while some := list(islice(found, 1_000)):
            plain.insert_many(some, ordered=False)
        return time.perf_counter() - begun

    def compare(self, keys: Sequence[str]) -> float:
        """Compare all documents of moved keys on both sides. Return the seconds."""
        units = unit_set(keys, self.wiring.routing.space())
        source, target = (self.wiring.unit_copy(name, "a comparison", units) for name in ("alpha", "beta"))
        try:
            begun = time.perf_counter()
            found = UnitSync(source, target, self.settings.migrate.batch_documents).compare_all(lambda: None)
            assert not any(found.values()), found
            return time.perf_counter() - begun
        finally:
            source.close()
            target.close()


def settings_of(uris: dict[str, str], database: str) -> Settings:
    """The shipped settings."""
    collection = CollectionSetting(database=database, collection=COLLECTION, key_field=KEY_FIELD)
    return Settings(control_uri=SecretStr(uris["control"]), control_database=database, collections=(collection,))


def _move_and_die(uris: dict[str, str], database: str, key: str) -> None:
    fence = MongoUnitCopy.fence

    def fence_and_die(copy: MongoUnitCopy) -> Any:
        marks = fence(copy)
        if copy.partition_id == "alpha":
            os.kill(os.getpid(), signal.SIGKILL)
        return marks

    MongoUnitCopy.fence = fence_and_die  # type: ignore[method-assign]
    with Wiring(settings_of(uris, database)) as wiring:
        manual_moves.move_units(wiring, [key], "beta")


def document_of(key: str, number: int) -> dict[str, Any]:
    """A document of 1 KB."""
    return {"_id": f"{key}:{number:08d}", KEY_FIELD: key, "n": number, "pad": PAD}


def seconds_in(record: MoveRecord, *states: MoveState) -> float:
    """How long a move was in some states."""
    ends = [*record.history[1:], None]
    spans = [(entry, after) for entry, after in zip(record.history, ends, strict=True) if entry.state in states and after]
    return sum((after.at - entry.at).total_seconds() for entry, after in spans if after)


@dataclass
class Seen:
    """What writers have seen: the delay of each write in seconds, from when it was due, and errors."""

    delays: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


class Apps:
    """A process of ``WRITERS`` threads that update documents of some keys, ``rate`` times a second, and follow moves."""

    def __init__(self, world: MoveWorld) -> None:
        self._pipe, other = multiprocessing.Pipe()
        uris = {name: mongod.uri for name, mongod in world.mongods.items()}
        spawning = multiprocessing.get_context("spawn")
        self._process = spawning.Process(target=_run_apps, args=(other, uris, world.database), daemon=True)
        self._process.start()
        self._pipe.recv()

    @contextmanager
    def writing(self, keys: Sequence[str], documents: int, rate: float) -> Iterator[Seen]:
        """Write on the first ``documents`` documents of each key. What is seen is complete at the end of the context."""
        seen = Seen()
        self._pipe.send((list(keys), documents, rate))
        try:
            yield seen
        finally:
            self._pipe.send(None)
            seen.delays, seen.errors = self._pipe.recv()

    def close(self) -> None:
        """End the process."""
        self._process.terminate()
        self._process.join()


def _run_apps(pipe: Any, uris: dict[str, str], database: str) -> None:
    apps = _Writers(uris, settings_of(uris, database))
    pipe.send("ready")
    while True:
        keys, documents, rate = pipe.recv()
        stop = threading.Event()
        threads = [threading.Thread(target=apps.write, args=(keys, documents, rate, n, stop)) for n in range(WRITERS)]
        apps.seen = Seen()
        for thread in threads:
            thread.start()
        pipe.recv()
        stop.set()
        for thread in threads:
            thread.join()
        pipe.send((apps.seen.delays, apps.seen.errors))


class _Writers:
    """Writers that know the owner of each key from their last look at the routing table. A refusal makes them look again."""

    def __init__(self, uris: dict[str, str], settings: Settings) -> None:
        self._wiring = Wiring(settings)
        self._things = {name: MongoClient(uris[name])[settings.control_database][COLLECTION] for name in ("alpha", "beta")}
        self._owners: dict[str, str] = {}
        self.seen = Seen()

    def write(self, keys: Sequence[str], documents: int, rate: float, number: int, stop: threading.Event) -> None:
        random, step = Random(number), WRITERS / rate
        due = time.perf_counter() + step * number / WRITERS
        while not stop.is_set():
            time.sleep(max(0.0, due - time.perf_counter()))
            self._write(random.choice(keys), random.randrange(documents))
            self.seen.delays.append(time.perf_counter() - due)
            due += step

    def _write(self, key: str, number: int) -> None:
        wanted, change = {"_id": f"{key}:{number:08d}", KEY_FIELD: key}, {"$inc": {"n": 1}}
        while True:
            try:
                if self._things[self._owners.get(key, "alpha")].update_one(wanted, change).matched_count:
                    return
            except WriteError as error:
                if error.code != REFUSED:
                    self.seen.errors.append(str(error))
                    return
            except PyMongoError as error:
                self.seen.errors.append(str(error))
                return
            before = self._owners.get(key, "alpha")
            self._owners[key] = self._wiring.routing.placement(key).primary
            if self._owners[key] == before:
                time.sleep(0.001)
