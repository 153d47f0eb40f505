"""Codes the texts of large raw hours, a row group at a time, into a file of numbers.

Texts stand in a file as dictionaries, so each is looked up once per row group. Memory holds the distinct texts of the columns
that are coded together.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import narwhals as nw
import pyarrow as pa
import pyarrow.parquet as pq

from foreshard.observe.coded_text import is_text
from foreshard.observe.engines import CODE, MOMENT, NAME, coded_column, moments_of
from foreshard.observe.packing import Span

if TYPE_CHECKING:
    import polars as pl

_FORM: dict[str, Any] = {"compression": "lz4", "use_dictionary": False, "write_statistics": False}


class TextCodes:
    """Numbers the texts of a column in the order in which they come. With ``named``, the texts are kept."""

    def __init__(self, named: bool) -> None:
        import polars as pl

        self._alive = pl.Series(dtype=pl.Categorical(pl.Categories.random()))  # Polars forgets categories without a series
        self._named, self._names, self._number = named, list[pa.Table](), 0

    @property
    def span(self) -> Span:
        """The codes so far."""
        return Span(0, self._number - 1, nw.UInt32())

    def of(self, coded: pa.DictionaryArray) -> pa.Array:
        """Return the codes of coded text."""
        import polars as pl

        texts = pl.Series(coded.dictionary, dtype=pl.String)
        numbers = texts.cast(self._alive.dtype).to_physical()
        last: Any = numbers.max()
        if last is not None and last >= self._number:
            new = numbers >= self._number
            if self._named:  # Arrow copies the texts; Polars would keep all of the dictionary for some of them
                mask = new.to_arrow()
                self._names.append(pa.table({CODE: numbers.to_arrow().filter(mask), NAME: coded.dictionary.filter(mask)}))
            self._number = last + 1
        return numbers.to_arrow().take(coded.indices)

    def names(self) -> pl.LazyFrame:
        """Return the codes and their texts, and forget how texts are numbered."""
        import polars as pl

        self._alive = pl.Series(dtype=pl.String)
        schema = pa.schema([(CODE, pa.uint32()), (NAME, pa.string())])
        names = pl.DataFrame(pa.concat_tables([schema.empty_table(), *self._names]))
        self._names.clear()
        pa.default_memory_pool().release_unused()
        return names.lazy()


def row_groups(paths: Sequence[Path], columns: Sequence[str]) -> Iterator[pa.Table]:
    """Yield some columns of files, a row group at a time, texts as dictionaries."""
    for path in paths:
        texts = [field.name for field in pq.read_schema(path) if field.name in columns and is_text(field.type)]
        with pq.ParquetFile(path, read_dictionary=texts) as file:
            for number in range(file.num_row_groups):
                yield file.read_row_group(number, list(columns))


def beside(left: Iterable[pa.Table], right: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Yield tables with the columns of both."""
    for one, two in zip(left, right, strict=True):
        names = [*one.column_names, *two.column_names]
        yield pa.table(dict(zip(names, [*one.columns, *two.columns], strict=True)))


def write_coded(path: Path, groups: Iterable[pa.Table], codes: Mapping[str, TextCodes]) -> None:
    """Write row groups with codes for texts, and ``MOMENT`` for the timestamp."""
    writer: pq.ParquetWriter | None = None
    try:
        for group in groups:
            columns = zip(group.column_names, group.columns, strict=True)
            table = pa.table(dict(_numbers(name, column, codes.get(name)) for name, column in columns))
            writer = writer or pq.ParquetWriter(path, table.schema, **_FORM)
            writer.write_table(table)
    finally:
        if writer is not None:
            writer.close()


def _numbers(name: str, column: pa.ChunkedArray, codes: TextCodes | None) -> tuple[str, Any]:
    """Return a column as numbers, with its name."""
    if name == "timestamp":
        return MOMENT, moments_of(column)
    return name, column if codes is None else codes.of(coded_column(name, column, distinct=True))
