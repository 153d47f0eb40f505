"""Clients with documents of their own: plain ones on one partition, transactions, many updates, changes of key, expiry.

Each remembers what a document may be at the end. An answer that was lost allows the state before and the one after.

The model of a plain client, which knows one partition only: a write that is accepted there is a write on the owner, so it must
last. A delete passes the fence. On a partition that does not own the key it is acknowledged and may lose against the owner's
document, so afterwards the document may be there or not.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from random import Random
from typing import TYPE_CHECKING, Any

from pymongo.errors import OperationFailure, PyMongoError, ServerSelectionTimeoutError, WriteError
from tests.move_proofs.crowd import REFUSED

from foreshard.client.writing.write_errors import in_doubt

if TYPE_CHECKING:
    from tests.move_proofs.deployment import Proof

DOCUMENTS = 4
DUPLICATE = 11000
FRESH = timedelta(hours=1)
EXPIRES = timedelta(seconds=2)


class SpecialClient(threading.Thread):
    """A client that acts on documents of its own. ``allowed`` are the values that each may have at the end (None: absent)."""

    kind = ""

    def __init__(self, proof: Proof, number: int) -> None:
        super().__init__(daemon=True)
        self.proof, self.random, self.name = proof, Random(number), f"{self.kind}{number}"
        self.stopping, self.resting, self.rests = threading.Event(), threading.Event(), threading.Event()
        self.allowed: dict[str, set[Any]] = {}
        self.turns = self.acknowledged = 0
        self.failure: BaseException | None = None

    def run(self) -> None:
        try:
            while not self.stopping.wait(self.random.uniform(0.0, 0.04)):
                if self.resting.is_set():
                    self.rests.set()
                    continue
                self.rests.clear()
                self.turns += 1
                self.act(self.random.choice(self.proof.keys), f"{self.name}.{self.turns}")
        except BaseException as error:
            self.failure = error
        finally:
            self.rests.set()

    def act(self, key: str, value: str) -> None:
        """Do one operation."""
        raise NotImplementedError

    def place(self) -> str:
        """Who waits, for people."""
        return f"{self.name}, turn {self.turns}"

    def write(self, identities: list[str], new: set[Any], attempt: Callable[[], bool], old: set[Any] | None = None) -> bool:
        """Note the documents' values after ``attempt``. It returns whether it has changed them."""
        try:
            if not attempt():
                return False
        except (WriteError, OperationFailure) as error:
            if error.code in (REFUSED, DUPLICATE) or error.has_error_label("TransientTransactionError"):
                return False
            if not in_doubt(error):
                raise
            self._may_be(identities, new)
            return False
        except ServerSelectionTimeoutError:
            return False
        except PyMongoError as error:
            if not in_doubt(error):
                raise
            self._may_be(identities, new)
            return False
        self.acknowledged += 1
        for identity in identities:
            self.allowed[identity] = new | (old or set())
        return True

    def _may_be(self, identities: list[str], new: set[Any]) -> None:
        for identity in identities:
            self.allowed[identity] = self.allowed.get(identity, {None}) | new

    def own(self, key: str) -> list[str]:
        """The ids of its documents of a key."""
        return [f"{self.name}/{key}/{n}" for n in range(DOCUMENTS)]

    def wrong(self, found: dict[str, Any]) -> list[str]:
        """Return what is not as it may be."""
        return [
            f"{identity} is {found.get(identity)!r}, not one of {sorted(map(str, allowed))}"
            for identity, allowed in self.allowed.items()
            if found.get(identity) not in allowed
        ]


class PlainClient(SpecialClient):
    """It has never heard of Foreshard and writes on the first partition only."""

    kind = "plain"

    def act(self, key: str, value: str) -> None:
        trips = self.proof.trips(next(iter(self.proof.uris)))
        identity, choice = self.random.choice(self.own(key)), self.random.random()
        wanted, document = {"_id": identity}, {"_id": identity, "at": {"station": key}, "value": value}
        if choice < 0.3:
            self.write([identity], {value}, lambda: trips.insert_one(document).acknowledged)
        elif choice < 0.8:
            self.write([identity], {value}, lambda: trips.update_one(wanted, {"$set": {"value": value}}).matched_count == 1)
        else:
            before = self.allowed.get(identity, {None})
            self.write([identity], {None}, lambda: trips.delete_one(wanted).deleted_count == 1, before)


