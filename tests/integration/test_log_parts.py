"""Parts of log files: read one by one, they give what the whole files give."""

from __future__ import annotations

import gzip
import json
import os
import pickle
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.access_log_batches import frame_of
from tests.integration.mixed_logs import json_lines, records

from foreshard.errors import CorruptLog
from foreshard.model import ONE_HOUR
from foreshard.settings import SourceMapping
from foreshard.stores.files import log_formats
from foreshard.stores.files.access_log import FileAccessLog
from foreshard.stores.files.log_parts import PartReading, records_of
from foreshard.stores.files.log_splitting import lines_in, numbered
from foreshard.stores.files.log_tables import SourceForm
from foreshard.stores.files.object_logs import ObjectAccessLog

HOUR = datetime(2026, 3, 1, 8, tzinfo=UTC)
TIME = pa.timestamp("us", tz="UTC")


def parquet(path: Path, minutes: list[int | None], group: int = 2) -> Path:
    times = [None if minute is None else HOUR + timedelta(minutes=minute) for minute in minutes]
    keys = [f"k{n}" for n in range(len(minutes))]
    table = pa.table({"timestamp": pa.array(times, TIME), "partitionable_key": keys, "request_type": ["read"] * len(keys)})
    pq.write_table(table, path, row_group_size=group)
    return path


def keys_of(source: FileAccessLog, hour: datetime, most: int | None = None) -> list[str]:
    parts, verdict = source.parts(hour, most=most)
    sent = pickle.loads(pickle.dumps(parts))  # noqa: S301 (made here)
    return [str(key) for batch in records_of(sent, verdict, hour) for key in frame_of(batch)["partitionable_key"]]


def test_a_record_without_a_time_behind_a_skipped_row_group_belongs_to_one_hour_only(tmp_path: Path) -> None:
    path = parquet(tmp_path / "a.parquet", [-50, -40, None, 10, 20, 30, 70, None])
    hours = [keys_of(FileAccessLog([path]), HOUR + n * ONE_HOUR) for n in (-1, 0, 1)]
    assert hours == [["k0", "k1", "k2"], ["k3", "k4", "k5"], ["k6", "k7"]]


@pytest.mark.parametrize("group", [1, 2, 3])
def test_row_groups_read_by_themselves_give_what_the_file_gives(tmp_path: Path, group: int) -> None:
    minutes = [None if group > 1 else -6, -5, None, None, None, 1, None, 2, None, None, None, 3, 61, None, 59, None]
    path = parquet(tmp_path / "a.parquet", minutes, group)
    source = FileAccessLog([path])
    for hour in (HOUR - ONE_HOUR, HOUR, HOUR + ONE_HOUR):
        assert len(source.parts(HOUR, most=1)[0]) > 3
        assert keys_of(source, hour, most=1) == keys_of(source, hour)
    assert keys_of(source, HOUR, most=1) == ["k5", "k6", "k7", "k8", "k9", "k10", "k11", "k14", "k15"]


def torn(path: Path, group: int) -> Path:
    """Damage the keys of a row group."""
    place = pq.read_metadata(path).row_group(group).column(1)
    with path.open("r+b") as file:
        file.seek(place.dictionary_page_offset)
        file.write(b"\xff" * place.total_compressed_size)
    return path


@pytest.mark.parametrize("most", [None, 1])
def test_a_torn_row_group_stops_the_hours_that_it_may_belong_to_and_no_other(tmp_path: Path, most: int | None) -> None:
    torn(parquet(tmp_path / "a.parquet", [1, 2, 3, 4, 61, 62, 63, 64, 3, 4]), 2)
    source = FileAccessLog([tmp_path, parquet(tmp_path / "b.parquet", [5])][:1])
    assert keys_of(source, HOUR, most) == ["k0", "k1", "k2", "k3", "k8", "k9", "k0"]
    with pytest.raises(CorruptLog, match=r"a\.parquet: it can't be read"):
        keys_of(source, HOUR + ONE_HOUR, most)
    assert keys_of(source, HOUR + 2 * ONE_HOUR, most) == []


