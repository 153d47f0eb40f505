from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from foreshard.adapters.routing_file import RoutingFile, SavedRouting
from foreshard.client.file_routes import FileRoutes
from foreshard.client.routes import Operation
from foreshard.errors import Unreachable
from foreshard.model import DefaultRule, Location, Partition, Placement, RoutingTable
from foreshard.routing.table import locate

PARTITIONS = tuple(Partition(name, "Home", 10.0, f"mongodb://{name}") for name in ("alpha", "beta"))


def saved(version: int, **places: str) -> SavedRouting:
    placements = {key: Placement(key, partition, (), 3) for key, partition in places.items()}
    rule = DefaultRule(("alpha", "beta"), (1.0, 1.0))
    table = RoutingTable(version, placements, rule, datetime(2024, 1, 1, tzinfo=UTC))
    return SavedRouting("t", table, PARTITIONS, (Location("Home", 0.0, 0.0),), 1_700_000_000.0)


def test_a_key_is_routed_to_its_primary_as_the_saved_table_says(tmp_path: Path) -> None:
    RoutingFile(tmp_path).save(saved(7, k="beta"))
    routes = FileRoutes(tmp_path)
    route = routes.route("k", Operation.READ, "Home")
    assert (route.partition, route.epoch, route.table_version, route.uri) == ("beta", 3, 7, "mongodb://beta")
    assert routes.route("unlisted", Operation.WRITE, None).partition == locate(saved(7).table, "unlisted").primary
    assert [p.partition for p in routes.partitions()] == ["alpha", "beta"]


def test_a_replaced_file_is_read_again(tmp_path: Path) -> None:
    file, routes = RoutingFile(tmp_path), FileRoutes(tmp_path)
    file.save(saved(7, k="beta"))
    assert routes.route("k", Operation.READ, None).partition == "beta"
    file.save(saved(8, k="alpha"))
    assert routes.route("k", Operation.READ, None).partition == "alpha"


def test_a_damaged_file_is_passed_over_for_the_one_before_and_left_where_it_is(tmp_path: Path) -> None:
    file = RoutingFile(tmp_path)
    file.save(saved(7, k="beta"))
    file.save(saved(8, k="alpha"))
    file.path.write_bytes(file.path.read_bytes()[:-20])
    assert FileRoutes(tmp_path).route("k", Operation.READ, None).table_version == 7
    assert file.path.exists()
    file.previous.write_bytes(b"")
    with pytest.raises(Unreachable, match="routing file"):
        FileRoutes(tmp_path).route("k", Operation.READ, None)
