"""The sessions that ``start_session`` returns, with pymongo's methods.

A session has one session of pymongo's for each partition that it uses. Outside a transaction each verb is sent with its
partition's. Reads of one partition are causally consistent, as in pymongo. A transaction is on one partition
(:mod:`foreshard.client.sessions.transaction`). A session is not thread-safe.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.client_session import ClientSession
from pymongo.client_session_shared import SessionOptions, TransactionOptions
from pymongo.errors import InvalidOperation
from pymongo.read_preferences import ReadPreference

from foreshard.client._collection import AsyncRoutedCollection
from foreshard.client._driving import resolved, run
from foreshard.client.routing.pymongo_errors import OperationRefused
from foreshard.client.sessions.in_transaction import CollectionInTransaction, TransactionReader, TransactionWriter
from foreshard.client.sessions.session_clients import SessionClients
from foreshard.client.sessions.transaction import Transaction

if TYPE_CHECKING:
    from pymongo.read_concern import ReadConcern
    from pymongo.read_preferences import _ServerMode
    from pymongo.write_concern import WriteConcern

    from foreshard.client._partition_clients import PartitionClients
    from foreshard.client.routing.router import AsyncRouter

Outcome = TypeVar("Outcome")


class _Session:
    """The common part of both kinds of sessions."""

    def __init__(self, client: Any, router: AsyncRouter, connections: PartitionClients, options: SessionOptions) -> None:
        self.client, self.options = client, options
        self.has_ended = False
        self._router, self._connections = router, connections
        self._sessions: dict[str, ClientSession] = {}
        self._views: dict[AsyncRoutedCollection, AsyncRoutedCollection] = {}
        self._transaction: Transaction | None = None
        self._state = "none"

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open."""
        return self._state == "open"

    def view_of(self, collection: AsyncRoutedCollection) -> AsyncRoutedCollection:
        """Return a collection whose verbs are sent in this session, and in its transaction if one is open."""
        if self.has_ended:
            raise InvalidOperation("Cannot use ended session")
        if collection.reader.router.router is not self._router.router:
            raise InvalidOperation("Can only use session with the client that started it")
        known = self._views.get(collection)
        if known is None:
            known = self._views[collection] = self._made(collection, self._transaction if self.in_transaction else None)
        return known

    def _made(self, collection: AsyncRoutedCollection, transaction: Transaction | None) -> AsyncRoutedCollection:
        reader, writer, recorder = collection.reader, collection.writer, collection.recorder
        clients = SessionClients(reader.connections, self._of)
        sharded, router, doubts = reader.sharded, reader.router, reader.doubts
        if transaction is None:
            within = replace(reader, connections=clients, opened={}), replace(writer, connections=clients)
            return AsyncRoutedCollection(sharded, *within, recorder)
        return CollectionInTransaction(
            sharded,
            TransactionReader(router, clients, sharded, doubts, transaction=transaction),
            TransactionWriter(router, clients, sharded, doubts, writer.deadline, transaction=transaction),
            recorder,
        )

    def _of(self, uri: str) -> ClientSession:
        """The session of a partition, started on first use."""
        found = self._sessions.get(uri)
        if found is None:
            client, options = self._connections.client(uri), self.options
            found = self._sessions[uri] = client.start_session(causal_consistency=options.causal_consistency)
        return found

    def _begin(self, given: Mapping[str, Any]) -> None:
        if self.has_ended:
            raise InvalidOperation("Cannot use ended session")
        if self.in_transaction:
            raise InvalidOperation("Transaction already in progress")
        preference = given.get("read_preference")
        if preference is not None and preference != ReadPreference.PRIMARY:
            raise InvalidOperation("read preference in a transaction must be primary")
        default = self.options.default_transaction_options or TransactionOptions()
        names = ("read_concern", "write_concern", "read_preference", "max_commit_time_ms")
        options = {name: getattr(default, name) if given.get(name) is None else given[name] for name in names}
        TransactionOptions(**options)  # checks them
        self._transaction = Transaction(self._router, self._of, options)
        self._enter("open")

    def _enter(self, state: str) -> None:
        self._state = state
        self._views.clear()

    async def _commit(self) -> None:
        if self._state in ("none", "aborted") or self._transaction is None:
            known = "Cannot call commitTransaction after calling abortTransaction"
            raise InvalidOperation(known if self._state == "aborted" else "No transaction started")
        self._enter("committed")
        await self._transaction.commit()

    async def _abort(self) -> None:
        if self._state != "open" or self._transaction is None:
            known = {
                "aborted": "Cannot call abortTransaction twice",
                "committed": "Cannot call abortTransaction after calling commitTransaction",
            }
            raise InvalidOperation(known.get(self._state, "No transaction started"))
        self._enter("aborted")
        await self._transaction.end()

    async def _end(self) -> None:
        if self.has_ended:
            return
        if self.in_transaction:
            await self._abort()
        self.has_ended = True
        while self._sessions:
            _, session = self._sessions.popitem()
            ending: Any = session.end_session
            await resolved(ending())


