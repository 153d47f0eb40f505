"""Options of a collection, and what else cursors tell: distinct values and the servers' plans."""

from __future__ import annotations

from typing import Any

import pytest
from bson import SON
from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument
from pymongo import ReadPreference, ReplaceOne, UpdateMany, WriteConcern
from pymongo.errors import InvalidOperation, PyMongoError
from pymongo.read_concern import ReadConcern


@pytest.fixture
def filled(things, answerer, stand):
    """The routed collection with twelve documents on three partitions."""
    for number, (key, partition) in enumerate(zip("abc", stand, strict=True)):
        answerer.place(key, partition)
        stand[partition].insert_many([{"_id": i, "station": key, "n": i % 5} for i in range(number, 12, 3)])
    return things


def test_a_collection_takes_pymongos_options(make_client, answerer, sharded, stand) -> None:
    answerer.place("a", "alpha")
    database = make_client()[sharded.database]
    things = database.things.with_options(
        CodecOptions(SON), write_concern=WriteConcern(1), read_concern=ReadConcern("majority")
    )
    things.insert_one({"_id": 1, "station": "a"})
    assert type(things.find_one({"station": "a"})) is SON
    assert type(next(things.find())) is SON
    assert type(database.get_collection("things", codec_options=CodecOptions(SON)).find_one()) is SON
    assert type(database.things.find_one({"station": "a"})) is dict
    chosen = (things.write_concern, things.read_concern, things.codec_options)
    assert chosen == (WriteConcern(1), ReadConcern("majority"), CodecOptions(SON))
    usual = database.things
    assert (usual.write_concern, usual.read_concern) == (WriteConcern("majority"), ReadConcern())
    assert usual.codec_options == stand["alpha"].codec_options
    assert usual.database.name == things.database.name == sharded.database
    assert usual.database[sharded.collection] is usual
    cursor = usual.find({"station": "a"})
    assert cursor.collection is usual
    assert cursor.clone().collection is usual
    assert stand["alpha"].count_documents({}) == 1


@pytest.mark.parametrize(
    "option",
    [
        {"write_concern": WriteConcern(0)},
        {"read_preference": ReadPreference.SECONDARY_PREFERRED},
        {"codec_options": CodecOptions(RawBSONDocument)},
    ],
    ids=lambda option: next(iter(option)),
)
def test_options_under_which_an_answer_could_be_wrong_are_refused_in_one_line(things, option: dict[str, Any]) -> None:
    with pytest.raises(InvalidOperation) as refused:
        things.with_options(**option)
    assert "\n" not in str(refused.value)


def test_a_cursor_tells_the_distinct_values_of_its_documents(filled) -> None:
    assert filled.find({"n": {"$gt": 1}}).limit(1).distinct("n") == [2, 3, 4]
    assert filled.find({"station": "a"}).distinct("_id") == [0, 3, 6, 9]


def test_a_cursor_explains_its_plan_on_each_partition_that_it_asks(filled, sharded, stand) -> None:
    assert filled.find({"station": "a"}).explain()["queryPlanner"]["namespace"] == sharded.namespace
    plans = filled.find({"n": 1}).explain()["partitions"]
    assert sorted(plans) == sorted(stand)
    assert all(plan["queryPlanner"]["namespace"] == sharded.namespace for plan in plans.values())


def test_variables_of_let_reach_every_partition(filled) -> None:
    wanted, given = {"$expr": {"$eq": ["$n", "$$wanted"]}}, {"wanted": 3}
    assert sorted(one["_id"] for one in filled.find(wanted, let=given)) == [3, 8]
    assert filled.replace_one({"_id": 99, **wanted}, {"station": "a"}, let=given).matched_count == 0
    request = UpdateMany({**wanted, "station": {"$in": ["a", "b", "c"]}}, {"$set": {"seen": True}})
    assert filled.bulk_write([request], ordered=False, let=given).modified_count == 2


def test_a_replacement_in_a_bulk_write_must_name_its_key_or_its_id(filled, stand) -> None:
    before = [list(c.find().sort("_id")) for c in stand.values()]
    with pytest.raises(InvalidOperation, match="in silence"):
        filled.bulk_write([ReplaceOne({"n": 0}, {"station": "b"})])
    with pytest.raises(InvalidOperation, match="another key"):
        filled.bulk_write([ReplaceOne({"_id": 0}, {"station": "b"})])
    with pytest.raises(PyMongoError, match="another key"):
        filled.replace_one({"_id": 0}, {"station": "b"})
    assert [list(c.find().sort("_id")) for c in stand.values()] == before
