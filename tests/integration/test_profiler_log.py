"""The profiler of a running mongod as the access log."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from pymongo import MongoClient

from foreshard.errors import ConfigurationError, CorruptLog, HourRefused
from foreshard.model import ONE_HOUR, hour_floor
from foreshard.settings import ObserveSettings, Settings
from foreshard.stack._process import free_port
from foreshard.stack.mongod import Mongod
from foreshard.stages.observing.check_log import check_log
from foreshard.wiring import Wiring

MAPPING = """
format = "mongodb"

[columns]
timestamp = "time"
partitionable_key = "query.station"
request_type = "verb"
cost = "millis"

[request_types]
find = "read"
update = "write"
"""
KEY = "a key for tests of thirty-two bytes"


@pytest.fixture(scope="module")
def mongod(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mongod]:
    made = Mongod("profiled", free_port(), tmp_path_factory.mktemp("profiled"))
    made.start()
    yield made
    made.stop()


@pytest.fixture
def shop(mongod: Mongod, unique_name: str) -> Iterator[Any]:
    """A database whose profiler logs every operation of a client that is not Foreshard's."""
    with MongoClient(mongod.uri, appname="shop", tz_aware=True) as client:
        database = client[unique_name]
        database["trips"].insert_many({"station": f"s {n}", "n": n} for n in range(10))
        database.command("profile", 2, slowms=-1)
        yield database
        client.drop_database(unique_name)


@pytest.fixture
def wiring(shop: Any, mongod: Mongod, tmp_path: Path) -> Iterator[Wiring]:
    mapping = tmp_path / "mapping.toml"
    mapping.write_text(MAPPING)
    observe = ObserveSettings(access_log_paths=(address(mongod, shop.name),), access_log_mapping=mapping)
    settings = Settings.load(control_uri=mongod.uri, data_dir=tmp_path, user_key=KEY, observe=observe)
    with Wiring(settings) as made:
        yield made


def address(mongod: Mongod, database: str) -> str:
    return f"mongodb://127.0.0.1:{mongod.port}/{database}?directConnection=true"


def use(shop: Any) -> datetime:
    """Do 12 operations that count and some that don't, and return their hour."""
    while datetime.now(UTC).minute == 59 and datetime.now(UTC).second > 50:
        time.sleep(1)
    for n in range(8):
        shop["trips"].find_one({"station": f"s {n}"})
    for n in range(4):
        shop["trips"].update_one({"station": f"s {n}"}, {"$inc": {"n": 1}})
    shop["trips"].insert_one({"station": "new"})
    shop["trips"].count_documents({})
    return hour_floor(datetime.now(UTC))


def test_an_hour_of_operations_is_read_from_a_running_mongod(wiring: Wiring, shop: Any) -> None:
    hour = use(shop)
    notes: list[str] = []
    read = pd.concat(wiring.access_log.read_hour(hour, notes.append))
    known = read[read["partitionable_key"].notna()]
    assert sorted(known["partitionable_key"]) == sorted([f"s {n}" for n in range(8)] + [f"s {n}" for n in range(4)])
    assert sorted(known["request_type"]) == ["read"] * 8 + ["write"] * 4
    assert wiring.access_log.holds_whole(hour)
    assert len([note for note in notes if "operations are left out: inserts, commands" in note]) == 1
    assert list(wiring.access_log.read_hour(hour - ONE_HOUR)) == []


def test_reading_the_profile_and_foreshards_own_operations_do_not_count(wiring: Wiring, shop: Any) -> None:
    hour = use(shop)
    first = pd.concat(wiring.access_log.read_hour(hour))
    own = wiring.mongo.client(wiring.settings.observe.access_log_paths[0])[shop.name]
    own["trips"].find_one({"station": "s 1"})
    assert len(pd.concat(wiring.access_log.read_hour(hour))) == len(first)


def test_a_profiler_that_logs_only_some_operations_says_so(wiring: Wiring, shop: Any) -> None:
    hour = use(shop)

    def notes() -> str:
        found: list[str] = []
        list(wiring.access_log.read_hour(hour, found.append))
        return " ".join(found)

    shop.command("profile", 1, slowms=100, sampleRate=0.5)
    assert "only operations slower than 100 ms are profiled" in notes()
    assert "a share of 0.5 of the operations is profiled" in notes()
    shop.command("profile", 0)
    assert "the profiler is off" in notes()


def test_an_hour_whose_beginning_was_overwritten_is_refused(wiring: Wiring, shop: Any) -> None:
    shop.command("profile", 0)
    shop.drop_collection("system.profile")
    shop.create_collection("system.profile", capped=True, size=2**16)
    shop.command("profile", 2, slowms=-1)
    hour = use(shop)
    for n in range(300):
        shop["trips"].find_one({"station": f"s {n % 10}"})
    assert not wiring.access_log.holds_whole(hour)
    with pytest.raises(HourRefused, match=r"is not whole in .*system.profile, which begins at .*make that collection larger"):
        list(wiring.access_log.read_hour(hour))


def test_a_check_proposes_a_mapping_for_a_profile_and_an_empty_one_says_what_to_do(
    wiring: Wiring, shop: Any, mongod: Mongod
) -> None:
    use(shop)
    found = check_log(wiring, address(mongod, shop.name))
    assert found.proposal is not None
    assert 'format = "mongodb"' in found.proposal
    assert 'partitionable_key = "query.station"' in found.proposal
    assert found.accepted >= 12
    with pytest.raises(CorruptLog, match=r"it has no operation; switch the profiler on"):
        check_log(wiring, address(mongod, "empty"))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("mongodb://ann:secret@127.0.0.1/shop", "has credentials in it; set FORESHARD_MONGO_USERNAME"),
        ("mongodb://127.0.0.1", "names no database; write mongodb://HOST/DB"),
    ],
)
def test_an_address_with_credentials_or_without_a_database_is_refused(tmp_path: Path, given: str, said: str) -> None:
    observe = ObserveSettings(access_log_paths=(given,))
    with Wiring(Settings.load(data_dir=tmp_path, observe=observe)) as wiring, pytest.raises(ConfigurationError) as raised:
        list(wiring.access_log.read_hour(datetime.now(UTC) - timedelta(hours=2)))
    assert said in str(raised.value)
    assert "secret" not in str(raised.value)
