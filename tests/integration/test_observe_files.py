"""Access logs in files, and raw hours as files."""

import gzip
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from tests.access_log_batches import frame_of

from foreshard.errors import CorruptLog, MissingStageResult, RawUserId
from foreshard.observe.clean import clean
from foreshard.observe.pseudonym import SESSION, pseudonym
from foreshard.stores.files import log_formats
from foreshard.stores.files.access_log import FileAccessLog, read_access_log
from foreshard.stores.files.raw_hours import ParquetHourStore

HOUR = datetime(2014, 11, 20, 8, tzinfo=UTC)


def log(hours: int = 3, per_hour: int = 4) -> pd.DataFrame:
    count = hours * per_hour
    return pd.DataFrame(
        {
            "timestamp": pd.Timestamp(HOUR) + pd.to_timedelta(np.arange(count) * (3600 / per_hour), unit="s"),
            "partitionable_key": [f"k{n}" for n in range(count)],
            "user_id": [f"u{n}" for n in range(count)],
            "request_type": "read",
            "location": "x",
        }
    )


def written(folder: Path, name: str, frame: pd.DataFrame) -> Path:
    path = folder / name
    if name.endswith(".parquet"):
        frame.to_parquet(path, row_group_size=2)
    elif ".csv" in name:
        frame.to_csv(path, index=False)
    else:
        lines = "".join(
            json.dumps({**row, "timestamp": row["timestamp"].isoformat()}) + "\n" for row in frame.to_dict("records")
        )
        path.write_bytes(gzip.compress(lines.encode()) if name.endswith(".gz") else lines.encode())
    return path


def keys_of(source: FileAccessLog, hour: datetime) -> list[Any]:
    return [key for batch in source.read_hour(hour) for key in frame_of(batch)["partitionable_key"]]


@pytest.mark.parametrize("name", ["a.parquet", "a.csv", "a.csv.gz", "a.jsonl", "a.jsonl.gz", "a.ndjson"])
def test_every_format_gives_the_same_records(tmp_path: Path, name: str) -> None:
    path = written(tmp_path, name, log())
    cleaned = clean(read_access_log(path), HOUR, HOUR + timedelta(hours=3), ["read"])
    assert cleaned.quarantined.empty
    expected = clean(log(), HOUR, HOUR + timedelta(hours=3), ["read"]).accepted
    pd.testing.assert_frame_equal(cleaned.accepted, expected)
    assert keys_of(FileAccessLog([path]), HOUR + timedelta(hours=1)) == ["k4", "k5", "k6", "k7"]
    assert keys_of(FileAccessLog([tmp_path]), HOUR - timedelta(hours=1)) == []


def test_a_folder_means_its_log_files(tmp_path: Path) -> None:
    frame = log()
    (tmp_path / "2014").mkdir()
    written(tmp_path / "2014", "b.parquet", frame.iloc[6:])
    written(tmp_path, "a.csv", frame.iloc[:6])
    (tmp_path / "README.txt").write_text("no log")
    assert keys_of(FileAccessLog([tmp_path]), HOUR + timedelta(hours=1)) == ["k6", "k7", "k4", "k5"]


def test_a_record_without_a_readable_time_claims_the_hour_of_the_one_before(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(log_formats, "BATCH_RECORDS", 3)
    frame = log().astype({"timestamp": str})
    frame.loc[[0, 5, 6, 8], "timestamp"] = ["?", "soon", None, "x"]
    source = FileAccessLog([written(tmp_path, "a.csv", frame)])
    assert keys_of(source, HOUR) == ["k0", "k1", "k2", "k3"]
    assert keys_of(source, HOUR + timedelta(hours=1)) == ["k4", "k5", "k6", "k7", "k8"]
    assert keys_of(source, HOUR + timedelta(hours=2)) == ["k9", "k10", "k11"]


def test_keys_that_look_like_something_else_stay_what_they_are(tmp_path: Path) -> None:
    keys = ["NA", "null", "007", "1e5", "nan", "True", "a,b", 'say "x"', "ü\n", " x "]
    frame = log(1, len(keys)).assign(partitionable_key=keys)
    for name in ("a.csv", "a.jsonl", "a.parquet"):
        assert read_access_log(written(tmp_path, name, frame))["partitionable_key"].tolist() == keys


def test_a_line_that_is_not_json_is_kept_as_malformed_with_its_position_and_without_its_text(tmp_path: Path) -> None:
    path = written(tmp_path, "a.jsonl", log(1, 2))
    path.write_text(path.read_text() + '{"user_id": "ann"\n\n[1]\n')
    cleaned = clean(read_access_log(path), HOUR, HOUR + timedelta(hours=1), ["read"])
    assert len(cleaned.accepted) == 2
    assert cleaned.quarantined[["source", "reason"]].values.tolist() == [["a.jsonl:3", "malformed"], ["a.jsonl:5", "malformed"]]
    assert "ann" not in cleaned.quarantined.to_json()


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.parquet", b"PAR1 not really", "can't be read"),
        ("a.parquet", b"", "can't be read"),
        ("a.csv", b"", "can't be read"),
        ("a.csv", b"timestamp,partitionable_key,request_type\n1,2\n1,2,3,4,5\n", "can't be read"),
        ("a.csv", b"\xff\xfe\x00junk\x00\n\xff", "can't be read"),
        ("a.csv", b"time,key\n1,2\n", "no column timestamp, partitionable_key, request_type (its columns: time, key)"),
        ("a.csv", b"timestamp,partitionable_key,request_type\n", "holds no record"),
        ("a.csv.gz", b"no gzip", "can't be read"),
        ("a.jsonl", b"\x00\x01\x02\n\x03", "none of its first 2 lines is a JSON object"),
        ("a.jsonl", b'{"timestamp": 1}\n', "no column partitionable_key, request_type"),
        ("a.jsonl", b"", "holds no record"),
        ("a.jsonl.gz", b"no gzip", "can't be read"),
        ("a.xlsx", b"", "its name ends in none of"),
    ],
)
def test_a_file_that_is_not_a_log_is_one_clear_line(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(CorruptLog) as raised:
        read_access_log(path)
    assert said in str(raised.value)
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_truncated_parquet_file_and_a_missing_one_are_clear_lines(tmp_path: Path) -> None:
    path = written(tmp_path, "a.parquet", log())
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(CorruptLog):
        list(FileAccessLog([path]).read_hour(HOUR))
    with pytest.raises(CorruptLog, match="no such file"):
        list(FileAccessLog([tmp_path / "gone.parquet"]).read_hour(HOUR))


def test_a_log_without_a_single_readable_time_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, "a.csv", log().assign(timestamp="noon"))
    with pytest.raises(CorruptLog, match="none of its first 12 times can be read"):
        list(FileAccessLog([path]).read_hour(HOUR))


