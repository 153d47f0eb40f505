"""What a sidecar follows in the control database, as a stream of small facts, and the freshness of the shadows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from pymongo.change_stream import ChangeStream
from pymongo.database import Database

from foreshard.model import PartitionLoad
from foreshard.model.shadow_state import CAUGHT_UP
from foreshard.stores.control.partition_loads import load_of
from foreshard.stores.mongo_connections import Document

WAIT_MS = 500
"""How long the server holds an empty answer back; changes come at once."""
FOLLOWED = ("routing_versions", "partitions", "locations", "partition_load", "shadows")
PIPELINE: list[Document] = [
    {
        "$match": {
            "ns.coll": {"$in": FOLLOWED},
            "updateDescription.updatedFields.current_load": {"$exists": False},
            "updateDescription.updatedFields.predicted_load": {"$exists": False},
        }
    },
    {
        "$project": {
            "operationType": 1,
            "ns": 1,
            "documentKey": 1,
            **{
                f"fullDocument.{name}": 1
                for name in ("_id", "load", "reachable", "reported_at", "latency_ms", "key", "target", "state", "caught_up_at")
            },
        }
    },
]


@dataclass(frozen=True, slots=True)
class TableChanged:
    """A version was published, or the table was replaced."""


@dataclass(frozen=True, slots=True)
class RegistryChanged:
    """A partition or a location was registered or changed."""


@dataclass(frozen=True, slots=True)
class LoadReported:
    """A partition's load."""

    load: PartitionLoad


@dataclass(frozen=True, slots=True)
class ShadowFreshness:
    """A shadow's copy of ``key`` on ``partition`` holds all writes until ``caught_up_at`` (None: it is not usable)."""

    key: str
    partition: str
    caught_up_at: float | None


@dataclass(frozen=True, slots=True)
class Unclear:
    """Something was removed or replaced: read everything again."""


Fact = TableChanged | RegistryChanged | LoadReported | ShadowFreshness | Unclear


class ControlFeed:
    """Follows one control database."""

    def __init__(self, database: Database[Document]) -> None:
        self._database = database

    @contextmanager
    def follow(self) -> Iterator[Iterator[Fact | None]]:
        """Give an endless iterator of facts that happen from now on; None where nothing happened for half a second.

        Read the state *after* entering, so that nothing falls between. Raises PyMongoError where the database is gone.
        """
        with self._database.watch(PIPELINE, full_document="updateLookup", max_await_time_ms=WAIT_MS) as stream:
            yield _facts(stream)

    def freshness(self) -> dict[tuple[str, str], float]:
        """(key, partition) → the moment until which that shadow holds all writes (seconds since 1970)."""
        wanted = {"state": {"$in": CAUGHT_UP}, "caught_up_at": {"$ne": None}}
        found = self._database["shadows"].find(wanted, {"key": 1, "target": 1, "caught_up_at": 1})
        return {(s["key"], s["target"]): s["caught_up_at"].timestamp() for s in found}


def _facts(stream: ChangeStream[Document]) -> Iterator[Fact | None]:
    while stream.alive:
        event = stream.try_next()
        yield _fact(event) if event is not None else None
    yield Unclear()


def _fact(event: Mapping[str, Any]) -> Fact:
    collection, document = event["ns"].get("coll"), event.get("fullDocument")
    if event["operationType"] not in ("insert", "update", "replace") or (document is None and collection != "routing_versions"):
        return Unclear()
    if collection == "routing_versions":
        return TableChanged()
    if collection in ("partitions", "locations"):
        return RegistryChanged()
    if document is not None and collection == "partition_load":
        return LoadReported(load_of(document))
    if document is not None and collection == "shadows":
        caught_up = document.get("caught_up_at") if document.get("state") in CAUGHT_UP else None
        return ShadowFreshness(document["key"], document["target"], caught_up.timestamp() if caught_up else None)
    return Unclear()
