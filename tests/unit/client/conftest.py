"""A scripted server and sidecar for the write loop and bulk writes, given to tests as the fixture ``fake``."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from pymongo import InsertOne
from pymongo.errors import BulkWriteError, OperationFailure, WriteError

from foreshard.client._doubts import Doubts
from foreshard.client._driving import SYNC, Mode, run
from foreshard.client._fences import FencedWriter
from foreshard.client.bulk.bulk_write import BulkWrite
from foreshard.client.bulk.requests import KeyRule
from foreshard.client.routing.router import AsyncRouter, Router
from foreshard.client.routing.routes import Operation, PartitionAddress, ReadPreference, Route
from foreshard.errors import RouteRefused
from foreshard.model import ShardedCollection

SHARDED = ShardedCollection("app", "things", "k")
FENCE = {
    "errInfo": {
        "details": {"clausesNotSatisfied": [{"index": 0, "details": {"operatorName": "$nin", "specifiedAs": {"k": {}}}}]}
    }
}
OWN_RULE = {"errInfo": {"details": {"operatorName": "$gte", "specifiedAs": {"n": {"$gte": 0}}}}}
BESIDE = {
    "errInfo": {
        "details": {"clausesNotSatisfied": [{"index": 2, "details": {"operatorName": "$nin", "specifiedAs": {"k": {}}}}]}
    }
}


def refused(details: dict[str, Any] = FENCE) -> WriteError:
    return WriteError("Document failed validation", 121, details)


class FakeWorld:
    """A sidecar with scripted answers (the last one repeats), a clock that sleeping advances, and a collection per place."""

    def __init__(self, *places: tuple[str, int]) -> None:
        self.places, self.now, self.refreshes, self.options = deque(places), 0.0, 0, {}

    def route(self, key: str, _operation: Operation, _preference: ReadPreference) -> Route:
        place, epoch = self.places[0] if len(self.places) == 1 else self.places.popleft()
        return Route(key, place, "", "primary", epoch, 1, "", place)

    def routes(self, keys: Sequence[str], operation: Operation, preference: ReadPreference) -> dict[str, Route]:
        return {key: self.route(key, operation, preference) for key in keys}

    def partitions(self) -> tuple[PartitionAddress, ...]:
        return ()

    def refresh(self) -> int:
        self.refreshes += 1
        return 0

    def age(self) -> float:
        return 0.0

    def close(self) -> None: ...

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    # connections

    def collection(self, uri: str, _sharded: ShardedCollection) -> Any:
        return FakeCollection(uri, self)

    def open_session(self, _uri: str) -> Any:
        return SimpleNamespace(operation_time=None)

    async def release_session(self, session: Any) -> None: ...

    @staticmethod
    def address(uri: str) -> str:
        return uri

    def client(self, _uri: str) -> Any:
        """A server without transactions."""

        def refuse() -> None:
            raise OperationFailure("Transaction numbers are only allowed on a replica set member", 20)

        return SimpleNamespace(start_session=refuse)

    def writer(self, deadline: float = 5.0) -> FencedWriter:
        async def here(work: Callable[[], Any]) -> Any:
            return work()

        async def sleep(seconds: float) -> None:
            self.sleep(seconds)

        router = AsyncRouter(Router(self, keep=0, clock=lambda: self.now), Mode(here, sleep, SYNC.together))
        return FencedWriter(router, self, SHARDED, Doubts(router, self, SHARDED), deadline)  # type: ignore[arg-type]

    def write(self, *arguments: Any, deadline: float = 5.0, **options: Any) -> Any:
        return run(self.writer(deadline).write(*arguments, **options))


class FakeCollection:
    def __init__(self, place: str, world: FakeWorld) -> None:
        self.place, self.world = place, world

    @property
    def database(self) -> FakeCollection:
        return self

    def list_collections(self, filter: object) -> Any:
        return SimpleNamespace(to_list=lambda: [{"options": self.world.options}])


def attempts(*outcomes: Exception | str) -> tuple[list[str], Callable[[FakeCollection], str]]:
    """An attempt with these outcomes, and the list of places where it was made."""
    left, places = deque(outcomes), []

    def attempt(collection: FakeCollection) -> str:
        places.append(collection.place)
        outcome = left.popleft()
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    return places, attempt


class FakeBulk(FakeCollection):
    """Applies or refuses each request as scripted, and records what was applied."""

    def bulk_write(self, requests: list[Any], ordered: bool, **_: object) -> Any:
        applied, errors = 0, []
        for index, request in enumerate(requests):
            document = request._doc
            error = self.world.verdict(self.place, document)
            if error is None:
                self.world.applied.append((self.place, document["_id"]))
                applied += 1
                continue
            errors.append({"index": index, **error})
            if ordered:
                break
        raw = {"nInserted": applied, "writeErrors": errors, "writeConcernErrors": [], "upserted": []}
        if errors:
            raise BulkWriteError(raw)
        return type("Result", (), {"bulk_api_result": raw})


class FakeInserts(FakeWorld):
    """Keys in ``moving`` are fenced on alpha until ``until`` refreshes, then live on beta. Other keys live on alpha."""

    def __init__(self, moving: set[str], until: int = 1) -> None:
        super().__init__()
        self.moving, self.until, self.applied = moving, until, []

    def route(self, key: str, _operation: Operation, _preference: ReadPreference) -> Route:
        if not key:
            raise RouteRefused(key, 400, "empty")
        gone = key in self.moving and self.refreshes >= self.until
        return Route(key, "beta" if gone else "alpha", "", "primary", 2 if gone else 1, 1, "", "beta" if gone else "alpha")

    def collection(self, uri: str, _sharded: ShardedCollection) -> Any:
        return FakeBulk(uri, self)

    def verdict(self, place: str, document: dict[str, Any]) -> dict[str, Any] | None:
        if document.get("bad"):
            return {"code": 121, **OWN_RULE}
        if place == "alpha" and document["k"] in self.moving:
            return {"code": 121, **FENCE}
        return None

    def insert(self, documents: list[dict[str, Any]], ordered: bool, deadline: float = 5.0) -> dict[str, Any]:
        items = KeyRule(SHARDED).items("insert_many", enumerate(InsertOne(d) for d in documents))
        return run(BulkWrite(self.writer(deadline), "insert_many", ordered=ordered).run(items))


@pytest.fixture
def fake() -> SimpleNamespace:
    return SimpleNamespace(
        World=FakeWorld,
        Inserts=FakeInserts,
        attempts=attempts,
        refused=refused,
        FENCE=FENCE,
        OWN_RULE=OWN_RULE,
        BESIDE=BESIDE,
    )