@pytest.mark.parametrize("most", [None, 1])
def test_a_torn_row_group_of_unknown_times_stops_the_hours_of_the_day_behind_it(tmp_path: Path, most: int | None) -> None:
    path = parquet(tmp_path / "a.parquet", [1, 2, 3, 4, 61, 62, 63, 64])
    table = pq.read_table(path)
    texts = [time.isoformat() for time in table.column("timestamp").to_pylist()]
    pq.write_table(table.set_column(0, "timestamp", pa.array(texts)), path, row_group_size=2)
    torn(path, 2)
    source = FileAccessLog([tmp_path])
    parquet(tmp_path / "b.parquet", [-60, -300])
    for hours in (0, 1, 20):
        with pytest.raises(CorruptLog, match=r"a\.parquet: it can't be read"):
            keys_of(source, HOUR + hours * ONE_HOUR, most)
    for hours, keys in ((-1, ["k0"]), (-5, ["k1"]), (25, [])):
        assert keys_of(source, HOUR + hours * ONE_HOUR, most) == keys


@pytest.mark.parametrize("most", [None, 1])
def test_notes_are_given_once_a_file(tmp_path: Path, most: int | None) -> None:
    times = [(HOUR + timedelta(minutes=n)).isoformat().removesuffix("+00:00") for n in range(6)]
    table = pa.table({"timestamp": times, "partitionable_key": list("abcdef"), "request_type": ["read"] * 6})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=2)
    (tmp_path / "b.jsonl").write_text("no json\n")
    notes: list[str] = []
    parts, verdict = FileAccessLog([tmp_path]).parts(HOUR, notes.append, most)
    assert sum(map(len, records_of(parts, verdict, HOUR))) == 6
    assert [note.partition(": ")[0] for note in notes] == [str(tmp_path / "a.parquet"), f"access log {tmp_path / 'b.jsonl'}"]


@pytest.mark.parametrize("most", [None, 1])
def test_a_mapping_and_a_zone_go_with_the_parts(tmp_path: Path, most: int | None) -> None:
    hours = ["09:10", "09:20", "?", "10:05", "10:06", None, "09:40"]
    times = [hour and f"2026-03-01 {hour}:00" for hour in hours]
    table = pa.table({"at": times, "page": [f"/shop/{n}" for n in range(6)] + ["/other"], "verb": ["GET"] * 7})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=2)
    columns = {"timestamp": "at", "partitionable_key": "page", "request_type": "verb"}
    mapping = SourceMapping(columns=columns, keys={"/shop/{shop}": "shop {shop}"}, request_types={"GET": "read"})
    source, notes = FileAccessLog([tmp_path], SourceForm(ZoneInfo("Europe/Berlin"), mapping)), []
    parts, verdict = source.parts(HOUR, notes.append, most)
    sent = pickle.loads(pickle.dumps(parts))  # noqa: S301 (made here)
    found = [key for batch in records_of(sent, verdict, HOUR) for key in frame_of(batch)["partitionable_key"]]
    assert (found, len(parts)) == (["shop 0", "shop 1", "shop 2"], 4 if most else 1)
    assert [note.partition(": ")[2][:22] for note in notes] == ["1 records are left out"]


