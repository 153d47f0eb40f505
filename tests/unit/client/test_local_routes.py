"""Routing in process, from the sidecar's files."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from random import Random

import pytest
from tests.sidecar_config import local_routes
from tests.slots import slot_map

from foreshard.client.routing.local_routes import LocalRoutes
from foreshard.client.routing.own_writes import UNSURE, OwnWrites
from foreshard.client.routing.router import Router
from foreshard.client.routing.routes import ANYWHERE, Operation, ReadPreference
from foreshard.errors import RouteRefused, Unreachable
from foreshard.model import Location, Partition, PartitionLoad, Placement, RoutingTable
from foreshard.model.cluster_time import ClusterTime
from foreshard.ports.routing_file import LiveClock, LiveRouting, SavedRouting
from foreshard.routing.steady import boot
from foreshard.routing.table import locate
from foreshard.stores.files.live_routing import LiveRoutingFile
from foreshard.stores.files.routing_file import RoutingFile

PARTITIONS = tuple(Partition(name, "Home", 10.0, f"mongodb://{name}") for name in ("alpha", "beta"))


def saved(version: int, **places: str) -> SavedRouting:
    placements = {key: Placement(key, partition, (), 3) for key, partition in places.items()}
    rule = slot_map(("alpha", "beta"), (1.0, 1.0))
    table = RoutingTable(version, placements, rule, datetime(2024, 1, 1, tzinfo=UTC))
    return SavedRouting("t", table, PARTITIONS, (Location("Home", 0.0, 0.0),), 1_700_000_000.0)


def test_a_key_is_routed_to_its_primary_as_the_saved_table_says(tmp_path: Path) -> None:
    RoutingFile(tmp_path).save(saved(7, k="beta"))
    routes = local_routes(tmp_path, check_every=0)
    route = routes.route("k", Operation.READ, ReadPreference("Home"))
    assert (route.partition, route.epoch, route.table_version, route.uri) == ("beta", 3, 7, "mongodb://beta")
    assert routes.route("unlisted", Operation.WRITE, ANYWHERE).partition == locate(saved(7).table, "unlisted").primary
    assert [p.partition for p in routes.partitions()] == ["alpha", "beta"]


def test_a_replaced_file_is_read_again(tmp_path: Path) -> None:
    file, routes = RoutingFile(tmp_path), local_routes(tmp_path, check_every=0)
    file.save(saved(7, k="beta"))
    assert routes.route("k", Operation.READ, ANYWHERE).partition == "beta"
    file.save(saved(8, k="alpha"))
    assert routes.route("k", Operation.READ, ANYWHERE).partition == "alpha"


def test_instead_of_a_damaged_file_the_previous_one_is_used(tmp_path: Path) -> None:
    file = RoutingFile(tmp_path)
    file.save(saved(7, k="beta"))
    file.save(saved(8, k="alpha"))
    file.path.write_bytes(file.path.read_bytes()[:-20])
    assert local_routes(tmp_path, check_every=0).route("k", Operation.READ, ANYWHERE).table_version == 7
    assert file.path.exists()
    file.previous.write_bytes(b"")
    with pytest.raises(Unreachable, match="routing file"):
        local_routes(tmp_path, check_every=0).route("k", Operation.READ, ANYWHERE)


NOW = 1_700_000_000.0


def shadowed(tmp_path: Path) -> LocalRoutes:
    """Key k on alpha, with a shadow on beta, which is nearer to There."""
    partitions = (Partition("alpha", "Home", 10.0, "mongodb://alpha"), Partition("beta", "There", 10.0, "mongodb://beta"))
    table = RoutingTable(3, {"k": Placement("k", "alpha", ("beta",), 2)}, RULE, datetime(2024, 1, 1, tzinfo=UTC))
    places = (Location("Home", 0.0, 0.0), Location("There", 30.0, 30.0))
    RoutingFile(tmp_path).save(SavedRouting("t", table, partitions, places, NOW))
    return local_routes(tmp_path, clock=lambda: NOW, check_every=0)


RULE = slot_map(("alpha",), (1.0,))


def report(tmp_path: Path, caught_up_at: float, applied_to: ClusterTime | None = None, **loads: float) -> None:
    """Write the sidecar's file of loads. A load below 0: the partition does not answer."""
    at = datetime.fromtimestamp(NOW - 1, UTC)
    reports = tuple(PartitionLoad(name, abs(load), load >= 0, at) for name, load in loads.items())
    clock = LiveClock(boot(), NOW - time.monotonic(), time.monotonic(), 3)
    applied = {} if applied_to is None else {("k", "beta"): applied_to}
    LiveRoutingFile(tmp_path).write(LiveRouting(reports, {("k", "beta"): caught_up_at}, clock, applied))


