"""A small MongoEngine app on the routed client."""

from __future__ import annotations

from collections.abc import Iterator

import mongoengine as engine
import pytest

from foreshard.errors import UnroutableOperation


class Bike(engine.Document):
    """A document whose shard key MongoEngine adds to the filter of each save and delete."""

    station = engine.StringField(required=True)
    n = engine.IntField()
    meta = {"collection": "things", "shard_key": ("station",), "indexes": ["n"]}  # noqa: RUF012 (MongoEngine's form)


@pytest.fixture
def app(make_client, answerer, sharded, stand) -> Iterator[type[Bike]]:
    """The app, with eight bikes at three stations on three partitions."""
    for key, partition in zip("abc", stand, strict=True):
        answerer.place(key, partition)
    client = make_client()
    engine.connect(sharded.database, mongo_client_class=lambda **_: client, uuidRepresentation="standard")
    Bike._collection = None
    for number, station in enumerate("abcabcab"):
        Bike(station=station, n=number).save()
    yield Bike
    engine.disconnect()


def test_an_app_saves_finds_changes_and_deletes_its_documents(app, stand) -> None:
    assert [c.count_documents({}) for c in stand.values()] == [3, 3, 2]
    assert all("n_1" in c.index_information() for c in stand.values())
    assert [bike.n for bike in app.objects.order_by("-n")[1:4]] == [6, 5, 4]
    assert app.objects(station="a").count() == 3
    bike = app.objects(station="c").order_by("n").first()
    bike.n = 99
    bike.save()
    bike.reload()
    assert bike.n == 99
    assert app.objects(station="a").update(inc__n=10) == 3
    assert app.objects(station="a", n=10).modify(set__n=11, new=True).n == 11
    bike.delete()
    assert app.objects(station="b").delete() == 3
    assert sorted(found.n for found in app.objects) == [5, 11, 13, 16]


def test_an_app_aggregates_over_all_partitions(app) -> None:
    assert app.objects.sum("n") == 28
    assert app.objects(n__gt=1).average("n") == 4.5
    assert app.objects.distinct("station") == ["a", "b", "c"]
    assert [row["_id"] for row in app.objects.aggregate([{"$group": {"_id": "$station"}}, {"$sort": {"_id": 1}}])] == [
        "a",
        "b",
        "c",
    ]


def test_a_change_of_documents_of_all_keys_is_refused(app) -> None:
    with pytest.raises(UnroutableOperation, match="names no partitionable key"):
        app.objects(n__gt=1).delete()
    assert app.objects.count() == 8
