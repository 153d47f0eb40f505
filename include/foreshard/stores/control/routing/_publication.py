"""One publication: the transaction that changes rows of the routing table and records them as a version."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from pymongo import DeleteOne, ReplaceOne, ReturnDocument
from pymongo.client_session import ClientSession
from pymongo.database import Database

from foreshard.errors import (
    InvalidChange,
    NoRoutingTable,
    SlotIsMoving,
    StaleEpoch,
    TableNeedsUpgrade,
    TableStillLoading,
    TooManyListedKeys,
)
from foreshard.model import Placement, PlacementChange
from foreshard.model.key_space import KeySpace, slot_number, slot_unit
from foreshard.stores.control.routing._counts import TableCounts
from foreshard.stores.control.routing._documents import change_document, chunk_id, chunked, placement_of, row_document, space_of
from foreshard.stores.control.routing._first_table import HEAD
from foreshard.stores.mongo_connections import Document

Within = Callable[[ClientSession, int], None]


class PublicationTransaction:
    """The steps of one publication inside ``session``. ``move_id``: the move that publishes, "" for any other publisher."""

    def __init__(self, database: Database[Document], session: ClientSession, maximum_listed: int, move_id: str) -> None:
        self._database, self._session, self._maximum, self._move_id = database, session, maximum_listed, move_id

    def run(self, changes: Sequence[PlacementChange], cause: str, within: Within | None) -> int:
        """Change the rows and record the version. Return it."""
        head, now = self._raise_version()
        version, space = int(head["version"]), space_of(head)
        self._refuse_keys_of_moving_slots(changes, space)
        changes = self._with_raised_slots(changes, space)
        before = self._change_rows(changes, version, space)
        self._count(head, changes, before)
        self._record(version, changes, cause, now, before)
        if within is not None:
            within(self._session, version)
        return version

    def _raise_version(self) -> tuple[Document, datetime]:
        now, state = datetime.now(UTC), self._database["routing_state"]
        ready = {"_id": HEAD, "loading": {"$ne": True}, "slots": {"$exists": True}}
        change = {"$inc": {"version": 1}, "$set": {"published_at": now}}
        head = state.find_one_and_update(ready, change, return_document=ReturnDocument.AFTER, session=self._session)
        if head is not None:
            return head, now
        found = state.find_one({"_id": HEAD}, {"slots": 1}, session=self._session)
        if found is None:
            raise NoRoutingTable(self._database.name)
        if "slots" not in found:
            raise TableNeedsUpgrade(self._database.name)
        raise TableStillLoading(self._database.name)

    def _refuse_keys_of_moving_slots(self, changes: Sequence[PlacementChange], space: KeySpace) -> None:
        """While a slot moves, its mover decides which of its keys are listed; another publisher would change its scope."""
        slots = {slot_unit(space.slot_of(c.key)): c.key for c in changes if _lists_or_delists(c)}
        if not slots:
            return
        open_move = {"active": True, "units": {"$in": list(slots)}, "_id": {"$ne": self._move_id}}
        found = self._database["moves"].find_one(open_move, {"units": 1}, session=self._session)
        if found is not None:
            unit = next(unit for unit in found["units"] if unit in slots)
            raise SlotIsMoving(slots[unit], int(unit[1:]), str(found["_id"]))

    def _with_raised_slots(self, changes: Sequence[PlacementChange], space: KeySpace) -> list[PlacementChange]:
        """Raise the epoch of a slot that gets a key back, if the key's is higher: a key's epoch never decreases."""
        wanted: dict[str, int] = {}
        for change in changes:
            if change.delist:
                unit = slot_unit(space.slot_of(change.key))
                wanted[unit] = max(wanted.get(unit, 0), change.new_epoch)
        if not wanted:
            return list(changes)
        homes = {row["_id"]: placement_of(row) for row in self._rows(wanted)}
        moved = {change.key: change for change in changes if change.key in wanted}
        for change in changes:
            unit = slot_unit(space.slot_of(change.key)) if change.delist else ""
            home = moved[unit].primary if unit in moved else homes[unit].primary if unit else change.primary
            if home != change.primary:
                raise InvalidChange(change.key, f"its slot is on {home}, so it must stay listed on {change.primary}")
        raised = [
            PlacementChange(unit, homes[unit].primary, (), homes[unit].epoch, epoch)
            for unit, epoch in wanted.items()
            if unit not in moved and homes[unit].epoch < epoch
        ]
        return [*(_at_least(c, wanted.get(c.key, 0)) for c in changes), *raised]

    def _change_rows(self, changes: Sequence[PlacementChange], version: int, space: KeySpace) -> dict[str, Placement]:
        before: dict[str, Placement] = {}
        for some in chunked(changes):
            rows = {row["_id"]: row for row in self._rows([c.key for c in some])}
            before |= {unit: placement_of(row) for unit, row in rows.items()}
            for change in some:
                compare(change, before.get(change.key))
            writes = [_write(change, version, space, rows.get(change.key, {}).get("why", "")) for change in some]
            self._database["routing_table"].bulk_write(writes, ordered=False, session=self._session)
        return before

    def _rows(self, units: Iterable[str]) -> list[Document]:
        return list(self._database["routing_table"].find({"_id": {"$in": list(units)}}, session=self._session))

    def _count(self, head: Mapping[str, Any], changes: Sequence[PlacementChange], before: Mapping[str, Placement]) -> None:
        steps = [(before.get(c.key), None if c.delist else Placement(c.key, c.primary)) for c in changes]
        was = TableCounts.of_head(head)
        counts = was.after(steps)
        if counts.listed.total() > max(self._maximum, was.listed.total()):
            raise TooManyListedKeys(counts.listed.total(), self._maximum)
        self._database["routing_state"].update_one(
            {"_id": HEAD}, {"$set": {"counts": counts.document()}}, session=self._session
        )

    def _record(
        self,
        version: int,
        changes: Sequence[PlacementChange],
        cause: str,
        now: datetime,
        before: Mapping[str, Placement],
    ) -> None:
        chunks = list(chunked(changes))
        apart = len(chunks) > 1
        for number, some in enumerate(chunks if apart else ()):
            chunk = {"_id": chunk_id(version, number), "changes": [change_document(c, before.get(c.key)) for c in some]}
            self._database["routing_changes"].insert_one(chunk, session=self._session)
        document = {
            "_id": version,
            "cause": cause,
            "published_at": now,
            "changes": [] if apart else [change_document(c, before.get(c.key)) for c in changes],
            "chunks": len(chunks) if apart else 0,
        }
        self._database["routing_versions"].insert_one(document, session=self._session)


def check(changes: Sequence[PlacementChange]) -> None:
    """Raise :class:`InvalidChange` for rows that are inconsistent in themselves."""
    key, times = Counter(change.key for change in changes).most_common(1)[0]
    if times > 1:
        raise InvalidChange(key, "named twice in one publication")
    for change in changes:
        if change.primary in change.shadows or len(set(change.shadows)) < len(change.shadows):
            raise InvalidChange(change.key, "two of its copies are on one partition")
        if change.new_epoch < max(change.expected_epoch, 1):
            raise InvalidChange(change.key, f"epoch can't go from {change.expected_epoch} to {change.new_epoch}")
        if slot_number(change.key) is not None and (change.shadows or change.delist or not change.expected_epoch):
            raise InvalidChange(change.key, "a slot has no shadows and always has a row")
        if change.delist and (change.shadows or not change.expected_epoch):
            raise InvalidChange(change.key, "only a listed key without shadows can be delisted")


def compare(change: PlacementChange, standing: Placement | None) -> None:
    """Raise unless the unit is at the expected epoch."""
    actual = standing.epoch if standing else 0
    if actual != change.expected_epoch:
        raise StaleEpoch(change.key, change.expected_epoch, actual)
    if standing and standing.primary != change.primary and change.new_epoch == change.expected_epoch:
        raise InvalidChange(change.key, f"its primary changes, but not its epoch {actual}")


def _lists_or_delists(change: PlacementChange) -> bool:
    return slot_number(change.key) is None and (change.delist or not change.expected_epoch)


def _at_least(change: PlacementChange, epoch: int) -> PlacementChange:
    if change.new_epoch >= epoch:
        return change
    return PlacementChange(change.key, change.primary, change.shadows, change.expected_epoch, epoch, change.delist, change.why)


def _write(change: PlacementChange, version: int, space: KeySpace, why: str) -> ReplaceOne[Document] | DeleteOne:
    """Return the write of one row. A listed key keeps its reason if the change gives none."""
    if change.delist:
        return DeleteOne({"_id": change.key})
    row = row_document(
        Placement(change.key, change.primary, change.shadows, change.new_epoch), version, space, change.why or why
    )
    return ReplaceOne({"_id": change.key}, row, upsert=True)
