"""Sessions and transactions of the routed client on real servers, against fences that come before, between and after."""

from __future__ import annotations

import threading
from contextlib import suppress
from dataclasses import replace

import pytest
from pymongo import DeleteOne, InsertOne, UpdateMany, UpdateOne, WriteConcern
from pymongo.errors import InvalidOperation, OperationFailure, PyMongoError
from pymongo.read_concern import ReadConcern

from foreshard.errors import KeyMovedInTransaction, UnroutableOperation

TRANSIENT = "TransientTransactionError"
ON_K = {
    "insert_one": lambda c, s: c.insert_one({"_id": 2, "station": "k"}, session=s),
    "insert_many": lambda c, s: c.insert_many([{"station": "k"}, {"station": "k"}], session=s),
    "update_one": lambda c, s: c.update_one({"station": "k"}, {"$inc": {"n": 1}}, session=s),
    "update_one without a match": lambda c, s: c.update_one({"station": "k", "n": 99}, {"$inc": {"n": 1}}, session=s),
    "update_many": lambda c, s: c.update_many({"station": "k"}, {"$inc": {"n": 1}}, session=s),
    "replace_one": lambda c, s: c.replace_one({"station": "k"}, {"station": "k"}, session=s),
    "delete_one": lambda c, s: c.delete_one({"station": "k"}, session=s),
    "delete_many": lambda c, s: c.delete_many({"station": "k"}, session=s),
    "find_one_and_update": lambda c, s: c.find_one_and_update({"station": "k"}, {"$inc": {"n": 1}}, session=s),
    "find_one_and_delete": lambda c, s: c.find_one_and_delete({"station": "k"}, session=s),
    "bulk_write": lambda c, s: c.bulk_write(
        [DeleteOne({"station": "k"}), UpdateMany({"station": "k"}, {"$inc": {"n": 1}})], session=s
    ),
    "find_one": lambda c, s: c.find_one({"station": "k"}, session=s),
    "find": lambda c, s: list(c.find({"station": "k"}, session=s)),
    "count_documents": lambda c, s: c.count_documents({"station": "k"}, session=s),
    "distinct": lambda c, s: c.distinct("n", {"station": "k"}, session=s),
    "aggregate": lambda c, s: list(c.aggregate([{"$match": {"station": "k"}}], session=s)),
}


COUNTS = ("inserted_count", "matched_count", "modified_count", "deleted_count", "upserted_id")


def told(answer: object) -> object:
    """What an answer says, without what differs between servers."""
    counts = {}
    for name in COUNTS:
        with suppress(AttributeError):
            counts[name] = getattr(answer, name)
    return counts or (answer if answer is None or isinstance(answer, dict | list | int) else type(answer).__name__)


@pytest.fixture
def placed(answerer, things):
    """Keys k and l on alpha, and b on beta, with one document each."""
    for key in ("k", "l"):
        answerer.place(key, "alpha")
    answerer.place("b", "beta")
    things.insert_many([{"_id": key, "station": key, "n": 0} for key in ("k", "l", "b")])
    return things


def test_a_transaction_commits_all_or_nothing(placed, stand) -> None:
    with placed.start_session() as session:
        with session.start_transaction():
            placed.update_one({"station": "k"}, {"$inc": {"n": 1}}, session=session)
            placed.update_one({"station": "l"}, {"$inc": {"n": -1}}, session=session)
            assert placed.find_one({"station": "k"}, session=session)["n"] == 1
            assert placed.find_one({"station": "k"})["n"] == 0
        assert {d["_id"]: d["n"] for d in stand["alpha"].find()} == {"k": 1, "l": -1}
        with suppress(ZeroDivisionError), session.start_transaction():
            placed.delete_many({"station": {"$in": ["k", "l"]}}, session=session)
            assert placed.count_documents({"station": {"$in": ["k", "l"]}}, session=session) == 0
            1 / 0  # noqa: B018
        assert not session.in_transaction
    assert stand["alpha"].count_documents({}) == 2


def test_every_verb_of_a_transaction_sees_and_does_what_pymongos_does(placed, stand, partition_clients) -> None:
    alone = stand["gamma"]
    alone.insert_many([{"_id": key, "station": key, "n": 0} for key in ("k", "l")])
    found = {}
    for name, collection, start in (
        ("routed", placed, placed.start_session),
        ("pymongo", alone, partition_clients["gamma"].start_session),
    ):
        found[name] = []
        for verb in ON_K.values():
            with start() as session:
                session.start_transaction(read_concern=ReadConcern("snapshot"), write_concern=WriteConcern("majority"))
                answer = verb(collection, session)
                left = collection.find({"station": {"$in": ["k", "l"]}}, {"n": 1, "station": 1, "_id": 0}, session=session)
                found[name].append((told(answer), list(left)))
                session.abort_transaction()
    assert found["routed"] == found["pymongo"]
    assert stand["alpha"].count_documents({}) == 2


