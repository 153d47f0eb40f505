"""The routing table in the control database.

- ``routing_table {_id: key, primary, shadows, epoch, version}``: one row per listed key; ``version`` changed it last.
- ``routing_state {_id: "table", version, identity, default_rule: {partitions, weights}, published_at}``: the version document.
  Every publication raises it first, inside its transaction, so publications follow each other without gaps. The table exists
  once this document exists. ``loading`` is true until all rows are there (:mod:`._first_table`), and ``image`` names the packed
  form (:mod:`._routing_images`).
- ``routing_versions {_id: version, cause, published_at, changes: [{key, primary, shadows, expected_epoch, new_epoch,
  before: {primary, shadows, epoch}}], chunks, default_rule}``: one publication. Many changes are stored in ``routing_changes
  {_id: {version, chunk}, changes}`` instead. The first version lists no changes: followers read the table.
- ``sidecars {_id, version, reported_at}``: which sidecar answers from which version, by the database's clock.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from pymongo import ReplaceOne, ReturnDocument
from pymongo.client_session import ClientSession
from pymongo.database import Database
from pymongo.read_concern import ReadConcern

from foreshard.errors import InvalidChange, NoRoutingTable, StaleEpoch, TableStillLoading
from foreshard.model import DefaultRule, Placement, PlacementChange, RoutingTable
from foreshard.ports.routing import Publication, PublishedImage
from foreshard.stores.collector_pause import collector_paused
from foreshard.stores.control._first_table import HEAD, LOAD_ROWS, FirstTable, in_transaction
from foreshard.stores.control._routing_documents import (
    before_of,
    change_document,
    change_of,
    chunk_id,
    chunked,
    placement_of,
    row_document,
    rule_document,
    rule_of,
)
from foreshard.stores.control._routing_images import COLLECTION, pieces_of, published_image, table_of
from foreshard.stores.mongo_connections import Document
from foreshard.watch.state import TableStatus

Within = Callable[[ClientSession, int], None]


class MongoRoutingStore:
    """Implements :class:`foreshard.ports.routing.RoutingStore`."""

    def __init__(self, database: Database[Document]) -> None:
        self._database = database
        durable = ReadConcern("majority")
        self._rows = database.get_collection("routing_table")
        self._state = database.get_collection("routing_state", read_concern=durable)
        self._versions = database.get_collection("routing_versions", read_concern=durable)
        self._chunks = database.get_collection("routing_changes", read_concern=durable)
        self._sidecars = database.get_collection("sidecars", read_concern=durable)

    def initialise(self, table: RoutingTable) -> None:
        FirstTable(self._database).publish(table)

    def version(self) -> int:
        return self.head()[0]

    def head(self) -> tuple[int, str]:
        """Return the current version and the table's identity, which stays through its versions; (0, "") if nothing is
        published.
        """
        head = self._state.find_one({"_id": HEAD}, {"version": 1, "identity": 1})
        return (int(head["version"]), str(head["identity"])) if head else (0, "")

    def current(self) -> RoutingTable:
        with self._database.client.start_session(snapshot=True) as session:
            head = self._database["routing_state"].find_one({"_id": HEAD}, session=session)
            if head is None:
                raise NoRoutingTable(self._database.name)
            image = published_image(self._database, head) if head.get("loading") else None
            if image is not None:
                return table_of(image)
            with collector_paused():
                rows = self._rows.find({}, session=session, batch_size=LOAD_ROWS)
                placements = {row["_id"]: placement_of(row) for row in rows}
        return RoutingTable(int(head["version"]), placements, rule_of(head["default_rule"]), head["published_at"])

    def image(self) -> PublishedImage | None:
        head = self._state.find_one({"_id": HEAD})
        return published_image(self._database, head) if head else None

    def repack(self) -> int:
        version, identity = self.head()
        standing = self.image()
        if standing is not None and standing.version == version:
            return version
        table = self.current()
        self._database[COLLECTION].delete_many({"_id.identity": identity, "_id.version": table.version})
        pieces = list(pieces_of(table, identity))
        self._database[COLLECTION].insert_many(pieces)
        mine = {"_id": HEAD, "identity": identity, "image.version": {"$not": {"$gt": table.version}}}
        self._state.update_one(mine, {"$set": {"image": {"version": table.version, "pieces": len(pieces)}}})
        self._database[COLLECTION].delete_many({"_id.identity": identity, "_id.version": {"$lt": version}})
        return table.version

    def since(self, version: int) -> tuple[Publication, ...]:
        found = list(self._versions.find({"_id": {"$gt": version}}).sort("_id", 1))
        return tuple(self.publication(document) for document in found)

    def publication(self, document: Mapping[str, Any]) -> Publication:
        """Read one document of ``routing_versions`` (from a query or a change stream) and its chunks."""
        changes = list(document["changes"])
        if document["chunks"]:
            ids = [chunk_id(document["_id"], n) for n in range(document["chunks"])]
            stored = sorted(self._chunks.find({"_id": {"$in": ids}}), key=lambda d: int(d["_id"]["chunk"]))
            changes = [change for chunk in stored for change in chunk["changes"]]
        rule = document.get("default_rule")
        return Publication(
            int(document["_id"]),
            tuple(change_of(change) for change in changes),
            str(document["cause"]),
            document["published_at"],
            rule_of(rule) if rule else None,
            tuple(before_of(change) for change in changes),
        )

    def publish(self, changes: Sequence[PlacementChange], cause: str, *, within: Within | None = None) -> int:
        """Apply all changes in one transaction. Return the new version, or the current one without changes.

        ``within(session, version)`` runs in the same transaction, and again if the driver repeats it. Raise :class:`StaleEpoch`
        if a key is not at its expected epoch, and :class:`InvalidChange` if a row is inconsistent.
        """
        if not changes:
            return self.version()
        _check(changes)

        def transact(session: ClientSession) -> int:
            version, now = self._raise_version(session)
            before = self._change_rows(session, changes, version)
            self._record(session, version, changes, cause, now, before)
            if within is not None:
                within(session, version)
            return version

        return in_transaction(self._database, transact)

    def set_default_rule(self, rule: DefaultRule) -> int:

        def transact(session: ClientSession) -> int:
            version, now = self._raise_version(session, {"default_rule": rule_document(rule)})
            self._record(session, version, (), "default rule", now, {}, rule)
            return version

        return in_transaction(self._database, transact)

    def acknowledge(self, sidecar_id: str, version: int) -> None:
        change = {"$set": {"version": version}, "$currentDate": {"reported_at": True}}
        self._sidecars.update_one({"_id": sidecar_id}, change, upsert=True)

    def withdraw(self, sidecar_id: str) -> None:
        self._sidecars.delete_one({"_id": sidecar_id})

    def acknowledged(self, version: int, *, heard_since: datetime) -> tuple[int, int]:
        heard = [int(s["version"]) for s in self._sidecars.find({"reported_at": {"$gte": heard_since}}, {"version": 1})]
        return sum(answering >= version for answering in heard), len(heard)

    def status(self, heard_since: datetime) -> TableStatus:
        """Return the figures that the exporter shows; sidecars count if they were heard since ``heard_since``."""
        head = self._state.find_one({"_id": HEAD}) or {}
        version, heard = int(head.get("version", 0)), {"reported_at": {"$gte": heard_since}}
        return TableStatus(
            version,
            head.get("published_at"),
            self._rows.estimated_document_count(),
            self._sidecars.count_documents(heard),
            self._sidecars.count_documents({**heard, "version": {"$lt": version}}),
        )

    def keys_by_partition(self, timeout: timedelta | None = None) -> dict[str, int]:
        """Return partition id → number of listed keys. It reads the whole table; ``ExecutionTimeout`` after ``timeout``."""
        limit: dict[str, Any] = {} if timeout is None else {"maxTimeMS": int(timeout / timedelta(milliseconds=1))}
        return {row["_id"]: row["count"] for row in self._rows.aggregate([{"$sortByCount": "$primary"}], **limit)}

    def _raise_version(self, session: ClientSession, fields: Mapping[str, Any] | None = None) -> tuple[int, datetime]:
        now = datetime.now(UTC)
        head = self._database["routing_state"].find_one_and_update(
            {"_id": HEAD, "loading": {"$ne": True}},
            {"$inc": {"version": 1}, "$set": {"published_at": now, **(fields or {})}},
            return_document=ReturnDocument.AFTER,
            session=session,
        )
        if head is None:
            loading = self._database["routing_state"].find_one({"_id": HEAD}, {"_id": 1}, session=session)
            raise TableStillLoading(self._database.name) if loading else NoRoutingTable(self._database.name)
        return int(head["version"]), now

    def _change_rows(self, session: ClientSession, changes: Sequence[PlacementChange], version: int) -> dict[str, Placement]:
        before: dict[str, Placement] = {}
        for some in chunked(changes):
            found = self._rows.find({"_id": {"$in": [c.key for c in some]}}, session=session)
            before |= {row["_id"]: placement_of(row) for row in found}
            for change in some:
                _compare(change, before.get(change.key))
            rows = [row_document(Placement(c.key, c.primary, c.shadows, c.new_epoch), version) for c in some]
            self._rows.bulk_write([ReplaceOne({"_id": r["_id"]}, r, upsert=True) for r in rows], ordered=False, session=session)
        return before

    def _record(
        self,
        session: ClientSession,
        version: int,
        changes: Sequence[PlacementChange],
        cause: str,
        now: datetime,
        before: Mapping[str, Placement],
        rule: DefaultRule | None = None,
    ) -> None:
        chunks = list(chunked(changes))
        apart = len(chunks) > 1
        for number, some in enumerate(chunks if apart else ()):
            chunk = {"_id": chunk_id(version, number), "changes": [change_document(c, before.get(c.key)) for c in some]}
            self._database["routing_changes"].insert_one(chunk, session=session)
        document: Document = {
            "_id": version,
            "cause": cause,
            "published_at": now,
            "changes": [] if apart else [change_document(c, before.get(c.key)) for c in changes],
            "chunks": len(chunks) if apart else 0,
        }
        if rule is not None:
            document["default_rule"] = rule_document(rule)
        self._database["routing_versions"].insert_one(document, session=session)


def _check(changes: Sequence[PlacementChange]) -> None:
    """Refuse rows that are inconsistent in themselves."""
    key, times = Counter(change.key for change in changes).most_common(1)[0]
    if times > 1:
        raise InvalidChange(key, "named twice in one publication")
    for change in changes:
        if change.primary in change.shadows or len(set(change.shadows)) < len(change.shadows):
            raise InvalidChange(change.key, "two of its copies are on one partition")
        if change.new_epoch < max(change.expected_epoch, 1):
            raise InvalidChange(change.key, f"epoch can't go from {change.expected_epoch} to {change.new_epoch}")


def _compare(change: PlacementChange, standing: Placement | None) -> None:
    """Raise unless the key is at the expected epoch."""
    actual = standing.epoch if standing else 0
    if actual != change.expected_epoch:
        raise StaleEpoch(change.key, change.expected_epoch, actual)
    if standing and standing.primary != change.primary and change.new_epoch == change.expected_epoch:
        raise InvalidChange(change.key, f"its primary changes, but not its epoch {actual}")
