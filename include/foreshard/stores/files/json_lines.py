"""Parses JSON lines in blocks, as columns.

Lines of the plain form are parsed at once, by Polars. They are objects without nesting and escapes, with texts and numbers
where these are expected. No field comes twice, or in another order than in the first lines. A pattern decides for each line.
All others are parsed one by one, which accepts everything that JSON allows and marks what is not a JSON object.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import lru_cache
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa

from foreshard.model import READ_COLUMNS
from foreshard.observe.clean import MALFORMED, SOURCE
from foreshard.observe.positions import with_positions

if TYPE_CHECKING:
    import polars as pl

CHUNK_LINES = 1_000
"""So many lines are parsed one by one if one of them is not plain."""
_NAMING_LINES = 20
"""The lines whose fields give the order of fields."""
_NAME = re.compile("[A-Za-z0-9_-]+")
_TEXT = r'"[^"\\\x00-\x1f]*"'
_EPOCH = "[1-9][0-9]{8,15}"
_WHOLE = "0|-?[1-9][0-9]{0,17}"
_COST = r"(?:0|[1-9][0-9]{0,14})(?:\.[0-9]{1,15})?"
_OTHER = rf"{_TEXT}|true|false|-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?"
_VALUES = {**dict.fromkeys(READ_COLUMNS, rf"{_TEXT}|{_WHOLE}"), "timestamp": rf"{_TEXT}|{_EPOCH}", "cost": _COST}
_BARE = {**dict.fromkeys(READ_COLUMNS, _WHOLE), "timestamp": _EPOCH, "cost": _COST}
_MARKS = ((",", ":"), (", ", ": "))
"""What stands between fields, and between a name and its value, in the two usual ways of writing JSON."""
_LINE = "the whole line"
_SCHEMA = pa.schema([(name, pa.float64() if name == "cost" else pa.string()) for name in READ_COLUMNS])


def parsed_lines(block: bytes, first: int, file: str) -> Iterator[pd.DataFrame | pa.Table]:
    """Yield the records of whole lines in order, without blank ones. ``first``: the number of the first line in its file."""
    if b"\r" in block:  # one byte is found in a fraction of the time of two
        block = block.replace(b"\r\n", b"\n")
    texts = _texts(block)
    if texts is None:
        yield from _in_halves(block, first, file)
        return
    table = _same_form(block, texts)
    if table is not None:
        yield with_positions(table, file, np.arange(first, first + len(texts)))
        return
    for plain, start, end in _runs(texts):
        whole = start == 0 and end == len(texts)
        table = _as_table(block if whole else "\n".join(texts[start:end].to_list()).encode()) if plain else None
        if table is None or len(table) != end - start:
            yield from _one_by_one([text.encode() for text in texts[start:end].to_list()], first + start, file)
        else:
            yield with_positions(table, file, np.arange(first + start, first + end))


def _in_halves(block: bytes, first: int, file: str) -> Iterator[pd.DataFrame | pa.Table]:
    """Yield the records of a block with a line that is not UTF-8."""
    lines = block.removesuffix(b"\n").split(b"\n")
    if len(lines) <= CHUNK_LINES:
        yield from _one_by_one(lines, first, file)
        return
    half = len(lines) // 2
    for part, place in ((lines[:half], first), (lines[half:], first + half)):
        yield from parsed_lines(b"\n".join(part) + b"\n", place, file)


def _one_by_one(lines: Sequence[bytes], first: int, file: str) -> Iterator[pd.DataFrame]:
    given = [(line, f"{file}:{place}") for place, line in enumerate(lines, first) if line.strip()]
    if given:
        yield records_frame([decoded(line, source) for line, source in given])


def parsed(lines: Sequence[bytes], sources: Sequence[str]) -> pd.DataFrame | pa.Table:
    """Return the records of these lines. ``sources`` are their positions in the log."""
    block = b"\n".join(line.rstrip(b"\r\n") for line in lines)
    texts = _texts(block)
    table = _as_table(block) if texts is not None and len(texts) == len(lines) and _is_plain(texts).all() else None
    if table is not None and len(table) == len(lines):
        return table.append_column(SOURCE, pa.array(sources, pa.string()))
    return records_frame([decoded(line, source) for line, source in zip(lines, sources, strict=True)])


def _texts(block: bytes) -> pl.Series | None:
    """Return the lines of a block as text; None if one is not UTF-8."""
    import polars as pl

    if not _is_utf8(block):
        return None
    return pl.scan_lines(io.BytesIO(block), name="line").collect()["line"]


def _runs(texts: pl.Series) -> Iterator[tuple[bool, int, int]]:
    """Yield whether lines are plain, and their range, in order. Chunks with a line that is not plain are whole."""
    plain = _is_plain(texts)
    if plain.all():
        yield True, 0, len(texts)
        return
    chunks = range(0, len(texts), CHUNK_LINES)
    for good, group in groupby(chunks, key=lambda start: bool(plain[start : start + CHUNK_LINES].all())):
        starts = list(group)
        yield good, starts[0], min(starts[-1] + CHUNK_LINES, len(texts))


def _is_plain(texts: pl.Series) -> pl.Series:
    return texts.str.contains(_plain_line(_fields(texts[:_NAMING_LINES].to_list())))


def _fields(lines: Sequence[str]) -> tuple[str, ...]:
    """Return the names of the lines' fields in an order that, if there is one, is that of each line."""
    names: list[str] = []
    for line in lines:
        place = 0
        for name in _object(line) or {}:
            if name in names:
                place = names.index(name) + 1
            elif _NAME.fullmatch(name):
                names.insert(place, name)
                place += 1
    return tuple(names)


