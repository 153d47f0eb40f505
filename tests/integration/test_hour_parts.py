"""Raw hours whose records stand in part files. They are read, replaced and compared like any other hour."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from foreshard.errors import CorruptLog, MissingStageResult, RawUserId
from foreshard.observe.batches import ACCEPTED, accepted_table
from foreshard.observe.pseudonym import pseudonym
from foreshard.ports.access_logs import RawHour
from foreshard.stores.files.hour_files import QUARANTINED
from foreshard.stores.files.raw_hours import HourPartWriter, ParquetHourStore

HOUR = datetime(2026, 3, 1, 8, tzinfo=UTC)
FILES = ("timestamp", "partitionable_key", "cost")


def records(first: int, number: int, user: str | None = None) -> pa.Table:
    rows = range(first, first + number)
    return accepted_table(
        pd.DataFrame(
            {
                "timestamp": pd.Series([pd.Timestamp(HOUR) + timedelta(seconds=n) for n in rows], dtype="datetime64[ns, UTC]"),
                "partitionable_key": [f"k{n}" for n in rows],
                "user_id": [user or pseudonym(b"k", f"u{n % 3}") for n in rows],
                "request_type": "read",
                "location": None,
                "session_id": None,
                "cost": [float(n) for n in rows],
            }
        )
    )


def bad(number: int, reason: str = "missing_key") -> pd.DataFrame:
    return pd.DataFrame({name: [None] * number for name in QUARANTINED.names} | {"reason": [reason] * number}, dtype=object)


def in_parts(store: ParquetHourStore, *parts: tuple[pa.Table, pd.DataFrame], source: str = "a") -> RawHour:
    with store.writer(HOUR) as writer:
        for accepted, quarantined in parts:
            part = HourPartWriter(writer.folder())
            part.add(accepted, quarantined)
            writer.add_part(part.done())
        return writer.keep(source, 4)


PARTS = ((records(0, 3), bad(2)), (records(0, 0), bad(0)), (records(3, 0), bad(1, "malformed")), (records(3, 4), bad(0)))


def test_an_hour_in_parts_is_the_same_hour_as_in_one_file(tmp_path: Path) -> None:
    store, plain = ParquetHourStore(tmp_path / "a"), ParquetHourStore(tmp_path / "b")
    made = in_parts(store, *PARTS)
    with plain.writer(HOUR) as writer:
        for accepted, quarantined in PARTS:
            writer.add(accepted, quarantined)
        one = writer.keep("a", 4)
    for raw in (made, one):
        assert (raw.accepted, raw.quarantined, raw.duplicates, raw.source) == (7, 3, 4, "a")
    assert (len(made.parts), one.parts) == (2, ())
    pd.testing.assert_frame_equal(store.load(HOUR), plain.load(HOUR))
    assert store.reasons(HOUR) == plain.reasons(HOUR) == {"missing_key": 2, "malformed": 1}
    schema = pa.schema([ACCEPTED.field(name) for name in FILES])
    read = [pa.concat_tables(batch.cast(schema) for batch in one.batches(HOUR, FILES)) for one in (store, plain)]
    assert read[0].equals(read[1])
    assert pl.scan_parquet(list(made.files)).collect().equals(pl.scan_parquet(list(one.files)).collect())


def test_an_hour_in_parts_appears_with_its_head_and_what_was_not_kept_is_gone(tmp_path: Path) -> None:
    store = ParquetHourStore(tmp_path)
    with store.writer(HOUR) as writer:
        part = HourPartWriter(writer.folder())
        part.add(*PARTS[0])
        writer.add_part(part.done())
        assert writer.records == 5
        with pytest.raises(MissingStageResult):
            store.describe(HOUR)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_what_a_killed_job_has_left_does_not_count(tmp_path: Path) -> None:
    store = ParquetHourStore(tmp_path)
    for name in ("hour=08.reading-x/ab.parquet", "hour=08.parts/00000-cd.parquet", "hour=08.parts/00009-ef.parquet"):
        for root in ("raw", "quarantine"):
            path = tmp_path / root / "date=2026-03-01" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"half of a fi")
    with pytest.raises(MissingStageResult):
        store.describe(HOUR)
    made = in_parts(store, *PARTS)
    assert (made.accepted, made.quarantined, len(store.load(HOUR)), len(store.reasons(HOUR))) == (7, 3, 7, 2)


def test_the_same_parts_again_change_nothing_and_other_ones_keep_the_former_hour(tmp_path: Path) -> None:
    store = ParquetHourStore(tmp_path)
    first = in_parts(store, *PARTS)
    files = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert in_parts(store, *PARTS) == first
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == files
    assert in_parts(store, PARTS[0]).accepted == 3
    assert store.load(HOUR)["partitionable_key"].tolist() == ["k0", "k1", "k2"]
    (head,) = (path for path in (tmp_path / "replaced").rglob("hour=08.*.parquet") if "quarantine" not in path.name)
    assert head.read_bytes() == files[first.accepted_path]
    head.replace(first.accepted_path)  # a person takes the former hour back
    assert store.describe(HOUR).accepted == 7
    assert len(store.load(HOUR)) == 7


def test_an_hour_of_one_file_replaces_an_hour_in_parts(tmp_path: Path) -> None:
    store = ParquetHourStore(tmp_path)
    in_parts(store, *PARTS)
    with store.writer(HOUR) as writer:
        writer.add(records(0, 2), bad(0))
        assert (made := writer.keep("a")).quarantine_path is None
    assert (made.accepted, made.parts, store.reasons(HOUR)) == (2, (), {})


def test_an_hour_without_records_and_one_with_bad_records_only_are_hours(tmp_path: Path) -> None:
    store = ParquetHourStore(tmp_path)
    empty = in_parts(store, (records(0, 0), bad(0)))
    assert (empty.accepted, empty.quarantine_path, empty.files) == (0, None, (empty.accepted_path,))
    assert store.load(HOUR).empty
    worst = in_parts(store, (records(0, 0), bad(3)))
    assert (worst.accepted, worst.quarantined, len(store.load(HOUR))) == (0, 3, 0)


def test_equal_parts_are_counted_each(tmp_path: Path) -> None:
    store = ParquetHourStore(tmp_path)
    made = in_parts(store, PARTS[3], PARTS[3])
    assert (made.accepted, len(set(made.files))) == (8, 2)
    assert len(pl.scan_parquet(list(made.files)).collect()) == 8


def test_a_missing_part_is_one_clear_line(tmp_path: Path) -> None:
    store = ParquetHourStore(tmp_path)
    made = in_parts(store, *PARTS)
    made.parts[1].unlink()
    for look in (store.describe, store.load):
        with pytest.raises(CorruptLog, match=r"can't be read; extract the hour again") as raised:
            look(HOUR)
        assert str(made.parts[1]) in str(raised.value)


def test_a_raw_user_id_is_refused_in_a_part_and_nothing_is_left(tmp_path: Path) -> None:
    part = HourPartWriter(tmp_path)
    with pytest.raises(RawUserId):
        part.add(records(0, 2, user="ann"), bad(0))
    part.close()
    assert list(tmp_path.iterdir()) == []
