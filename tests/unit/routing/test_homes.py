"""The homes of a table's partitions."""

from __future__ import annotations

from datetime import UTC, datetime
from random import Random

from tests.slots import slot_map

from foreshard.model import Placement, RoutingTable
from foreshard.routing.fence_lists import prescribed
from foreshard.routing.homes import Homes


def test_every_home_is_what_the_fence_of_that_partition_would_let_pass() -> None:
    draw = Random(7)
    names = ("alpha", "beta", "gamma")
    listed = {f"k{i}": Placement(f"k{i}", draw.choice(names), epoch=2) for i in range(500)}
    table = RoutingTable(3, listed, slot_map(names, (1.0, 2.0, 1.0)), datetime.now(UTC))
    homes = Homes(table)
    for name in (*names, "empty"):
        assert homes.of(name).away == prescribed(table, name)
        assert homes.of(name) is homes.of(name)
    for key in [*listed, "other", "another"]:
        assert sum(not homes.of(name).away.refuses(key) for name in names) == 1
