"""What a move ensures on its target's collections, whatever they hold, and what it refuses before it copies anything."""

from __future__ import annotations

import pytest
from pymongo.errors import DuplicateKeyError, WriteError

from foreshard.stages import migrate
from foreshard.stores.partition.fences.fence_validator import read_options

ADULTS = {"age": {"$gte": 0}}


@pytest.fixture
def people(world):
    """Stations with an email and an age on alpha: emails are unique, and ages at least 0. Beta has one of another key."""
    alpha = world.clients["alpha"][world.database]
    alpha.create_collection("stations", validator=ADULTS)
    alpha["stations"].create_index("email", unique=True, name="by_email")
    alpha["stations"].insert_many({"_id": n, "name": world.key, "email": f"{n}@a", "age": n} for n in range(20))
    world.stations("beta").insert_one({"_id": "other", "name": "other", "email": "other@b", "age": 5})
    return world


def own_rules(world, partition: str):
    options = next(iter(world.clients[partition][world.database].list_collections(filter={"name": "stations"})))["options"]
    return read_options(options, world.wiring.settings.sharded_collections[1]).rules


def test_indexes_and_validator_hold_on_a_target_that_has_documents_and_after_moving_back(people):
    world = people
    assert world.move("alpha", "beta").state == "switched"
    with pytest.raises(DuplicateKeyError):
        world.stations("beta").insert_one({"name": world.key, "email": "7@a", "age": 7})
    with pytest.raises(WriteError, match="failed validation"):
        world.stations("beta").insert_one({"name": world.key, "email": "new@a", "age": -5})
    assert own_rules(world, "beta") == own_rules(world, "alpha")
    migrate.clean_moves(world.wiring)
    assert world.move("beta", "alpha").state == "switched"
    assert world.stations("alpha").count_documents({"name": world.key}) == 20


def test_documents_on_the_target_that_break_a_unique_index_refuse_the_move_in_one_line(people):
    world = people
    world.stations("beta").insert_one({"_id": "twin", "name": "another", "email": "other@b", "age": 5})
    summary = world.move("alpha", "beta")
    assert summary.state == "reverted"
    assert "break the source's unique index 'by_email': email 'other@b'" in summary.error
    assert "\n" not in summary.error
    assert world.stations("beta").count_documents({"name": world.key}) == 0
    assert not world.refused("alpha")


def test_a_unique_index_that_only_the_target_has_refuses_the_move_before_anything_is_copied(people):
    world = people
    world.stations("beta").create_index("age", unique=True)
    summary = world.move("alpha", "beta")
    assert summary.state == "reverted"
    assert "has a unique index 'age_1' that the source lacks" in summary.error
    assert world.stations("beta").count_documents({}) == 1
    assert not world.refused("alpha")


def test_another_validator_on_the_target_refuses_the_move(people):
    world = people
    world.clients["beta"][world.database].command("collMod", "stations", validator={"age": {"$lt": 5}})
    summary = world.move("alpha", "beta")
    assert summary.state == "reverted"
    assert "has another validator than the source's" in summary.error
    assert own_rules(world, "beta").validator == {"age": {"$lt": 5}}


@pytest.mark.parametrize("partition", ["alpha", "beta"])
@pytest.mark.parametrize("kind", ["view", "time series", "capped", "moderate"])
def test_a_collection_that_cannot_be_moved_refuses_the_move_before_it_begins(world, partition, kind):
    options = {
        "view": {"viewOn": "trips", "pipeline": []},
        "time series": {"timeseries": {"timeField": "at"}},
        "capped": {"capped": True, "size": 4096},
        "moderate": {"validator": ADULTS, "validationLevel": "moderate"},
    }[kind]
    world.clients[partition][world.database].create_collection("stations", **options)
    move_id = world.plan("alpha", "beta")
    summary = migrate.run_move(world.wiring, move_id)
    assert summary.state == "reverted"
    assert "stations" in summary.error
    assert [str(entry.state) for entry in world.wiring.move_journal.get(move_id).history] == ["planned", "reverted"]
    assert not world.refused("alpha")
    assert not world.refused("beta")
