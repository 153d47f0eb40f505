"""The file format of a packed table: header, cells, keys, and a description in JSON. Pure: buffers in and out.

The header (``HEADER``, little-endian) holds the lengths and the xxh3_64 of each part, and its own xxh3_64. The parts follow,
each padded to 8 bytes. Opening an image reads the header and the description; the cells are used in place, in a mapped file.
"""

from __future__ import annotations

import json
import struct
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from xxhash import xxh3_64, xxh3_64_digest, xxh3_64_intdigest

from foreshard.routing.packed import CELL_BYTES, EMPTY, PackedTable

MAGIC = b"FSHARD03"
STEP_BYTES = 2**20
HEADER = struct.Struct("<8s11Q8s")
"""Magic; homes, seed, count; lengths of cells, keys, description; their xxh3_64; total length; 0; the header's xxh3_64."""


class ImageDamaged(ValueError):
    """Bytes that are not a complete image. The message says what is wrong."""


@dataclass(frozen=True, slots=True)
class Image:
    """An opened image. ``name`` identifies it."""

    table: PackedTable
    description: Mapping[str, Any]
    name: str


def image_parts(table: PackedTable, description: Mapping[str, Any]) -> tuple[bytes | memoryview, ...]:
    """The parts of an image, in file order. ``description`` must be JSON-serialisable."""
    if sys.byteorder != "little":
        raise ImageDamaged("images are little-endian; this machine is not")
    cells = table.cells.cast("B")
    keys = b"".join(table.keys)
    inner = {
        "names": table.names,
        "shadow_sets": table.shadow_sets,
        "key_blocks": [len(block) for block in table.keys],
        "about": description,
    }
    text = json.dumps(inner, separators=(",", ":")).encode()
    sums = [xxh3_64_intdigest(part) for part in (cells, keys, text)]
    parts = (cells, keys, _pad(keys), text, _pad(text))
    length = HEADER.size + sum(len(part) for part in parts)
    head = HEADER.pack(
        MAGIC, table.homes, table.seed, table.count, len(cells), len(keys), len(text), *sums, length, 0, bytes(8)
    )
    head = head[:-8] + xxh3_64_digest(head[:-8])
    return (head, *parts)


def image_name(head: bytes | memoryview) -> str:
    """The name of an image, given its header: the header's checksum, which covers the checksums of all parts."""
    return bytes(head[HEADER.size - 8 : HEADER.size]).hex()


def keys_place(head: bytes | memoryview) -> tuple[int, int]:
    """Start and end of the keys in an image, given its header."""
    _, _, _, _, *numbers, _, _, _ = HEADER.unpack_from(head)
    return _places(numbers[:3])[1]


def open_image(buffer: memoryview, *, check_keys: bool = True) -> Image:
    """Open the image in ``buffer``. Raise :class:`ImageDamaged` if any checksum is wrong.

    ``check_keys=False`` skips the checksum of the keys' bytes, which lookups don't use.
    """
    if len(buffer) < HEADER.size:
        raise ImageDamaged(f"cut off after {len(buffer)} bytes")
    magic, homes, seed, count, *numbers, length, _, own = HEADER.unpack_from(buffer)
    if magic != MAGIC:
        raise ImageDamaged("written by another version")
    if xxh3_64_digest(buffer[: HEADER.size - 8]) != own:
        raise ImageDamaged("the checksum of its header is wrong")
    if length != len(buffer):
        raise ImageDamaged(f"{len(buffer)} bytes instead of {length}: cut off, or extended")
    places = _places(numbers[:3])
    for name, (start, end), wanted in zip(("cells", "keys", "description"), places, numbers[3:], strict=True):
        if (check_keys or name != "keys") and _sum(buffer[start:end]) != wanted:
            raise ImageDamaged(f"the checksum of its {name} is wrong")
        if any(buffer[end : _padded(end)]):
            raise ImageDamaged(f"unexpected bytes after its {name}")
    cells, keys, text = (buffer[start:end] for start, end in places)
    inner = json.loads(bytes(text))
    shadow_sets = tuple(tuple(names) for names in inner["shadow_sets"])
    blocks = _blocks(keys, inner["key_blocks"])
    table = PackedTable(cells.cast("Q"), homes, seed, count, tuple(inner["names"]), shadow_sets, blocks)
    if len(cells) % CELL_BYTES or len(table.cells) < table.words:
        raise ImageDamaged("fewer cells than its header states")
    if table.cells[-2] != EMPTY:
        raise ImageDamaged("no empty cell at its end to stop lookups")
    return Image(table, inner["about"], image_name(buffer))


def _sum(part: memoryview) -> int:
    """The xxh3_64 of a part, computed in steps so that other threads can run."""
    digest = xxh3_64()
    for at in range(0, len(part), STEP_BYTES):
        digest.update(part[at : at + STEP_BYTES])
    return digest.intdigest()


def _places(lengths: Iterable[int]) -> list[tuple[int, int]]:
    places = []
    start = HEADER.size
    for length in lengths:
        places.append((start, start + length))
        start = _padded(start + length)
    return places


def _blocks(keys: memoryview, lengths: Iterable[int]) -> tuple[memoryview, ...]:
    blocks = []
    start = 0
    for length in lengths:
        blocks.append(keys[start : start + length])
        start += length
    return tuple(blocks)


def _padded(length: int) -> int:
    return -(-length // 8) * 8


def _pad(part: bytes) -> bytes:
    return bytes(_padded(len(part)) - len(part))
