"""Which form a log file has, which fields, and some of their values: for a look at a log before anything is configured."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from foreshard.errors import CorruptLog
from foreshard.observe.profiled import operation_fields
from foreshard.ports.access_logs import FieldSample
from foreshard.settings import COMBINED
from foreshard.stores.files.delimited import Header
from foreshard.stores.files.log_formats import UNREADABLE
from foreshard.stores.files.log_paths import ENDINGS, file_format, opened

SAMPLE_LINES = 1_000


def sampled_fields(path: Path) -> FieldSample:
    """Return a sample of a file's fields. Raise :class:`CorruptLog` if its form is not known."""
    kind = file_format(path) if path.name.endswith(ENDINGS) else file_format(path, "lines")
    try:
        if kind == "parquet":
            return _of_parquet(path)
        with opened(path) as file:
            lines = [line.rstrip(b"\r\n") for line in islice(file, SAMPLE_LINES) if not line.isspace()]
    except UNREADABLE as error:
        raise CorruptLog(str(path), f"it can't be read ({error})") from error
    return _of_csv(lines) if kind == "csv" else _of_lines(path, lines)


def sample_of_lines(place: str, lines: Sequence[bytes]) -> FieldSample:
    """Return the fields of lines that stand in no file. Raise :class:`CorruptLog` if their form is not known."""
    return _of_lines(Path(place), lines)


def _of_parquet(path: Path) -> FieldSample:
    with pq.ParquetFile(path) as file:
        batch = next(file.iter_batches(SAMPLE_LINES), None)
    table = pa.Table.from_batches([batch]) if batch is not None else pq.read_schema(path).empty_table()
    return FieldSample("parquet", {name: table.column(name).to_pylist() for name in table.column_names})


def _of_csv(lines: Sequence[bytes]) -> FieldSample:
    header = Header.of(lines[0] if lines else b"")
    cells = [line.decode(errors="replace").split(header.delimiter) for line in lines[1:]]
    columns = [[row[place] for row in cells if len(row) == len(header.names)] for place in range(len(header.names))]
    return FieldSample("csv", dict(zip(header.names, columns, strict=True)))


def _of_lines(path: Path, lines: Sequence[bytes]) -> FieldSample:
    records = [record for record in map(_record, lines) if record is not None]
    if len(records) * 2 > len(lines):
        operations = [operation_fields(record) for record in records]
        mongodb = any("query" in operation for operation in operations)
        flat = [_flat(record) for record in (operations if mongodb else records)]
        names = list(dict.fromkeys(name for record in flat for name in record))
        form = "mongodb" if mongodb else "json"
        return FieldSample(form, {name: [record.get(name) for record in flat] for name in names})
    pattern = re.compile(COMBINED)
    found = [match for line in lines if (match := pattern.fullmatch(line.decode(errors="replace")))]
    if len(found) * 2 > len(lines):
        return FieldSample("combined", {name: [match[name] for match in found] for name in pattern.groupindex})
    if path.name.endswith(ENDINGS):
        raise CorruptLog(str(path), f"none of its first {len(lines):,} lines is a JSON object")
    raise CorruptLog(str(path), "its lines are neither JSON nor Apache's formats; give a mapping with `format` and `pattern`")


def _record(line: bytes) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


def _flat(record: dict[str, Any], start: str = "") -> dict[str, Any]:
    """Return the values of a record by their paths."""
    made: dict[str, Any] = {}
    for name, value in record.items():
        made |= _flat(value, f"{start}{name}.") if isinstance(value, dict) else {f"{start}{name}": value}
    return made
