"""A small deployment for proofs: two partitions, one collection, keys, clients that record what they do, and the checks."""

from __future__ import annotations

import os
import signal
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from pydantic import SecretStr
from pymongo import MongoClient
from pymongo.errors import PyMongoError, WriteError
from pymongo.read_concern import ReadConcern
from tests.move_proofs.crowd import REFUSED, Client, Crowd, RoutedDocuments
from tests.move_proofs.history import Call, Kind, Outcome, Recorder, Value, by_document, check
from tests.move_proofs.nursery import Ended, Nursery

from foreshard.client._doubts import fence_lists
from foreshard.client._driving import SYNC, run
from foreshard.client._fences import pauses
from foreshard.client._partition_clients import PartitionClients
from foreshard.client.writing.fenced_deletes import FencedDeletes
from foreshard.client.writing.held_fences import HeldFences
from foreshard.errors import Unreachable
from foreshard.model import Location, Move, Partition, Placement, Reason, RoutingTable, ShardedCollection
from foreshard.model.key_space import KeySpace, slot_unit
from foreshard.model.move_state import OPEN
from foreshard.routing.slots import first_slots
from foreshard.settings import CollectionSetting, MigrateSettings, Settings
from foreshard.wiring import Wiring

KEY_FIELD = "at.station"
READER = 99
"""The client that reads every document once all others rest."""


def settings_of(control_uri: str, name: str, **limits: Any) -> Settings:
    """Settings for one deployment. ``name`` is the control database's and the app database's."""
    kept = {"batch_documents": 20, "source_kept": timedelta(seconds=0.05), "lease_duration": timedelta(seconds=1)}
    return Settings(
        control_uri=SecretStr(control_uri),
        control_database=name,
        collections=(CollectionSetting(database=name, collection="trips", key_field=KEY_FIELD),),
        migrate=MigrateSettings(**kept, **limits),
    )


def environment_of(settings: Settings) -> dict[str, str]:
    """The same settings for another process."""
    return {
        "PATH": os.environ["PATH"],
        "FORESHARD_CONTROL_URI": settings.control_uri.get_secret_value(),
        "FORESHARD_CONTROL_DATABASE": settings.control_database,
        "FORESHARD_COLLECTIONS": f"[{','.join(c.model_dump_json() for c in settings.collections)}]",
        "FORESHARD_MIGRATE": settings.migrate.model_dump_json(),
    }


