"""The lists of a fence and their lock, on its partition, by the server's clock.

``foreshard.fences {_id: namespace, slot_count, slots, elsewhere, here, revision, holder, until}``. ``slots`` is a bitmap.
"""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from pymongo import MongoClient, ReturnDocument
from pymongo.client_session import ClientSession
from pymongo.errors import DuplicateKeyError
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern

from foreshard.errors import FenceTimedOut
from foreshard.model import ShardedCollection
from foreshard.model.key_space import KeySpace
from foreshard.routing.fence_lists import FenceLists
from foreshard.stores.mongo_connections import Document
from foreshard.stores.partition._slot_filter import bitmap, slots_in
from foreshard.stores.partition.dead_transactions import IDLE, end_dead_transactions
from foreshard.stores.partition.fences.fence_entry import BOOKKEEPING_DATABASE, FENCES

Guard = Callable[[ClientSession], None]
Edit = Callable[[FenceLists], FenceLists]


@dataclass(frozen=True, slots=True)
class Taken:
    """What the lock's holder has to impose: the lists of ``revision``, and those before its change."""

    before: FenceLists
    lists: FenceLists
    revision: int


class ListedFence:
    """The document of one collection's fence. ``timeout`` is the time that a holder of the lock has for its ``collMod``.

    A holder breaks the lock of another one of the same ``owner``, unless that is empty.
    """

    def __init__(self, client: MongoClient[Document], collection: ShardedCollection, timeout: timedelta, owner: str) -> None:
        self._client, self._sharded, self._timeout, self._owner = client, collection, timeout, owner
        self._refused: tuple[int, bool] | None = None
        self._lists = client[BOOKKEEPING_DATABASE].get_collection(
            FENCES, write_concern=WriteConcern(1), read_concern=ReadConcern("local")
        )

    def new_holder(self) -> str:
        """Return a name for one holder of the lock."""
        return f"{self._owner}#{uuid.uuid4().hex}"

    def read(self) -> FenceLists:
        """Return what should be refused."""
        entry = self._entry()
        return FenceLists(KeySpace(self._sharded.key_type)) if entry is None else self._parse(entry)

    def refuses(self, units: Collection[str], exceptions: Collection[str], session: ClientSession) -> bool:
        """Return whether the lists refuse all these units, always the same ones, in the session's transaction."""
        place = self._lists.with_options(write_concern=None, read_concern=None)
        wanted = {"_id": self._sharded.namespace}
        found = place.find_one(wanted, {"revision": 1}, session=session)
        if found is None:
            return False
        if self._refused is None or self._refused[0] != found["revision"]:
            entry = place.find_one(wanted, session=session) or {}
            self._refused = (entry["revision"], self._parse(entry).covers(units, exceptions))
        return self._refused[1]

    def is_begun(self) -> bool:
        """Return whether the document exists in the present form. Older versions have ``keys`` instead of slots."""
        entry = self._entry()
        return entry is not None and "slot_count" in entry

    def begin(self, lists: FenceLists, revision: int) -> None:
        """Write the first lists, and refuse what an older version's document refuses too."""
        old = self._entry()
        entry = _fields(lists.fence((old or {}).get("keys", ())))
        if old is not None:
            changed = {"$set": entry, "$unset": {"keys": 1}, "$inc": {"revision": 1}}
            self._lists.update_one({"_id": old["_id"], "revision": old["revision"], "slot_count": None}, changed)
            return
        with suppress(DuplicateKeyError):
            self._lists.insert_one({"_id": self._sharded.namespace, **entry, "revision": revision, "holder": None})

    def take(self, holder: str, edit: Edit, prepare: Callable[[], None], guard: Guard | None = None) -> Taken:
        """Take the lock and change the lists in one transaction. ``prepare`` begins the document where it is missing."""
        started = time.monotonic()
        patience = started + 4 * self._timeout.total_seconds()

        def attempt(session: ClientSession) -> Taken | None:
            if time.monotonic() - started > IDLE.total_seconds():
                end_dead_transactions(self._client)
            return self._try_take(session, holder, edit, guard)

        while True:
            with self._client.start_session() as session:
                taken = session.with_transaction(attempt, write_concern=WriteConcern(1))
            if taken is not None:
                return taken
            prepare()
            if time.monotonic() > patience:
                raise FenceTimedOut(self._sharded.namespace, "another process holds its fence list", 4 * self._timeout)
            time.sleep(random.uniform(0.002, 0.012))  # noqa: S311

    def _try_take(self, session: ClientSession, holder: str, edit: Edit, guard: Guard | None) -> Taken | None:
        known: list[Document] = [{"$eq": ["$holder", holder]}]
        if self._owner:
            known.append({"$eq": [{"$first": {"$split": [{"$ifNull": ["$holder", "#"]}, "#"]}}, self._owner]})
        free = {"$or": [{"$eq": ["$holder", None]}, {"$lt": ["$until", "$$NOW"]}, *known]}
        lease_ms = int(2 * self._timeout.total_seconds() * 1000)
        lock = {"revision": {"$add": ["$revision", 1]}, "holder": holder, "until": {"$add": ["$$NOW", lease_ms]}}
        if guard is not None:
            guard(session)
        taken = self._lists.find_one_and_update(
            {"_id": self._sharded.namespace, "slot_count": {"$ne": None}, "$expr": free},
            [{"$set": lock}],
            return_document=ReturnDocument.AFTER,
            session=session,
        )
        if taken is None:
            return None
        before = self._parse(taken)
        lists = edit(before)
        if lists != before:
            self._lists.update_one({"_id": self._sharded.namespace}, _difference(before, lists), session=session)
        return Taken(before, lists, taken["revision"])

    def release(self, holder: str, restore: FenceLists | None = None) -> bool:
        """Release the lock, and restore the lists. Return whether the lock was still held."""
        fields = {"holder": None} if restore is None else {"holder": None, **_fields(restore)}
        change = {"$set": fields, "$inc": {"revision": int(restore is not None)}}
        return self._lists.update_one({"_id": self._sharded.namespace, "holder": holder}, change).matched_count == 1

    def _entry(self) -> Document | None:
        return self._lists.find_one({"_id": self._sharded.namespace})

    def _parse(self, entry: Mapping[str, Any]) -> FenceLists:
        if "slot_count" not in entry:
            return FenceLists(KeySpace(self._sharded.key_type), elsewhere=frozenset(entry["keys"]))
        space = KeySpace(self._sharded.key_type, int(entry["slot_count"]))
        return FenceLists(space, slots_in(entry["slots"]), frozenset(entry["elsewhere"]), frozenset(entry["here"]))


def _difference(before: FenceLists, after: FenceLists) -> Document:
    """Return the update of the lists' document. It does not rewrite long lists for a few keys."""
    change: Document = {"$set": {"slots": bitmap(after.slots, after.space.slots)}}
    for name in ("elsewhere", "here"):
        old, new = getattr(before, name), getattr(after, name)
        if new > old:
            change.setdefault("$push", {})[name] = {"$each": sorted(new - old)}
        elif new < old:
            change.setdefault("$pullAll", {})[name] = sorted(old - new)
        elif new != old:
            change["$set"][name] = sorted(new)
    return change


def _fields(lists: FenceLists) -> Document:
    """Return the lists as fields of their document."""
    return {
        "slot_count": lists.space.slots,
        "slots": bitmap(lists.slots, lists.space.slots),
        "elsewhere": sorted(lists.elsewhere),
        "here": sorted(lists.here),
    }
