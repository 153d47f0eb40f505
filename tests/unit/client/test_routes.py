"""The router: kept answers, refreshes, fallbacks, and local routes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from tests.sidecar_config import local_routes
from tests.unit.client.test_local_routes import saved

from foreshard.client.routing.router import Router
from foreshard.client.routing.routes import ANYWHERE, FallbackRoutes, Operation, PartitionAddress, ReadPreference, Route
from foreshard.errors import Unreachable
from foreshard.stores.files.routing_file import RoutingFile

READ, WRITE = Operation.READ, Operation.WRITE


class FakeSource:
    def __init__(self) -> None:
        self.version, self.asked, self.refreshed, self.down = 1, [], 0, False
        self.asked_age = 0

    def route(self, key: str, operation: Operation, preference: ReadPreference) -> Route:
        if self.down:
            raise Unreachable("sidecar", "here", "start it")
        self.asked.append((key, operation, preference))
        return Route(key, "alpha", "", "primary", 1, self.version, "", "mongodb://alpha")

    def routes(self, keys: Sequence[str], operation: Operation, preference: ReadPreference) -> dict[str, Route]:
        return {key: self.route(key, operation, preference) for key in keys}

    def partitions(self) -> tuple[PartitionAddress, ...]:
        return ()

    def refresh(self) -> int:
        if self.down:
            raise Unreachable("sidecar", "here", "start it")
        self.refreshed += 1
        return self.version

    def age(self) -> float:
        if self.down:
            raise Unreachable("sidecar", "here", "start it")
        self.asked_age += 1
        return 1.0

    def close(self) -> None: ...


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def source() -> FakeSource:
    return FakeSource()


@pytest.fixture
def router(source, clock) -> Router:
    return Router(source, keep=0.5, size=3, clock=clock)


def test_an_answer_is_reused_for_a_while_then_requested_again(router, source, clock) -> None:
    for moment in (100.0, 100.4, 100.6):
        clock.now = moment
        router.route("a", READ, ReadPreference("x"))
    assert len(source.asked) == 2


def test_read_answers_are_kept_by_location_and_write_answers_for_all_locations(router, source) -> None:
    for operation, place in ((READ, "x"), (READ, "y"), (WRITE, "x"), (WRITE, "y"), (READ, "x")):
        router.route("a", operation, ReadPreference(place))
    assert source.asked == [
        ("a", READ, ReadPreference("x")),
        ("a", READ, ReadPreference("y")),
        ("a", WRITE, ReadPreference("x")),
    ]


def test_a_fresh_route_is_always_requested(router, source) -> None:
    router.route("a", WRITE)
    router.route("a", WRITE, fresh=True)
    router.routes(["a"], WRITE, fresh=True)
    assert len(source.asked) == 3


def test_an_answer_from_a_newer_table_drops_all_older_ones(router, source) -> None:
    router.route("a", READ)
    source.version = 2
    router.route("b", READ)
    router.route("a", READ)
    assert [key for key, _, _ in source.asked] == ["a", "b", "a"]


def test_an_answer_from_an_older_table_is_not_kept(router, source) -> None:
    source.version = 5
    router.route("a", READ)
    source.version = 4
    router.route("b", READ)
    router.route("b", READ)
    assert [key for key, _, _ in source.asked] == ["a", "b", "b"]


def test_the_number_of_kept_answers_is_limited(router, source) -> None:
    for number in range(50):
        router.route(str(number), READ)
    assert len(router._kept) <= 3


def test_unknown_keys_are_requested_together_and_known_ones_not_at_all(router, source) -> None:
    router.route("b", READ)
    found = router.routes(["a", "b", "c"], READ)
    assert list(found) == ["a", "b", "c"]
    assert [key for key, _, _ in source.asked] == ["b", "a", "c"]


def test_waiting_threads_share_one_refresh(router, source, clock) -> None:
    clock.now = 101.0
    for since in (100.5, 100.7, 100.9):
        router.refresh(since)
    assert source.refreshed == 1
    router.refresh(101.0)
    assert source.refreshed == 2


def test_a_failed_refresh_is_repeated_and_drops_kept_answers_too(router, source, clock) -> None:
    router.route("a", WRITE)
    source.down = True
    router.refresh(99.0)
    source.down = False
    router.refresh(99.0)
    router.route("a", WRITE)
    assert source.refreshed == 1
    assert len(source.asked) == 2


def test_no_answer_is_kept_if_the_app_turns_it_off(source) -> None:
    router = Router(source, keep=0)
    router.route("a", READ)
    router.route("a", READ)
    assert len(source.asked) == 2


def test_a_representation_shows_no_address() -> None:
    route = Route("k", "alpha", "", "primary", 1, 1, "", "mongodb://user:secret@host")
    assert "secret" not in repr(route)
    assert "secret" not in repr(PartitionAddress("alpha", "", "mongodb://user:secret@host"))


def test_while_the_sidecar_is_down_the_fallback_answers_and_the_sidecar_is_retried_later(source, clock) -> None:
    other = FakeSource()
    routes = FallbackRoutes(source, other, patience=1.0, clock=clock)
    source.down = True
    routes.route("a", READ, ANYWHERE)
    routes.route("b", READ, ANYWHERE)
    assert len(other.asked) == 2
    source.down = False
    routes.route("c", READ, ANYWHERE)
    assert source.asked == []
    clock.now += 1.5
    routes.route("d", READ, ANYWHERE)
    assert [key for key, _, _ in source.asked] == ["d"]


def test_without_a_sidecar_and_without_a_file_the_error_names_the_sidecar(source, tmp_path: Path) -> None:
    source.down = True
    routes = FallbackRoutes(source, local_routes(tmp_path))
    with pytest.raises(Unreachable, match="sidecar at here"):
        routes.route("a", READ, ANYWHERE)
    with pytest.raises(Unreachable, match="sidecar at here"):
        routes.route("a", READ, ANYWHERE)


class FakeLocal(FakeSource):
    def route(self, key: str, operation: Operation, preference: ReadPreference) -> Route:
        return super().route(key, operation, preference)._replace(partition="by file", table_version=self.version)

    def avoid(self, partition: str) -> None: ...


class Versioned:
    def __init__(self, source: FakeSource) -> None:
        self._source = source

    def __getattr__(self, name: str):
        return (lambda: self._source.version) if name == "version" else getattr(self._source, name)


def test_local_routes_need_no_request_and_a_fresh_answer_overrides_an_older_table(source, clock) -> None:
    local = FakeLocal()
    router = Router(source, clock=clock, local=Versioned(local))
    assert router.route("a", READ).partition == "by file"
    assert source.asked == []
    source.version = 5
    assert router.route("a", WRITE, fresh=True).partition == "alpha"
    assert (router.route("a", READ).partition, router.route("a", WRITE).partition) == ("alpha", "alpha")
    assert router.route("b", WRITE).partition == "by file"
    local.version = 5
    assert router.route("a", WRITE).partition == "by file"
    assert len(source.asked) == 1


def test_the_sidecar_is_asked_for_its_tables_age_once_a_second(source, clock) -> None:
    router = Router(source, clock=clock)
    assert router.known_age() is None
    assert router.age() == 1.0
    clock.now += 0.5
    assert router.age() == router.known_age() == 1.5
    assert source.asked_age == 1
    clock.now += 1
    source.down = True
    assert router.age() == float("inf")


def test_until_the_file_has_the_version_of_a_refresh_the_sidecar_is_asked(source, clock, tmp_path: Path) -> None:
    file, local = RoutingFile(tmp_path), local_routes(tmp_path, check_every=0)
    file.save(saved(7, k="beta"))
    router = Router(source, clock=clock, local=local, keep=0)
    assert router.route("k", WRITE).partition == "beta"
    source.version = 8
    assert router.refresh(clock.now)
    assert (router.route("k", WRITE).partition, router.homes()) == ("alpha", None)
    file.save(saved(8, k="beta"))
    assert router.route("k", WRITE).partition == "beta"
    assert router.homes() is not None


def test_a_refresh_that_only_the_substitute_could_make_has_failed(source, clock, tmp_path: Path) -> None:
    RoutingFile(tmp_path).save(saved(7, k="beta"))
    local = local_routes(tmp_path, check_every=0)
    router = Router(FallbackRoutes(source, local, clock=clock), clock=clock, local=local)
    assert router.refresh(clock.now)
    source.down = True
    clock.now += 5
    assert not router.refresh(clock.now)
    source.down = False
    clock.now += 5
    assert router.refresh(clock.now)
