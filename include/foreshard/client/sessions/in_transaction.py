"""The reads and writes of a collection in a transaction: all on one partition, on primary copies, and sent once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NoReturn

from pymongo.errors import BulkWriteError

from foreshard.client._collection import AsyncRoutedCollection
from foreshard.client._driving import resolved
from foreshard.client._fences import FencedWriter
from foreshard.client._read_plans import PartitionRead, ReadPlan
from foreshard.client._reads import Reader
from foreshard.client._types import Filter, Result
from foreshard.client.bulk.requests import BulkItem
from foreshard.client.routing.pymongo_errors import OperationRefused
from foreshard.client.routing.routes import ReadPreference
from foreshard.client.sessions.transaction import Transaction
from foreshard.stores.bson_codec import key_value

if TYPE_CHECKING:
    from pymongo.collection import Collection

    from foreshard.client.writing.fenced_deletes import AttemptToDelete


@dataclass(frozen=True)
class TransactionReader(Reader):
    """Reads in a transaction. They must name keys of its partition. A fence can't change what they have read."""

    transaction: Transaction = field(kw_only=True)

    async def plan(
        self,
        keys: tuple[str, ...] | None,
        filter: Mapping[str, Any],  # noqa: ARG002
        preference: ReadPreference,  # noqa: ARG002
        options: Mapping[str, Any] = MappingProxyType({}),  # noqa: ARG002
    ) -> ReadPlan:
        """Plan a read of ``keys`` on the transaction's partition."""
        if keys is None:
            problem = "it names no key, and a transaction is on one partition"
            raise OperationRefused(self.sharded.namespace, "read", problem, "name keys, or read outside the transaction")
        route = await self.transaction.place(self.sharded, "read", keys)
        if route is None:
            return ReadPlan((), keys)
        values = tuple(key_value(key, self.sharded.key_type) for key in keys) if len(keys) > 1 else None
        return ReadPlan((PartitionRead(route.partition, route.uri, values),), keys)

    async def run(
        self, plan: Callable[[], Awaitable[ReadPlan]], read: Callable[[ReadPlan], Awaitable[Result]]
    ) -> tuple[ReadPlan, Result]:
        """Plan and read, once."""
        planned = await plan()
        if not planned.parts:
            return planned, await read(planned)
        return planned, await self.transaction.send(self.sharded, self.doubts.held, "read", planned.keys, lambda: read(planned))

    async def one(self, key: str, preference: ReadPreference, read: Callable[[Collection[dict[str, Any]]], Result]) -> Result:
        """Read one key."""
        _, found = await self.run(
            lambda: self.plan((key,), {}, preference), lambda plan: resolved(read(self.collection(plan.parts[0])))
        )
        return found

    def failed(self, error: Exception, plan: ReadPlan) -> Exception:  # noqa: ARG002
        """The error for a failed read: pymongo's own, whose labels say whether to repeat the transaction."""
        return error


@dataclass(frozen=True)
class TransactionWriter(FencedWriter):
    """Writes in a transaction. A key that is being moved aborts it, instead of waiting inside it."""

    transaction: Transaction = field(kw_only=True)

    async def write(
        self,
        operation: str,
        key: str,
        attempt: Callable[[Collection[dict[str, Any]]], Result],
        *,
        missed: Callable[[Result], bool] = lambda _result: False,  # noqa: ARG002
        inserts: bool = False,  # noqa: ARG002
    ) -> Result:
        """Run ``attempt`` once. The transaction's own checks replace those of the other arguments."""
        return await self._once(operation, key, attempt)

    async def delete(
        self,
        operation: str,
        key: str,
        attempt: AttemptToDelete[Result],
        missed: Callable[[Result], bool],  # noqa: ARG002
    ) -> Result:
        """Run a delete once. The transaction checks the fence itself."""
        return await self._once(operation, key, lambda collection: attempt(collection, self.transaction.session))

    async def _once(self, operation: str, key: str, attempt: Callable[[Collection[dict[str, Any]]], Result]) -> Result:
        transaction = self.transaction
        route = await transaction.place(self.sharded, operation, (key,))
        assert route is not None  # noqa: S101 (there is a key)
        transaction.written.add(key)
        collection = self.collection(route)
        held = self.doubts.held
        return await transaction.send(self.sharded, held, operation, (key,), lambda: resolved(attempt(collection)))


class CollectionInTransaction(AsyncRoutedCollection):
    """A routed collection in a transaction."""

    writer: TransactionWriter

    async def create_index(self, keys: Any, **options: Any) -> str:  # noqa: ARG002
        """Refused: indexes are made on every partition."""
        self._refuse_everywhere("create_index")

    async def drop_index(self, index_or_name: Any, **options: Any) -> None:  # noqa: ARG002
        """Refused: indexes are dropped on every partition."""
        self._refuse_everywhere("drop_index")

    async def index_information(self) -> dict[str, Any]:
        """Refused: indexes are read on every partition."""
        self._refuse_everywhere("index_information")

    async def _check_other_keys(self, operation: str, filter: Filter, options: Mapping[str, Any]) -> None:  # noqa: ARG002
        """A replacement has found nothing. Refused without a key in its filter, because other partitions can't be asked."""
        if self.reader.keys_of(filter) is None:
            problem = f"it found nothing, and names no {self._sharded.key_field}: a document of another key may match"
            raise OperationRefused(self.full_name, operation, problem, "add the key to its filter")

    def _refuse_everywhere(self, operation: str) -> NoReturn:
        problem = "it acts on every partition, and a transaction is on one"
        raise OperationRefused(self.full_name, operation, problem, "call it outside the transaction")

    async def _send_all(
        self, operation: str, items: Sequence[BulkItem], ordered: bool, options: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Send all requests to the transaction's partition at once."""
        if not items:
            return await super()._send_all(operation, items, ordered, options)
        transaction, keys = self.writer.transaction, {item.key: None for item in items}
        route = await transaction.place(self._sharded, operation, keys)
        assert route is not None  # noqa: S101 (there are requests)
        transaction.written.update(keys)
        requests, collection = [item.request for item in items], self.writer.collection(route)
        try:
            done = await transaction.send(
                self._sharded,
                self.writer.doubts.held,
                operation,
                keys,
                lambda: resolved(collection.bulk_write(requests, ordered=ordered, **options)),
            )
        except BulkWriteError as error:
            for entry in error.details.get("writeErrors", ()):
                entry["index"] = items[entry["index"]].index
            raise
        raw: Mapping[str, Any] = done.bulk_api_result
        upserted = [{**entry, "index": items[entry["index"]].index} for entry in raw["upserted"]]
        return {**raw, "upserted": upserted}
