"""The fence: a collection validator that refuses keys by slot. The server itself refuses the writes (error 121).

On the same partition, ``foreshard.fences`` says what *should* be refused (:mod:`foreshard.routing.fence_lists`). It begins with
what the routing table prescribes, so it stays bounded. ``collMod`` has no compare-and-set, so a change takes three steps:

1. One transaction takes the document's lock (by the server's clock), changes the lists and raises the revision. A ``guard``
runs inside it, so that a superseded mover cannot change the lists. 2. The lock's holder writes the whole fence into the
validator, with the revision in its marker, in short attempts, so that writers do not queue for long behind an open transaction.
3. It releases the lock. If it had lost the lock meanwhile, it writes the document's lists again, which repairs its own late
``collMod`` of older lists.

Apps wait for the second step only. So a mover *arms* a change ahead of time: it takes the lock and composes the validator, and
writes the lists after the ``collMod``. If it dies in between, the move's journal entry says that somebody must end it.

Only ``collMod`` waits for a majority. Everything before it in the same oplog then has a majority too.

The caller also watches the source's change stream, in which every ``collMod`` is a ``modify`` event. An app's own ``collMod``
between Foreshard's read of its validator and Foreshard's ``collMod``, a few milliseconds, is overwritten.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from pymongo import MongoClient
from pymongo.client_session import ClientSession
from pymongo.errors import OperationFailure

from foreshard.errors import FenceRefused, FenceTimedOut, MoveSuperseded
from foreshard.model import ShardedCollection
from foreshard.ports.routing import RoutingStore
from foreshard.routing.fence_lists import FenceLists, prescribed
from foreshard.stores.mongo_connections import Document
from foreshard.stores.partition.fences._lists import Edit, Guard, ListedFence, Taken
from foreshard.stores.partition.fences._open_transactions import SHORT_MS, is_free, limit_ms, pause_seconds
from foreshard.stores.partition.fences.fence_validator import AppRules, FenceInForce, compose, read_options

MAXIMUM_LIST_BYTES = 2_000_000
"""A change event (16 MB at most) contains the list three times, once in hexadecimal."""
LOOK_SECONDS = 0.02
"""Pause between two looks at a transaction that keeps the lock."""
NAMESPACE_NOT_FOUND, NAMESPACE_EXISTS = 26, 48
BUSY = frozenset({24, 50, 112, 117, 12587})
"""Lock timeout, time limit, write conflict, conflicting operation, index build: errors worth another attempt."""

ExpectedFence = Callable[[], FenceLists]
"""Reads the fence that the routing table prescribes for a partition."""


@dataclass(frozen=True, slots=True)
class FenceMark:
    """A fence's place in the change stream: the first ``modify`` event of ``namespace`` at or after ``revision``."""

    namespace: str
    revision: int


