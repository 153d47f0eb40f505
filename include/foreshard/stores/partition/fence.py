"""The fence: a collection validator with a ``$nin`` list. The server itself refuses writes for a fenced key (error 121).

On the same partition, ``foreshard.fences {_id: namespace, keys, revision, holder, until}`` lists the keys that *should* be
fenced. ``collMod`` has no compare-and-set, so a change takes three steps:

1. One transaction takes the document's lock (by the server's clock), changes the list and raises the revision. A ``guard`` runs
inside it, so that a superseded mover cannot change the list. 2. The lock's holder writes the whole list into the validator,
with the revision in its marker, in short attempts, so that writers do not queue for long behind an open transaction. 3. It
releases the lock. If it had lost the lock meanwhile, it writes the document's list again, which repairs its own late
``collMod`` of an old list.

Only ``collMod`` waits for a majority. Everything before it in the same oplog then has a majority too.

The caller also watches the source's change stream, in which every ``collMod`` is a ``modify`` event. An app's own ``collMod``
between Foreshard's read of its validator and Foreshard's ``collMod``, a few milliseconds, is overwritten.
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
from pymongo.errors import DuplicateKeyError, OperationFailure
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern

from foreshard.errors import FenceRefused, FenceTimedOut
from foreshard.model import ShardedCollection
from foreshard.stores.mongo_connections import Document
from foreshard.stores.partition.dead_transactions import IDLE, end_dead_transactions
from foreshard.stores.partition.fence_validator import FenceInForce, compose, read_options

BOOKKEEPING_DATABASE = "foreshard"
MAXIMUM_LIST_BYTES = 2_000_000
"""A change event (16 MB at most) contains the list three times, once in hexadecimal."""
ATTEMPT = timedelta(milliseconds=300)
NAMESPACE_NOT_FOUND, NAMESPACE_EXISTS = 26, 48
BUSY = frozenset({24, 50, 112, 117, 12587})
"""Lock timeout, time limit, write conflict, conflicting operation, index build: errors worth another attempt."""

Guard = Callable[[ClientSession], None]


@dataclass(frozen=True, slots=True)
class FenceMark:
    """A fence's place in the change stream: the first ``modify`` event of ``namespace`` at or after ``revision``."""

    namespace: str
    revision: int


