"""Hourly tallies in a real control database."""

import threading
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pandas as pd
import pytest
from pymongo import MongoClient

from foreshard.model import HourCounts, HourTally
from foreshard.model.key_space import KeySpace
from foreshard.observe.pairs.pair_sums import empty_co_access
from foreshard.observe.tally import empty_key_load
from foreshard.observe.units import FINE_SLOT, fine_slots
from foreshard.stores.control import tallies as mongo_tally
from foreshard.stores.control.tallies import MongoTallyStore
from foreshard.stores.files import tally_files

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
def store(control: MongoClient, unique_name: str, tmp_path: Path) -> MongoTallyStore:
    return MongoTallyStore(control[unique_name], 5, tmp_path)


def test_an_hour_comes_back_as_it_was_saved(store: MongoTallyStore) -> None:
    tally = tally_of(HOUR, [f"k{n:02d}.$ü" for n in range(10)])
    store.save([tally])
    pd.testing.assert_frame_equal(store.key_load(HOUR, HOUR + ONE), tally.key_load)
    pd.testing.assert_frame_equal(store.hourly_co_access(HOUR, HOUR + ONE), tally.co_access)
    assert store.counts([HOUR, HOUR + ONE]) == (HourCounts(HOUR, 10, 10),)


def test_saving_again_replaces_the_whole_hour_and_no_other(store: MongoTallyStore, tmp_path: Path) -> None:
    store.save([tally_of(HOUR, list("abcdefg")), tally_of(HOUR + ONE, list("ab"))])
    before = store.counts([HOUR, HOUR + ONE])
    store.save([tally_of(HOUR, ["z"], count=7)])
    assert store.key_load(HOUR, HOUR + 2 * ONE)[["partitionable_key", "count"]].values.tolist() == [
        ["z", 7],
        ["a", 1],
        ["b", 1],
    ]
    assert len(list(tmp_path.rglob("*.parquet"))) == 4
    after = store.counts([HOUR, HOUR + ONE])
    assert after[0].revision != before[0].revision
    assert after[1].revision == before[1].revision


def test_the_same_rows_in_any_order_have_the_same_revision(store: MongoTallyStore) -> None:
    tally = tally_of(HOUR, ["b", "a", "c"])
    store.save([tally])
    (first,) = store.counts([HOUR])
    store.save([HourTally(HOUR, tally.key_load[::-1].astype({"partitionable_key": "category"}), tally.co_access)])
    (again,) = store.counts([HOUR])
    assert again.revision == first.revision != ""
    assert store.key_load(HOUR, HOUR + ONE)["partitionable_key"].tolist() == ["a", "b", "c"]


def test_some_slots_are_read_without_the_rest_of_the_hour(store: MongoTallyStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tally_files, "_SMALLEST_GROUP", 2)
    keys = [f"k{n}" for n in range(100)]
    store.save([tally_of(HOUR, keys)])
    slots = dict(zip(keys, fine_slots(keys, KeySpace()).tolist(), strict=True))
    some = store.hour_load(HOUR, {slots["k3"], slots["k50"]})
    assert {"k3", "k50"} <= set(some["partitionable_key"]) < set(keys)
    assert len(some) <= 8
    assert some[FINE_SLOT].tolist() == [slots[key] for key in some["partitionable_key"]]
    assert store.hour_load(HOUR, ()).empty
    assert len(store.hour_load(HOUR)) == 100


def test_an_hour_s_file_names_each_key_once(store: MongoTallyStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tally_files, "_SMALLEST_GROUP", 50)
    monkeypatch.setattr(tally_files, "_MOST_GROUPS", 50)
    names = [f"a rather long name of key number {number:06}" for number in range(2_500)]
    store.save([tally_of(HOUR, names)])
    (path,) = (tmp_path / "tally").rglob("*.parquet")
    assert path.stat().st_size < 1.5 * sum(map(len, names)) + 50 * 1_500


