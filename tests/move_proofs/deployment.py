"""A small deployment for proofs: two partitions, one collection, keys, clients that record what they do, and the checks."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic import SecretStr
from pymongo import MongoClient
from pymongo.errors import WriteError
from tests.move_proofs.crowd import REFUSED, Client, Crowd, RoutedDocuments
from tests.move_proofs.history import Call, Kind, Outcome, Recorder, Value, by_document, check
from tests.move_proofs.nursery import Ended, Nursery

from foreshard.model import Location, Move, Partition, Placement, Reason, RoutingTable
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
    kept = {"batch_documents": 20, "source_kept": timedelta(seconds=0.05), **limits}
    return Settings(
        control_uri=SecretStr(control_uri),
        control_database=name,
        collections=(CollectionSetting(database=name, collection="trips", key_field=KEY_FIELD),),
        migrate=MigrateSettings(**kept),
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
        self.clients = {name: MongoClient(uri, tz_aware=True, w="majority", **self.options) for name, uri in self.uris.items()}

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

    def placed(self, key: str) -> tuple[str, int]:
        """The partition that owns a key, and its epoch."""
        placement = self.wiring.routing.placement(key)
        return placement.primary, placement.epoch

    def units(self) -> tuple[str, ...]:
        """What is moved."""
        return tuple(slot_unit(KeySpace().slot_of(key)) for key in self.keys) if self.by_slot else self.keys

    def routed(self, number: int) -> RoutedDocuments:
        """A client of the collection."""
        collections = {name: self.trips(name) for name in self.uris}
        return RoutedDocuments(self.recorder, self.placed, collections, KEY_FIELD, number)

    def crowd(self, size: int) -> Crowd:
        """Start clients."""
        return Crowd([Client(self.routed(number), self.keys, number) for number in range(size)])

    def plan(self) -> str:
        """Journal a move of the keys from their owner to the other partition, and return its id."""
        source = self.owner(self.keys[0])
        target = next(name for name in self.uris if name != source)
        move = Move(f"move-{next(self.numbers)}", self.units(), source, target, 1, "clump", Reason("test", "for a test", {}))
        assert self.wiring.move_journal.plan(move, None).error is None
        return move.move_id

    def state(self, move_id: str) -> str:
        """A move's state."""
        return str(self.wiring.move_journal.get(move_id).state)

    def child(self, operation: str, move_id: str, halt: Any = None) -> Ended:
        """Run an operation in a process of its own."""
        return self.nursery.run(self.environment, operation, move_id, halt=halt)

    def move(self) -> None:
        """Move the keys to the other partition, and remove the copy that stays behind."""
        move_id = self.plan()
        for operation in ("run", "clean"):
            ended = self.child(operation, move_id)
            assert ended.code == 0, ended
        assert self.state(move_id) == "done"

    # ── checks ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def copies(self) -> dict[str, dict[str, str]]:
        """Partition → id → value of the keys' documents."""
        wanted = {KEY_FIELD: {"$in": list(self.keys)}}
        return {name: {str(d["_id"]): d["value"] for d in self.trips(name).find(wanted)} for name in self.uris}

    def check_settled(self) -> None:
        """Check that no move is open and the owner, and only it, takes writes and has documents."""
        owner = self.owner(self.keys[0])
        assert self.wiring.move_journal.find(OPEN) == ()
        assert {name: tuple(self.accepts(name)) for name in self.uris} == {
            name: self.keys if name == owner else () for name in self.uris
        }
        self.check()

    def check(self, *, elsewhere: bool = False) -> None:
        """Check that the documents are at their owner only and every document's history is linearizable. All clients rest.

        ``elsewhere``: a source's copy may still be there.
        """
        copies, owner = self.copies(), self.owner(self.keys[0])
        others = {name: sorted(held) for name, held in copies.items() if name != owner and held}
        assert elsewhere or not others, f"{owner} owns the keys, but documents are on {others}"
        calls = by_document(self.recorder.taken())
        last = max((c.returned or c.invoked for made in calls.values() for c in made), default=0)
        for identity in {*calls, *self.known}:
            now = copies[owner].get(identity)
            made = [*calls.get(identity, ()), _read(identity, now, last)]
            verdict = check(made, self.known.get(identity))
            assert verdict.linearizable, f"{identity} (first {self.known.get(identity)!r}): {verdict.explain()}"
            self.known[identity] = now
            self.checked += sum(call.outcome is Outcome.OK for call in made)

    def snapshot(self) -> dict[str, Any]:
        """All that a late process may not change: documents, fences, validators, the table, the journal."""
        name = self.settings.control_database
        control = self.wiring.mongo.control_database
        found: dict[str, Any] = {
            kind: list(control[kind].find().sort("_id", 1)) for kind in ("moves", "routing_table", "routing_versions")
        }
        for partition, client in self.clients.items():
            found[partition] = self.copies()[partition]
            found[f"fences of {partition}"] = list(client["foreshard"]["fences"].find({"_id": f"{name}.trips"}))
            collections = client[name].list_collections(filter={"name": "trips"})
            found[f"options of {partition}"] = [each.get("options") for each in collections]
        return found

    def accepts(self, partition: str) -> Sequence[str]:
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
