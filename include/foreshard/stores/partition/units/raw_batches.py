"""Documents in the BSON arrays of a server's answers, and reading one array ahead of its use.

Decoding takes longer than reading and writing, so documents stay bytes. Only the length and ``_id``, which the server stores
first, are taken from them (https://bsonspec.org/spec.html).
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterable, Iterator, MutableSequence
from contextlib import closing
from struct import Struct
from typing import TypeVar

import bson
from bson.raw_bson import RawBSONDocument
from xxhash import xxh3_64_intdigest, xxh3_128_intdigest

from foreshard.ports.migration import DocumentId, RawDocument
from foreshard.stores.bson_codec import RAW, id_bytes

AHEAD = 1
"""Batches that wait for their use. One more is being read."""
PORTION_BYTES = 8 * 2**20
"""A portion is one command and one transaction. Each must fit into a document of 16 MiB, that of the oplog too."""
INT32 = Struct("<i")
TYPE_AT, ID_AT, ID_NAME = 4, 5, b"_id\0"
VALUE_AT = ID_AT + len(ID_NAME)
FIXED = {0x01: 8, 0x07: 12, 0x08: 1, 0x09: 8, 0x0A: 0, 0x10: 4, 0x11: 8, 0x12: 8, 0x13: 16}
"""BSON type → bytes of its value."""
COUNTED = {0x02: 4, 0x03: 0, 0x05: 5}
"""BSON type whose value begins with its length → bytes that the length leaves out."""

T = TypeVar("T")
ItemsAhead = queue.Queue[tuple[bool, T | BaseException | None]]
"""(True, item), and at the end (False, error or None)."""


def documents_in(array: bytes) -> Iterator[RawDocument]:
    """Yield the documents of an array."""
    for start, end in bounds_in(array):
        raw = array[start:end]
        yield RawDocument(raw_id(raw), raw)


def bounds_in(array: bytes) -> Iterator[tuple[int, int]]:
    """Yield where each document of an array begins and ends."""
    at, last = TYPE_AT, len(array) - 1
    while at < last:
        start = array.index(b"\0", at) + 1
        at = start + INT32.unpack_from(array, start)[0]
        yield start, at


def array_of(documents: Iterable[RawBSONDocument]) -> bytes:
    """Return an array of the documents."""
    return bson.encode({str(number): document for number, document in enumerate(documents)}, codec_options=RAW)


def raw_id(raw: bytes) -> DocumentId:
    """Return the BSON of ``{"_id": …}`` of a document."""
    end = _end_of_id(raw, 0)
    if end is None:
        return id_bytes(RawBSONDocument(raw, RAW)["_id"])
    return INT32.pack(end - TYPE_AT + 5) + raw[TYPE_AT:end] + b"\0"


def portions(documents: Iterable[RawDocument], most: int) -> Iterator[tuple[RawDocument, ...]]:
    """Yield the documents in portions of at most ``most`` documents and ``PORTION_BYTES``, or of one larger document."""
    some: list[RawDocument] = []
    size = 0
    for document in documents:
        if some and (len(some) >= most or size + len(document.raw) > PORTION_BYTES):
            yield tuple(some)
            some, size = [], 0
        some.append(document)
        size += len(document.raw)
    if some:
        yield tuple(some)


def add_digests(array: bytes, into: MutableSequence[int]) -> int:
    """Add the 128-bit hash of each document of an array to the bucket of its id. Return the number of documents."""
    number, buckets = 0, len(into)
    for start, end in bounds_in(array):
        end_of_id = _end_of_id(array, start)
        element = array[start + TYPE_AT : end_of_id] if end_of_id else raw_id(array[start:end])[TYPE_AT:-1]
        into[xxh3_64_intdigest(element) % buckets] += xxh3_128_intdigest(array[start:end])
        number += 1
    return number


def bucket_of(identity: DocumentId, buckets: int) -> int:
    """Return the bucket to which ``add_digests`` adds a document's hash."""
    return xxh3_64_intdigest(identity[TYPE_AT:-1]) % buckets


def _end_of_id(data: bytes, start: int) -> int | None:
    """Return where the id of the document at ``start`` ends; None if it is not first, or of a rare type."""
    kind = data[start + TYPE_AT]
    length = FIXED.get(kind)
    if length is None and kind in COUNTED:
        length = INT32.unpack_from(data, start + VALUE_AT)[0] + COUNTED[kind]
    return None if length is None or data[start + ID_AT : start + VALUE_AT] != ID_NAME else start + VALUE_AT + length


def read_ahead(items: Generator[T, None, None]) -> Generator[T, None, None]:
    """Yield ``items``, which a thread reads one ahead. Closing this iterator ends the thread, and then ``items``."""
    ready: ItemsAhead[T] = queue.Queue(AHEAD)
    closed = threading.Event()
    reader = threading.Thread(target=_read, args=(items, ready, closed), daemon=True, name="read ahead")
    reader.start()
    try:
        while True:
            is_item, value = ready.get()
            if is_item:
                yield value  # type: ignore[misc]
            elif value is None:
                return
            else:
                raise value  # type: ignore[misc]
    finally:
        closed.set()
        while reader.is_alive():
            _drain(ready)
            reader.join(0.01)


def _read(items: Generator[T, None, None], ready: ItemsAhead[T], closed: threading.Event) -> None:
    try:
        with closing(items):
            for item in items:
                ready.put((True, item))
                if closed.is_set():
                    return
        ready.put((False, None))
    except BaseException as error:
        ready.put((False, error))


def _drain(ready: ItemsAhead[T]) -> None:
    while not ready.empty():
        ready.get_nowait()
