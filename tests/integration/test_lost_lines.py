"""Every line of a log file is a record, a part of one, or quarantined; every file is read, or named."""

from __future__ import annotations

import bz2
import gzip
import json
import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.access_log_batches import frame_of

from foreshard.errors import ConfigurationError, CorruptLog
from foreshard.lab.log import gather_log
from foreshard.model.key_space import KeyType
from foreshard.observe.batches import clean_batch
from foreshard.observe.clean import clean
from foreshard.observe.pairs.co_access import CoAccessRules
from foreshard.settings import Settings
from foreshard.stores.files import log_formats
from foreshard.stores.files.access_log import FileAccessLog, read_access_log, read_batches
from foreshard.stores.files.delimited import Block, Header, parsed_block
from foreshard.stores.files.log_counter import count_log
from foreshard.stores.files.log_tables import SourceForm

HOUR = datetime(2026, 3, 1, 8, tzinfo=UTC)
END = HOUR + timedelta(hours=1)
HEADER = "timestamp,partitionable_key,request_type,user_id"


def line(number: int, key: str | None = None, hour: datetime = HOUR) -> str:
    return f"{(hour + timedelta(seconds=number)).isoformat()},{key or f'k{number}'},read,u{number}"


def written(path: Path, lines: list[str], pack: Callable[[bytes], bytes] = lambda content: content) -> Path:
    path.write_bytes(pack(("\n".join([HEADER, *lines]) + "\n").encode()))
    return path


def hour_of(source: FileAccessLog, hour: datetime = HOUR) -> tuple[list[str], list[str], list[str]]:
    """Return the accepted keys, the reasons of the quarantine, and the notes."""
    notes: list[str] = []
    keys: list[str] = []
    reasons: list[str] = []
    for batch in source.read_hour(hour, notes.append):
        cleaned = clean_batch(batch, hour, hour + timedelta(hours=1), ["read"])
        keys += cleaned.accepted.column("partitionable_key").to_pylist()
        reasons += cleaned.quarantined["reason"].tolist()
    return keys, reasons, notes


@pytest.mark.parametrize("batch", [200_000, 7])
def test_two_stray_quotes_cost_the_line_of_the_first_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch: int
) -> None:
    monkeypatch.setattr(log_formats, "BATCH_RECORDS", batch)
    lines = [line(n, f'"k{n}' if n == 10 else f'k{n}"' if n == 50 else None) for n in range(60)]
    keys, reasons, _ = hour_of(FileAccessLog([written(tmp_path / "a.csv", lines)]))
    assert keys == [*(f"k{n}" for n in range(10)), *(f"k{n}" for n in range(11, 50)), 'k50"', *(f"k{n}" for n in range(51, 60))]
    assert reasons == ["malformed"]


def test_a_quote_that_is_never_closed_costs_one_line(tmp_path: Path) -> None:
    lines = [line(0), line(1, '"k1'), *(line(n) for n in range(2, 100))]
    keys, reasons, _ = hour_of(FileAccessLog([written(tmp_path / "a.csv", lines)]))
    assert (len(keys), reasons) == (99, ["malformed"])


cells = (st.text('ab ,"é', max_size=6) | st.text('ab "\n;é', max_size=6)).filter(str.strip)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(cells, cells, cells), min_size=1, max_size=12), st.integers(1, 40))
def test_whatever_a_csv_writer_writes_is_read_back(rows: list[tuple[str, str, str]], cut: int) -> None:
    import csv
    import io

    text = io.StringIO()
    csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL).writerows(rows)
    lines = [part.encode() for part in text.getvalue().split("\n")[:-1]]
    header = Header(("a", "b", "c"), ",")
    found: list[tuple[str, ...]] = []
    rest = Block((), ())
    for start in range(0, len(lines), cut):
        places = range(start, min(start + cut, len(lines)))
        block = Block([*rest.lines, *lines[start : start + cut]], [*rest.places, *places])
        batch, rest = parsed_block(block, header, header.names, "f", start + cut >= len(lines))
        found += [tuple(row) for row in frame_of(batch)[list("abc")].itertuples(index=False)] if len(batch) else []
    assert found == rows


@pytest.mark.parametrize("bad", [b"\xe9", b"k,too,many,cells,here", b"too,few"])
def test_a_line_that_is_not_utf_8_or_has_another_number_of_cells_costs_itself_only(tmp_path: Path, bad: bytes) -> None:
    middle = line(1).encode().replace(b"k1", bad)
    (tmp_path / "a.csv").write_bytes(b"\n".join([HEADER.encode(), line(0).encode(), middle, line(2).encode()]))
    keys, reasons, _ = hour_of(FileAccessLog([tmp_path]))
    assert (keys, reasons) == (["k0", "k2"], ["malformed"])


