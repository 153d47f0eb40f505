"""Hourly tallies in a real control database."""

import threading
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pandas as pd
import pytest
from pymongo import MongoClient

from foreshard.model import HourCounts, HourTally
from foreshard.observe.co_access import empty_co_access
from foreshard.observe.tally import empty_key_load
from foreshard.stores.control import tallies as mongo_tally
from foreshard.stores.control.tallies import MongoTallyStore

HOUR = datetime(2014, 11, 20, 8, tzinfo=UTC)
ONE = timedelta(hours=1)


def tally_of(hour: datetime, keys: list[str], count: int = 1, users: int = 5) -> HourTally:
    moment = pd.Timestamp(hour)
    load = pd.DataFrame(
        {
            "hour": pd.Series([moment] * len(keys), dtype="datetime64[ns, UTC]"),
            "partitionable_key": pd.Series(keys, dtype=object),
            "location": pd.Series(["x"] * len(keys), dtype=object),
            "request_type": pd.Series(["read"] * len(keys), dtype=object),
            "count": pd.Series([count] * len(keys), dtype="int64"),
            "cost": pd.Series([count * 1.5] * len(keys), dtype="float64"),
            "distinct_users": pd.Series([users] * len(keys), dtype="int64"),
        }
    )
    pairs = [[moment, a, b, count, users, list(range(users))] for a, b in pairwise(keys)]
    together = pd.DataFrame(pairs, columns=empty_co_access().columns).astype(empty_co_access().dtypes.to_dict())
    return HourTally(hour, load, together)


@pytest.fixture
def store(control: MongoClient, unique_name: str) -> MongoTallyStore:
    return MongoTallyStore(control[unique_name], minimum_distinct_users=5)


def test_an_hour_comes_back_as_it_was_saved(store: MongoTallyStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mongo_tally, "CHUNK_ROWS", 3)
    tally = tally_of(HOUR, [f"k{n:02d}.$ü" for n in range(10)])
    store.save([tally])
    pd.testing.assert_frame_equal(store.key_load(HOUR, HOUR + ONE), tally.key_load)
    pd.testing.assert_frame_equal(store.hourly_co_access(HOUR, HOUR + ONE), tally.co_access)
    assert store.counts([HOUR, HOUR + ONE]) == (HourCounts(HOUR, 10, 10),)


def test_saving_again_replaces_the_whole_hour_and_no_other(
    store: MongoTallyStore, control: MongoClient, unique_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mongo_tally, "CHUNK_ROWS", 2)
    store.save([tally_of(HOUR, list("abcdefg")), tally_of(HOUR + ONE, list("ab"))])
    store.save([tally_of(HOUR, ["z"], count=7)])
    assert store.key_load(HOUR, HOUR + 2 * ONE)[["partitionable_key", "count"]].values.tolist() == [
        ["z", 7],
        ["a", 1],
        ["b", 1],
    ]
    assert control[unique_name]["key_load"].count_documents({"hour": HOUR}) == 1
    assert control[unique_name]["co_access"].count_documents({"hour": HOUR}) == 0


def test_hours_without_accesses_are_remembered_as_counted(store: MongoTallyStore) -> None:
    store.save([HourTally(HOUR, empty_key_load(), empty_co_access()), tally_of(HOUR + ONE, ["a"])])
    assert store.hours(HOUR - ONE, HOUR + 5 * ONE) == (HOUR, HOUR + ONE)
    assert store.hours(HOUR + ONE, HOUR + ONE) == ()
    assert store.counts([HOUR]) == (HourCounts(HOUR, 0, 0),)
    assert store.key_load(HOUR, HOUR + ONE).dtypes.to_dict() == empty_key_load().dtypes.to_dict()


def test_nothing_saved_gives_empty_frames(store: MongoTallyStore) -> None:
    assert store.key_load(HOUR, HOUR + ONE).empty
    assert list(store.co_access(HOUR, HOUR + ONE).columns) == ["key_a", "key_b", "weight", "distinct_users"]
    store.save([])
    assert store.hours(HOUR, HOUR + ONE) == ()


def test_pairs_of_few_users_never_leave_the_store_until_enough_hours_give_enough_users(store: MongoTallyStore) -> None:
    first = tally_of(HOUR, ["a", "b"], users=3)
    second = tally_of(HOUR + ONE, ["a", "b"], users=3)
    second.co_access.at[0, "user_marks"] = [2, 7, 8]
    store.save([first, second])
    assert store.co_access(HOUR, HOUR + ONE).empty
    assert store.co_access(HOUR, HOUR + 2 * ONE).values.tolist() == [["a", "b", 2, 5]]


def test_a_writer_that_dies_in_the_middle_leaves_the_hour_as_it_was(
    store: MongoTallyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.save([tally_of(HOUR, ["a", "b"])])
    chunks = mongo_tally._chunks

    def dying(hour: datetime, frame: pd.DataFrame, first: str) -> object:
        if first == "key_a":
            raise KeyboardInterrupt
        return chunks(hour, frame, first)

    monkeypatch.setattr(mongo_tally, "_chunks", dying)
    with pytest.raises(KeyboardInterrupt):
        store.save([tally_of(HOUR, ["z"])])
    monkeypatch.undo()
    assert store.key_load(HOUR, HOUR + ONE)["partitionable_key"].tolist() == ["a", "b"]
    assert store.counts([HOUR]) == (HourCounts(HOUR, 2, 2),)
    store.save([tally_of(HOUR, ["z"])])
    assert store.key_load(HOUR, HOUR + ONE)["partitionable_key"].tolist() == ["z"]


def test_two_writers_of_one_hour_and_a_reader_never_see_a_mixture(
    control: MongoClient, unique_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mongo_tally, "CHUNK_ROWS", 5)
    keys = [f"k{n}" for n in range(10, 60)]
    failures: list[str] = []
    writing = threading.Event()

    def write(count: int) -> None:
        store = MongoTallyStore(control[unique_name], minimum_distinct_users=5)
        try:
            for _ in range(15):
                store.save([tally_of(HOUR, keys[: 10 * count], count)])
        except Exception as error:
            failures.append(repr(error))

    def read() -> None:
        store = MongoTallyStore(control[unique_name], minimum_distinct_users=5)
        while writing.is_set():
            seen = store.key_load(HOUR, HOUR + ONE)
            counts = set(seen["count"])
            if len(counts) != 1 or len(seen) != 10 * counts.pop():
                failures.append(f"{len(seen)} rows, counts {seen['count'].unique()}")

    MongoTallyStore(control[unique_name], minimum_distinct_users=5).save([tally_of(HOUR, keys[:10], 1)])
    writing.set()
    writers = [threading.Thread(target=write, args=(count,)) for count in (2, 5)]
    reader = threading.Thread(target=read)
    for thread in (*writers, reader):
        thread.start()
    for writer in writers:
        writer.join()
    writing.clear()
    reader.join()
    assert failures == []
    assert MongoTallyStore(control[unique_name], minimum_distinct_users=5).counts([HOUR])[0].keys in {20, 50}
