"""pymongo's own CRUD cases, run with pymongo on one server and with the routed client on three. They may not differ."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Mapping
from typing import Any

import pytest
from tests.integration.client.spec.cases import Case, cases
from tests.integration.client.spec.comparing import (
    DIFFERENT,
    OUTSIDE,
    REFUSED,
    SAME,
    Pair,
    Verdict,
    compare,
    in_order,
    is_outside,
)

PARTITIONS = ("alpha", "beta", "gamma")
DOCUMENTS = {"document", "replacement"}


def one_key(argument: str, value: Any) -> Any:
    """Give every document and every filter the same key."""
    if argument in {*DOCUMENTS, "filter"}:
        return {**value, "station": "a"}
    if argument == "documents":
        return [{**one, "station": "a"} for one in value]
    if argument == "pipeline":
        return [{"$match": {"station": "a"}}, *value]
    return value


def key_of(document: Mapping[str, Any]) -> str:
    """The key of a document in a spread collection."""
    return f"k{zlib.crc32(repr(document.get('_id')).encode()) % 3}"


def own_keys(argument: str, value: Any) -> Any:
    """Give every document a key by its ``_id``. Filters stay without a key."""
    if argument in DOCUMENTS:
        return {**value, "station": key_of(value)}
    return [{**one, "station": key_of(one)} for one in value] if argument == "documents" else value


@pytest.fixture
def verdicts(answerer, stand, sharded, client, partition_clients):
    """Runs all cases, with a way to give keys to their documents."""
    beside = partition_clients["gamma"][sharded.database]["beside"]
    routed = client[sharded.database][sharded.collection]
    version = partition_clients["alpha"].server_info()["version"]
    for number, partition in enumerate(PARTITIONS):
        answerer.place(f"k{number}", partition)

    def stored() -> tuple[list[Any], list[Any]]:
        return in_order(list(beside.find())), in_order([one for c in stand.values() for one in c.find()])

    def one(case: Case, change: Any) -> Verdict:
        if outside := is_outside(case, version):
            return Verdict(OUTSIDE, outside)
        for collection in (beside, *stand.values()):
            collection.drop()
        documents = change("documents", case.documents)
        if documents:
            beside.insert_many(documents)
            routed.insert_many(documents)
        return compare(case, Pair(beside, routed, stored, change, is_ordered=change is one_key))

    return lambda change: {case.name: one(case, change) for case in cases()}


UNACKNOWLEDGED = "an unacknowledged write would be lost in silence where a fence refuses it"
SECONDARY = "a secondary may not have a key yet that has just moved to its partition"
COLLATED = "a collation may match documents of other keys"
ALWAYS = {UNACKNOWLEDGED: 26, COLLATED: 10, "$out bypasses the routing": 8, "$merge bypasses the routing": 5, SECONDARY: 2}
"""What is refused, and for how many cases."""
WITH_A_KEY = {
    "its $replaceWith may give the document another key": 10,
    "its $project may give the document another key": 3,
    "its $replaceRoot may give the document another key": 2,
}
WITHOUT_A_KEY = {
    "its filter names no partitionable key": 71,
    "its $replaceWith may give the document another key": 6,
    "its $project may give the document another key": 1,
    "its $replaceRoot may give the document another key": 2,
    "it would give the document another key": 20,
    "a replacement without a key in its filter would leave a document of another key as it is, in silence": 2,
    "an upsert without a key may make a second document, since _id is unique on each partition only": 8,
}
NOT_ABOUT_IT = {
    "for another server version": 124,
    "needs a server with fail points": 6,
    "no verb of documents: count": 5,
    "aggregate of a database": 5,
    "clientBulkWrite of a client": 3,
    "its result is random": 1,
    "dropCollection of a database": 1,
    "no verb of documents: createIndex": 1,
    "modifyCollection of a database": 1,
}
"""Cases that are no question to a sharded collection, or not to this server."""


def of(verdicts: Mapping[str, Verdict], what: str) -> dict[str, int]:
    """The reasons for a verdict, each with its number of cases."""
    return dict(Counter(verdict.why for verdict in verdicts.values() if verdict.what == what))


def are_as_pymongos(verdicts: Mapping[str, Verdict], refused: Mapping[str, int], same: int) -> None:
    """Check that no case differs, and that exactly these are refused."""
    assert {name: verdict.why for name, verdict in verdicts.items() if verdict.what == DIFFERENT} == {}
    assert of(verdicts, REFUSED) == refused
    assert of(verdicts, OUTSIDE) == NOT_ABOUT_IT
    assert sum(of(verdicts, SAME).values()) == same


def test_documents_of_one_key_answer_as_pymongo_does_or_are_refused_by_name(verdicts) -> None:
    are_as_pymongos(verdicts(one_key), {**ALWAYS, **WITH_A_KEY}, same=224)


def test_documents_of_many_keys_answer_as_pymongo_does_or_are_refused_by_name(verdicts) -> None:
    are_as_pymongos(verdicts(own_keys), {**ALWAYS, **WITHOUT_A_KEY}, same=129)