@pytest.mark.parametrize("delimiter", ["\t", ";", "|"])
@pytest.mark.parametrize("quoted", [True, False])
def test_any_common_delimiter_is_found(tmp_path: Path, delimiter: str, quoted: bool) -> None:
    first = line(0, '"a,b"' if quoted else "ab").replace(",read", delimiter + "read").replace(",u0", delimiter + "u0")
    first = first.replace("+00:00,", f"+00:00{delimiter}")
    (tmp_path / "a.tsv").write_text(f"{HEADER.replace(',', delimiter)}\n{first}\n")
    assert hour_of(FileAccessLog([tmp_path]))[0] == ["a,b" if quoted else "ab"]


@pytest.mark.parametrize(
    ("name", "pack"),
    [
        ("a.csv.gz", gzip.compress),
        ("a.csv.bz2", bz2.compress),
        ("a.csv.zst", lambda raw: pa.compress(raw, "zstd", asbytes=True)),
    ],
)
def test_compressed_files_are_read_like_plain_ones(tmp_path: Path, name: str, pack: Callable[[bytes], bytes]) -> None:
    written(tmp_path / name, [line(n) for n in range(50)], pack)
    assert hour_of(FileAccessLog([tmp_path]))[0] == [f"k{n}" for n in range(50)]


def test_a_log_and_its_compressed_copy_are_refused_by_name(tmp_path: Path) -> None:
    for name in ("a.csv", "a.csv.gz"):
        written(tmp_path / name, [line(0)], gzip.compress if name.endswith("gz") else lambda raw: raw)
    with pytest.raises(CorruptLog, match=r"a\.csv\.gz: it is the same log as .*a\.csv, so its records would count twice"):
        hour_of(FileAccessLog([tmp_path]))
    with pytest.raises(CorruptLog, match="count twice"):
        hour_of(FileAccessLog([tmp_path / "a.csv", tmp_path / "*.csv"]))
    with pytest.raises(CorruptLog, match="count twice"):
        read_access_log(tmp_path)


def test_a_folder_without_a_record_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CorruptLog, match="has no log file"):
        hour_of(FileAccessLog([tmp_path]))
    with pytest.raises(CorruptLog, match="no file has such a name"):
        hour_of(FileAccessLog([tmp_path / "*.csv"]))
    written(tmp_path / "a.csv", [])
    with pytest.raises(CorruptLog, match="none of its files has a record"):
        hour_of(FileAccessLog([tmp_path]))
    (tmp_path / "a.csv").write_bytes(b"")
    (tmp_path / "b.csv.gz").write_bytes(b"no gzip")
    with pytest.raises(CorruptLog, match=r"a\.csv: it can't be read"):
        hour_of(FileAccessLog([tmp_path]))


def test_a_truncated_file_of_another_day_is_named_and_the_others_go_on(tmp_path: Path) -> None:
    other = HOUR - timedelta(days=3)
    lines = [line(n, f"{n * 7919 % 10007:05}" * 9, other) for n in range(5_000)]
    written(tmp_path / "a.csv.gz", lines, lambda raw: gzip.compress(raw)[:-2_000])
    written(tmp_path / "b.csv", [line(n) for n in range(5)])
    keys, _, notes = hour_of(FileAccessLog([tmp_path]))
    assert len(keys) == 5
    assert [note for note in notes if "a.csv.gz" in note and "it can't be read" in note]


def test_a_truncated_file_that_may_go_on_into_the_hour_stops_it(tmp_path: Path) -> None:
    lines = [line(n, f"{n * 7919 % 10007:05}" * 9, HOUR - timedelta(hours=2)) for n in range(5_000)]
    written(tmp_path / "a.csv.gz", lines, lambda raw: gzip.compress(raw)[:-2_000])
    written(tmp_path / "b.csv", [line(n) for n in range(5)])
    with pytest.raises(CorruptLog, match=r"a\.csv\.gz: it can't be read"):
        hour_of(FileAccessLog([tmp_path]))


def test_a_file_that_was_last_written_days_before_the_hour_is_not_opened(tmp_path: Path) -> None:
    (tmp_path / "a.csv.gz").write_bytes(b"no gzip at all")
    written(tmp_path / "b.csv", [line(n) for n in range(5)])
    for days, noted in ((0.5, 1), (2, 0)):
        at = (HOUR - timedelta(days=days)).timestamp()
        os.utime(tmp_path / "a.csv.gz", (at, at))
        keys, _, notes = hour_of(FileAccessLog([tmp_path]))
        assert (len(keys), len(notes)) == (5, noted)


