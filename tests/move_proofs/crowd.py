"""Apps' clients: they route by the table, repeat what was refused, and record every call and every answer.

A client reads the table before each call. After a read, or a write that found nothing, it reads the table again, and repeats
the call if the key has a new owner: only then does the answer come from a partition that owned the key. Deletes are those of
the product's client: a fence stops them like other writes.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from random import Random
from typing import Any

from pymongo.errors import DuplicateKeyError, PyMongoError, ServerSelectionTimeoutError, WriteError
from tests.move_proofs.history import Kind, Recorder, Value

from foreshard.client.writing.write_errors import in_doubt
from foreshard.errors import Unreachable

REFUSED = 121
DOCUMENTS = 10
PATIENCE = 30
"""Seconds that a client may wait for an owner that takes its writes, once nothing is moved any more."""
Owner = tuple[str, int]
"""A partition and the epoch of its ownership."""


class LeftOpen(Exception):
    """The answer was lost: the call may take effect later, or never."""


class RoutedDocuments:
    """One client of one collection. ``owner(key)`` reads the table. ``delete(collection, key, filter)`` returns a count."""

    def __init__(
        self,
        recorder: Recorder,
        owner: Callable[[str], Owner],
        collections: Mapping[str, Any],
        delete: Callable[[Any, str, Mapping[str, str]], int],
        key_field: str,
        number: int,
    ) -> None:
        self._recorder, self._owner, self._collections, self._delete = recorder, owner, collections, delete
        self._key_field, self._number = key_field, number
        self.stopping = threading.Event()
        self.refusals = self.silences = 0
        self.doing: tuple[str, ...] = ()

    def place(self) -> str:
        """Where the client is, for people."""
        return f"{self.doing}, refused {self.refusals} times, {self.silences} times without an answer"

    def read(self, key: str, identity: str) -> Value:
        """Return a document's value."""
        return self._recorded(key, identity, Kind.READ, None, lambda c, wanted: _value(c.find_one(wanted)), bool)

    def insert(self, key: str, identity: str, value: str) -> None:
        """Insert a document. The answer says whether there was one."""

        def attempt(collection: Any, wanted: Mapping[str, str]) -> Value:
            try:
                collection.insert_one({"_id": identity, **self._carrying(key), "value": value})
            except DuplicateKeyError:
                return "yes"
            return "no"

        self._recorded(key, identity, Kind.INSERT, value, attempt, lambda found: found == "no")

    def update(self, key: str, identity: str, value: str) -> None:
        """Set a document's value."""
        change = {"$set": {"value": value}}
        self._write(key, identity, Kind.UPDATE, value, lambda c, wanted: c.update_one(wanted, change).matched_count)

    def replace(self, key: str, identity: str, value: str) -> None:
        """Replace a document."""
        new = {"_id": identity, **self._carrying(key), "value": value, "replaced": True}
        self._write(key, identity, Kind.UPDATE, value, lambda c, wanted: c.replace_one(wanted, new).matched_count)

    def upsert(self, key: str, identity: str, value: str) -> None:
        """Set a document's value, whether there is one or not."""
        change = {"$set": {"value": value}}

        def attempt(collection: Any, wanted: Mapping[str, str]) -> int:
            return collection.update_one(wanted, change, upsert=True).matched_count

        self._write(key, identity, Kind.UPSERT, value, attempt, always=True)

    def delete(self, key: str, identity: str) -> None:
        """Remove a document."""
        self._write(key, identity, Kind.DELETE, None, lambda c, wanted: self._delete(c, key, wanted))

    def act(self, random: Random, key: str, turn: int, documents: int = DOCUMENTS) -> None:
        """Do one operation on one of the key's documents."""
        identity, value = f"{key}/{random.randrange(documents)}", f"{self._number}.{turn}"
        choice = random.choices(("read", "insert", "update", "replace", "upsert", "delete"), (4, 3, 4, 2, 2, 2))[0]
        if choice in ("read", "delete"):
            getattr(self, choice)(key, identity)
        else:
            getattr(self, choice)(key, identity, value)

    def _carrying(self, key: str) -> dict[str, Any]:
        outer, _, inner = self._key_field.partition(".")
        return {outer: {inner: key} if inner else key}

    def _write(
        self, key: str, identity: str, kind: Kind, value: Value, ask: Callable[[Any, Any], int], *, always: bool = False
    ) -> None:
        def attempt(collection: Any, wanted: Mapping[str, str]) -> Value:
            return "yes" if ask(collection, wanted) else "no"

        self._recorded(key, identity, kind, value, attempt, lambda found: always or found == "yes")

    def _recorded(
        self,
        key: str,
        identity: str,
        kind: Kind,
        value: Value,
        attempt: Callable[[Any, Mapping[str, str]], Value],
        is_final: Callable[[Value], bool],
    ) -> Value:
        """Repeat ``attempt`` until the answer is that of an owner. ``is_final``: the server itself vouches for the answer."""
        wanted = {"_id": identity, self._key_field: key}
        self.doing = (key, identity, kind)
        final = is_final if kind is not Kind.READ else lambda _found: False

        def ask() -> Value:
            while True:
                owner = self._owner_now(key)
                try:
                    found = attempt(self._collections[owner[0]], wanted)
                except PyMongoError as error:
                    self._after(error, kind)
                    continue
                if final(found) or self._owner_now(key) == owner:
                    return found

        return self._recorder.run(identity, self._number, kind, value, ask, (LeftOpen,))

    def _after(self, error: PyMongoError, kind: Kind) -> None:
        """Wait for another attempt after an error that had no effect. Raise :class:`LeftOpen` if it may have had one."""
        if isinstance(error, DuplicateKeyError):  # another client's upsert was faster
            return
        if isinstance(error, WriteError) and error.code == REFUSED:
            self.refusals += 1
        elif isinstance(error, ServerSelectionTimeoutError) or (kind is Kind.READ and in_doubt(error)):
            self.silences += 1
        elif in_doubt(error):
            raise LeftOpen from error
        else:
            raise error
        if self.stopping.wait(0.004):
            raise LeftOpen from error

    def _owner_now(self, key: str) -> Owner:
        """Read the table. Wait while the control database is away."""
        while True:
            try:
                return self._owner(key)
            except (PyMongoError, Unreachable) as error:
                if self.stopping.wait(0.05):
                    raise LeftOpen from error