def test_a_key_of_another_partition_is_refused_in_one_line_before_anything_is_sent(placed, stand) -> None:
    with placed.start_session() as session, session.start_transaction():
        placed.update_one({"station": "k"}, {"$inc": {"n": 1}}, session=session)
        for refused in (
            lambda: placed.update_one({"station": "b"}, {"$inc": {"n": 1}}, session=session),
            lambda: placed.find_one({"station": "b"}, session=session),
            lambda: placed.count_documents({"station": {"$in": ["k", "b"]}}, session=session),
            lambda: placed.bulk_write([InsertOne({"station": "k"}), InsertOne({"station": "b"})], session=session),
        ):
            with pytest.raises(UnroutableOperation) as one:
                refused()
            assert "key 'b' lives on beta, and the transaction is on alpha; name keys of one partition only" in str(one.value)
            assert "\n" not in str(one.value)
        placed.update_one({"station": "l"}, {"$inc": {"n": 1}}, session=session)
    assert {d["_id"]: d["n"] for d in stand["alpha"].find()} == {"k": 1, "l": 1}
    assert [d["n"] for d in stand["beta"].find()] == [0]


def test_what_can_not_be_on_one_partition_is_refused(placed, partition_clients) -> None:
    with placed.start_session() as session, session.start_transaction():
        for refused in (
            lambda: list(placed.find({}, session=session)),
            lambda: placed.aggregate([{"$group": {"_id": None}}], session=session),
            lambda: placed.create_index("n", session=session),
            lambda: placed.replace_one({"_id": "none"}, {"station": "k"}, session=session),
        ):
            with pytest.raises(UnroutableOperation):
                refused()
    with pytest.raises(UnroutableOperation, match="snapshot"):
        placed.start_session(snapshot=True)
    with (
        partition_clients["alpha"].start_session() as session,
        pytest.raises(UnroutableOperation, match="use start_session"),
    ):
        placed.find_one({"station": "k"}, session=session)


@pytest.mark.parametrize("verb", ON_K)
def test_under_an_old_table_a_transaction_aborts_with_pymongos_label_and_changes_nothing(
    placed, stand, answerer, move, verb
) -> None:
    move("k", "alpha", "beta")  # published, but the sidecar answers the old partition until it is refreshed
    before = {name: list(stand[name].find().sort("_id")) for name in stand}
    with placed.start_session() as session:
        session.start_transaction()
        placed.update_one({"station": "l"}, {"$inc": {"n": 1}}, session=session)
        with pytest.raises(KeyMovedInTransaction) as overtaken:
            ON_K[verb](placed, session)
        assert isinstance(overtaken.value, OperationFailure)
        assert overtaken.value.has_error_label(TRANSIENT)
        with pytest.raises(PyMongoError) as commit:
            session.commit_transaction()
        assert commit.value.has_error_label(TRANSIENT)
    assert {name: list(stand[name].find().sort("_id")) for name in stand} == before


@pytest.mark.parametrize("verb", ON_K)
def test_the_first_verb_of_a_transaction_is_checked_too(placed, answerer, move, verb) -> None:
    move("k", "alpha", "beta")
    with placed.start_session() as session, pytest.raises(KeyMovedInTransaction), session.start_transaction():
        ON_K[verb](placed, session)


def test_with_transaction_is_repeated_at_the_new_owner(placed, stand, move) -> None:
    move("k", "alpha", "beta")
    calls = []
    with placed.start_session() as session:

        def on_k(session: object) -> str:
            calls.append(1)
            placed.update_one({"station": "k"}, {"$inc": {"n": 1}}, session=session)
            placed.insert_one({"_id": "new", "station": "k", "n": 5}, session=session)
            return "done"

        assert session.with_transaction(on_k) == "done"
    assert len(calls) == 2
    assert {d["_id"]: d["n"] for d in stand["beta"].find({"station": "k"})} == {"k": 1, "new": 5}
    assert stand["alpha"].find_one({"station": "k"})["n"] == 0


def test_with_transaction_waits_for_a_key_that_is_being_moved(placed, stand, answerer, fences) -> None:
    fences["alpha"].fence(["k"])
    waiting = threading.Event()

    def finish() -> None:
        while answerer.refreshes < 3:
            waiting.wait(0.005)
        stand["beta"].insert_many(list(stand["alpha"].find({"station": "k"})))
        answerer.publish("k", "beta")

    mover = threading.Thread(target=finish)
    mover.start()
    with placed.start_session() as session:
        done = session.with_transaction(lambda s: placed.update_one({"station": "k"}, {"$inc": {"n": 1}}, session=s))
    mover.join()
    assert done.modified_count == 1
    assert (stand["alpha"].find_one({"_id": "k"})["n"], stand["beta"].find_one({"_id": "k"})["n"]) == (0, 1)


