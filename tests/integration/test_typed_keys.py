"""The documents' stores and the verifier with keys of every type, on real partitions."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import uuid4

import pytest
from bson import ObjectId

from foreshard.errors import VerificationFailed
from foreshard.model import Location, Partition
from foreshard.model.key_space import KeyType
from foreshard.settings import CollectionSetting, Settings
from foreshard.stages.first_table import publish_first_table
from foreshard.stages.publish import verify_hour
from foreshard.stores.bson_codec import key_value
from foreshard.stores.partition.verifier import MongoVerifier
from foreshard.wiring import Wiring

HOUR = datetime(2024, 3, 5, 7, tzinfo=UTC)
TEXTS = {
    KeyType.STRING: ("a", "b", "c"),
    KeyType.INT: ("5", "-70000000000", "123"),
    KeyType.OBJECT_ID: tuple(str(ObjectId()) for _ in range(3)),
    KeyType.UUID: tuple(str(uuid4()) for _ in range(3)),
}


@pytest.fixture(params=list(KeyType))
def key_type(request) -> KeyType:
    return request.param


@pytest.fixture
def keys(key_type) -> tuple[str, str, str]:
    """On alpha, on beta, and unlisted (on gamma)."""
    return TEXTS[key_type]


@pytest.fixture
def wiring(mongods, unique_name, work_folder, control, partition_clients, key_type, keys):
    collections = [CollectionSetting(database=unique_name, collection="orders", key_field="who.id", key_type=key_type)]
    settings = Settings.load(
        control_uri=mongods[0].uri, control_database=unique_name, data_dir=work_folder, collections=collections
    )
    with Wiring(settings) as built:
        uris = {mongod.name: mongod.uri for mongod in mongods[1:]}
        built.registry.register([Partition(name, "here", 10.0, uri) for name, uri in uris.items()], [Location("here", 0, 0)])
        publish_first_table(built, {keys[0]: "alpha", keys[1]: "beta"}, ["gamma"])
        for partition, key in zip(("alpha", "beta", "gamma"), keys, strict=True):
            partition_clients[partition][unique_name]["orders"].insert_many(
                [{"_id": f"{key}/{n}", "who": {"id": key_value(key, key_type)}} for n in range(3)]
            )
        built.verifier = MongoVerifier(built.mongo, looks=2, pause=0.01)
        yield built


@pytest.fixture
def orders(partition_clients, unique_name):
    return {name: client[unique_name]["orders"] for name, client in partition_clients.items()}


def test_the_verifier_finds_documents_at_the_partitions_of_their_keys(wiring, orders, keys, key_type) -> None:
    summary = verify_hour(wiring, HOUR)
    assert (summary.documents, summary.keys, summary.misplaced, summary.without_key) == (9, 3, 0, 0)
    orders["beta"].insert_one({"_id": "stray", "who": {"id": key_value(keys[0], key_type)}})
    with pytest.raises(VerificationFailed, match="1 misplaced"):
        verify_hour(wiring, HOUR)


def test_documents_whose_key_has_another_type_are_counted_as_keyless(wiring, orders, key_type) -> None:
    orders["alpha"].insert_many([{"who": {"id": True}}, {"who": {"id": 5.5}}, {"who": {"id": [1]}}, {"who": {}}])
    summary = verify_hour(wiring, HOUR)
    assert (summary.documents, summary.without_key) == (9, 4)


def test_the_document_reader_finds_the_documents_of_a_key(wiring, keys) -> None:
    (collection,) = wiring.sharded_collections
    reader = wiring.documents("alpha")
    found = [document_id for batch in reader.scan(collection, keys[0], 2) for document_id, _ in batch.values()]
    assert sorted(found) == [f"{keys[0]}/{n}" for n in range(3)]
    ids = [f"{keys[0]}/1", f"{keys[1]}/1"]
    assert [document_id for document_id, _ in reader.fetch(collection, keys[0], ids).values()] == ids[:1]
    assert len(reader.present(collection, keys[0], ids)) == 1


def test_the_change_feed_captures_the_changes_of_a_key(wiring, orders, keys, key_type) -> None:
    feed = wiring.change_feed("alpha")
    feed.open(frozenset([keys[0]]), None)
    orders["alpha"].insert_many(
        [
            {"_id": "new", "who": {"id": key_value(keys[0], key_type)}},
            {"_id": "other", "who": {"id": key_value(keys[1], key_type)}},
        ]
    )
    orders["alpha"].update_one({"_id": f"{keys[0]}/0"}, {"$set": {"n": 1}})
    changes = {change.document_id: change.key for change in feed.read(100, 500).changes}
    feed.close()
    assert changes == {"new": keys[0], f"{keys[0]}/0": keys[0]}


def test_a_replica_erases_the_documents_of_a_key_and_no_others(wiring, orders, keys, key_type) -> None:
    orders["alpha"].insert_one({"_id": "other", "who": {"id": key_value(keys[1], key_type)}})
    assert wiring.replica("alpha").erase(keys[0], 7) == 3
    assert [document["_id"] for document in orders["alpha"].find()] == ["other"]