class MongoFence:
    """Fences units of one sharded collection on one partition. Several processes may use it at once.

    ``expected()`` reads what the routing table prescribes; it is called once in a partition's life. ``timeout`` limits each
    change of the validator. ``guard(session)`` runs in the transaction that changes the lists and may raise to forbid it.
    ``owner`` names the move, whose next mover may break the lock of the one before.
    """

    def __init__(
        self,
        client: MongoClient[Document],
        collection: ShardedCollection,
        *,
        expected: ExpectedFence,
        timeout: timedelta,
        guard: Guard | None = None,
        owner: str = "",
    ) -> None:
        self._client = client
        self._sharded = collection
        self._expected = expected
        self._timeout = timeout
        self._guard = guard
        self._prepared = False
        self._database = client[collection.database]
        self._lists = ListedFence(client, collection, timeout, owner)

    def fence(self, units: Iterable[str], exceptions: Collection[str] = ()) -> FenceMark:
        """Refuse writes for ``units`` from now on; ``exceptions`` are listed keys of their slots, which stay as they are.

        Raise :class:`FenceTimedOut` without fencing any if the lock was not available.
        """
        return self._change(lambda lists: lists.fence(units, exceptions), withdraw=True)

    def unfence(self, units: Iterable[str], exceptions: Collection[str] = ()) -> FenceMark:
        """Accept writes for ``units`` again. Without any fenced unit, the app's own validator is restored."""
        return self._change(lambda lists: lists.unfence(units, exceptions))

    def arm(self, edit: Edit) -> ArmedChange:
        """Take the lock and compose the validator. The lists change at the end; a holder that dies leaves them as they were."""
        holder, taken = self._take(lambda lists: lists)
        try:
            return ArmedChange(self, edit, holder, replace(taken, lists=edit(taken.lists)))
        except BaseException:
            self._lists.release(holder)
            raise

    def repair(self) -> FenceMark:
        """Impose the lists again, for example after an app has set its own validator (which is kept).

        What the lock's holder was about to impose is not imposed twice.
        """
        holder, taken = self._take(lambda lists: lists)
        try:
            if self.in_force().lists == taken.lists:
                return FenceMark(self._sharded.namespace, taken.revision)
            return self.impose(taken)
        finally:
            self._lists.release(holder)

    def is_out_of_date(self) -> bool:
        """Return whether the server refuses other writes than the lists do."""
        return self.in_force().lists != self.listed()

    def probe(self) -> None:
        """Raise :class:`FenceTimedOut` if an open transaction has the collection's lock. Changes nothing."""
        taken = FenceTimedOut(self._sharded.namespace, "open transactions keep its lock", timedelta(milliseconds=SHORT_MS))
        free = is_free(self._client, self._sharded.namespace)
        if free is not None:
            if not free:
                raise taken
            return
        try:
            self._database.command("collMod", self._sharded.collection, maxTimeMS=SHORT_MS)
        except OperationFailure as error:
            if error.code in BUSY:
                raise taken from error
            if error.code != NAMESPACE_NOT_FOUND:
                raise

    def is_in_force(self, revision: int) -> bool:
        """Return whether the server enforces the lists of ``revision`` or a later one."""
        now = self.in_force()
        return bool(now.clauses) and now.revision >= revision

    def set_rules(self, rules: AppRules) -> FenceMark:
        """Replace the app's own rules. The lists stay in force beside them."""
        holder, taken = self._take(lambda lists: lists)
        try:
            return self.impose(taken, rules=rules)
        finally:
            self._lists.release(holder)

    def listed(self) -> FenceLists:
        """Return what should be refused, according to the partition's lists."""
        return self._lists.read()

    def refuses(self, units: Collection[str], exceptions: Collection[str], session: ClientSession) -> bool:
        """Return whether the lists refuse all these units, in the session's transaction. Ask for the same units each time."""
        return self._lists.refuses(units, exceptions, session)

    def in_force(self) -> FenceInForce:
        """Return what the collection's options say."""
        return read_options(self._options() or {}, self._sharded)

    def prepare(self) -> None:
        """Create the collection and its lists ahead of time, from the routing table and the validator."""
        if self._options() is None:
            try:
                self._database.create_collection(self._sharded.collection, check_exists=False)
            except OperationFailure as error:
                if error.code != NAMESPACE_EXISTS:
                    raise
        if not self._lists.is_begun():
            now, lists = self.in_force(), self._expected()
            if now.lists.slots:
                lists = lists.joined(now.lists)
            self._lists.begin(lists.fence(now.lists.elsewhere), now.revision)
        self._prepared = True

    def compose(self, taken: Taken, rules: AppRules) -> dict[str, Any]:
        """Return the arguments of ``collMod``. Raise :class:`FenceRefused` if the lists are too long."""
        size = sum(len(key.encode()) + 12 for keys in (taken.lists.elsewhere, taken.lists.here) for key in keys)
        if size > MAXIMUM_LIST_BYTES:
            problem = f"its lists of keys would take {size} bytes"
            raise FenceRefused(self._sharded.namespace, problem, "list fewer keys in the routing table")
        return compose(self._sharded, taken.lists, taken.revision, rules)

    def impose(
        self, taken: Taken, composed: tuple[AppRules, dict[str, Any]] | None = None, rules: AppRules | None = None
    ) -> FenceMark:
        """Write the lists to the validator, in short attempts until the timeout, and not while a transaction keeps the lock.

        ``composed``: arguments for known rules. ``rules``: the app's rules from now on; without it, they stay.
        """
        namespace, deadline = self._sharded.namespace, time.monotonic() + self._timeout.total_seconds()
        attempt, free = 0, None if composed else is_free(self._client, namespace)
        while (left := deadline - time.monotonic()) > 0:
            if free is False:
                time.sleep(min(LOOK_SECONDS, left))
                free = is_free(self._client, namespace)
                continue
            own = rules or self.in_force().rules
            change = composed[1] if composed is not None and composed[0] == own else self.compose(taken, own)
            limit = max(1, min(int(1000 * left), limit_ms(attempt, free)))
            try:
                self._database.command(
                    "collMod", self._sharded.collection, **change, maxTimeMS=limit, writeConcern={"w": "majority"}
                )
                return FenceMark(namespace, taken.revision)
            except OperationFailure as error:
                if error.code in BUSY:
                    attempt, free = attempt + 1, is_free(self._client, namespace)
                    time.sleep(min(pause_seconds(limit, free), max(0.0, deadline - time.monotonic())))
                    continue
                if error.code != NAMESPACE_NOT_FOUND:
                    problem = str(error).split(", full error")[0]
                    raise FenceRefused(namespace, problem, "correct the collection or move its keys by hand") from error
                self.prepare()
        raise FenceTimedOut(namespace, "open transactions kept its lock", self._timeout)

    def settle(self, holder: str, taken: Taken, edit: Edit, *, imposed: bool) -> None:
        """Write an armed change's lists if it was imposed, and release the lock.

        If the lock was lost on the way, make the change again; for a mover that was superseded, repair what it imposed.
        """
        if self._lists.release(holder, taken.lists if imposed else None) or not imposed:
            return
        try:
            self._change(edit)
        except MoveSuperseded:
            self._guard = None
            self.repair()

    def _take(self, edit: Edit) -> tuple[str, Taken]:
        if not self._prepared:
            self.prepare()
        holder = self._lists.new_holder()
        return holder, self._lists.take(holder, edit, self.prepare, self._guard)

    def _change(self, edit: Edit, *, withdraw: bool = False) -> FenceMark:
        """Change the lists and write them to the validator. Repeat while the lock was lost on the way."""
        holder, taken = self._take(edit)
        restored = taken.before if withdraw else None
        while True:
            try:
                mark = self.impose(taken)
            except (FenceTimedOut, FenceRefused):
                self._lists.release(holder, restored)
                raise
            if self._lists.release(holder):
                return mark
            taken = self._lists.take(holder, lambda lists: lists, self.prepare)

    def _options(self) -> Document | None:
        """Return the collection's options; None if it does not exist."""
        found = next(iter(self._database.list_collections(filter={"name": self._sharded.collection})), None)
        return None if found is None else found.get("options", {})


class ArmedChange:
    """A change of the fence whose holder has the lock: ``impose`` it, then ``end`` it."""

    def __init__(self, fence: MongoFence, edit: Edit, holder: str, taken: Taken) -> None:
        self._fence, self._edit, self._holder, self._taken = fence, edit, holder, taken
        self.imposed = False
        rules = fence.in_force().rules
        self._composed = (rules, fence.compose(taken, rules))

    def impose(self) -> FenceMark:
        """Make the server enforce the lists. Raise :class:`FenceTimedOut` or :class:`FenceRefused`."""
        mark = self._fence.impose(self._taken, self._composed)
        self.imposed = True
        return mark

    def end(self) -> None:
        """Write the lists if they were imposed, and release the lock."""
        self._fence.settle(self._holder, self._taken, self._edit, imposed=self.imposed)


def fence_by_table(routing: RoutingStore, partition_id: str) -> ExpectedFence:
    """Return the reader of the fence that the whole routing table prescribes for a partition."""
    return lambda: prescribed(routing.current(), partition_id)
