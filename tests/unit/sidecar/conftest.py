"""A sidecar's service without a database."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import count
from random import Random

import pytest
from tests.sidecar_config import CONFIG
from tests.slots import slot_map

from foreshard.model import Location, Partition, PartitionLoad, Placement, RoutingTable
from foreshard.routing.packed import PackedPlacements, pack
from foreshard.sidecar._service import RouteService

NOW = 1_700_000_000.0
PARTITIONS = (
    Partition("sf-1", "San Francisco", 10.0, "mongodb://user:secret@one:1,two:2/?replicaSet=sf-1&appName=x"),
    Partition("sj-1", "San Jose", 10.0, "mongodb://three:3/"),
)
LOCATIONS = (Location("San Francisco", 37.789, -122.401), Location("San Jose", 37.336, -121.890))
RULE = slot_map(("sf-1", "sj-1"), (1.0, 1.0))


@pytest.fixture
def clock() -> list[float]:
    """The time, which a test may change."""
    return [NOW]


@pytest.fixture
def table() -> RoutingTable:
    return table_as("rows")


def table_as(form: str) -> RoutingTable:
    """One table in three forms: rows, packed, and packed with changes over it."""
    rows = (Placement("plain", "sf-1", (), 2), Placement("hot", "sf-1", ("sj-1",), 3), Placement("lost", "gone", (), 1))
    older = (Placement("plain", "sj-1", (), 1), rows[1], Placement("lost", "sf-1", ("sj-1",), 9))
    forms = {
        "rows": {p.key: p for p in rows},
        "packed": PackedPlacements(pack(rows, count(1))),
        "changed": PackedPlacements(pack(older, count(1)), {p.key: p for p in (rows[0], rows[2])}),
    }
    return RoutingTable(7, forms[form], RULE, datetime(2025, 1, 1, tzinfo=UTC))


@pytest.fixture
def empty_service(clock) -> RouteService:
    """A service without table, partitions and loads."""
    return RouteService(CONFIG, random=Random(1), clock=lambda: clock[0])


@pytest.fixture
def service(empty_service, table) -> RouteService:
    """A service with a table, two partitions, their loads and a fresh shadow."""
    empty_service.install_registry(PARTITIONS, LOCATIONS)
    empty_service.install_table(table, "one", "control database", NOW)
    at = datetime.fromtimestamp(NOW - 1, UTC)
    empty_service.install_loads([PartitionLoad("sf-1", 2.0, True, at), PartitionLoad("sj-1", 1.0, True, at)])
    empty_service.install_freshness({("hot", "sj-1"): NOW - 0.5})
    return empty_service