class MongoFence:
    """Fences keys of one sharded collection on one partition. Several processes may use it at once.

    ``timeout`` limits each change of the validator. ``guard(session)`` runs in the transaction that changes the list and may
    raise to forbid it.
    """

    def __init__(
        self,
        client: MongoClient[Document],
        collection: ShardedCollection,
        *,
        timeout: timedelta,
        guard: Guard | None = None,
    ) -> None:
        self._client = client
        self._sharded = collection
        self._timeout = timeout
        self._guard = guard
        self._prepared = False
        self._database = client[collection.database]
        self._lists = client[BOOKKEEPING_DATABASE].get_collection(
            "fences", write_concern=WriteConcern(1), read_concern=ReadConcern("local")
        )

    def fence(self, keys: Collection[str]) -> FenceMark:
        """Refuse writes for ``keys`` from now on. Raise :class:`FenceTimedOut` without fencing any if the lock was not
        available.
        """
        return self._change(add=keys)

    def unfence(self, keys: Collection[str]) -> FenceMark:
        """Accept writes for ``keys`` again. After the last key, the app's own validator is restored."""
        return self._change(remove=keys)

    def repair(self) -> FenceMark:
        """Fence the listed keys again, for example after an app has set its own validator (which is kept)."""
        return self._change()

    def fenced(self) -> frozenset[str]:
        """Return the keys whose writes the server refuses now, according to the validator."""
        return self.in_force().keys

    def listed(self) -> frozenset[str]:
        """Return the keys that should be fenced, according to the partition's list."""
        entry = self._lists.find_one({"_id": self._sharded.namespace}) or {}
        return frozenset(entry.get("keys", ()))

    def in_force(self) -> FenceInForce:
        """Return what the collection's options say."""
        return read_options(self._options() or {}, self._sharded.key_field)

    def _change(self, add: Collection[str] = (), remove: Collection[str] = ()) -> FenceMark:
        """Change the list and write it to the validator. Repeat while the lock was lost on the way."""
        if not self._prepared:
            self.prepare()
        holder = uuid.uuid4().hex
        entry, before = self._take(holder, add, remove, self._guard)
        added = frozenset(add) - before
        while True:
            try:
                self._impose(entry, time.monotonic() + self._timeout.total_seconds())
            except (FenceTimedOut, FenceRefused):
                self._release(holder, withdraw=added)
                raise
            if self._release(holder):
                return FenceMark(self._sharded.namespace, entry["revision"])
            entry, _ = self._take(holder)

    def prepare(self) -> None:
        """Create the collection and its list ahead of time. A lost list is rebuilt from the validator."""
        if self._options() is None:
            try:
                self._database.create_collection(self._sharded.collection, check_exists=False)
            except OperationFailure as error:
                if error.code != NAMESPACE_EXISTS:
                    raise
        if self._lists.find_one({"_id": self._sharded.namespace}, {"_id": 1}) is None:
            now = self.in_force()
            entry = {"_id": self._sharded.namespace, "keys": sorted(now.keys), "revision": now.revision, "holder": None}
            with suppress(DuplicateKeyError):
                self._lists.insert_one(entry)
        self._prepared = True

    def _take(
        self, holder: str, add: Collection[str] = (), remove: Collection[str] = (), guard: Guard | None = None
    ) -> tuple[Document, frozenset[str]]:
        """Take the lock and change the list in one transaction. Return the new entry and the keys listed before."""
        started = time.monotonic()
        patience = started + 4 * self._timeout.total_seconds()

        def attempt(session: ClientSession) -> tuple[Document, frozenset[str]] | None:
            if time.monotonic() - started > IDLE.total_seconds():
                end_dead_transactions(self._client)
            return self._try_take(session, holder, add, remove, guard)

        while True:
            with self._client.start_session() as session:
                taken = session.with_transaction(attempt, write_concern=WriteConcern(1))
            if taken is not None:
                return taken
            self.prepare()
            if time.monotonic() > patience:
                raise FenceTimedOut(self._sharded.namespace, "another process holds its fence list", 4 * self._timeout)
            time.sleep(random.uniform(0.002, 0.012))  # noqa: S311

    def _try_take(
        self, session: ClientSession, holder: str, add: Collection[str], remove: Collection[str], guard: Guard | None
    ) -> tuple[Document, frozenset[str]] | None:
        free = {"$or": [{"$eq": ["$holder", None]}, {"$lt": ["$until", "$$NOW"]}, {"$eq": ["$holder", holder]}]}
        keys = {"$setDifference": [{"$setUnion": ["$keys", {"$literal": list(add)}]}, {"$literal": list(remove)}]}
        lease_ms = int(2 * self._timeout.total_seconds() * 1000)
        change = {
            "keys": keys,
            "revision": {"$add": ["$revision", 1]},
            "holder": holder,
            "until": {"$add": ["$$NOW", lease_ms]},
        }
        if guard is not None:
            guard(session)
        before = self._lists.find_one_and_update(
            {"_id": self._sharded.namespace, "$expr": free},
            [{"$set": change}],
            return_document=ReturnDocument.BEFORE,
            session=session,
        )
        if before is None:
            return None
        listed = frozenset(before["keys"])
        wanted = (listed | frozenset(add)) - frozenset(remove)
        return {"keys": wanted, "revision": before["revision"] + 1}, listed

    def _impose(self, entry: Mapping[str, Any], deadline: float) -> None:
        """Write the list to the validator, in short attempts until ``deadline``."""
        namespace, size = self._sharded.namespace, sum(len(key.encode()) + 12 for key in entry["keys"])
        if size > MAXIMUM_LIST_BYTES:
            raise FenceRefused(namespace, f"its fence list would take {size} bytes", "move fewer keys off this partition")
        attempt = 0
        while (left := deadline - time.monotonic()) > 0:
            rules = self.in_force().rules
            change = compose(namespace, self._sharded.key_field, entry["keys"], entry["revision"], rules)
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

    def _release(self, holder: str, withdraw: Collection[str] = ()) -> bool:
        """Release the lock and remove keys from the list. Return whether the lock was still held."""
        change: Document = {"$set": {"holder": None}}
        if withdraw:
            change |= {"$pullAll": {"keys": list(withdraw)}, "$inc": {"revision": 1}}
        done = self._lists.update_one({"_id": self._sharded.namespace, "holder": holder}, change)
        return done.matched_count == 1

    def _options(self) -> Document | None:
        """Return the collection's options; None if it does not exist."""
        found = next(iter(self._database.list_collections(filter={"name": self._sharded.collection})), None)
        return None if found is None else found.get("options", {})
