"""The changes since an image of the routing table was written, in a file of their own.

The first line is JSON with everything except the rows. Lines of rows ``[key, primary, epoch, shadows]`` follow (``[key]``:
not listed any more), and a last line with the xxh3_128 of all bytes before it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from xxhash import xxh3_128

from foreshard.errors import CorruptRoutingFile
from foreshard.model import Placement

FORMAT = "foreshard-overlay-3"
ROWS_PER_LINE = 500


@dataclass(frozen=True, slots=True)
class Overlay:
    """The current description, and the rows that are new or different from the image (None: not listed any more)."""

    description: Mapping[str, Any]
    changed: Mapping[str, Placement | None]


def write_overlay(path: Path, overlay: Overlay) -> None:
    """Write or replace the file."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    with fresh.open("wb") as file:
        for part in with_checksum(_lines(overlay)):
            file.write(part)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)


def read_overlay(path: Path) -> Overlay:
    """Read the file. Raise :class:`CorruptRoutingFile` if its checksum or format is wrong."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise CorruptRoutingFile(str(path), f"can't be read ({error.strerror})") from error
    end = content.rfind(b"\n", 0, max(0, len(content) - 1)) + 1
    if not end or not content.endswith(b"\n"):
        raise CorruptRoutingFile(str(path), f"cut off after {len(content)} bytes")
    if content[end:] != checksum_line(xxh3_128(memoryview(content)[:end]).hexdigest()):
        raise CorruptRoutingFile(str(path), "its checksum is wrong")
    try:
        return _parse(content[:end].split(b"\n"))
    except (ValueError, KeyError, TypeError, IndexError, RecursionError) as error:
        raise CorruptRoutingFile(str(path), f"written by another version ({error!r})") from error


def with_checksum(lines: Iterable[bytes]) -> Iterator[bytes]:
    """The lines, followed by the line with their checksum."""
    digest = xxh3_128()
    for line in lines:
        digest.update(line)
        yield line
    yield checksum_line(digest.hexdigest())


def checksum_line(digest: str) -> bytes:
    """The last line of the file."""
    return b'{"xxh3_128":"' + digest.encode() + b'"}\n'


def _lines(overlay: Overlay) -> Iterator[bytes]:
    yield _line({"format": FORMAT, "about": overlay.description, "rows": len(overlay.changed)})
    rows = ([key] if p is None else [key, p.primary, p.epoch, p.shadows] for key, p in overlay.changed.items())
    while some := list(islice(rows, ROWS_PER_LINE)):
        yield _line(some)


def _line(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode() + b"\n"


def _parse(lines: list[bytes]) -> Overlay:
    head: dict[str, Any] = json.loads(lines[0])
    if head["format"] != FORMAT:
        raise ValueError(head["format"])
    changed: dict[str, Placement | None] = {}
    for line in lines[1:]:
        for key, *row in json.loads(line) if line else ():
            changed[key] = _placement(key, *row) if row else None
    if len(changed) != head["rows"]:
        raise ValueError(f"{len(changed)} rows instead of {head['rows']}")
    return Overlay(head["about"], changed)


def _placement(key: str, primary: str, epoch: int, shadows: list[str]) -> Placement:
    return Placement(key, primary, tuple(shadows), epoch)
