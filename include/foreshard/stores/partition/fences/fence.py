"""The fence: a collection validator that refuses keys by slot. The server itself refuses the writes (error 121).

On the same partition, ``foreshard.fences {_id: namespace, slot_count, slots, elsewhere, here, revision, holder, until}`` says
what *should* be refused (:mod:`foreshard.routing.fence_lists`; ``slots`` is a bitmap). It begins with what the routing table
prescribes, so it stays bounded. ``collMod`` has no compare-and-set, so a change takes three steps:

1. One transaction takes the document's lock (by the server's clock), changes the lists and raises the revision. A ``guard``
runs inside it, so that a superseded mover cannot change the lists. 2. The lock's holder writes the whole fence into the
validator, with the revision in its marker, in short attempts, so that writers do not queue for long behind an open transaction.
3. It releases the lock. If it had lost the lock meanwhile, it writes the document's lists again, which repairs its own late
``collMod`` of older lists.

Only ``collMod`` waits for a majority. Everything before it in the same oplog then has a majority too.

The caller also watches the source's change stream, in which every ``collMod`` is a ``modify`` event. An app's own ``collMod``
between Foreshard's read of its validator and Foreshard's ``collMod``, a few milliseconds, is overwritten.
"""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from pymongo import MongoClient, ReturnDocument
from pymongo.client_session import ClientSession
from pymongo.errors import DuplicateKeyError, OperationFailure
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern

from foreshard.errors import FenceRefused, FenceTimedOut
from foreshard.model import ShardedCollection
from foreshard.model.key_space import KeySpace
from foreshard.ports.routing import RoutingStore
from foreshard.routing.fence_lists import FenceLists, prescribed
from foreshard.stores.mongo_connections import Document
from foreshard.stores.partition._slot_filter import bitmap, slots_in
from foreshard.stores.partition.dead_transactions import IDLE, end_dead_transactions
from foreshard.stores.partition.fences.fence_validator import FenceInForce, compose, read_options

BOOKKEEPING_DATABASE = "foreshard"
MAXIMUM_LIST_BYTES = 2_000_000
"""A change event (16 MB at most) contains the list three times, once in hexadecimal."""
ATTEMPT = timedelta(milliseconds=300)
NAMESPACE_NOT_FOUND, NAMESPACE_EXISTS = 26, 48
BUSY = frozenset({24, 50, 112, 117, 12587})
"""Lock timeout, time limit, write conflict, conflicting operation, index build: errors worth another attempt."""

Guard = Callable[[ClientSession], None]


ExpectedFence = Callable[[], FenceLists]
"""Reads the fence that the routing table prescribes for a partition."""

Edit = Callable[[FenceLists], FenceLists]


@dataclass(frozen=True, slots=True)
class Taken:
    """What the lock's holder has to impose: the lists of ``revision``, and those before its change."""

    before: FenceLists
    lists: FenceLists
    revision: int


@dataclass(frozen=True, slots=True)
class FenceMark:
    """A fence's place in the change stream: the first ``modify`` event of ``namespace`` at or after ``revision``."""

    namespace: str
    revision: int