def test_a_fence_waits_for_a_transaction_that_has_read_its_key(placed, stand, fences) -> None:
    done = threading.Event()

    def fence() -> None:
        fences["alpha"].fence(["k"])
        done.set()

    mover = threading.Thread(target=fence)
    with placed.start_session() as session, session.start_transaction():
        assert placed.find_one({"station": "k"}, session=session)["n"] == 0
        mover.start()
        assert not done.wait(0.5)
        placed.update_one({"station": "l"}, {"$inc": {"n": 1}}, session=session)
        placed.delete_one({"station": "k"}, session=session)
        assert not done.is_set()
    mover.join()
    assert [d["_id"] for d in stand["alpha"].find()] == ["l"]


@pytest.mark.parametrize("level", ["local", "majority", "snapshot"])
def test_a_key_that_has_come_since_the_transaction_began_is_not_read_as_empty(
    make_client, answerer, move, sharded, level
) -> None:
    client = make_client()
    client._collections[sharded.database, "others"] = client._routed(replace(sharded, collection="others"))
    things, others = client[sharded.database]["things"], client[sharded.database]["others"]
    answerer.place("k", "alpha")
    answerer.place("b", "beta")
    things.insert_one({"_id": "k", "station": "k"})
    with client.start_session() as session:
        session.start_transaction(read_concern=ReadConcern(level))
        others.find_one({"station": "b"}, session=session)
        move("k", "alpha", "beta")
        with pytest.raises(PyMongoError) as overtaken:
            things.find_one({"station": "k"}, session=session)
        assert overtaken.value.has_error_label(TRANSIENT)
        session.abort_transaction()
        session.start_transaction()
        assert things.find_one({"station": "k"}, session=session) == {"_id": "k", "station": "k"}
        session.commit_transaction()


def test_a_session_without_a_transaction_works_on_every_partition(placed) -> None:
    with placed.start_session(causal_consistency=True) as session:
        placed.update_one({"station": "b"}, {"$set": {"n": 7}}, session=session)
        assert sorted(d["n"] for d in placed.find({}, session=session)) == [0, 0, 7]
        assert placed.count_documents({}, session=session) == 3
        placed.bulk_write([UpdateOne({"station": s}, {"$inc": {"n": 1}}) for s in ("k", "b", "l", "b", "k")], session=session)
        found = list(placed.aggregate([{"$group": {"_id": None, "n": {"$sum": "$n"}}}], session=session))
        assert found == [{"_id": None, "n": 12}]
    with pytest.raises(InvalidOperation, match="ended"):
        placed.find_one({"station": "k"}, session=session)


def test_a_transaction_has_pymongos_states(placed) -> None:
    with placed.start_session() as session:
        with pytest.raises(InvalidOperation, match="No transaction started"):
            session.commit_transaction()
        with pytest.raises(InvalidOperation, match="No transaction started"):
            session.abort_transaction()
        session.start_transaction()
        assert session.in_transaction
        with pytest.raises(InvalidOperation, match="already in progress"):
            session.start_transaction()
        session.commit_transaction()
        assert not session.in_transaction
        with pytest.raises(InvalidOperation, match="after calling commitTransaction"):
            session.abort_transaction()
        session.start_transaction()
        placed.update_one({"station": "k"}, {"$inc": {"n": 1}}, session=session)
        session.commit_transaction()
        session.commit_transaction()  # as after an unknown result
        session.start_transaction()
        session.abort_transaction()
        with pytest.raises(InvalidOperation, match="twice"):
            session.abort_transaction()
        with pytest.raises(InvalidOperation, match="after calling abortTransaction"):
            session.commit_transaction()
    assert placed.find_one({"station": "k"})["n"] == 1


def test_two_transactions_of_one_document_do_not_overwrite_each_other(placed) -> None:
    with placed.start_session() as first, placed.start_session() as second:
        first.start_transaction()
        second.start_transaction()
        placed.update_one({"station": "k"}, {"$inc": {"n": 1}}, session=first)
        with pytest.raises(OperationFailure) as conflict:
            placed.update_one({"station": "k"}, {"$inc": {"n": 1}}, session=second)
        assert conflict.value.has_error_label(TRANSIENT)
        first.commit_transaction()
    assert placed.find_one({"station": "k"})["n"] == 1
