"""Splits large log files into parts that can be read by themselves, and give the same batches as the whole file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

import pyarrow.parquet as pq

from foreshard.errors import CorruptLog
from foreshard.model import ONE_HOUR
from foreshard.stores.files import log_formats
from foreshard.stores.files.log_formats import UNREADABLE, LineSpan, groups_of
from foreshard.stores.files.log_parts import LogFilePart, SourcePart
from foreshard.stores.files.log_paths import COMPRESSIONS, file_format
from foreshard.stores.files.log_tables import SourceForm

_Part = TypeVar("_Part", bound=SourcePart)


def parts_of(files: Sequence[Path], form: SourceForm, hour: datetime, most: int | None) -> list[LogFilePart]:
    """Return the parts of files, in order. Files of more than ``most`` bytes are split where it is possible (None: no file is).

    The spans of lines are not numbered yet: see :func:`numbered`.
    """
    return [part for file in files for part in _parts_of_file(file, form, hour, most)]


def _parts_of_file(path: Path, form: SourceForm, hour: datetime, most: int | None) -> list[LogFilePart]:
    size = path.stat().st_size if path.is_file() else 0
    whole = [LogFilePart(path, form, size)]
    if most is None or size <= most:
        return whole
    try:
        kind = file_format(path, form.mapping.format if form.mapping else None)
        if kind == "parquet":
            return list(_row_groups(path, form, hour, most))
        if kind == "json" and form.mapping is None and not path.name.endswith(COMPRESSIONS):
            return _spans(path, form, size, most) or whole
    except (CorruptLog, *UNREADABLE):
        pass  # whoever reads it says what is wrong
    return whole


def _row_groups(path: Path, form: SourceForm, hour: datetime, most: int) -> Iterator[LogFilePart]:
    with pq.ParquetFile(path) as file:
        groups = groups_of(file, hour, hour + ONE_HOUR, form.mapping)
        about = [file.metadata.row_group(number) for number in groups]
        sizes = [sum(row.column(place).total_compressed_size for place in range(row.num_columns)) for row in about]
    start = 0
    for end in range(1, len(groups) + 1):
        if end == len(groups) or sum(sizes[start : end + 1]) > most:
            earlier = tuple((group,) for group in groups[:start])
            yield LogFilePart(path, form, sum(sizes[start:end]), tuple(groups[start:end]), earlier)
            start = end
    if not groups:
        yield LogFilePart(path, form, 0, ())


def _spans(path: Path, form: SourceForm, size: int, most: int) -> list[LogFilePart]:
    """Return the spans of a file of JSON lines, which end where blocks of the whole file end; none if a line is too long."""
    step, reach = max(1, most // log_formats.BLOCK_BYTES) * log_formats.BLOCK_BYTES, log_formats.READ_BYTES
    cuts = [0]
    with path.open("rb") as file:
        for at in range(step, size, step):
            file.seek(at - reach)
            end = file.read(reach).rfind(b"\n") + 1
            if not end:
                return []
            cuts.append(at - reach + end)
    spans = [*(LineSpan(*ends) for ends in pairwise(cuts)), LineSpan(cuts[-1])]  # the last one ends with the file
    return [
        LogFilePart(path, form, (span.end or size) - span.start, span, tuple(spans[:number]))
        for number, span in enumerate(spans)
    ]


def lines_in(part: SourcePart) -> int:
    """Return the number of line ends in a part that is a span of lines; 0 for other parts, or if it can't be read."""
    span, count = part.piece, 0
    if not isinstance(span, LineSpan) or span.end is None or not part.is_there():
        return 0
    with part.file() as path, path.open("rb") as file:
        file.seek(span.start)
        left = span.end - span.start
        while left and (block := file.read(min(left, 2**20))):
            count += block.count(b"\n")
            left -= len(block)
    return count


def numbered(parts: Sequence[_Part], count: Callable[[Sequence[_Part]], Sequence[int]]) -> list[_Part]:
    """Return parts whose spans know the numbers of their lines. ``count`` gives :func:`lines_in` of each of some parts."""
    split = [part for part in parts if isinstance(part.piece, LineSpan)]
    counts = dict(zip((id(part) for part in split), count(split) if split else (), strict=True))
    made: list[_Part] = []
    first = 1
    for part in parts:
        if not isinstance(part, LogFilePart) or not isinstance(part.piece, LineSpan):
            made.append(part)
            continue
        first = first if part.earlier else 1
        made.append(replace(part, piece=replace(part.piece, first=first)))
        first += counts[id(part)]
    return made
