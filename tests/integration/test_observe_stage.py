"""The observe stage on a real Kafka and a real control database."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from confluent_kafka import Producer
from pydantic import SecretStr

from foreshard.errors import ConfigurationError, CorruptLog, GateFailed, MissingSecret
from foreshard.model import ONE_HOUR, HourCounts, hour_floor
from foreshard.observe.pseudonym import is_pseudonym, pseudonym
from foreshard.settings import Settings
from foreshard.stack.kafka import Kafka, create_topic
from foreshard.stack.mongod import Mongod
from foreshard.stages.log_import import import_history
from foreshard.stages.observe import extract_hour, tally_hour
from foreshard.stages.observing.amend import amend_hours
from foreshard.stages.observing.gate import gate_access_log
from foreshard.wiring import Wiring

HOUR = hour_floor(datetime.now(UTC)) - timedelta(hours=6)
SECRET = "a secret of the tests of 32 bytes"
RAW_USERS = tuple(f"rider-{n}@example.org" for n in range(12))
REQUEST_TYPES = {name: {"kind": "write", "weight": 2.0} for name in ("checkout", "return")}


def history(hours: int = 3, per_hour: int = 60, end: datetime = HOUR) -> pd.DataFrame:
    """Sessions of two accesses each; raw user ids; the last key is new in each hour. No hour repeats another to the second."""
    number = np.arange(hours * per_hour)
    start = pd.Timestamp(end) - pd.Timedelta(hours=hours)
    return pd.DataFrame(
        {
            "timestamp": start + pd.to_timedelta(number * (3600 / per_hour) + number // per_hour * 0.037, unit="s"),
            "partitionable_key": [f"station {n % 7}" for n in number],
            "user_id": [RAW_USERS[n // 2 % len(RAW_USERS)] for n in number],
            "request_type": np.where(number % 2, "return", "checkout"),
            "location": "x",
            "session_id": number // 2,
        }
    )


@pytest.fixture
def wiring(mongods: tuple[Mongod, ...], kafka: Kafka, unique_name: str, tmp_path: Path) -> Iterator[Wiring]:
    create_topic(kafka.bootstrap, unique_name, 2)
    settings = Settings.load(
        control_uri=mongods[0].uri,
        control_database=unique_name,
        kafka_bootstrap=kafka.bootstrap,
        access_topic=unique_name,
        data_dir=tmp_path / "data",
        user_key=SECRET,
        observe={"request_types": REQUEST_TYPES},
    )
    with Wiring(settings) as made:
        yield made
        made.control.drop_database(unique_name)


def emit(wiring: Wiring, records: list[Any]) -> None:
    producer = Producer({"bootstrap.servers": wiring.settings.kafka_bootstrap})
    for number, value in enumerate(records):
        at = HOUR + timedelta(seconds=number)
        payload = value if isinstance(value, bytes) else json.dumps({"timestamp": at.isoformat(), **value}).encode()
        producer.produce(wiring.settings.access_topic, payload, timestamp=int(at.timestamp() * 1000))
    assert producer.flush(30) == 0


def access(key: str = "station 1", **more: Any) -> dict[str, Any]:
    return {"partitionable_key": key, "request_type": "checkout", "user_id": pseudonym(SECRET.encode(), RAW_USERS[0]), **more}


def files_hold(wiring: Wiring, text: str) -> bool:
    return any(
        text in str(frame.to_dict())
        for frame in (pd.read_parquet(path) for path in wiring.settings.data_dir.rglob("*.parquet"))
    )


def test_an_hour_goes_from_kafka_to_its_tally(wiring: Wiring) -> None:
    emit(
        wiring,
        [access("station 1", session_id="s"), access("station 2", session_id="s"), access(cost=9.0), access("b", user_id=None)],
    )
    raw = extract_hour(wiring, HOUR)
    assert (raw.accepted, raw.quarantined) == (4, 0)
    gate_access_log(wiring, HOUR)
    summary = tally_hour(wiring, HOUR)
    assert (summary.accesses, summary.cost, summary.keys, summary.pairs) == (4, 2 + 2 + 9 + 2, 3, 1)
    load = wiring.tallies.key_load(HOUR, HOUR + ONE_HOUR)
    assert load[["partitionable_key", "location", "count", "cost", "distinct_users"]].values.tolist() == [
        ["b", "unknown", 1, 2.0, 0],
        ["station 1", "unknown", 2, 11.0, 1],
        ["station 2", "unknown", 1, 2.0, 1],
    ]
    assert wiring.gates.load("access_log", HOUR).passed
    assert (wiring.settings.data_dir / "data_docs" / "index.html").exists()
    assert tally_hour(wiring, HOUR) == summary
    assert extract_hour(wiring, HOUR) == raw


def test_bad_records_are_quarantined_with_their_reason_and_stop_the_hour(wiring: Wiring) -> None:
    emit(wiring, [access(), access(""), access(request_type="explode"), b"{broken", access(timestamp="soon"), access(cost=-1)])
    raw = extract_hour(wiring, HOUR)
    assert (raw.accepted, raw.quarantined) == (1, 5)
    assert raw.quarantine_path is not None
    reasons = pd.read_parquet(raw.quarantine_path)["reason"]
    assert set(reasons) == {"missing_key", "unknown_request_type", "malformed", "unparsable_time", "negative_cost"}
    with pytest.raises(GateFailed, match=r"quarantined share 0\.8333 > 0\.05 \(5 of 6 records\)"):
        gate_access_log(wiring, HOUR)
    assert wiring.gates.load("access_log", HOUR).failures == ("quarantined share 0.8333 > 0.05 (5 of 6 records)",)
    assert wiring.tallies.hours(HOUR, HOUR + ONE_HOUR) == ()


def test_a_raw_user_id_from_kafka_is_pseudonymised_and_a_pseudonym_stays(wiring: Wiring) -> None:
    emit(wiring, [access(user_id=RAW_USERS[0]), access(), access("", user_id=RAW_USERS[0])])
    extract_hour(wiring, HOUR)
    assert wiring.raw_hours.load(HOUR)["user_id"].nunique() == 1
    assert not files_hold(wiring, RAW_USERS[0])


def test_without_the_secret_only_records_without_ids_pass(wiring: Wiring) -> None:
    keyless = Wiring(wiring.settings.model_copy(update={"user_key": None}))
    emit(wiring, [access(user_id=None)])
    assert extract_hour(keyless, HOUR).accepted == 1
    emit(wiring, [access()])
    with pytest.raises(MissingSecret, match="FORESHARD_USER_KEY"):
        extract_hour(keyless, HOUR)
    assert wiring.raw_hours.describe(HOUR).accepted == 1


@pytest.mark.parametrize("key", ["a", " ", "k" * 31, " " * 40])
def test_a_secret_that_can_be_guessed_is_refused(wiring: Wiring, key: str) -> None:
    guessable = Wiring(wiring.settings.model_copy(update={"user_key": SecretStr(key)}))
    emit(wiring, [access(user_id=RAW_USERS[0])])
    with pytest.raises(ConfigurationError, match="bytes can be guessed; a key has at least 32"):
        extract_hour(guessable, HOUR)


def test_extracting_again_keeps_records_that_the_topic_has_deleted(wiring: Wiring) -> None:
    import_history(wiring, history())
    before = wiring.raw_hours.describe(HOUR - ONE_HOUR)
    assert before.accepted == 60
    assert extract_hour(wiring, HOUR - ONE_HOUR) == before
    assert len(wiring.raw_hours.load(HOUR - ONE_HOUR)) == 60


def test_late_records_amend_the_hour_and_those_that_came_in_time_change_nothing(wiring: Wiring) -> None:
    after = HOUR + ONE_HOUR
    emit(wiring, [access("station 1", session_id="s")])
    for hour in (HOUR, after):
        extract_hour(wiring, hour)
        tally_hour(wiring, hour)
    revision = wiring.tallies.counts([HOUR])[0].revision
    assert amend_hours(wiring, after).hours == ()
    emit(wiring, [access("station 2", session_id="s"), access("station 3")])
    amended = amend_hours(wiring, after)
    assert amended.hours == (HOUR,)
    assert amended.notes == (f"{HOUR:%Y-%m-%dT%HZ}: replaces 1 records (+2); the old file is kept in replaced/",)
    counted = wiring.tallies.counts([HOUR])[0]
    assert (counted.accesses, counted.revision != revision) == (3, True)
    assert amend_hours(wiring, after).hours == ()


def test_importing_a_history_equals_observing_each_of_its_hours(wiring: Wiring, tmp_path: Path) -> None:
    steps: list[tuple[int, int]] = []
    summary = import_history(wiring, history(30), progress=lambda done, total: steps.append((done, total)))
    since, until = HOUR - 30 * ONE_HOUR, HOUR
    assert (summary.since, summary.until, summary.hours) == (since, until, 30)
    assert (summary.accepted, summary.quarantined, summary.outside, summary.keys) == (1800, 0, 0, 7)
    assert steps == [(24, 30), (30, 30)]
    at_once = wiring.tallies.key_load(since, until), wiring.tallies.co_access(since, until)
    assert len(at_once[1]) > 0
    for hour in wiring.tallies.hours(since, until):
        tally_hour(wiring, hour)
    pd.testing.assert_frame_equal(wiring.tallies.key_load(since, until), at_once[0])
    pd.testing.assert_frame_equal(wiring.tallies.co_access(since, until), at_once[1])
    assert wiring.raw_hours.load(HOUR - ONE_HOUR)["user_id"].map(is_pseudonym).all()
    assert not any(files_hold(wiring, user) for user in RAW_USERS)


def test_importing_twice_changes_nothing_and_other_hours_are_kept(wiring: Wiring) -> None:
    log = history(5)
    first = import_history(wiring, log)
    assert import_history(wiring, log) == first
    gap = log[log["timestamp"] < pd.Timestamp(HOUR - 4 * ONE_HOUR)]
    again = import_history(wiring, gap, HOUR - 5 * ONE_HOUR, HOUR)
    assert (again.hours, again.kept) == (1, 4)
    assert [count.accesses for count in wiring.tallies.counts(wiring.tallies.hours(HOUR - 5 * ONE_HOUR, HOUR))] == [60] * 5


def test_hours_without_accesses_inside_a_history_are_counted_as_empty(wiring: Wiring) -> None:
    log = history(5)
    log = log[~log["timestamp"].between(HOUR - 3 * ONE_HOUR, HOUR - 2 * ONE_HOUR, inclusive="left")]
    import_history(wiring, log)
    assert wiring.tallies.counts([HOUR - 3 * ONE_HOUR]) == (HourCounts(HOUR - 3 * ONE_HOUR, 0, 0),)


def test_a_part_of_a_history_can_be_imported_and_the_current_hour_is_left_out(wiring: Wiring) -> None:
    now = hour_floor(datetime.now(UTC))
    log = history(6, end=now + ONE_HOUR)
    assert import_history(wiring, log).until == now
    some = import_history(wiring, log, now - 3 * ONE_HOUR, now - ONE_HOUR)
    assert (some.hours, some.accepted, some.outside) == (2, 120, 240)


def test_bad_records_of_a_history_are_quarantined_in_their_hours_or_set_aside(wiring: Wiring) -> None:
    log = history(4).astype({"timestamp": object, "partitionable_key": object})
    log.loc[3, "partitionable_key"] = None
    log.loc[70, "timestamp"] = "soon"
    summary = import_history(wiring, log)
    assert summary.reasons == {"missing_key": 1, "unparsable_time": 1}
    assert wiring.raw_hours.describe(HOUR - 4 * ONE_HOUR).quarantined == 1
    aside = list((wiring.settings.data_dir / "quarantine").glob("import-*.parquet"))
    assert [pd.read_parquet(path)["reason"].tolist() for path in aside] == [["unparsable_time"]]
    assert not any(files_hold(wiring, user) for user in RAW_USERS)


def test_a_history_with_too_many_bad_records_is_refused(wiring: Wiring) -> None:
    log = history(4).assign(request_type=["explode"] * 30 + ["return"] * 210)
    with pytest.raises(GateFailed, match=r"quarantined share 0\.125 > 0\.05 \(30 of 240 records: unknown_request_type 30\)"):
        import_history(wiring, log)
    assert wiring.tallies.hours(HOUR - 10 * ONE_HOUR, HOUR) == ()
    assert not list((wiring.settings.data_dir / "raw").rglob("*.parquet"))
    with pytest.raises(CorruptLog, match="none of its 240 records"):
        import_history(wiring, log.assign(request_type="explode"))
    with pytest.raises(CorruptLog, match="none of its 0 records"):
        import_history(wiring, log.iloc[:0])


def test_the_order_of_the_source_makes_no_difference(wiring: Wiring, tmp_path: Path) -> None:
    log = history(1, end=HOUR + ONE_HOUR).assign(cost=np.linspace(0.1, 7.7, 60), session_id="s", partitionable_key="station 1")
    log.loc[::20, "request_type"] = "explode"
    saved = []
    for number, frame in enumerate((log, log.sample(frac=1, random_state=1), log[::-1])):
        frame.to_parquet(path := tmp_path / f"{number}.parquet")
        observe = wiring.settings.observe.model_copy(update={"access_log_paths": (path,)})
        with Wiring(wiring.settings.model_copy(update={"observe": observe, "data_dir": tmp_path / str(number)})) as other:
            raw = extract_hour(other, HOUR)
            tally_hour(other, HOUR)
            load, quarantined = other.tallies.key_load(HOUR, HOUR + ONE_HOUR), pd.read_parquet(raw.quarantine_path or "")
            quarantined = quarantined.drop(columns="source")
            saved.append((load, quarantined.sort_values(list(quarantined.columns), ignore_index=True)))
    for load, quarantined in saved[1:]:
        assert load.equals(saved[0][0])
        assert quarantined.equals(saved[0][1])


def test_a_log_in_files_can_be_observed_by_hour(wiring: Wiring, tmp_path: Path) -> None:
    history(3).to_parquet(tmp_path / "log.parquet")
    observe = wiring.settings.observe.model_copy(update={"access_log_paths": (tmp_path / "log.parquet",)})
    with Wiring(wiring.settings.model_copy(update={"observe": observe})) as from_files:
        assert extract_hour(from_files, HOUR - ONE_HOUR).accepted == 60
        assert tally_hour(from_files, HOUR - ONE_HOUR).accesses == 60
