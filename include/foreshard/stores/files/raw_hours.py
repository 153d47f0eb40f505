"""Raw hours as Parquet: ``raw/date=YYYY-MM-DD/hour=HH.parquet``, and quarantined records in ``quarantine/…`` beside it.

A file appears whole or not at all. Users are stored as pseudonyms; a raw id is refused.
"""

from __future__ import annotations

import os
import tempfile
from datetime import datetime
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from foreshard.errors import CorruptLog, MissingStageResult, RawUserId
from foreshard.model import ACCESS_LOG_COLUMNS
from foreshard.observe.pseudonym import is_pseudonym
from foreshard.ports.stages import RawHour

_ACCEPTED = pa.schema(
    [
        ("timestamp", pa.timestamp("us", tz="UTC")),
        ("partitionable_key", pa.string()),
        ("user_id", pa.string()),
        ("request_type", pa.string()),
        ("location", pa.string()),
        ("session_id", pa.string()),
        ("cost", pa.float64()),
    ]
)
_QUARANTINED = pa.schema([(name, pa.string()) for name in (*ACCESS_LOG_COLUMNS, "source", "reason")])


class ParquetHourStore:
    """Stores raw hours under ``data_dir``. Saving an hour again replaces it."""

    def __init__(self, data_dir: Path) -> None:
        self._raw, self._quarantine = data_dir / "raw", data_dir / "quarantine"

    def save(self, hour: datetime, accepted: pd.DataFrame, quarantined: pd.DataFrame) -> RawHour:
        """Write the hour's files. The quarantine comes first, so a saved hour always has its quarantine."""
        beside = _path(self._quarantine, hour)
        if len(quarantined):
            _write(beside, quarantined, _QUARANTINED)
        else:
            beside.unlink(missing_ok=True)
        _write(_path(self._raw, hour), accepted, _ACCEPTED)
        return self.describe(hour)

    def set_aside(self, label: str, quarantined: pd.DataFrame) -> Path:
        """Write quarantined records without an hour to ``quarantine/LABEL.parquet``."""
        path = self._quarantine / f"{label}.parquet"
        _write(path, quarantined, _QUARANTINED)
        return path

    def load(self, hour: datetime) -> pd.DataFrame:
        """Return the accepted records, with the standard columns and aware UTC times."""
        path = _path(self._raw, hour)
        try:
            frame: pd.DataFrame = pq.ParquetFile(path).read().to_pandas()
        except FileNotFoundError:
            raise _missing(hour) from None
        except (OSError, pa.ArrowException) as error:
            raise CorruptLog(str(path), "it can't be read; extract the hour again") from error
        return frame.astype({"timestamp": "datetime64[ns, UTC]", "cost": "float64"})

    def describe(self, hour: datetime) -> RawHour:
        """Return the hour's paths and numbers of records."""
        accepted, quarantined = _path(self._raw, hour), _path(self._quarantine, hour)
        if not accepted.exists():
            raise _missing(hour)
        beside = quarantined if quarantined.exists() else None
        return RawHour(hour, accepted, beside, _rows(accepted), _rows(beside) if beside else 0)


def _path(root: Path, hour: datetime) -> Path:
    return root / f"date={hour:%Y-%m-%d}" / f"hour={hour:%H}.parquet"


def _missing(hour: datetime) -> MissingStageResult:
    return MissingStageResult("raw hour", hour.isoformat(), "the extraction (foreshard observe hour)")


def _rows(path: Path) -> int:
    try:
        return int(pq.read_metadata(path).num_rows)
    except (OSError, pa.ArrowException) as error:
        raise CorruptLog(str(path), "it can't be read; extract the hour again") from error


def _write(path: Path, frame: pd.DataFrame, schema: pa.Schema) -> None:
    _refuse_raw_users(frame["user_id"])
    table = pa.Table.from_pandas(frame[schema.names], schema=schema, preserve_index=False, safe=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            pq.write_table(table, file, compression="zstd")
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o640)
        Path(name).replace(path)
    finally:
        Path(name).unlink(missing_ok=True)


def _refuse_raw_users(users: pd.Series[str]) -> None:
    raw = sum(not is_pseudonym(str(user)) for user in users.dropna().unique())
    if raw:
        raise RawUserId(raw)
