"""The write loop with a scripted server: what is sent again, what never, and what the app is told."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from pymongo.errors import (
    AutoReconnect,
    BulkWriteError,
    DuplicateKeyError,
    NetworkTimeout,
    NotPrimaryError,
    OperationFailure,
    ServerSelectionTimeoutError,
    WriteConcernError,
    WriteError,
)

from foreshard.client.bulk import BulkWrite
from foreshard.client.fences import FencedWriter, fenced, one_line, pauses
from foreshard.client.requests import KeyRule
from foreshard.client.routes import Operation, PartitionAddress, Route, Router
from foreshard.errors import AmbiguousWrite, KeyInTransit, RouteRefused, Unreachable
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
    """A sidecar whose answers follow a script (the last one stays), a clock that sleeping moves, a collection per place."""

    def __init__(self, *places: tuple[str, int]) -> None:
        self.places, self.now, self.refreshes, self.options = deque(places), 0.0, 0, {}

    def route(self, key: str, _operation: Operation, _location: str | None) -> Route:
        place, epoch = self.places[0] if len(self.places) == 1 else self.places.popleft()
        return Route(key, place, "", "primary", epoch, 1, "", place)

    def routes(self, keys: Sequence[str], operation: Operation, location: str | None) -> dict[str, Route]:
        return {key: self.route(key, operation, location) for key in keys}

    def partitions(self) -> tuple[PartitionAddress, ...]:
        return ()

    def refresh(self) -> None:
        self.refreshes += 1

    def close(self) -> None: ...

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    # connections

    def collection(self, uri: str, _sharded: ShardedCollection) -> Any:
        return FakeCollection(uri, self)

    @staticmethod
    def address(uri: str) -> str:
        return uri

    def writer(self, deadline: float = 5.0) -> FencedWriter:
        router = Router(self, keep=0, clock=lambda: self.now)
        return FencedWriter(router, self, SHARDED, deadline, self.sleep)  # type: ignore[arg-type]


class FakeCollection:
    def __init__(self, place: str, world: FakeWorld) -> None:
        self.place, self.world = place, world

    @property
    def database(self) -> FakeCollection:
        return self

    def list_collections(self, filter: object) -> list[dict[str, Any]]:
        return [{"options": self.world.options}]


def attempts(*outcomes: Exception | str) -> tuple[list[str], Callable[[FakeCollection], str]]:
    """An attempt that goes through ``outcomes``; the places where it was tried."""
    left, places = deque(outcomes), []

    def attempt(collection: FakeCollection) -> str:
        places.append(collection.place)
        outcome = left.popleft()
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    return places, attempt


def test_a_refused_write_is_sent_to_the_keys_new_place() -> None:
    world = FakeWorld(("alpha", 1), ("beta", 2))
    places, attempt = attempts(refused(), "done")
    assert world.writer().write("update_one", "a", attempt) == "done"
    assert places == ["alpha", "beta"]
    assert world.refreshes == 1
    assert world.now == 0


def test_while_the_key_is_still_fenced_the_writer_pauses_and_asks_again() -> None:
    world = FakeWorld(("alpha", 1), ("alpha", 1), ("alpha", 1), ("beta", 2))
    places, attempt = attempts(refused(), refused(), refused(), "done")
    world.writer().write("update_one", "a", attempt)
    assert places == ["alpha", "alpha", "alpha", "beta"]
    assert 0 < world.now < 0.02


def test_a_move_that_is_reverted_lets_the_write_through_where_it_was() -> None:
    world = FakeWorld(("alpha", 1))
    places, attempt = attempts(refused(), "done")
    assert world.writer().write("update_one", "a", attempt) == "done"
    assert places == ["alpha", "alpha"]


def test_after_the_deadline_the_write_is_reported_as_not_applied() -> None:
    world = FakeWorld(("alpha", 1))
    places, attempt = attempts(*[refused() for _ in range(1000)])
    with pytest.raises(KeyInTransit) as late:
        world.writer(deadline=1.0).write("update_one", "a", attempt)
    assert 1.0 < late.value.waited.total_seconds() < 1.2
    assert len(places) < 40


def test_keys_that_go_round_in_circles_meet_the_deadline_too() -> None:
    world = FakeWorld(*[("alpha" if n % 2 else "beta", n) for n in range(1000)])
    _, attempt = attempts(*[refused() for _ in range(1000)])
    slow = world.writer(deadline=0.5)
    world.refresh = lambda: world.sleep(0.1)  # type: ignore[method-assign]
    with pytest.raises(KeyInTransit):
        slow.write("update_one", "a", attempt)


def test_the_apps_own_validator_reaches_the_app_unchanged_after_one_refresh() -> None:
    world = FakeWorld(("alpha", 1))
    error = refused(OWN_RULE)
    _, attempt = attempts(error)
    with pytest.raises(WriteError) as seen:
        world.writer().write("update_one", "a", attempt)
    assert seen.value is error
    assert world.refreshes == 1


def test_where_the_server_cut_its_details_the_collections_options_tell_a_fence() -> None:
    world = FakeWorld(("alpha", 1))
    marker = {"$comment": {"foreshard": {"revision": 1, "level": "strict", "action": "error", "validator": None}}}
    world.options = {"validator": {"$and": [{"k": {"$nin": ["a"]}}, marker]}}
    _, attempt = attempts(refused({}), "done")
    assert world.writer().write("update_one", "a", attempt) == "done"
    _, attempt = attempts(refused({}))
    with pytest.raises(WriteError):
        world.writer().write("update_one", "other", attempt)


@pytest.mark.parametrize(
    "error",
    [
        AutoReconnect("connection closed"),
        NetworkTimeout("timed out"),
        NotPrimaryError("stepped down"),
        WriteConcernError("waiting for replication timed out", 64),
        OperationFailure("interrupted at shutdown", 11600),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_write_whose_answer_was_lost_is_never_sent_again(error) -> None:
    places, attempt = attempts(error)
    with pytest.raises(AmbiguousWrite) as lost:
        FakeWorld(("alpha", 1)).writer().write("update_one", "a", attempt)
    assert places == ["alpha"]
    assert lost.value.__cause__ is error
    assert type(error).__name__ in lost.value.cause


def test_a_write_that_was_never_sent_is_not_ambiguous() -> None:
    _, attempt = attempts(ServerSelectionTimeoutError("alpha: connection refused"))
    with pytest.raises(Unreachable, match="partition alpha"):
        FakeWorld(("alpha", 1)).writer().write("insert_one", "a", attempt)


def test_any_other_error_is_the_apps_own() -> None:
    error = DuplicateKeyError("E11000", 11000)
    _, attempt = attempts(error)
    with pytest.raises(DuplicateKeyError) as seen:
        FakeWorld(("alpha", 1)).writer().write("insert_one", "a", attempt)
    assert seen.value is error


def test_a_write_that_found_nothing_is_repeated_only_where_the_key_lives_elsewhere_by_now() -> None:
    places, attempt = attempts("nothing", "done")
    written = FakeWorld(("alpha", 1), ("beta", 2)).writer().write("update_one", "a", attempt, missed=lambda r: r == "nothing")
    assert (written, places) == ("done", ["alpha", "beta"])
    places, attempt = attempts("nothing")
    written = FakeWorld(("alpha", 1)).writer().write("update_one", "a", attempt, missed=lambda r: r == "nothing")
    assert (written, places) == ("nothing", ["alpha"])


def test_a_sidecar_that_can_not_refresh_keeps_the_writer_waiting_not_failing() -> None:
    world = FakeWorld(("alpha", 1), ("alpha", 1), ("beta", 2))

    def fail() -> None:
        raise Unreachable("sidecar", "here", "it can't reach the control database")

    world.refresh = fail  # type: ignore[method-assign]
    _, attempt = attempts(refused(), refused(), "done")
    assert world.writer().write("update_one", "a", attempt) == "done"


def test_only_the_fences_own_clause_is_taken_for_a_fence() -> None:
    assert fenced(FENCE, "k") is True
    assert fenced(OWN_RULE, "k") is False
    assert fenced(BESIDE, "k") is False
    assert fenced(FENCE, "other") is False
    assert fenced({}, "k") is None


def test_pauses_grow_to_a_limit_and_differ() -> None:
    waiting = pauses(0.01, 0.08)
    seconds = [next(waiting) for _ in range(20)]
    assert all(0.005 <= pause <= 0.08 for pause in seconds)
    assert max(seconds[5:]) > 0.04
    assert len(set(seconds)) > 15


def test_errors_are_told_in_one_line() -> None:
    long = ServerSelectionTimeoutError("127.0.0.1:1: refused (configured timeouts: x), Timeout: 5s, Topology: <\nlong>")
    assert one_line(long) == "ServerSelectionTimeoutError: 127.0.0.1:1: refused"


class FakeBulk(FakeCollection):
    """Does what the script says of each request; remembers what was applied."""

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
    """Keys in ``moving`` are fenced at alpha until ``until`` refreshes were asked for, then live at beta; others at alpha."""

    def __init__(self, moving: set[str], until: int = 1) -> None:
        super().__init__()
        self.moving, self.until, self.applied = moving, until, []

    def route(self, key: str, _operation: Operation, _location: str | None) -> Route:
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
        from pymongo import InsertOne

        items = KeyRule(SHARDED).items("insert_many", [InsertOne(d) for d in documents])
        return BulkWrite(self.writer(deadline), "insert_many", ordered=ordered).run(items)


def documents(keys: str) -> list[dict[str, Any]]:
    return [{"_id": i, "k": key} for i, key in enumerate(keys)]


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("until", [1, 4])
def test_each_document_is_inserted_once_and_in_order_where_order_counts(ordered, until) -> None:
    world = FakeInserts({"m"}, until)
    assert world.insert(documents("kmkmmk"), ordered)["nInserted"] == 6
    assert sorted(world.applied) == [("alpha", 0), ("alpha", 2), ("alpha", 5), ("beta", 1), ("beta", 3), ("beta", 4)]
    if ordered:
        assert [number for _, number in world.applied] == list(range(6))


def test_an_ordered_insert_stops_at_a_real_error_even_behind_a_fence() -> None:
    world = FakeInserts({"m"})
    given = documents("mkkk")
    given[2]["bad"] = True
    with pytest.raises(BulkWriteError) as stopped:
        world.insert(given, True)
    assert stopped.value.details["nInserted"] == 2
    assert [e["index"] for e in stopped.value.details["writeErrors"]] == [2]
    assert [number for _, number in world.applied] == [0, 1]


def test_an_unordered_insert_reports_every_error_with_the_apps_own_index() -> None:
    world = FakeInserts({"m"}, until=10**9)
    given = documents("kmkm")
    given[2]["bad"] = True
    with pytest.raises(BulkWriteError) as partly:
        world.insert(given, False, deadline=0.3)
    errors = partly.value.details["writeErrors"]
    assert [e["index"] for e in errors] == [1, 2, 3]
    assert "fence" in errors[0]["errmsg"]
    assert world.applied == [("alpha", 0)]


def test_a_document_without_a_key_keeps_the_whole_bulk_from_being_sent() -> None:
    world = FakeInserts(set())
    with pytest.raises(Exception, match="no partitionable key"):
        world.insert([{"_id": 0, "k": "a"}, {"_id": 1}], True)
    assert world.applied == []