@dataclass
class Proof:
    """One deployment and what was recorded in it. ``keys`` start on the first partition."""

    settings: Settings
    uris: Mapping[str, str]
    nursery: Nursery
    keys: tuple[str, ...]
    by_slot: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)
    checked: int = 0
    recorder: Recorder = field(default_factory=Recorder)
    known: dict[str, Value] = field(default_factory=dict)
    numbers: Iterator[int] = field(default_factory=lambda: iter(range(10**9)))

    def __post_init__(self) -> None:
        self.wiring = Wiring(self.settings)
        self.environment = environment_of(self.settings)
        self.deletes = self._fenced_deletes()
        self.clients = {name: MongoClient(uri, tz_aware=True, w="majority", **self.options) for name, uri in self.uris.items()}

    def _fenced_deletes(self) -> FencedDeletes:
        connections = PartitionClients(lambda uri: next(self.clients[name] for name in self.uris if self.uris[name] == uri))
        sharded = ShardedCollection(self.settings.control_database, "trips", KEY_FIELD)
        fences = HeldFences(connections, sharded, partial(fence_lists, connections, sharded=sharded))
        return FencedDeletes(connections, sharded, fences, SYNC.sleep, pauses)

    def publish(self) -> None:
        """Register the partitions and publish the first table."""
        places = [Location("here", 37.8, -122.4)]
        self.wiring.registry.register([Partition(n, "here", 100.0, uri) for n, uri in self.uris.items()], places)
        first = next(iter(self.uris))
        listed = {} if self.by_slot else {key: Placement(key, first) for key in self.keys}
        self.wiring.routing.initialise(RoutingTable(1, listed, first_slots(KeySpace(), {first: 1.0}), datetime.now(UTC)))

    def fill(self, documents: int) -> None:
        """Insert documents that no client touches: of each key, and as many of another key."""
        for key in self.keys:
            made = [{"_id": f"{key}:{n}", "at": {"station": key}, "value": f"first {n}"} for n in range(documents)]
            self.trips(self.owner(key)).insert_many(made)
            self.known.update({str(d["_id"]): str(d["value"]) for d in made})

    def trips(self, partition: str) -> Any:
        """The collection on a partition."""
        return self.clients[partition][self.settings.control_database]["trips"]

    def owner(self, key: str) -> str:
        """The partition that owns a key."""
        return self.placed(key)[0]

    def owner_if_known(self, key: str) -> str | None:
        """The partition that owns a key. None while the control database is away."""
        try:
            return self.owner(key)
        except (PyMongoError, Unreachable):
            return None

    def placed(self, key: str) -> tuple[str, int]:
        """The partition that owns a key, and its epoch."""
        placement = self.wiring.routing.placement(key)
        return placement.primary, placement.epoch

    def units(self, keys: tuple[str, ...]) -> tuple[str, ...]:
        """What is moved."""
        return tuple(slot_unit(KeySpace().slot_of(key)) for key in keys) if self.by_slot else keys

    def routed(self, number: int) -> RoutedDocuments:
        """A client of the collection."""
        linearizable = ReadConcern("linearizable")
        collections = {name: self.trips(name).with_options(read_concern=linearizable) for name in self.uris}
        return RoutedDocuments(self.recorder, self.placed, collections, self.delete, KEY_FIELD, number)

    def delete(self, collection: Any, key: str, wanted: Mapping[str, str]) -> int:
        """Delete a document as the product's client does: a fence stops it. Return how many documents were deleted."""
        uri = next(self.uris[name] for name, client in self.clients.items() if client is collection.database.client)
        done = run(self.deletes.run(uri, (key,), lambda there, session: there.delete_one(wanted, session=session)))
        return int(done.deleted_count)

    def crowd(self, size: int) -> Crowd:
        """Start clients."""
        return Crowd([Client(self.routed(number), self.keys, number) for number in range(size)])

    def plan(self, keys: tuple[str, ...] = ()) -> str:
        """Journal a move of the keys (all) from their owner to the other partition, and return its id."""
        units = self.units(keys or self.keys)
        source = self.owner((keys or self.keys)[0])
        target = next(name for name in self.uris if name != source)
        move = Move(f"move-{next(self.numbers)}", units, source, target, 1, "clump", Reason("test", "for a test", {}))
        self.wiring.move_journal.plan(move, None)
        return move.move_id

    def state(self, move_id: str) -> str:
        """A move's state."""
        return str(self.wiring.move_journal.get(move_id).state)

    def child(self, operation: str, move_id: str, halt: Any = None) -> Ended:
        """Run an operation in a process of its own."""
        return self.nursery.wait(self.start(operation, move_id, halt))

    def start(self, operation: str, move_id: str, halt: Any = None) -> int:
        """Start an operation in a process of its own, and return the process's id."""
        return self.nursery.start(self.environment, operation, move_id, halt=halt)

    def move(self) -> None:
        """Move the keys to the other partition, and remove the copy that stays behind."""
        move_id = self.plan()
        for operation in ("run", "clean"):
            ended = self.child(operation, move_id)
            assert ended.code == 0, ended
        assert self.state(move_id) == "done"

    def wake(self, pid: int) -> Ended:
        """Let a stopped child go on, and wait until it has ended."""
        os.kill(pid, signal.SIGCONT)
        return self.nursery.wait(pid)

    # ── checks ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def found(self) -> dict[str, list[tuple[str, str, Any]]]:
        """Id → (partition, key, value) of every document of the keys."""
        held: dict[str, list[tuple[str, str, Any]]] = defaultdict(list)
        for name in self.uris:
            for document in self.trips(name).find({KEY_FIELD: {"$in": list(self.keys)}}):
                held[str(document["_id"])].append((name, document["at"]["station"], document["value"]))
        return dict(held)

    def copies(self, partition: str) -> dict[str, Any]:
        """Id → value of the keys' documents on a partition."""
        return {str(d["_id"]): d["value"] for d in self.trips(partition).find({KEY_FIELD: {"$in": list(self.keys)}})}

    def check_settled(self) -> None:
        """Check that no move is open, and that the keys' owners, and only they, take writes and have documents."""
        opened = [(record.move_id, str(record.state), record.error) for record in self.wiring.move_journal.find(OPEN)]
        assert not opened, f"open moves: {opened}"
        owners = {key: self.owner(key) for key in self.keys}
        wanted = {name: [key for key in self.keys if owners[key] == name] for name in self.uris}
        accepted = {name: self.accepts(name) for name in self.uris}
        assert accepted == wanted, f"the partitions accept {accepted}, the owners are {owners}"
        found = self.found()
        wrong = {i: held for i, held in found.items() if [partition for partition, _, _ in held] != [owners[held[0][1]]]}
        assert not wrong, f"the owners are {owners}, but there are {wrong}"
        self.check_histories({identity: held[0][2] for identity, held in found.items()})

    def check_histories(self, now: Mapping[str, Any]) -> None:
        """Check that every document's history is linearizable and leads to its value ``now``. All clients rest."""
        calls = by_document(self.recorder.taken())
        last = max((c.returned or c.invoked for made in calls.values() for c in made), default=0)
        for identity in {*calls, *self.known}:
            made = [*calls.get(identity, ()), _read(identity, now.get(identity), last)]
            verdict = check(made, self.known.get(identity))
            assert verdict.linearizable, f"{identity} (first {self.known.get(identity)!r}): {verdict.explain()}"
            self.known[identity] = now.get(identity)
            self.checked += sum(call.outcome is Outcome.OK for call in made)

    def snapshot(self) -> dict[str, Any]:
        """All that a late process may not change: documents, fences, the table, the journal.

        It may write a fence's lists to the validator again, under a higher revision.
        """
        name = self.settings.control_database
        control = self.wiring.mongo.control_database
        found: dict[str, Any] = {
            kind: list(control[kind].find().sort("_id", 1)) for kind in ("moves", "routing_table", "routing_versions")
        }
        for partition, client in self.clients.items():
            found[partition] = self.copies(partition)
            fences = {"_id": f"{name}.trips"}, {"revision": 0, "holder": 0, "until": 0}
            found[f"fences of {partition}"] = list(client["foreshard"]["fences"].find(*fences))
            found[f"accepted by {partition}"] = self.accepts(partition)
        return found

    def account(self) -> str:
        """What the table, the journal and the fences say, and which reads are open, for people."""
        lines = [f"{self.placed(key)} owns {key!r}" for key in self.keys]
        for record in list(self.wiring.mongo.control_database["moves"].find().sort("planned_at", 1))[-8:]:
            events = [f"{entry['event']} {entry['at']:%H:%M:%S.%f} {entry['lease']}" for entry in record["history"]]
            place = f"{record['_id']} {record['units']} {record['source']} → {record['target']}"
            lines.append(f"{place}: {events} until {record['lease_until']}, waiting: {record['notes'].get('waiting')}")
        for name, client in self.clients.items():
            for fence in self.wiring.fences(name):
                told = {"should refuse": fence.listed(), "refuses": fence.in_force().lists}
                for what, lists in told.items():
                    lines.append(f"{name} {what} {len(lists.slots)} slots, {lists.elsewhere} and not {lists.here}")
            opened = client.admin.aggregate([{"$currentOp": {"idleCursors": True}}, {"$match": {"ns": {"$regex": "trips"}}}])
            lines += [f"{name} has {found}" for found in opened]
        return "\n".join(lines)

    def accepts(self, partition: str) -> list[str]:
        """Return the keys whose writes a partition accepts."""
        accepted = []
        for key in self.keys:
            try:
                self.trips(partition).insert_one({"_id": f"probe {key}", "at": {"station": key}, "value": "probe"})
            except WriteError as error:
                if error.code != REFUSED:
                    raise
            else:
                self.trips(partition).delete_one({"_id": f"probe {key}"})
                accepted.append(key)
        return accepted

    def close(self) -> None:
        """Close all connections."""
        self.wiring.close()
        for client in self.clients.values():
            client.close()


def _read(identity: str, value: Value, after: int) -> Call:
    return Call(identity, READER, Kind.READ, None, value, after + 1, after + 2)