def test_a_read_goes_to_the_nearest_fresh_copy_with_room_and_a_write_to_the_primary(tmp_path: Path) -> None:
    routes = shadowed(tmp_path)
    assert routes.route("k", Operation.READ, ReadPreference("There")).partition == "alpha"  # the shadow's freshness is unknown
    report(tmp_path, NOW - 2, alpha=1.0, beta=1.0)
    near = routes.route("k", Operation.READ, ReadPreference("There"))
    assert (near.partition, near.role, near.uri) == ("beta", "shadow", "mongodb://beta")
    assert "has room at 10%" in near.reason
    assert routes.route("k", Operation.READ, ReadPreference("There", 1.0)).partition == "alpha"
    assert routes.route("k", Operation.WRITE, ReadPreference("There")).partition == "alpha"
    report(tmp_path, NOW - 60, alpha=1.0, beta=1.0)
    assert routes.route("k", Operation.READ, ReadPreference("There")).partition == "alpha"


def test_a_partition_that_its_reporter_or_this_process_can_not_reach_is_avoided(tmp_path: Path) -> None:
    routes = shadowed(tmp_path)
    report(tmp_path, NOW, alpha=-1.0, beta=1.0)
    assert routes.route("k", Operation.READ, ReadPreference("Home")).partition == "beta"
    report(tmp_path, NOW, alpha=1.0, beta=1.0)
    routes = shadowed(tmp_path)
    assert routes.route("k", Operation.READ, ReadPreference("Home")).partition == "alpha"
    routes.avoid("alpha")
    assert routes.route("k", Operation.READ, ReadPreference("Home")).partition == "beta"
    assert "does not answer" in routes.route("k", Operation.WRITE, ReadPreference("Home")).reason


def test_the_reason_shows_overload_even_without_a_choice(tmp_path: Path) -> None:
    routes = shadowed(tmp_path)
    report(tmp_path, NOW, alpha=12.0)
    assert "overloaded at 120%" in routes.route("k", Operation.WRITE, ANYWHERE).reason
    assert "overloaded at 12" in routes.route("unlisted", Operation.READ, ANYWHERE).reason


def test_own_requests_count_as_load_until_the_next_report(tmp_path: Path) -> None:
    routes = shadowed(tmp_path)
    report(tmp_path, NOW, alpha=7.0)
    routes.route("unlisted", Operation.READ, ANYWHERE)
    for _ in range(100):
        routes.route("unlisted", Operation.READ, ANYWHERE)
    assert "overloaded" in routes.route("unlisted", Operation.READ, ANYWHERE).reason


def test_reads_of_keys_with_near_shadows_are_shared_and_count_as_load(tmp_path: Path) -> None:
    partitions = tuple(Partition(name, "Home", 10.0, f"mongodb://{name}") for name in ("alpha", "beta"))
    placements = {key: Placement(key, "alpha", ("beta",), 2) for key in ("k", "late")}
    table = RoutingTable(3, placements, RULE, datetime(2024, 1, 1, tzinfo=UTC))
    RoutingFile(tmp_path).save(SavedRouting("t", table, partitions, (Location("Home", 0.0, 0.0),), NOW))
    routes = local_routes(tmp_path, clock=lambda: NOW, random=Random(2), check_every=3600.0)
    report(tmp_path, NOW - 1, alpha=2.0, beta=2.0)
    found = [routes.route("k", Operation.READ, ReadPreference("Home")) for _ in range(200)]
    assert 60 < sum(route.partition == "beta" for route in found) < 140
    assert {(r.role, r.uri, r.epoch) for r in found if r.partition == "beta"} == {("shadow", "mongodb://beta", 2)}
    assert {route.partition for route in (routes.route("late", Operation.READ, ReadPreference("Home")) for _ in range(20))} == {
        "alpha"
    }
    routes.avoid("beta")
    assert {routes.route("k", Operation.READ, ReadPreference("Home")).partition for _ in range(20)} == {"alpha"}
    reason = routes.route("k", Operation.READ, ReadPreference("Home")).reason
    assert "overloaded at 2" in reason  # by this process' own requests


def test_invalid_keys_are_refused_and_a_damaged_report_is_ignored(tmp_path: Path, caplog) -> None:
    routes = shadowed(tmp_path)
    for key in ("", "a\0b", "x" * 5000, "\ud800"):
        with pytest.raises(RouteRefused):
            routes.route(key, Operation.READ, ANYWHERE)
    assert routes.route("\N{SMILE}" * 20, Operation.WRITE, ANYWHERE).partition == "alpha"
    report(tmp_path, NOW)
    (tmp_path / "live" / "state.json").write_text('{"loads": [[1]')
    assert routes.route("k", Operation.READ, ANYWHERE).partition == "alpha"
    assert "can't be read" in caplog.text


