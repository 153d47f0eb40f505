"""The partitions' collections in a session: every verb is sent with the partition's own session of pymongo's."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from foreshard.client._partition_clients import PartitionClients
from foreshard.model import ShardedCollection

if TYPE_CHECKING:
    from pymongo import MongoClient
    from pymongo.client_session import ClientSession
    from pymongo.collection import Collection

SESSION_VERBS = frozenset(
    {
        "aggregate",
        "bulk_write",
        "count_documents",
        "create_index",
        "delete_many",
        "delete_one",
        "distinct",
        "drop_index",
        "find",
        "find_one",
        "find_one_and_delete",
        "find_one_and_replace",
        "find_one_and_update",
        "index_information",
        "insert_many",
        "insert_one",
        "replace_one",
        "update_many",
        "update_one",
        "watch",
    }
)


class SessionCollection:
    """A collection of pymongo's whose verbs get ``session=``. Everything else is the collection's own."""

    def __init__(self, inner: Any, session: Callable[[], ClientSession]) -> None:
        self._inner, self._session = inner, session

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        return partial(found, session=self._session()) if name in SESSION_VERBS else found

    def with_options(self, **options: Any) -> SessionCollection:
        """The same collection with other options, in the same session."""
        return SessionCollection(self._inner.with_options(**options), self._session)


class SessionClients(PartitionClients):
    """The clients of ``base``. Their collections are in the session that ``session(uri)`` returns."""

    def __init__(self, base: PartitionClients, session: Callable[[str], ClientSession]) -> None:
        super().__init__(base.client, base.bookkeeping)
        self._base, self._session = base, session

    def client(self, uri: str) -> MongoClient[dict[str, Any]]:
        """The client of ``uri``, which ``base`` keeps."""
        return self._base.client(uri)

    def open_session(self, uri: str) -> Any:
        """The app's session."""
        return self._session(uri)

    async def release_session(self, session: Any) -> None:
        """Leave the app's session open."""

    def option(self, name: str) -> Any:
        """Return an option of pymongo's that the collections have."""
        return self._base.option(name)

    def _open(self, uri: str, sharded: ShardedCollection) -> Collection[dict[str, Any]]:
        bound: Any = SessionCollection(self._base.collection(uri, sharded), partial(self._session, uri))
        same: Collection[dict[str, Any]] = bound
        return same

    async def close(self) -> None:
        """Close all clients of ``base``."""
        await self._base.close()
