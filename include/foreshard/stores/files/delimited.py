"""Parses the lines of CSV and TSV, so that each line is one record, a part of one, or malformed.

A block of lines without a quote is parsed at once, as columns. Any other block is parsed line by line. A quoted cell may hold
line breaks. But if a line inside the cell is a whole record by itself, the quote is a stray one: its line is malformed, and
the lines behind it are records. Cells are text, so a key may be ``NA`` or ``007``; an empty cell is missing.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.csv as pv

from foreshard.observe.clean import MALFORMED, SOURCE
from foreshard.observe.positions import with_positions

DELIMITERS = (",", "\t", ";", "|")
LONGEST_RECORD = 64
"""Lines that a record may have."""
_OPEN = "unexpected end of data"


@dataclass(frozen=True)
class Header:
    """The names of a delimited file's columns, and what stands between its cells."""

    names: tuple[str, ...]
    delimiter: str

    @classmethod
    def of(cls, line: bytes) -> Header:
        """Read a header line. The delimiter is the one that gives most columns. Raise ``ValueError`` if it is not a text."""
        text = line.decode("utf-8-sig").rstrip("\r\n")
        found = [(len(cells), cells, mark) for mark in DELIMITERS if isinstance(cells := _cells(text, mark), list)]
        _, cells, mark = max(found, key=lambda one: one[0], default=(0, [], ","))
        names = tuple(name.strip() for name in cells)
        double = sorted({name for name in names if name and names.count(name) > 1})
        if double:
            raise ValueError(f"its header names {', '.join(double)} twice")
        return cls(names, mark)


@dataclass(frozen=True)
class Block:
    """Lines without their line ends, and the position of each in its file."""

    lines: Sequence[bytes]
    places: Sequence[int]

    def after(self, count: int) -> Block:
        """Return the lines behind the first ``count``."""
        return Block(self.lines[count:], self.places[count:])


def parsed_block(block: Block, header: Header, wanted: Collection[str], file: str, last: bool) -> tuple[Any, Block]:
    """Return the records of a block, and the lines of an unfinished record at its end. The ``last`` block leaves none."""
    kept = [name for name in header.names if name in wanted]
    text = b"\n".join(block.lines)
    if b'"' not in text and b"\r" not in text and b"\0" not in text:
        table = _as_table(text, header, kept)
        if table is not None and len(table) == len(block.lines):
            return with_positions(table, file, block.places), Block((), ())
    rows, used = [], 0
    for place, cells, end in _rows(block, header, last):
        rows.append((f"{file}:{place}", cells))
        used = end
    return _frame(rows, header, kept), block.after(used)


def _as_table(text: bytes, header: Header, kept: Sequence[str]) -> pa.Table | None:
    """Return a block without quotes as columns of text; None if a line has another number of cells, or is not UTF-8."""
    try:
        table: pa.Table = pv.read_csv(
            io.BytesIO(text),
            pv.ReadOptions(column_names=list(header.names), block_size=len(text) + 1, use_threads=False),
            pv.ParseOptions(delimiter=header.delimiter, quote_char=False, ignore_empty_lines=False),
            pv.ConvertOptions(
                column_types=dict.fromkeys(header.names, pa.string()),
                include_columns=list(kept),
                null_values=[""],
                strings_can_be_null=True,
            ),
        )
    except pa.ArrowException:
        return None
    return table


def _rows(block: Block, header: Header, last: bool) -> Iterator[tuple[int, list[str] | None, int]]:
    """Yield each record's first line, its cells (None: malformed), and the number of lines up to its end."""
    at, lines = 0, [_text(line) for line in block.lines]
    while at < len(lines):
        cells, end = _record(lines, at, header)
        if end > len(lines) and not last:
            return
        if end > len(lines):
            cells, end = None, at + 1
        yield block.places[at], cells, end
        at = end


def _record(lines: Sequence[str | None], at: int, header: Header) -> tuple[list[str] | None, int]:
    """Return the cells of the record that begins at a line, and the line behind it; behind the last if it is unfinished."""
    whole: list[str] = []
    for end in range(at, at + LONGEST_RECORD):
        if end >= len(lines):
            return None, len(lines) + 1
        line = lines[end]
        if line is None:
            return None, at + 1
        whole.append(line)
        cells = _cells("\n".join(whole), header.delimiter)
        if cells == _OPEN and end > at and _is_record(line, header):
            return None, at + 1
        if cells != _OPEN:
            good = isinstance(cells, list) and len(cells) == len(header.names)
            return (cells, end + 1) if good and isinstance(cells, list) else (None, at + 1)
    return None, at + 1


def _is_record(line: str, header: Header) -> bool:
    """Return whether a line is a whole record by itself."""
    cells = _cells(line, header.delimiter)
    return len(header.names) > 1 and isinstance(cells, list) and len(cells) == len(header.names)


def _cells(text: str, delimiter: str) -> list[str] | str:
    """Return the cells of one record, or why it has none."""
    try:
        rows = list(csv.reader([text], delimiter=delimiter, strict=True))
    except csv.Error as error:
        return _OPEN if _OPEN in str(error) else "malformed"
    return rows[0] if len(rows) == 1 else "malformed"


def _text(line: bytes) -> str | None:
    try:
        return line.decode()
    except UnicodeDecodeError:
        return None


def _frame(rows: Sequence[tuple[str, list[str] | None]], header: Header, kept: Sequence[str]) -> pd.DataFrame:
    columns: dict[str, list[Any]] = {
        name: [cells[place] or None if cells else None for _, cells in rows]
        for place, name in enumerate(header.names)
        if name in kept
    }
    columns[MALFORMED] = [True if cells is None else None for _, cells in rows]
    columns[SOURCE] = [source for source, _ in rows]
    return pd.DataFrame({name: pd.Series(values, dtype=object) for name, values in columns.items()})
