"""Parses JSON lines in blocks, as columns.

A block whose records have text and numbers where these are expected is parsed at once. Any other block is parsed line by line,
which accepts everything that JSON allows and marks what is not a JSON object.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Collection, Sequence
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pj

from foreshard.model import READ_COLUMNS
from foreshard.observe.clean import MALFORMED, SOURCE

_SCHEMAS = tuple(
    pa.schema([(name, types.get(name, pa.string())) for name in READ_COLUMNS])
    for types in ({"cost": pa.float64()}, {"cost": pa.float64(), "timestamp": pa.int64()})
)
"""Times are text or whole numbers."""

_PLAIN_LINES = re.compile(rb"(?:\{[^\n]*\}\r?(?:\n|\Z))+")


def parsed_lines(block: bytes, first: int, file: str) -> pd.DataFrame | pa.Table:
    """Return the records of whole lines. ``first`` is the number of the first line in its file. Blank lines are skipped."""
    count = block.count(b"\n")
    if _is_plain(block, count) and _is_utf8(block):
        for schema in _SCHEMAS:
            table = _as_table(block, schema)
            if table is not None and len(table) == count:
                places = pa.array(range(first, first + count), pa.int64()).cast(pa.string())
                return table.append_column(SOURCE, pc.binary_join_element_wise(pa.scalar(file), places, ":"))
    lines = [(place, line) for place, line in enumerate(block.split(b"\n"), first) if line.strip()]
    return parsed([line for _, line in lines], [f"{file}:{place}" for place, _ in lines])


def _is_plain(block: bytes, count: int) -> bool:
    """Return whether each of ``count`` lines begins and ends like an object."""
    return b"\r" not in block and block.startswith(b"{") and block.count(b"\n{") == count - 1 and block.count(b"}\n") == count


def parsed(lines: Sequence[bytes], sources: Sequence[str]) -> pd.DataFrame | pa.Table:
    """Return the records of these lines. ``sources`` are their positions in the log."""
    block = b"\n".join(line.rstrip(b"\r\n") for line in lines)
    if _PLAIN_LINES.fullmatch(block) and _is_utf8(block):
        for schema in _SCHEMAS:
            table = _as_table(block, schema)
            if table is not None and len(table) == len(lines):
                return table.append_column(SOURCE, pa.array(sources, pa.string()))
    return records_frame([decoded(line, source) for line, source in zip(lines, sources, strict=True)])


def decoded(payload: bytes | None, source: str) -> dict[str, Any]:
    """Return one JSON record with its position in the log. It is malformed if ``payload`` is not a JSON object."""
    try:
        record = json.loads(payload) if payload is not None else None
    except (ValueError, RecursionError):
        record = None
    if not isinstance(record, dict):
        return {MALFORMED: True, SOURCE: source}
    return {**{name: record.get(name) for name in READ_COLUMNS if name in record}, SOURCE: source}


def fields_of(
    lines: Sequence[bytes],
    sources: Sequence[str],
    fields: Collection[str],
    form: Callable[[dict[str, Any]], dict[str, Any]] = dict,
) -> pd.DataFrame:
    """Return fields of JSON records by their paths: ``a.b.0`` is the first item of ``b`` in ``a``. A missing one is None.

    ``form``: gives a record another form first.
    """
    paths = {field: field.split(".") for field in fields}
    records: list[Any] = []
    for line in lines:
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            record = None
        records.append(form(record) if isinstance(record, dict) else None)
    columns = {field: [_at(record, path) for record in records] for field, path in paths.items()}
    columns[MALFORMED] = [True if record is None else None for record in records]
    columns[SOURCE] = list(sources)
    return pd.DataFrame({name: pd.Series(values, dtype=object) for name, values in columns.items()})


def _at(value: Any, path: Sequence[str]) -> Any:
    for part in path:
        if isinstance(value, dict):
            value = value.get(part)
        elif isinstance(value, list) and part.isdecimal() and int(part) < len(value):
            value = value[int(part)]
        else:
            return None
    return value


def records_frame(records: list[dict[str, Any]]) -> pd.DataFrame:
    """Return decoded records as a frame with every standard column, raw values, and their positions."""
    names = (*READ_COLUMNS, MALFORMED, SOURCE)
    return pd.DataFrame({name: pd.Series([record.get(name) for record in records], dtype=object) for name in names})


def _as_table(block: bytes, schema: pa.Schema) -> pa.Table | None:
    """Return the block's records; None if a value has another type."""
    options = pj.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore")
    try:
        table: pa.Table = pj.read_json(io.BytesIO(block), pj.ReadOptions(block_size=len(block) + 1), options)
    except pa.ArrowException:
        return None
    return table


def _is_utf8(block: bytes) -> bool:
    try:
        block.decode()
    except UnicodeDecodeError:
        return False
    return True