def test_an_hour_of_an_older_foreshard_is_read_from_its_documents_until_it_is_tallied_again(
    store: MongoTallyStore, control: MongoClient, unique_name: str
) -> None:
    database = control[unique_name]
    database["tallied_hours"].insert_one({"_id": HOUR, "accesses": 3, "keys": 2, "at": HOUR})
    for chunk, keys in enumerate((["a"], ["b"])):
        rows = {"location": ["x"], "request_type": ["read"], "count": [1], "cost": [1.5], "distinct_users": [1]}
        database["key_load"].insert_one(
            {"_id": {"hour": HOUR, "chunk": chunk}, "hour": HOUR, "partitionable_key": keys, **rows}
        )
    pair = {"key_a": ["a"], "key_b": ["b"], "weight": [4], "distinct_users": [5], "user_marks": [[1, 2, 3, 4, 5]]}
    database["co_access"].insert_one({"_id": {"hour": HOUR, "chunk": 0}, "hour": HOUR, **pair})
    assert store.key_load(HOUR, HOUR + ONE)[["partitionable_key", "cost"]].values.tolist() == [["a", 1.5], ["b", 1.5]]
    assert store.hour_load(HOUR)[FINE_SLOT].tolist() == fine_slots(["a", "b"], KeySpace()).tolist()
    assert store.co_access(HOUR, HOUR + ONE).values.tolist() == [["a", "b", 4, 5]]
    store.save([tally_of(HOUR, ["z"])])
    assert store.key_load(HOUR, HOUR + ONE)["partitionable_key"].tolist() == ["z"]
    assert database["key_load"].count_documents({}) == database["co_access"].count_documents({}) == 0


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


def test_the_pairs_of_whole_days_are_kept_and_summed_again_when_an_hour_changes(store: MongoTallyStore, tmp_path: Path) -> None:
    midnight = HOUR.replace(hour=0)
    hours = [midnight + n * ONE for n in range(-2, 26)]
    store.save([tally_of(hour, ["a", "b", "c"], count=number) for number, hour in enumerate(hours, start=1)])
    span = hours[0], hours[-1] + ONE
    assert store.co_access(*span).values.tolist() == [["a", "b", sum(range(1, 29)), 5], ["b", "c", sum(range(1, 29)), 5]]
    assert [path.parent.name for path in (tmp_path / "co-access-days").rglob("*.parquet")] == ["date=2014-11-20"]
    assert store.co_access(*span).equals(store.co_access(*span))
    store.save([tally_of(HOUR, ["b", "c"], count=1_000)])
    counted = hours.index(HOUR) + 1
    assert store.co_access(*span).values.tolist() == [
        ["b", "c", sum(range(1, 29)) - counted + 1_000, 5],
        ["a", "b", sum(range(1, 29)) - counted, 5],
    ]


def test_a_writer_that_dies_in_the_middle_leaves_the_hour_as_it_was(
    store: MongoTallyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.save([tally_of(HOUR, ["a", "b"])])
    for step in ("_write", "_header"):
        module = tally_files if step == "_write" else mongo_tally
        with monkeypatch.context() as patch:
            patch.setattr(module, step, lambda *_: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                store.save([tally_of(HOUR, ["z"])])
        assert store.key_load(HOUR, HOUR + ONE)["partitionable_key"].tolist() == ["a", "b"]
        assert store.counts([HOUR]) == (HourCounts(HOUR, 2, 2),)
    store.save([tally_of(HOUR, ["z"])])
    assert store.key_load(HOUR, HOUR + ONE)["partitionable_key"].tolist() == ["z"]


def test_two_writers_of_one_hour_and_a_reader_never_see_a_mixture(
    control: MongoClient, unique_name: str, tmp_path: Path
) -> None:
    keys = [f"k{n}" for n in range(10, 60)]
    failures: list[str] = []
    writing = threading.Event()

    def write(count: int) -> None:
        store = MongoTallyStore(control[unique_name], 5, tmp_path)
        try:
            for _ in range(15):
                store.save([tally_of(HOUR, keys[: 10 * count], count)])
        except Exception as error:
            failures.append(repr(error))

    def read() -> None:
        store = MongoTallyStore(control[unique_name], 5, tmp_path)
        while writing.is_set():
            seen = store.key_load(HOUR, HOUR + ONE)
            counts = set(seen["count"])
            if len(counts) != 1 or len(seen) != 10 * counts.pop():
                failures.append(f"{len(seen)} rows, counts {seen['count'].unique()}")

    MongoTallyStore(control[unique_name], 5, tmp_path).save([tally_of(HOUR, keys[:10], 1)])
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
    assert MongoTallyStore(control[unique_name], 5, tmp_path).counts([HOUR])[0].keys in {20, 50}