@lru_cache(maxsize=64)
def _plain_line(names: tuple[str, ...]) -> str:
    """Return the pattern of plain lines with these fields. Any of them may be absent."""
    fields = (rf'(?:"{name}": ?(?:{_VALUES.get(name, _OTHER)}|null)(?:, ?|\}}$))?' for name in names)
    return rf"^\{{{''.join(fields)}$"


def _same_form(block: bytes, texts: pl.Series) -> pa.Table | None:
    """Return the records of lines that all have the form of the first; None if one has another.

    The lines are parsed, and written again with the names and marks of the first one between their values. If that gives the
    same lines, they hold nothing else. It takes half the time of the pattern.
    A block is not parsed for it if its first lines differ.
    """
    import polars as pl

    record = None if not len(texts) or b"\\" in block else _object(texts[0])
    names = tuple(record or ())
    alike = bool(names) and all(tuple(_object(line) or ()) == names for line in texts[:_NAMING_LINES].to_list())
    marks = next((pair for pair in _MARKS if alike and _dumped(record, pair) == texts[0]), None)
    frame = _parsed(block, names) if marks and all(map(_NAME.fullmatch, names)) else None
    if frame is None or record is None or marks is None or len(frame) != len(texts) or not _bare_fit(frame, record):
        return None
    line = pl.concat_str(_written(frame, record, marks))
    same = frame.with_columns(texts.alias(_LINE)).select((line == pl.col(_LINE)).all(ignore_nulls=False)).item()
    return _table(frame) if same else None


def _dumped(record: dict[str, Any] | None, marks: tuple[str, str]) -> str:
    return json.dumps(record, separators=marks, ensure_ascii=False)


def _bare_fit(frame: pl.DataFrame, record: dict[str, Any]) -> bool:
    """Return whether the values without quotation marks, in columns that are used, have the plain form."""
    bare = [name for name in READ_COLUMNS if name in record and not _quoted(name, record[name])]
    return not isinstance(record.get("cost"), str) and all(
        frame[name].str.contains(f"^(?:{_BARE[name]})$").fill_null(value=True).all() for name in bare
    )


def _quoted(name: str, first: Any) -> bool:
    """Return whether a column's values are texts, by the first of them."""
    return isinstance(first, str) or (first is None and name != "cost")


def _written(frame: pl.DataFrame, record: dict[str, Any], marks: tuple[str, str]) -> list[pl.Expr]:
    """Return the lines as they are written, in pieces: what stands before each value, and the value."""
    import polars as pl

    pieces: list[pl.Expr] = []
    behind = "{"
    for name, first in record.items():
        mark = '"' if _quoted(name, first) else ""
        start = f'{behind}"{name}"{marks[1]}'
        behind = mark + marks[0]
        if frame[name].null_count():
            value = pl.concat_str(pl.lit(mark), name, pl.lit(mark)).fill_null("null")
            behind = marks[0]
        else:
            value, start = pl.col(name), start + mark
        pieces += [pl.lit(start), value]
    return [*pieces, pl.lit(behind.removesuffix(marks[0]) + "}")]


def _as_table(block: bytes) -> pa.Table | None:
    """Return the records of plain lines; None if a value is not what the pattern lets expect."""
    frame = _parsed(block, ())
    return None if frame is None else _table(frame)


def _parsed(block: bytes, more: Sequence[str]) -> pl.DataFrame | None:
    """Return the standard columns of lines; None if a value has another type. With ``more`` columns, all of them are texts."""
    import polars as pl

    kinds = {name: pl.Float64 if name == "cost" and not more else pl.String for name in (*READ_COLUMNS, *more)}
    try:
        return pl.read_ndjson(block, schema=kinds)
    except pl.exceptions.PolarsError:
        return None


def _table(frame: pl.DataFrame) -> pa.Table:
    """Return the standard columns with the types of records."""
    import polars as pl

    if frame.schema["cost"] == pl.String:
        frame = frame.with_columns(pl.col("cost").cast(pl.Float64))
    table = frame.select(READ_COLUMNS).to_arrow(compat_level=pl.CompatLevel.oldest()).cast(_SCHEMA)
    times = frame["timestamp"]
    if (
        len(times)
        and re.fullmatch(_EPOCH, times[0] or "")
        and times.str.contains(f"^(?:{_EPOCH})$").fill_null(value=False).all()
    ):
        table = table.set_column(0, "timestamp", pa.array(times.cast(pl.Int64).to_arrow()))
    return table


def decoded(payload: bytes | None, source: str) -> dict[str, Any]:
    """Return one JSON record with its position in the log. It is malformed if ``payload`` is not a JSON object."""
    record = _object(payload)
    if record is None:
        return {MALFORMED: True, SOURCE: source}
    return {**{name: record.get(name) for name in READ_COLUMNS if name in record}, SOURCE: source}


def _object(payload: bytes | str | None) -> dict[str, Any] | None:
    """Return a JSON object; None if ``payload`` is none."""
    try:
        record = json.loads(payload) if payload is not None else None
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


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
        record = _object(line)
        records.append(None if record is None else form(record))
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


def _is_utf8(block: bytes) -> bool:
    ends = pa.py_buffer(np.array([0, len(block)], np.int64))
    try:
        pa.Array.from_buffers(pa.large_binary(), 1, [None, ends, pa.py_buffer(block)]).cast(pa.large_string())
    except pa.ArrowInvalid:
        return False
    return True