class TestLinesOfALargeFile:
    """Small blocks stand for those of 32 MB."""

    @pytest.fixture(autouse=True)
    def small_blocks(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(log_formats, "BLOCK_BYTES", 4096)
        monkeypatch.setattr(log_formats, "READ_BYTES", 512)

    @staticmethod
    def batches(source: FileAccessLog, most: int | None) -> tuple[int, list[pd.DataFrame]]:
        parts, verdict = source.parts(HOUR, most=most)
        sent = numbered(parts, lambda some: [lines_in(part) for part in some])
        return len(parts), [frame_of(batch) for batch in records_of(sent, verdict, HOUR)]

    @pytest.mark.parametrize("most", [4096, 9000])
    @pytest.mark.parametrize("end", [b"\n", b"\r\n", b""])
    def test_spans_have_the_batches_and_the_positions_of_the_whole_file(self, tmp_path: Path, most: int, end: bytes) -> None:
        lines = json_lines(records(400, 1, first_id=0)).splitlines()
        for place in (3, 90, 91, 200, 201, 202, 333, 399):
            lines[place : place + 1] = [b'{"timestamp": "no time"}', b"no json \xff", b""]
        (tmp_path / "a.jsonl").write_bytes((end or b"\n").join(lines) + end)
        source = FileAccessLog([tmp_path])
        (one, whole), (many, split) = self.batches(source, None), self.batches(source, most)
        assert (one, many > 5) == (1, True)
        assert len(whole) == len(split)
        for expected, found in zip(whole, split, strict=True):
            pd.testing.assert_frame_equal(found, expected)

    def test_records_without_a_time_at_the_start_of_a_span_belong_to_the_record_before_it(self, tmp_path: Path) -> None:
        timeless = b'{"partitionable_key": "x", "request_type": "read"}'
        for hour in (HOUR - ONE_HOUR, HOUR):
            lines = [json_lines(records(2, 1).assign(timestamp=pd.Timestamp(hour))).splitlines()[0], *[timeless] * 400]
            (tmp_path / f"{hour:%H}.jsonl").write_bytes(b"\n".join(lines))
        many, found = self.batches(FileAccessLog([tmp_path]), 4096)
        assert many > 6
        assert sum(map(len, found)) == 401

    def test_other_texts_and_lines_that_are_too_long_are_left_whole(self, tmp_path: Path) -> None:
        text = json_lines(records(200, 1))
        (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(text * 3, 0))
        records(300, 2).to_csv(tmp_path / "b.csv", index=False)
        (tmp_path / "c.jsonl").write_bytes(text + b'{"x": "' + b"y" * 9000 + b'"}\n' + text)
        assert len(FileAccessLog([tmp_path]).parts(HOUR, most=4096)[0]) == 3


def test_an_object_is_named_by_its_address_and_its_copy_is_deleted_before_the_next_is_made(tmp_path: Path) -> None:
    lines = "".join(
        json.dumps({"timestamp": (HOUR + timedelta(minutes=n)).isoformat(), "partitionable_key": "k", "request_type": "read"})
        + "\n"
        for n in range(3)
    )
    for name in ("a", "b"):
        (tmp_path / f"{name}.jsonl").write_text(lines)
    (tmp_path / "c.jsonl").write_text("no json\n")
    source, notes = ObjectAccessLog([f"file://{tmp_path}"], SourceForm()), []
    assert sum(len(batch) for batch in source.read_hour(HOUR, notes.append)) == 6
    assert notes == [
        f"access log file://{tmp_path}/c.jsonl: none of its first 1 lines is a JSON object; nothing of it was counted"
    ]
    parts, _ = source.parts(HOUR)
    copies = []
    for part in pickle.loads(pickle.dumps(parts)):  # noqa: S301 (made here)
        with part.file() as copy:
            copies.append(copy)
            assert [path for path in copies if path.exists()] == [copy]
    assert len(copies) == 3


def test_objects_of_earlier_days_count_as_files_with_records(tmp_path: Path) -> None:
    (tmp_path / "old.jsonl").write_text("{}\n")
    (tmp_path / "new.jsonl").write_text("")
    os.utime(tmp_path / "old.jsonl", ((HOUR - timedelta(days=3)).timestamp(),) * 2)
    os.utime(tmp_path / "new.jsonl", (HOUR.timestamp(),) * 2)
    for source in (FileAccessLog([tmp_path]), ObjectAccessLog([f"file://{tmp_path}"], SourceForm())):
        assert list(source.read_hour(HOUR)) == []


def test_a_part_says_whether_this_machine_sees_its_file(tmp_path: Path) -> None:
    path = parquet(tmp_path / "a.parquet", [1])
    (part,), _ = FileAccessLog([path]).parts(HOUR)
    assert part.is_there()
    path.unlink()
    assert not part.is_there()
    reading = PartReading(part, HOUR)
    assert list(reading.batches()) == []
    assert "no such file" in str(reading.found.refused)
