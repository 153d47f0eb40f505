"""What has changed since an image of the routing table was written: a small file of its own.

A line of JSON with everything besides the rows, lines of rows ``[key, primary, epoch, shadows]``, and a last line with the
xxh3_128 of all bytes before it.
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

FORMAT = "foreshard-overlay-2"
ROWS_PER_LINE = 500


@dataclass(frozen=True, slots=True)
class Overlay:
    """The description as it is now, and the rows that the image has not or has otherwise."""

    description: Mapping[str, Any]
    changed: Mapping[str, Placement]


def write_overlay(path: Path, overlay: Overlay) -> None:
    """Replace the file."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    with fresh.open("wb") as file:
        for part in with_checksum(_lines(overlay)):
            file.write(part)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)


def read_overlay(path: Path) -> Overlay:
    """Read the file; raise :class:`CorruptRoutingFile` where its checksum or its form is wrong."""
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
    """The lines, and the checksum's line behind them."""
    digest = xxh3_128()
    for line in lines:
        digest.update(line)
        yield line
    yield checksum_line(digest.hexdigest())


def checksum_line(digest: str) -> bytes:
    """The last line of a file."""
    return b'{"xxh3_128":"' + digest.encode() + b'"}\n'


def _lines(overlay: Overlay) -> Iterator[bytes]:
    yield _line({"format": FORMAT, "about": overlay.description, "rows": len(overlay.changed)})
    rows = ([p.key, p.primary, p.epoch, p.shadows] for p in overlay.changed.values())
    while some := list(islice(rows, ROWS_PER_LINE)):
        yield _line(some)


def _line(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode() + b"\n"


def _parse(lines: list[bytes]) -> Overlay:
    head: dict[str, Any] = json.loads(lines[0])
    if head["format"] != FORMAT:
        raise ValueError(head["format"])
    changed: dict[str, Placement] = {}
    for line in lines[1:]:
        for key, primary, epoch, shadows in json.loads(line) if line else ():
            changed[key] = Placement(key, primary, tuple(shadows), epoch)
    if len(changed) != head["rows"]:
        raise ValueError(f"{len(changed)} rows instead of {head['rows']}")
    return Overlay(head["about"], changed)