class TransactionClient(SpecialClient):
    """It writes all its documents of a key in one transaction at the owner: all of them change, or none."""

    kind = "transaction"

    def act(self, key: str, value: str) -> None:
        partition = self.proof.owner_if_known(key)
        if partition is None:
            return
        trips, own = self.proof.trips(partition), self.own(key)

        def attempt() -> bool:
            with self.proof.clients[partition].start_session() as session:
                session.start_transaction()
                for identity in own:
                    trips.update_one(
                        {"_id": identity, "at.station": key}, {"$set": {"value": value}}, upsert=True, session=session
                    )
                session.commit_transaction()
            return True

        self.write(own, {value}, attempt)

    def wrong(self, found: dict[str, Any]) -> list[str]:
        halves = [key for key in self.proof.keys if len({found.get(identity) for identity in self.own(key)}) > 1]
        return [*super().wrong(found), *(f"{self.name}: half a transaction of {key}" for key in halves)]


class ManyClient(SpecialClient):
    """It updates all its documents of a key by one ``update_many`` at the owner, after it has inserted them."""

    kind = "many"

    def act(self, key: str, value: str) -> None:
        partition = self.proof.owner_if_known(key)
        if partition is None:
            return
        trips, own = self.proof.trips(partition), self.own(key)
        missing = [identity for identity in own if self.allowed.get(identity, {None}) == {None}]
        if missing:
            document = {"_id": missing[0], "at": {"station": key}, "value": value}
            self.write([missing[0]], {value}, lambda: trips.insert_one(document).acknowledged)
            return
        wanted, change = {"at.station": key, "_id": {"$in": own}}, {"$set": {"value": value}}

        def attempt() -> bool:
            matched = trips.update_many(wanted, change).matched_count
            if 0 < matched < len(own):
                self._may_be(own, {value})
            return matched == len(own)

        self.write(own, {value}, attempt)
        for identity in own:  # refused or interrupted after some of them
            self.allowed[identity] |= {value} if self.allowed[identity] != {value} else set()


class KeyChanger(SpecialClient):
    """It gives its documents the other key, where both keys have one owner. Its documents never have a second copy."""

    kind = "changer"

    def act(self, key: str, value: str) -> None:
        partition = self.proof.owner_if_known(key)
        if partition is None:
            return
        trips, identity = self.proof.trips(partition), f"{self.name}/{self.random.randrange(DOCUMENTS)}"
        other = self.random.choice(self.proof.keys)
        wanted = {"_id": identity, "at.station": key}
        if identity not in self.allowed:
            document = {"_id": identity, "at": {"station": key}, "value": "carried"}
            self.write([identity], {"carried"}, lambda: trips.insert_one(document).acknowledged)
        else:
            change = {"$set": {"at.station": other, "value": "carried"}}
            self.write([identity], {"carried"}, lambda: trips.update_one(wanted, change).matched_count == 1)


class SessionClient(SpecialClient):
    """Its documents expire by a TTL index unless it refreshes them in time. A refreshed one must stay."""

    kind = "session"

    def act(self, key: str, value: str) -> None:
        partition = self.proof.owner_if_known(key)
        if partition is None:
            return
        trips, identity = self.proof.trips(partition), f"{self.name}/{key}/{self.turns // 2}"
        if self.turns % 2 == 0:
            document = {"_id": identity, "at": {"station": key}, "value": value, "expires": datetime.now(UTC) + EXPIRES}
            self.write([identity], {value, None}, lambda: trips.insert_one(document).acknowledged)
            return
        recent = [i for i, allowed in self.allowed.items() if None in allowed and f"/{key}/" in i][-3:]
        if not recent:
            return
        identity, fresh = self.random.choice(recent), datetime.now(UTC) + FRESH
        change = {"$set": {"value": "fresh", "expires": fresh}}
        wanted = {"_id": identity, "at.station": key}
        self.write([identity], {"fresh"}, lambda: trips.update_one(wanted, change).matched_count == 1)


SPECIAL = (PlainClient, TransactionClient, ManyClient, KeyChanger, SessionClient)
