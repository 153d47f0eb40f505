"""Turns the control database's change stream into the facts that a sidecar follows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from pymongo.change_stream import ChangeStream
from pymongo.database import Database
from pymongo.errors import PyMongoError

from foreshard.errors import Unreachable
from foreshard.model.cluster_time import ClusterTime
from foreshard.model.shadow_state import CAUGHT_UP
from foreshard.ports.control_feed import (
    ControlFact,
    ControlFeed,
    LoadReported,
    RegistryChanged,
    ShadowFreshness,
    TableChanged,
    Unclear,
)
from foreshard.stores.control.partition_loads import load_of
from foreshard.stores.mongo_connections import Document

WAIT_MS = 500
"""How long the server waits before it returns an empty answer. Changes are returned at once."""
FOLLOWED = ("routing_versions", "partitions", "locations", "partition_load", "shadows")
FIELDS = (
    "_id", "load", "reachable", "reported_at", "latency_ms", "key", "target", "state", "caught_up_at", "applied_to",
)  # fmt: skip
"""The fields of load reports and shadows that are followed."""
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
            **{f"fullDocument.{name}": 1 for name in FIELDS},
        }
    },
]


class MongoControlFeed(ControlFeed):
    """Follows one control database by a change stream."""

    def __init__(self, database: Database[Document]) -> None:
        self._database = database

    @contextmanager
    def follow(self) -> Iterator[Iterator[ControlFact | None]]:
        with (
            self.reaching(),
            self._database.watch(PIPELINE, full_document="updateLookup", max_await_time_ms=WAIT_MS) as stream,
        ):
            yield _facts(stream)

    @contextmanager
    def reaching(self) -> Iterator[None]:
        try:
            yield
        except PyMongoError as error:
            servers = self._database.client.topology_description.server_descriptions()
            address = ", ".join(f"{host}:{port}" for host, port in sorted(servers)) or "its address"
            reason = f"{type(error).__name__}: {str(error).split(', Timeout:')[0]}"
            raise Unreachable("control database", address, f"start it or correct FORESHARD_CONTROL_URI ({reason})") from error

    def freshness(self) -> tuple[ShadowFreshness, ...]:
        wanted = {"state": {"$in": CAUGHT_UP}, "caught_up_at": {"$ne": None}}
        fields = {"key": 1, "target": 1, "state": 1, "caught_up_at": 1, "applied_to": 1}
        return tuple(_freshness(found) for found in self._database["shadows"].find(wanted, fields))


def _facts(stream: ChangeStream[Document]) -> Iterator[ControlFact | None]:
    while stream.alive:
        event = stream.try_next()
        yield _fact(event) if event is not None else None
    yield Unclear()


def _fact(event: Mapping[str, Any]) -> ControlFact:
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
        return _freshness(document)
    return Unclear()


def _freshness(document: Mapping[str, Any]) -> ShadowFreshness:
    caught_up = document.get("caught_up_at") if document.get("state") in CAUGHT_UP else None
    if caught_up is None:
        return ShadowFreshness(document["key"], document["target"], None)
    applied = document.get("applied_to")
    to = None if applied is None else ClusterTime(applied["source"], applied["at"].time, applied["at"].inc)
    return ShadowFreshness(document["key"], document["target"], caught_up.timestamp(), to)
