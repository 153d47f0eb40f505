"""Bulk writes with a scripted server: order, indexes, and resending after a fence."""

from __future__ import annotations

from typing import Any

import pytest
from pymongo.errors import BulkWriteError


def documents(keys: str) -> list[dict[str, Any]]:
    return [{"_id": i, "k": key} for i, key in enumerate(keys)]


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("until", [1, 4])
def test_each_document_is_inserted_once_and_in_order_if_ordered(ordered, until, fake) -> None:
    world = fake.Inserts({"m"}, until)
    assert world.insert(documents("kmkmmk"), ordered)["nInserted"] == 6
    assert sorted(world.applied) == [("alpha", 0), ("alpha", 2), ("alpha", 5), ("beta", 1), ("beta", 3), ("beta", 4)]
    if ordered:
        assert [number for _, number in world.applied] == list(range(6))


def test_an_ordered_insert_stops_at_a_real_error_even_after_a_fence(fake) -> None:
    world = fake.Inserts({"m"})
    given = documents("mkkk")
    given[2]["bad"] = True
    with pytest.raises(BulkWriteError) as stopped:
        world.insert(given, True)
    assert stopped.value.details["nInserted"] == 2
    assert [e["index"] for e in stopped.value.details["writeErrors"]] == [2]
    assert [number for _, number in world.applied] == [0, 1]


def test_an_unordered_insert_reports_every_error_with_the_apps_own_index(fake) -> None:
    world = fake.Inserts({"m"}, until=10**9)
    given = documents("kmkm")
    given[2]["bad"] = True
    with pytest.raises(BulkWriteError) as partly:
        world.insert(given, False, deadline=0.3)
    errors = partly.value.details["writeErrors"]
    assert [e["index"] for e in errors] == [1, 2, 3]
    assert "fence" in errors[0]["errmsg"]
    assert world.applied == [("alpha", 0)]


def test_with_a_document_without_a_key_nothing_is_sent(fake) -> None:
    world = fake.Inserts(set())
    with pytest.raises(Exception, match="no partitionable key"):
        world.insert([{"_id": 0, "k": "a"}, {"_id": 1}], True)
    assert world.applied == []