def one_reader(folder: Path) -> Path:
    keys = ["NA", "null", "007", "", "nan", "7", " x ", "None"]
    path = folder / "log.jsonl"
    records = [
        {"timestamp": (HOUR + timedelta(hours=n)).isoformat(), "partitionable_key": k, "request_type": "read"}
        for n, k in enumerate(keys)
    ]
    path.write_text("\n".join([*map(json.dumps, records), '{"timestamp": "2026-03-01T0', ""]))
    pd.DataFrame(records).to_csv(folder / "log.csv", index=False)
    return path


@pytest.mark.parametrize("name", ["log.jsonl", "log.csv"])
def test_import_hour_backtest_and_replay_see_the_same_records(tmp_path: Path, name: str) -> None:
    path = one_reader(tmp_path).with_name(name)
    imported = clean(read_access_log(path), HOUR, HOUR + timedelta(hours=9), ["read"])
    keys = sorted(imported.accepted["partitionable_key"])
    assert keys == sorted(["NA", "null", "007", "nan", "7", " x ", "None"])
    hours = [hour_of(FileAccessLog([path]), HOUR + timedelta(hours=n))[0] for n in range(9)]
    assert sorted(key for found in hours for key in found) == keys
    counted = count_log(path, {"read": 1.0})
    assert sorted(counted.load["partitionable_key"]) == keys
    assert sum(counted.left_out.values()) == len(imported.quarantined)
    replayed = gather_log(read_batches(path), {}, {"read": 1.0}, CoAccessRules(timedelta(minutes=5)), name)
    assert sorted(replayed.keys) == keys


def test_a_backtest_reads_keys_of_the_collections_type(tmp_path: Path) -> None:
    path = one_reader(tmp_path)
    counted = count_log(path, {"read": 1.0}, key_type=KeyType.INT)
    assert set(counted.load["partitionable_key"]) == {"7"}


class TestZones:
    NIGHT = datetime(2025, 10, 26, 0, tzinfo=UTC)  # Berlin's clocks go back at 01:00 UTC

    def write(self, folder: Path, kind: str) -> Path:
        wall = [f"2025-10-26T{hour:02}:{minute:02}:00" for hour in range(6) for minute in (0, 15, 30, 45)]
        frame = pd.DataFrame({"timestamp": wall, "partitionable_key": [f"k{n}" for n in range(24)], "request_type": "read"})
        if kind == "typed":
            frame["timestamp"] = pd.to_datetime(frame["timestamp"])
        path = folder / ("night.csv" if kind == "text" else "night.parquet")
        frame.to_csv(path, index=False) if kind == "text" else frame.to_parquet(path)
        return path

    @pytest.mark.parametrize("kind", ["text", "typed"])
    def test_times_are_read_in_the_zone_of_the_source_and_the_doubled_hour_is_quarantined(
        self, tmp_path: Path, kind: str
    ) -> None:
        source = FileAccessLog([self.write(tmp_path, kind)], SourceForm(ZoneInfo("Europe/Berlin")))
        found = {hour: hour_of(source, self.NIGHT + timedelta(hours=hour)) for hour in range(-2, 6)}
        counts = [len(found[hour][0]) for hour in range(-2, 6)]
        assert counts == [4, 4, 0, 0, 4, 4, 4, 0]
        reasons = [reason for hour in found.values() for reason in hour[1]]
        assert reasons == ["ambiguous_time"] * 4
        assert sum(counts) + len(reasons) == 24

    @pytest.mark.parametrize("kind", ["text", "typed"])
    def test_without_a_zone_a_note_says_that_they_are_read_as_utc(self, tmp_path: Path, kind: str) -> None:
        keys, _, notes = hour_of(FileAccessLog([self.write(tmp_path, kind)]), self.NIGHT)
        assert len(keys) == 4
        assert len(notes) == 1
        assert "without a zone are read as UTC" in notes[0]

    def test_times_with_a_zone_need_no_note_and_are_not_shifted(self, tmp_path: Path) -> None:
        path = written(tmp_path / "a.csv", [line(n) for n in range(5)])
        for zone in (None, ZoneInfo("Asia/Tokyo")):
            assert hour_of(FileAccessLog([path], zone and SourceForm(zone))) == ([f"k{n}" for n in range(5)], [], [])

    def test_a_zone_that_does_not_exist_is_one_line(self) -> None:
        with pytest.raises(ConfigurationError, match="there is no time zone 'Berlin/Europe'"):
            Settings.load(observe={"access_log_zone": "Berlin/Europe"})
