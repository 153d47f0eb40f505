"""Writes one hour of very many records, in pieces, so that its own memory stays small."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

PIECE = 1_000_000
KEYS = 50_000
_SESSION_US, _HOUR_US = 600 * 10**6, 3600 * 10**6


def write_large_hour(path: Path, hour: datetime, records: int) -> Path:
    """Write ``records``, sorted by time: ``KEYS`` keys of very different heat, 8 in a session, 20 of a user."""
    random = np.random.default_rng(1)
    pieces = -(-records // PIECE)
    sessions, users = max(records // 8, 1), max(records // 20, 1)
    writer: pq.ParquetWriter | None = None
    for piece in range(pieces):
        size = min(PIECE, records - piece * PIECE)
        low, high = (_HOUR_US * place // pieces for place in (piece, piece + 1))
        times = np.sort(random.integers(low, high, size))
        begun = np.clip(times - random.integers(0, _SESSION_US, size), 0, None)
        session = np.minimum(begun * sessions // _HOUR_US, sessions - 1)
        table = pa.table(
            {
                "timestamp": pa.array(times + pd.Timestamp(hour).value // 1000, pa.timestamp("us", tz="UTC")),
                "partitionable_key": _named("key", np.minimum(random.zipf(1.2, size), KEYS)),
                "user_id": _named("user", session % users),
                "request_type": pa.array(random.choice(["read", "write"], size)),
                "location": pa.array(random.choice(["a", "b", "c"], size)),
                "session_id": _named("session", session),
            }
        )
        writer = writer or pq.ParquetWriter(path, table.schema)
        writer.write_table(table)
    if writer is not None:
        writer.close()
    return path


def _named(kind: str, numbers: np.ndarray[tuple[int], np.dtype[np.int64]]) -> pa.Array:
    return pc.binary_join_element_wise(kind, pa.array(numbers).cast(pa.string()), "-")
