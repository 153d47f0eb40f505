"""``watch`` over several partitions: what pymongo's stream on one server would show, and no copy that a move makes."""

from __future__ import annotations

import time

import pytest
from pymongo.errors import InvalidOperation

from foreshard.errors import KeyMovedWhileReading, UnroutableOperation


@pytest.fixture
def placed(answerer, things):
    for key, partition in (("a", "alpha"), ("b", "beta"), ("g", "gamma")):
        answerer.place(key, partition)
    return things


def events(stream, number: int, patience: float = 20.0) -> list[dict]:
    """The next ``number`` events."""
    found, until = [], time.monotonic() + patience
    while len(found) < number and time.monotonic() < until:
        event = stream.try_next()
        if event is not None:
            found.append(event)
    return found


def told(event: dict) -> tuple:
    return event["operationType"], event["documentKey"]["_id"], (event.get("fullDocument") or {}).get("n")


def change(collection) -> None:
    """Changes of every kind, of three keys."""
    for key in "abg":
        collection.insert_one({"_id": key, "station": key, "n": 0})
    collection.update_one({"station": "b"}, {"$set": {"n": 1}})
    collection.replace_one({"station": "a"}, {"station": "a", "n": 2})
    collection.delete_one({"station": "g"})
    collection.find_one_and_update({"station": "a"}, {"$inc": {"n": 1}})
    collection.insert_many([{"_id": f"{key}2", "station": key, "n": 5} for key in "abg"])


def test_the_events_are_those_that_pymongo_shows_on_one_server(placed, stand) -> None:
    alone = stand["alpha"].database["alone"]
    with placed.watch(full_document="updateLookup") as routed, alone.watch(full_document="updateLookup") as plain:
        change(placed)
        change(alone)
        expected = events(plain, 10)
        found = events(routed, 10)
        assert routed.try_next() is None
    assert len(found) == len(expected) == 10
    for key in "abg":  # of each partition in order
        assert [told(e) for e in found if e["documentKey"]["_id"][0] == key] == [
            told(e) for e in expected if e["documentKey"]["_id"][0] == key
        ]
    assert {*found[0]} == {*expected[0]}
    assert not routed.alive


def test_a_stream_is_resumed_after_any_event_and_misses_and_repeats_none(placed) -> None:
    with placed.watch() as stream:
        change(placed)
        found = events(stream, 10)
        assert len(found) == 10
    for number, event in enumerate(found[:-1]):
        with placed.watch(resume_after=event["_id"]) as again:
            assert [told(e) for e in events(again, 9 - number)] == [told(e) for e in found[number + 1 :]]
    with placed.watch(resume_after=stream.resume_token) as again:
        assert again.try_next() is None
        placed.insert_one({"_id": "late", "station": "b"})
        assert told(events(again, 1)[0]) == ("insert", "late", None)


def test_conditions_choose_one_key(placed) -> None:
    with placed.watch([{"$match": {"fullDocument.station": "b"}}], full_document="updateLookup") as stream:
        change(placed)
        assert [told(e) for e in events(stream, 4, patience=3.0)] == [
            ("insert", "b", 0),
            ("update", "b", 1),
            ("insert", "b2", 5),
        ]


def test_what_is_of_one_replica_set_is_refused_in_one_line(placed, stand) -> None:
    with stand["alpha"].watch() as plain:
        token = plain.resume_token
    for arguments, options in (
        (([{"$project": {"fullDocument": 1}}],), {}),
        ((), {"start_at_operation_time": object()}),
        ((), {"session": object()}),
        ((), {"show_expanded_events": True}),
        ((), {"resume_after": token}),
    ):
        with pytest.raises(UnroutableOperation) as refused:
            placed.watch(*arguments, **options)
        assert isinstance(refused.value, InvalidOperation)
        assert "\n" not in str(refused.value)


def test_a_partition_that_is_registered_later_is_watched_from_before(placed, answerer) -> None:
    gamma = answerer.uris.pop("gamma")
    with placed.watch() as stream:
        placed.insert_one({"_id": 1, "station": "a"})
        assert told(events(stream, 1)[0]) == ("insert", 1, None)
        answerer.uris["gamma"] = gamma
        placed.insert_one({"_id": 2, "station": "g"})
        assert told(events(stream, 1)[0]) == ("insert", 2, None)


def test_a_document_that_a_cleaner_has_removed_before_it_was_looked_up_is_an_error(placed, stand, partition_clients) -> None:
    with placed.watch() as stream:
        placed.insert_one({"_id": "a", "station": "a"})
        start = events(stream, 1)[0]["_id"]
        placed.update_one({"station": "a"}, {"$set": {"n": 1}})
        assert len(events(stream, 1)) == 1
    stand["alpha"].delete_many({})
    for conditions in ([], [{"$match": {"fullDocument.station": "a"}}]):  # the app has deleted it
        with placed.watch(conditions, full_document="updateLookup", resume_after=start) as stream:
            found = [told(e) for e in events(stream, 2, patience=2.0)]
        assert found == ([] if conditions else [("update", "a", None), ("delete", "a", None)])
    removed = partition_clients["alpha"]["foreshard"]["removed_units"]
    entry = {"units": ["a"], "unit_epochs": [2], "slots": [], "slot_epochs": [], "exceptions": [], "of": 4096}
    removed.insert_one({"_id": "move", **entry, "at": placed_at(partition_clients["alpha"])})
    try:
        for conditions in ([], [{"$match": {"fullDocument.station": "a"}}]):
            with (
                placed.watch(conditions, full_document="updateLookup", resume_after=start) as stream,
                pytest.raises(KeyMovedWhileReading),
            ):
                events(stream, 1)
            assert not stream.alive
    finally:
        removed.delete_one({"_id": "move"})


def placed_at(client):
    return client.admin.command("hello")["localTime"]
