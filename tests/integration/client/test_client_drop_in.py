"""Smaller habits of pymongo's apps: attributes, positional arguments, slices, indexes."""

from __future__ import annotations

import pytest
from pymongo import WriteConcern
from pymongo.collection import Collection
from pymongo.errors import ConfigurationError, InvalidOperation, OperationFailure

from foreshard.client._routed_client import ClientOptions
from foreshard.client.routing.pymongo_errors import IndexesDiffer


@pytest.fixture
def placed(answerer):
    for key, partition in zip("abc", ("alpha", "beta", "gamma"), strict=True):
        answerer.place(key, partition)


@pytest.fixture
def client(make_client, placed):
    return make_client()


@pytest.fixture
def things(client, sharded):
    made = client[sharded.database][sharded.collection]
    made.insert_many([{"_id": i, "station": "abc"[i % 3], "n": i} for i in range(12)])
    return made


def test_databases_and_collections_are_attributes_too(client, sharded, things) -> None:
    assert getattr(client, sharded.database).things is things
    assert client.get_database(sharded.database).get_collection("things") is things
    assert things.full_name == f"{sharded.database}.things"
    with pytest.raises(AttributeError):
        assert client._nothing
    with pytest.raises(AttributeError):
        assert client[sharded.database]._nothing


def test_an_unsharded_collection_is_pymongos_own_on_the_home_partition(make_client, sharded, answerer, stand, placed) -> None:
    client = make_client(ClientOptions(home_partition="beta"))
    users = client[sharded.database]["users"]
    assert type(users) is Collection
    users.insert_one({"_id": 1})
    assert stand["beta"].database["users"].find_one() == {"_id": 1}
    assert client[sharded.database].get_collection("users", write_concern=WriteConcern(1)).write_concern == WriteConcern(1)
    client[sharded.database].things.insert_one({"_id": 1, "station": "a"})
    assert stand["alpha"].find_one() == {"_id": 1, "station": "a"}
    with pytest.raises(ConfigurationError, match="nowhere is not registered; use one of alpha, beta, gamma"):
        make_client(ClientOptions(home_partition="nowhere"))[sharded.database]["users"]
    with pytest.raises(ConfigurationError, match="name a home_partition"):
        make_client()[sharded.database]["users"]


def test_a_method_of_pymongos_client_that_is_not_there_is_refused_in_one_line(client) -> None:
    for method in ("list_database_names", "watch", "drop_database"):
        with pytest.raises(InvalidOperation, match="a routed client has no such method") as refused:
            getattr(client, method)()
        assert method in str(refused.value)
        assert "\n" not in str(refused.value)


def test_the_positional_arguments_of_find_are_pymongos(things, stand) -> None:
    alone = stand["alpha"].database["alone"]
    alone.insert_many([{"_id": i, "station": "abc"[i % 3], "n": i} for i in range(12)])
    arguments = ({"n": {"$gt": 2}}, {"n": 1}, 1, 4, False, 0, [("n", -1)])
    assert list(things.find(*arguments)) == list(alone.find(*arguments))
    for projection in ([], {}, ["n"], {"_id": 0}):
        assert list(things.find({}, projection, sort=[("n", 1)])) == list(alone.find({}, projection, sort=[("n", 1)]))


def test_cursors_have_indices_slices_and_bounds(things) -> None:
    assert things.find(sort="n")[3]["n"] == 3
    assert things.find(sort="n").skip(2)[3]["n"] == 5
    assert [d["n"] for d in things.find(sort="n")[2:5]] == [2, 3, 4]
    assert [d["n"] for d in things.find(sort="n")[10:]] == [10, 11]
    assert list(things.find(sort="n")[4:4]) == []
    for wrong in (100, -1, slice(1, 5, 2), slice(5, 1)):
        with pytest.raises(IndexError):
            things.find(sort="n")[wrong]
    cursor = things.find(sort="n")
    assert cursor.alive
    assert len(list(cursor)) == 12
    assert not cursor.alive
    with pytest.raises(InvalidOperation):
        cursor[1]
    things.create_index("n")
    bounded = things.find(sort="n").hint([("n", 1)]).min([("n", 3)]).max([("n", 6)]).allow_disk_use(True)
    assert [d["n"] for d in bounded] == [3, 4, 5]


def test_an_index_is_made_and_dropped_on_every_partition(things, stand) -> None:
    assert things.create_index([("n", -1)], name="by_n") == "by_n"
    assert all("by_n" in c.index_information() for c in stand.values())
    assert "by_n" in things.index_information()
    stand["beta"].drop_index("by_n")
    with pytest.raises(IndexesDiffer, match="by_n of beta is not as on alpha"):
        things.index_information()
    with pytest.raises(IndexesDiffer, match=r"failed on beta .* done on the other partitions"):
        things.drop_index("by_n")
    with pytest.raises(OperationFailure):
        things.drop_index("by_n")


def test_a_unique_index_must_have_the_key_field(things) -> None:
    with pytest.raises(InvalidOperation, match="unique on each partition only"):
        things.create_index("code", unique=True)
    assert things.create_index([("station", 1), ("n", 1)], unique=True)
    with pytest.raises(OperationFailure):
        things.insert_one({"station": "a", "n": 0})
