"""Logs of every form, with all that may be wrong with them."""

from __future__ import annotations

import gzip
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

HOUR = datetime(2026, 3, 1, 8, tzinfo=UTC)
RAW_USER = "rider-{}@example.org"


def records(number: int, seed: int, first_id: int | None = None) -> pd.DataFrame:
    """Records of 07:20 to 08:40, by time, with raw ids."""
    random = np.random.default_rng(seed)
    seconds = np.sort(random.integers(-2400, 2400, number))
    frame = pd.DataFrame(
        {
            "timestamp": pd.Timestamp(HOUR) + pd.to_timedelta(seconds, unit="s"),
            "partitionable_key": [f"station {n}" for n in random.zipf(1.4, number) % 40],
            "user_id": [RAW_USER.format(n) if n % 9 else None for n in random.integers(0, 30, number)],
            "request_type": random.choice(["read", "write", "delete", "nobody knows"], number, p=[0.7, 0.2, 0.09, 0.01]),
            "location": random.choice(["a", "b"], number),
            "session_id": random.integers(0, 90, number).astype(str),
            "cost": np.where(random.random(number) < 0.3, np.nan, random.choice([0.1, 0.3, 7.0, -1.0], number)),
        }
    )
    return frame if first_id is None else frame.assign(record_id=[f"id {first_id + n}" for n in range(number)])


def json_lines(frame: pd.DataFrame, zone: str = "+00:00") -> bytes:
    rows = frame.assign(timestamp=frame["timestamp"].dt.strftime(f"%Y-%m-%dT%H:%M:%S{zone}")).to_dict("records")
    lines = [json.dumps({name: None if value != value else value for name, value in row.items()}) for row in rows]
    return ("\n".join(lines) + "\n").encode()


def mixed_logs(folder: Path) -> Path:
    """A folder of every form, with bad records, duplicates within and across files, and a torn file of another day."""
    folder.mkdir()
    typed = records(4000, 1, first_id=0)
    typed.loc[[7, 400, 1201, 2000], "timestamp"] = pd.NaT
    table = pa.Table.from_pandas(typed, preserve_index=False)
    times = table.column(0).cast(pa.timestamp("us", "UTC"))
    pq.write_table(table.set_column(0, "timestamp", times), folder / "a.parquet", row_group_size=400)
    some = records(900, 2, first_id=3500)
    lines = json_lines(pd.concat([some, some.iloc[100:160]])).splitlines(keepends=True)
    lines[600:600] = [b'{"timestamp": "2026-03-01T08:0\n', b"[1]\n", b"\xff\n"]
    (folder / "b.jsonl").write_bytes(b"".join(lines))
    plain = records(700, 3).assign(timestamp=lambda frame: frame["timestamp"].dt.tz_localize(None))
    plain.to_csv(folder / "c.csv.gz", index=False)
    early = records(3000, 4).assign(timestamp=lambda frame: frame["timestamp"] - timedelta(days=3))
    (folder / "d.jsonl.gz").write_bytes(gzip.compress(json_lines(early))[:-2000])
    records(500, 2, first_id=3900).to_csv(folder / "e.csv", index=False)
    (folder / "f.jsonl").write_text("")
    return folder