def hidden(frame: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    cleaned = clean(frame, HOUR, HOUR + timedelta(hours=1), ["read"])
    hide = lambda users: users.map(lambda user: pseudonym(b"k", user) if user else None)  # noqa: E731
    return cleaned.accepted.assign(user_id=hide(cleaned.accepted["user_id"])), cleaned.quarantined.assign(
        user_id=hide(cleaned.quarantined["user_id"])
    )


class TestRawHours:
    def test_an_hour_comes_back_as_it_was_saved(self, tmp_path: Path) -> None:
        accepted, quarantined = hidden(
            log(2).assign(cost=[1.5, None] * 4, session_id=[None, pseudonym(b"k", "3", SESSION)] * 4)
        )
        store = ParquetHourStore(tmp_path)
        saved = store.save(HOUR, accepted, quarantined)
        assert saved == store.describe(HOUR)
        assert (saved.accepted, saved.quarantined) == (4, 4)
        assert saved.accepted_path == tmp_path / "raw" / "date=2014-11-20" / "hour=08.parquet"
        assert saved.quarantine_path == tmp_path / "quarantine" / "date=2014-11-20" / "hour=08.parquet"
        pd.testing.assert_frame_equal(store.load(HOUR), accepted)
        assert pd.read_parquet(saved.quarantine_path)["reason"].tolist() == ["out_of_hour"] * 4

    def test_saving_again_replaces_the_hour_and_its_quarantine_and_keeps_the_old_files(self, tmp_path: Path) -> None:
        store = ParquetHourStore(tmp_path)
        first = store.save(HOUR, *hidden(log(2)))
        old = first.accepted_path.read_bytes()
        again = store.save(HOUR, *hidden(log(1, 2)))
        assert (again.accepted, again.quarantined, again.quarantine_path) == (2, 0, None)
        assert [path.name for path in (tmp_path / "raw").rglob("*.parquet")] == ["hour=08.parquet"]
        assert not list((tmp_path / "quarantine").rglob("*.parquet"))
        kept = sorted((tmp_path / "replaced" / "date=2014-11-20").iterdir())
        assert [path.name.split(".")[:2] for path in kept] == [
            ["hour=08", kept[0].name.split(".")[1]],
            ["hour=08", "quarantine"],
        ]
        assert kept[0].read_bytes() == old

    def test_saving_the_same_again_keeps_nothing(self, tmp_path: Path) -> None:
        store = ParquetHourStore(tmp_path)
        for _ in range(2):
            store.save(HOUR, *hidden(log(2)), source="a")
        assert not (tmp_path / "replaced").exists()
        assert store.describe(HOUR).source == "a"

    def test_an_empty_hour_is_an_hour(self, tmp_path: Path) -> None:
        store = ParquetHourStore(tmp_path)
        store.save(HOUR, *hidden(log(0)))
        assert store.load(HOUR).empty
        assert str(store.load(HOUR)["timestamp"].dtype) == "datetime64[ns, UTC]"

    def test_a_raw_user_id_is_refused_and_nothing_is_written(self, tmp_path: Path) -> None:
        accepted, quarantined = hidden(log(1))
        accepted.loc[2, "user_id"] = "ann"
        with pytest.raises(RawUserId, match="1 user or session ids are not pseudonymised"):
            ParquetHourStore(tmp_path).save(HOUR, accepted, quarantined)
        assert not [path for path in tmp_path.rglob("*") if path.is_file()]

    def test_a_write_that_fails_leaves_the_hour_as_it_was(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        store = ParquetHourStore(tmp_path)
        store.save(HOUR, *hidden(log(1)))

        def broken(*_: object, **__: object) -> None:
            raise OSError("no space left")

        monkeypatch.setattr("foreshard.stores.files.raw_hours.pq.ParquetWriter.write_table", broken)
        with pytest.raises(OSError, match="no space"):
            store.save(HOUR, *hidden(log(1, 2)))
        monkeypatch.undo()
        assert len(store.load(HOUR)) == 4
        assert not list(tmp_path.rglob("*.part"))

    def test_an_hour_that_was_not_extracted_and_a_broken_file_are_clear_lines(self, tmp_path: Path) -> None:
        store = ParquetHourStore(tmp_path)
        with pytest.raises(MissingStageResult, match="foreshard observe hour"):
            store.load(HOUR)
        saved = store.save(HOUR, *hidden(log(1)))
        saved.accepted_path.write_bytes(b"broken")
        for read in (store.load, store.describe):
            with pytest.raises(CorruptLog, match="extract the hour again"):
                read(HOUR)