class Client(threading.Thread):
    """A client that acts until it is told to stop, and rests while it is told to."""

    def __init__(self, documents: RoutedDocuments, keys: tuple[str, ...], number: int) -> None:
        super().__init__(daemon=True)
        self.documents, self._keys, self._random = documents, keys, Random(number)
        self.stopping, self.resting, self.rests = documents.stopping, threading.Event(), threading.Event()
        self.turns = 0
        self.failure: BaseException | None = None

    def place(self) -> str:
        """Where it is, for people."""
        return self.documents.place()

    def run(self) -> None:
        try:
            while not self.stopping.wait(self._random.uniform(0.0, 0.02)):
                if self.resting.is_set():
                    self.rests.set()
                    continue
                self.rests.clear()
                self.turns += 1
                try:
                    self.documents.act(self._random, self._random.choice(self._keys), self.turns)
                except LeftOpen:
                    continue
        except BaseException as error:
            self.failure = error
        finally:
            self.rests.set()


class Crowd:
    """Some clients at once."""

    def __init__(self, clients: Sequence[Any], *, begin: bool = True) -> None:
        self.clients = clients
        for client in clients if begin else ():
            client.start()

    @contextmanager
    def rest(self, account: Callable[[], str] = str) -> Iterator[None]:
        """Let every client finish what it does and wait meanwhile. Raise an error that one of them met.

        ``account()`` describes the deployment for the message about a client that does not finish.
        """
        for client in self.clients:
            client.rests.clear()
            client.resting.set()
        for client in self.clients:
            self.raise_failures()
            if not client.rests.wait(PATIENCE):
                raise AssertionError(f"a client has waited for {PATIENCE} s at {client.place()}\n{account()}")
        try:
            self.raise_failures()
            yield
        finally:
            for client in self.clients:
                client.resting.clear()

    def raise_failures(self) -> None:
        """Raise an error that one of the clients met."""
        for client in self.clients:
            if client.failure is not None:
                raise client.failure

    def stop(self) -> None:
        """End all clients."""
        for client in self.clients:
            client.stopping.set()
        for client in self.clients:
            client.join(60)


def _value(found: Mapping[str, Any] | None) -> Value:
    return None if found is None else str(found["value"])