class RoutedSession(_Session):
    """A session of the synchronous client."""

    def start_transaction(
        self,
        read_concern: ReadConcern | None = None,
        write_concern: WriteConcern | None = None,
        read_preference: _ServerMode | None = None,
        max_commit_time_ms: int | None = None,
    ) -> _Open:
        """Start a transaction. In a ``with`` statement it commits at the end, or aborts after an error."""
        self._begin(
            {
                "read_concern": read_concern,
                "write_concern": write_concern,
                "read_preference": read_preference,
                "max_commit_time_ms": max_commit_time_ms,
            }
        )
        return _Open(self)

    def commit_transaction(self) -> None:
        """Commit. Raise an error with the label ``TransientTransactionError`` if a move has aborted the transaction."""
        run(self._commit())

    def abort_transaction(self) -> None:
        """Abort."""
        run(self._abort())

    def with_transaction(self, callback: Callable[[RoutedSession], Outcome], *options: Any, **named: Any) -> Outcome:
        """Run ``callback(session)`` in a transaction, by pymongo's own loop, which repeats it after transient errors.

        ``options`` are those of ``start_transaction``.
        """
        loop: Callable[..., Outcome] = ClientSession.with_transaction
        return loop(self, callback, *options, **named)

    def end_session(self) -> None:
        """End the session. An open transaction aborts."""
        run(self._end())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end_session()


class AsyncRoutedSession(_Session):
    """A session of the asynchronous client."""

    async def start_transaction(
        self,
        read_concern: ReadConcern | None = None,
        write_concern: WriteConcern | None = None,
        read_preference: _ServerMode | None = None,
        max_commit_time_ms: int | None = None,
    ) -> _AsyncOpen:
        """Start a transaction. In an ``async with`` statement it commits at the end, or aborts after an error."""
        self._begin(
            {
                "read_concern": read_concern,
                "write_concern": write_concern,
                "read_preference": read_preference,
                "max_commit_time_ms": max_commit_time_ms,
            }
        )
        return _AsyncOpen(self)

    async def commit_transaction(self) -> None:
        """Commit. Raise an error with the label ``TransientTransactionError`` if a move has aborted the transaction."""
        await self._commit()

    async def abort_transaction(self) -> None:
        """Abort."""
        await self._abort()

    async def with_transaction(
        self, callback: Callable[[AsyncRoutedSession], Coroutine[Any, Any, Outcome]], *options: Any, **named: Any
    ) -> Outcome:
        """Run ``callback(session)`` in a transaction, by pymongo's own loop, which repeats it after transient errors.

        ``options`` are those of ``start_transaction``.
        """
        loop: Callable[..., Coroutine[Any, Any, Outcome]] = AsyncClientSession.with_transaction
        return await loop(self, callback, *options, **named)

    async def end_session(self) -> None:
        """End the session. An open transaction aborts."""
        await self._end()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.end_session()


class _Open:
    """An open transaction, for a ``with`` statement."""

    def __init__(self, session: RoutedSession) -> None:
        self._session = session

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, _error: object, _trace: TracebackType | None) -> None:
        if self._session.in_transaction:
            self._session.commit_transaction() if kind is None else self._session.abort_transaction()


class _AsyncOpen:
    """An open transaction, for an ``async with`` statement."""

    def __init__(self, session: AsyncRoutedSession) -> None:
        self._session = session

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, _error: object, _trace: TracebackType | None) -> None:
        if self._session.in_transaction:
            await (self._session.commit_transaction() if kind is None else self._session.abort_transaction())


def session_options(
    causal_consistency: bool | None, default: TransactionOptions | None, snapshot: bool | None
) -> SessionOptions:
    """Return checked options. Raise :class:`OperationRefused` for a snapshot session."""
    if snapshot:
        problem = "a snapshot is of one replica set, and a session is for all partitions"
        raise OperationRefused("client", "start_session", problem, "omit snapshot=True, or use pymongo on one partition")
    return SessionOptions(causal_consistency, default)
