"""Reads a log file's fields in batches: Parquet, CSV and TSV, JSON lines, and lines of a pattern such as Apache's.

A line that cannot be decoded becomes a malformed record with its position, for the quarantine. Its text is dropped, because it
may name a user.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import chain, islice
from pathlib import Path
from typing import IO, Any, TypeAlias

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from foreshard.errors import CorruptLog
from foreshard.model import ACCESS_LOG_COLUMNS, READ_COLUMNS
from foreshard.observe.batches import RawBatch
from foreshard.observe.clean import MALFORMED, SOURCE
from foreshard.observe.positions import with_positions
from foreshard.observe.profiled import operation_fields
from foreshard.observe.values import as_times
from foreshard.settings import SourceMapping
from foreshard.stores.files.delimited import Block, Header, parsed_block
from foreshard.stores.files.json_lines import decoded, fields_of, parsed_lines
from foreshard.stores.files.log_paths import file_format, opened

REQUIRED_COLUMNS = ("timestamp", "partitionable_key", "request_type")
BATCH_RECORDS = 200_000
BLOCK_BYTES, READ_BYTES = 32 * 2**20, 2**18
"""Bytes of JSON lines that are parsed at once, and that are read at once."""


@dataclass(frozen=True, slots=True)
class LineSpan:
    """Whole lines of a file: its bytes from ``start`` to ``end`` (None: all the rest). ``first``: the number of the first."""

    start: int = 0
    end: int | None = None
    first: int = 1


Piece: TypeAlias = tuple[int, ...] | LineSpan
"""Row groups of a Parquet file, or lines of plain JSON lines."""
UNREADABLE = (OSError, ValueError, EOFError, pa.ArrowException)


def raw_batches(
    path: Path,
    since: datetime | None,
    until: datetime | None,
    mapping: SourceMapping | None,
    fields: Collection[str] = (),
    piece: Piece | None = None,
) -> Iterator[RawBatch]:
    """Yield a file's standard columns, or its ``fields`` or those of the mapping, in non-empty batches.

    ``piece``: only these row groups of a Parquet file, instead of those that may have records of [since, until); or only
    these lines of plain JSON lines.
    """
    kind = file_format(path, mapping.format if mapping else None)
    wanted = set(fields) or (set(mapping.fields) if mapping else set())
    if kind == "parquet":
        about = pq.read_metadata(path)
        names = about.schema.to_arrow_schema().names
        texts = [] if wanted else [name for name in ACCESS_LOG_COLUMNS if name != "timestamp" and name in names]
        with pq.ParquetFile(path, metadata=about, read_dictionary=texts) as file:
            groups = piece if isinstance(piece, tuple) else groups_of(file, since, until, mapping)
            yield from _parquet(path, file, wanted, groups)
        return
    with opened(path) as file:
        if kind == "csv":
            yield from _csv(path, file, wanted)
        elif mapping is not None and mapping.line is not None:
            yield from _patterned(path, file, mapping.line)
        else:
            form = operation_fields if kind == "mongodb" else dict
            span = piece if isinstance(piece, LineSpan) else LineSpan()
            yield from _json_fields(path, file, wanted, form) if wanted else _json(path, file, span)


def require_columns(path: Path, names: Sequence[str]) -> None:
    """Raise :class:`CorruptLog` unless ``names`` has the required columns."""
    missing = [name for name in REQUIRED_COLUMNS if name not in names]
    if missing:
        found = ", ".join(str(name) for name in names) or "none"
        remedy = "foreshard observe check proposes a mapping"
        raise CorruptLog(str(path), f"it has no column {', '.join(missing)} (its columns: {found}); {remedy}")


def require_fields(path: Path, wanted: Collection[str], names: Sequence[str]) -> None:
    """Raise :class:`CorruptLog` if a file has none of the fields of its mapping."""
    if not set(wanted) & set(names):
        raise CorruptLog(str(path), f"it has no field of its mapping (its fields: {', '.join(map(str, names))})")


def _parquet(path: Path, file: pq.ParquetFile, fields: Collection[str], groups: Sequence[int]) -> Iterator[pa.Table]:
    names = file.schema_arrow.names
    require_fields(path, fields, names) if fields else require_columns(path, names)
    wanted = [name for name in (fields or READ_COLUMNS) if name in names]
    row = 0
    for number in range(file.num_row_groups):
        if number not in groups:
            row += file.metadata.row_group(number).num_rows
            continue
        for batch in file.iter_batches(BATCH_RECORDS, row_groups=[number], columns=wanted):
            if batch.num_rows:
                rows = np.arange(row, row + batch.num_rows)  # counted from 0
                yield with_positions(pa.Table.from_batches([batch]), path.name, rows)
                row += batch.num_rows


def groups_of(file: pq.ParquetFile, since: datetime | None, until: datetime | None, mapping: SourceMapping | None) -> list[int]:
    """Return the row groups that may have records of [since, until), by the file's own statistics.

    A record without a readable time belongs to the hour of the record before it. So a group before one that may have such
    records is read too.
    """
    spans = _spans(file, mapping)
    if since is None or until is None:
        return list(range(len(spans)))
    mine = [span is None or bool(span[0] < until and span[1] >= since) for span in spans]
    return [n for n in range(len(spans)) if mine[n] or (n + 1 < len(spans) and spans[n + 1] is None)]


def last_time_before(
    path: Path, mapping: SourceMapping | None, since: datetime, until: datetime, groups: Sequence[int] | None
) -> pd.Timestamp | None:
    """Return the last time before the first of the row groups that are read; None if the file does not tell it."""
    if file_format(path, mapping.format if mapping else None) != "parquet":
        return None
    with pq.ParquetFile(path) as file:
        read = groups_of(file, since, until, mapping) if groups is None else groups
        known = [span[1] for span in _spans(file, mapping)[: read[0] if read else 0] if span is not None]
    return known[-1] if known else None


_Span: TypeAlias = tuple[pd.Timestamp, pd.Timestamp] | None
"""The first and the last time of a row group; None if it may have a record without a readable time."""


def _spans(file: pq.ParquetFile, mapping: SourceMapping | None) -> list[_Span]:
    name = mapping.columns["timestamp"][0] if mapping else "timestamp"
    place = next((i for i in range(file.metadata.num_columns) if file.schema.column(i).name == name), None)
    if place is None:
        return [None] * file.num_row_groups
    return [_span(file.metadata.row_group(number).column(place).statistics) for number in range(file.num_row_groups)]


def _span(statistics: Any) -> _Span:
    if statistics is None or not statistics.has_min_max or statistics.null_count is None or statistics.null_count:
        return None
    if not isinstance(statistics.min, datetime) or statistics.min.tzinfo is None:
        return None
    times = as_times(pd.Series([statistics.min, statistics.max]))
    return None if times.isna().any() else (times.iloc[0], times.iloc[1])


def _blocks(file: IO[bytes], first: int) -> Iterator[Block]:
    """Yield the lines that are not blank, in blocks. ``first`` is the number of the next line.

    If the file breaks off, the whole lines before come first, and then the error.
    """
    broken: Exception | None = None
    while broken is None:
        lines: list[bytes] = []
        try:
            lines.extend(islice(file, BATCH_RECORDS))
        except UNREADABLE as error:
            broken = error
        if not lines and broken is None:
            return
        kept = [place for place, line in enumerate(lines, first) if not line.isspace()]
        yield Block([lines[place - first].rstrip(b"\r\n") for place in kept], kept)
        first += len(lines)
    raise broken


def _csv(path: Path, file: IO[bytes], fields: Collection[str]) -> Iterator[RawBatch]:
    header = Header.of(next(iter(file), b""))
    if header.names == ("",) or not header.names:
        raise ValueError("it is empty")
    require_fields(path, fields, header.names) if fields else require_columns(path, header.names)
    rest, checked = Block((), ()), False
    for block in chain(_blocks(file, 2), (None,)):
        whole = Block([*rest.lines, *block.lines], [*rest.places, *block.places]) if block else rest
        batch, rest = parsed_block(whole, header, fields or READ_COLUMNS, path.name, block is None)
        if len(batch):
            checked = checked or _require_rows(batch, header)
            yield batch


def _require_rows(batch: RawBatch, header: Header) -> bool:
    if isinstance(batch, pd.DataFrame) and batch[MALFORMED].eq(True).all():
        raise ValueError(f"none of its first {len(batch):,} records has the {len(header.names)} columns of its header")
    return True


def _json(path: Path, file: IO[bytes], span: LineSpan) -> Iterator[RawBatch]:
    checked = span.start > 0  # by whoever reads the beginning
    for block, first in _byte_blocks(file, span):
        for batch in parsed_lines(block, first, path.name):
            checked = checked or _require_records(path, block, batch)
            yield batch


def _byte_blocks(file: Any, span: LineSpan) -> Iterator[tuple[bytes, int]]:
    """Yield whole lines of about ``BLOCK_BYTES``, and the number of the first. If the file breaks off, the error comes last.

    The first read ends at a multiple of ``READ_BYTES``. So a span has the blocks that its lines have in the whole file.
    """
    parts: list[bytes] = []
    size, first, broken, at = 0, span.first, None, span.start
    length = READ_BYTES - at % READ_BYTES
    if at:
        file.seek(at)
    while True:
        try:
            part = file.read1(length if span.end is None else min(length, span.end - at))
            at, length = at + len(part), READ_BYTES
        except UNREADABLE as error:
            part, broken = b"", error
        parts.append(part)
        size += len(part)
        end = part.rfind(b"\n") + 1
        if part and (size < BLOCK_BYTES or not end):
            continue
        parts[-1] = part[:end]
        block = b"".join(parts)
        if not part:
            block = block[: block.rfind(b"\n") + 1] if broken else _with_end(block)
        if block:
            yield block, first
        first += block.count(b"\n")
        parts, size = [part[end:]], len(part) - end
        if not part:
            break
    if broken is not None:
        raise broken


def _with_end(block: bytes) -> bytes:
    return block + b"\n" if block and not block.endswith(b"\n") else block


def _json_fields(
    path: Path, file: IO[bytes], fields: Collection[str], form: Callable[[dict[str, Any]], dict[str, Any]]
) -> Iterator[pd.DataFrame]:
    for block in _blocks(file, 1):
        if block.lines:
            yield fields_of(block.lines, [f"{path.name}:{place}" for place in block.places], fields, form)


def _patterned(path: Path, file: IO[bytes], line: re.Pattern[str]) -> Iterator[pd.DataFrame]:
    """Yield the groups of lines that match. A line that does not match is malformed."""
    checked = False
    for block in _blocks(file, 1):
        found = [line.fullmatch(text.decode(errors="replace")) for text in block.lines]
        if not checked and found and not any(found):
            raise ValueError(f"none of its first {len(found):,} lines matches the pattern")
        checked = True
        columns: dict[str, list[Any]] = {name: [one and one[name] for one in found] for name in line.groupindex}
        columns[MALFORMED] = [None if one else True for one in found]
        columns[SOURCE] = [f"{path.name}:{place}" for place in block.places]
        if found:
            yield pd.DataFrame({name: pd.Series(values, dtype=object) for name, values in columns.items()})


def _require_records(path: Path, block: bytes, batch: RawBatch) -> bool:
    """Raise :class:`CorruptLog` unless the records have the required columns."""
    if isinstance(batch, pa.Table) and all(batch.column(name).null_count < len(batch) for name in REQUIRED_COLUMNS):
        return True
    lines = [line for line in block.split(b"\n") if line.strip()]
    readable = [record for record in (decoded(line, "") for line in lines) if MALFORMED not in record]
    if not readable:
        raise CorruptLog(str(path), f"none of its first {len(lines):,} lines is a JSON object")
    require_columns(path, [name for name in READ_COLUMNS if any(name in record for record in readable)])
    return True