def test_publications_over_an_image_are_read_without_mapping_the_image_again(tmp_path: Path, monkeypatch) -> None:
    file = RoutingFile(tmp_path)
    file.save(saved(7, k="beta", m="beta"))
    routes = local_routes(tmp_path, check_every=0)
    assert routes.route("k", Operation.WRITE, ANYWHERE).table_version == 7
    current = file.load()
    changed = current.table.placements.laid_over({"k": Placement("k", "alpha", (), 4)})
    monkeypatch.setattr(RoutingFile, "newest", None)
    file.save_changes(replace(current, table=replace(current.table, version=8, placements=changed)))
    route = routes.route("k", Operation.WRITE, ANYWHERE)
    assert (route.partition, route.epoch, route.table_version) == ("alpha", 4, 8)
    assert routes.route("m", Operation.WRITE, ANYWHERE).partition == "beta"


def test_the_age_of_the_table_is_told_by_the_monotonic_clock(tmp_path: Path) -> None:
    routes, live = shadowed(tmp_path), LiveRoutingFile(tmp_path)
    assert routes.age() == math.inf
    before = time.monotonic() - 7.0
    live.write(LiveRouting(clock=LiveClock(boot(), 0.0, before, 3)))
    assert 7.0 <= routes.age() < 9.0
    for clock in (LiveClock("another run", 0.0, before, 3), LiveClock(boot(), 0.0, before, 4)):
        live.write(LiveRouting(clock=clock))
        assert routes.age() == math.inf


@pytest.mark.parametrize("skew", [-30.0, 0.0, 30.0])
def test_a_wrong_wall_clock_changes_nothing_about_freshness(tmp_path: Path, skew: float) -> None:
    """The shadow is 14 s old by the control database's clock, whatever this machine's wall clock says."""
    shadowed(tmp_path)
    report(tmp_path, NOW - 14.0, alpha=1.0, beta=1.0)
    routes = local_routes(tmp_path, clock=lambda: NOW + skew, check_every=0)
    assert routes.route("k", Operation.READ, ReadPreference("There", 1.0)).partition == "alpha"
    assert routes.route("k", Operation.READ, ReadPreference("There", 20.0)).partition == "beta"


def test_without_the_control_databases_clock_no_shadow_is_used(tmp_path: Path) -> None:
    routes = shadowed(tmp_path)
    LiveRoutingFile(tmp_path).write(LiveRouting((), {("k", "beta"): NOW}))
    assert routes.route("k", Operation.READ, ReadPreference("There")).partition == "alpha"
    assert routes.route("k", Operation.READ, ReadPreference("There", 60.0)).partition == "alpha"


def test_a_shadow_serves_a_written_key_once_it_has_the_write(tmp_path: Path) -> None:
    routes = shadowed(tmp_path)
    report(tmp_path, NOW - 1, alpha=1.0, beta=1.0)
    router, there = Router(routes, local=routes), ReadPreference("There")
    assert router.route("k", Operation.READ, there).partition == "beta"
    router.own_writes.note("k")
    assert router.route("k", Operation.READ, there).partition == "alpha"
    assert router.routes(["k"], Operation.READ, there)["k"].partition == "alpha"
    assert router.route("k", Operation.READ, there._replace(own_writes=False)).partition == "beta"
    report(tmp_path, NOW + 65, alpha=1.0, beta=1.0)  # a minute ahead, since the write's cluster time is not known
    assert router.route("k", Operation.READ, there).partition == "beta"


def test_whether_a_shadow_has_a_write_is_told_by_cluster_times_and_by_no_clock(tmp_path: Path) -> None:
    routes = shadowed(tmp_path)
    report(tmp_path, NOW, alpha=1.0, beta=1.0)
    router, there = Router(routes, local=routes), ReadPreference("There")
    router.own_writes.note("k", at=ClusterTime("alpha", 1_000, 5))
    for applied_to, expected in [
        (ClusterTime("alpha", 1_000, 4), "alpha"),
        (ClusterTime("alpha", 1_000, 5), "beta"),
        (ClusterTime("alpha", 999, 9), "alpha"),
        (ClusterTime("alpha", 1_001, 1), "beta"),
        (ClusterTime("gamma", 9_999, 1), "alpha"),
        (None, "alpha"),
    ]:
        # the control database's clock is set forward by 30 seconds, at its failover for example
        report(tmp_path, NOW + 30, applied_to, alpha=1.0, beta=1.0)
        assert router.route("k", Operation.READ, there).partition == expected, applied_to


def test_forgotten_writes_keep_shadows_away_until_they_have_all_of_them() -> None:
    times = iter(range(1, 100))
    writes = OwnWrites(clock=lambda: float(next(times)), most=4)
    assert writes.are_in("any", None, None)
    for number in range(6):
        writes.note(f"k{number}")
    assert not writes.are_in("k5", 6.0 + UNSURE, None)
    assert writes.are_in("k5", 6.5 + UNSURE, None)
    assert not writes.are_in("k0", 2.0 + UNSURE, None)
    assert not writes.are_in("never written", None, None)
    assert writes.are_in("k0", 5.5 + UNSURE, None)