class MongoFence:
    """Fences units of one sharded collection on one partition. Several processes may use it at once.

    ``expected()`` reads what the routing table prescribes; it is called once in a partition's life. ``timeout`` limits each
    change of the validator. ``guard(session)`` runs in the transaction that changes the lists and may raise to forbid it.
    """

    def __init__(
        self,
        client: MongoClient[Document],
        collection: ShardedCollection,
        *,
        expected: ExpectedFence,
        timeout: timedelta,
        guard: Guard | None = None,
    ) -> None:
        self._client = client
        self._sharded = collection
        self._expected = expected
        self._timeout = timeout
        self._guard = guard
        self._prepared = False
        self._database = client[collection.database]
        self._lists = client[BOOKKEEPING_DATABASE].get_collection(
            "fences", write_concern=WriteConcern(1), read_concern=ReadConcern("local")
        )

    def fence(self, units: Iterable[str], exceptions: Collection[str] = ()) -> FenceMark:
        """Refuse writes for ``units`` from now on; ``exceptions`` are listed keys of their slots, which stay as they are.

        Raise :class:`FenceTimedOut` without fencing any if the lock was not available.
        """
        return self._change(lambda lists: lists.fence(units, exceptions), withdraw=True)

    def unfence(self, units: Iterable[str], exceptions: Collection[str] = ()) -> FenceMark:
        """Accept writes for ``units`` again. Without any fenced unit, the app's own validator is restored."""
        return self._change(lambda lists: lists.unfence(units, exceptions))

    def repair(self) -> FenceMark:
        """Impose the lists again, for example after an app has set its own validator (which is kept)."""
        return self._change(lambda lists: lists)

    def is_lifted(self) -> bool:
        """Return whether the server accepts anything that the lists refuse."""
        listed, enforced = self.listed(), self.in_force().lists
        return bool(listed) and (enforced.space != listed.space or enforced.joined(listed) != enforced)

    def is_in_force(self, revision: int) -> bool:
        """Return whether the server enforces the lists of ``revision`` or a later one."""
        now = self.in_force()
        return bool(now.clauses) and now.revision >= revision

    def listed(self) -> FenceLists:
        """Return what should be refused, according to the partition's lists."""
        entry = self._lists.find_one({"_id": self._sharded.namespace})
        return FenceLists(KeySpace(self._sharded.key_type)) if entry is None else self._read(entry)

    def in_force(self) -> FenceInForce:
        """Return what the collection's options say."""
        return read_options(self._options() or {}, self._sharded)

    def prepare(self) -> None:
        """Create the collection and its lists ahead of time, from the routing table and the validator.

        Lists of an older version have ``keys`` instead.
        """
        if self._options() is None:
            try:
                self._database.create_collection(self._sharded.collection, check_exists=False)
            except OperationFailure as error:
                if error.code != NAMESPACE_EXISTS:
                    raise
        entry = self._lists.find_one({"_id": self._sharded.namespace})
        if entry is None or "slot_count" not in entry:
            self._begin(entry)
        self._prepared = True

    def _begin(self, old: Document | None) -> None:
        """Write the first lists: what the table prescribes, and what is refused already."""
        now = self.in_force()
        refused = {*now.lists.elsewhere, *(old or {}).get("keys", ())}
        lists = self._expected()
        if now.lists.slots:
            lists = lists.joined(now.lists)
        entry = _entry(lists.fence(refused))
        if old is not None:
            changed = {"$set": entry, "$unset": {"keys": 1}, "$inc": {"revision": 1}}
            self._lists.update_one({"_id": old["_id"], "revision": old["revision"], "slot_count": None}, changed)
            return
        with suppress(DuplicateKeyError):
            self._lists.insert_one({"_id": self._sharded.namespace, **entry, "revision": now.revision, "holder": None})

    def _read(self, entry: Mapping[str, Any]) -> FenceLists:
        if "slot_count" not in entry:
            return FenceLists(KeySpace(self._sharded.key_type), elsewhere=frozenset(entry["keys"]))
        space = KeySpace(self._sharded.key_type, int(entry["slot_count"]))
        return FenceLists(space, slots_in(entry["slots"]), frozenset(entry["elsewhere"]), frozenset(entry["here"]))

    def _change(self, edit: Edit, *, withdraw: bool = False) -> FenceMark:
        """Change the lists and write them to the validator. Repeat while the lock was lost on the way."""
        if not self._prepared:
            self.prepare()
        holder = uuid.uuid4().hex
        taken = self._take(holder, edit, self._guard)
        restored = taken.before if withdraw else None
        while True:
            try:
                self._impose(taken, time.monotonic() + self._timeout.total_seconds())
            except (FenceTimedOut, FenceRefused):
                self._release(holder, restored)
                raise
            if self._release(holder):
                return FenceMark(self._sharded.namespace, taken.revision)
            taken = self._take(holder, lambda lists: lists)

    def _take(self, holder: str, edit: Edit, guard: Guard | None = None) -> Taken:
        """Take the lock and change the lists in one transaction."""
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
            self.prepare()
            if time.monotonic() > patience:
                raise FenceTimedOut(self._sharded.namespace, "another process holds its fence list", 4 * self._timeout)
            time.sleep(random.uniform(0.002, 0.012))  # noqa: S311

    def _try_take(self, session: ClientSession, holder: str, edit: Edit, guard: Guard | None) -> Taken | None:
        free = {"$or": [{"$eq": ["$holder", None]}, {"$lt": ["$until", "$$NOW"]}, {"$eq": ["$holder", holder]}]}
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
        before = self._read(taken)
        lists = edit(before)
        if lists != before:
            self._lists.update_one({"_id": self._sharded.namespace}, _difference(before, lists), session=session)
        return Taken(before, lists, taken["revision"])

    def _impose(self, taken: Taken, deadline: float) -> None:
        """Write the lists to the validator, in short attempts until ``deadline``."""
        namespace, lists = self._sharded.namespace, taken.lists
        size = sum(len(key.encode()) + 12 for keys in (lists.elsewhere, lists.here) for key in keys)
        if size > MAXIMUM_LIST_BYTES:
            raise FenceRefused(namespace, f"its lists of keys would take {size} bytes", "list fewer keys in the routing table")
        attempt = 0
        while (left := deadline - time.monotonic()) > 0:
            change = compose(self._sharded, lists, taken.revision, self.in_force().rules)
            limit = max(1, int(1000 * min(left, ATTEMPT.total_seconds())))
            try:
                self._database.command(
                    "collMod", self._sharded.collection, **change, maxTimeMS=limit, writeConcern={"w": "majority"}
                )
                return
            except OperationFailure as error:
                if error.code in BUSY:
                    attempt += 1
                    time.sleep(min(0.05 * attempt, max(0.0, deadline - time.monotonic())))
                    continue
                if error.code != NAMESPACE_NOT_FOUND:
                    problem = str(error).split(", full error")[0]
                    raise FenceRefused(namespace, problem, "correct the collection or move its keys by hand") from error
                self.prepare()
        raise FenceTimedOut(namespace, "open transactions kept its lock", self._timeout)

    def _release(self, holder: str, restore: FenceLists | None = None) -> bool:
        """Release the lock, and restore the lists. Return whether the lock was still held."""
        fields = {"holder": None} if restore is None else {"holder": None, **_entry(restore)}
        change = {"$set": fields, "$inc": {"revision": int(restore is not None)}}
        return self._lists.update_one({"_id": self._sharded.namespace, "holder": holder}, change).matched_count == 1

    def _options(self) -> Document | None:
        """Return the collection's options; None if it does not exist."""
        found = next(iter(self._database.list_collections(filter={"name": self._sharded.collection})), None)
        return None if found is None else found.get("options", {})


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


def fence_by_table(routing: RoutingStore, partition_id: str) -> ExpectedFence:
    """Return the reader of the fence that the whole routing table prescribes for a partition."""
    return lambda: prescribed(routing.current(), partition_id)


def _entry(lists: FenceLists) -> Document:
    """Return the lists as fields of their document."""
    return {
        "slot_count": lists.space.slots,
        "slots": bitmap(lists.slots, lists.space.slots),
        "elsewhere": sorted(lists.elsewhere),
        "here": sorted(lists.here),
    }
