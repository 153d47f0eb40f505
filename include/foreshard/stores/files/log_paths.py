"""Which files an access log consists of: files, folders of log files, and patterns such as ``logs/*.jsonl.gz``."""

from __future__ import annotations

import bz2
import gzip
import io
from collections.abc import Iterator, Sequence
from glob import glob, has_magic
from pathlib import Path
from typing import Any

import pyarrow as pa

from foreshard.errors import CorruptLog

COMPRESSIONS = (".gz", ".zst", ".bz2")
_FORMATS = {".parquet": "parquet", ".csv": "csv", ".tsv": "csv", ".jsonl": "json", ".ndjson": "json"}
ENDINGS = (*_FORMATS, *(f"{name}{packed}" for name in (".csv", ".tsv", ".jsonl", ".ndjson") for packed in COMPRESSIONS))
"""The ends of the names of log files."""


def log_files(paths: Sequence[Path], any_name: bool = False) -> list[Path]:
    """Return the files that ``paths`` stand for, in order. A folder stands for its log files, by name.

    ``any_name``: all files of a folder are log files, because a mapping gives their format.

    Raise :class:`CorruptLog` for a folder without log files, a pattern without files, and one log in two files, such as
    ``a.jsonl`` and ``a.jsonl.gz``, whose records would count twice.
    """
    files = [file for path in paths for file in _files(path, ("",) if any_name else ENDINGS)]
    seen: dict[Path, Path] = {}
    for file in files:
        log = file.resolve().with_name(plain_name(file))
        if log in seen:
            problem = f"it is the same log as {seen[log]}, so its records would count twice; remove one of the two"
            raise CorruptLog(str(file), problem)
        seen[log] = file
    return files


def plain_name(path: Path) -> str:
    """Return a file's name without the end that names its compression."""
    return next((path.name.removesuffix(packed) for packed in COMPRESSIONS if path.name.endswith(packed)), path.name)


def file_format(path: Path, given: str | None = None) -> str:
    """Return the ``given`` format, or ``parquet``, ``csv`` or ``json`` by the end of the file's name.

    Raise :class:`CorruptLog` without a file or a format.
    """
    if not path.is_file():
        raise CorruptLog(str(path), "no such file")
    if given is not None:
        return given
    if not path.name.endswith(ENDINGS):
        raise CorruptLog(str(path), f"its name ends in none of {', '.join(ENDINGS)}; a mapping can name its format")
    return _FORMATS[Path(plain_name(path)).suffix]


def opened(path: Path) -> Any:
    """Open a file for reading lines of bytes, decompressed."""
    if path.name.endswith(".gz"):
        return gzip.open(path)
    if path.name.endswith(".bz2"):
        return bz2.open(path)
    if path.name.endswith(".zst"):
        return io.BufferedReader(pa.CompressedInputStream(pa.OSFile(str(path)), "zstd"))
    return path.open("rb")


def _files(path: Path, endings: tuple[str, ...]) -> Iterator[Path]:
    if path.is_dir():
        found = [file for file in sorted(path.rglob("*")) if file.name.endswith(endings) and file.is_file()]
        if not found:
            raise CorruptLog(str(path), f"the folder has no log file ({', '.join(ENDINGS)})")
        yield from found
    elif has_magic(str(path)) and not path.exists():
        found = [Path(name) for name in sorted(glob(str(path), recursive=True))]  # noqa: PTH207 (an absolute pattern)
        if not found:
            raise CorruptLog(str(path), "no file has such a name")
        yield from found
    else:
        yield path
