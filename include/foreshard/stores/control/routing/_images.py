"""The packed form of a routing table in the control database. Sidecars read it instead of one row per key.

``routing_images {_id: {identity, version, piece}, data}`` holds an image (:mod:`foreshard.routing.image`) in pieces. The
version document names the newest complete one, ``image {version, pieces}``. An image contains its own checksums.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from bson.binary import Binary
from pymongo.database import Database
from pymongo.read_concern import ReadConcern

from foreshard.errors import CorruptRoutingFile
from foreshard.measure.collector_pause import collector_paused
from foreshard.model import RoutingTable
from foreshard.ports.routing import PublishedImage
from foreshard.ports.routing_file import SavedRouting
from foreshard.routing.image import ImageDamaged, image_parts, open_image
from foreshard.routing.packed import PackedPlacements, pack
from foreshard.stores.files.routing_description import description_of, routing_of
from foreshard.stores.files.routing_file import random_seeds
from foreshard.stores.mongo_connections import Document

COLLECTION = "routing_images"
PIECE_BYTES = 250_000
"""A sidecar reads one piece at a time and does not answer meanwhile. A piece takes less than half a millisecond."""


def pieces_of(table: RoutingTable, identity: str) -> Iterator[Document]:
    """Yield the documents of a table's image, without overlay and registry."""
    with collector_paused():
        packed = pack(table.placements.values(), random_seeds())
        parts = image_parts(packed, description_of(SavedRouting(identity, table, (), ())))
    for number, data in enumerate(_pieces(parts)):
        yield {"_id": {"identity": identity, "version": table.version, "piece": number}, "data": Binary(data)}


def published_image(database: Database[Document], head: Mapping[str, Any]) -> PublishedImage | None:
    """Return the image that a version document names, with its parts unread."""
    image = head.get("image")
    if not image:
        return None
    identity, version = str(head["identity"]), int(image["version"])
    return PublishedImage(identity, version, _parts(database, identity, version, int(image["pieces"])))


def table_of(image: PublishedImage) -> RoutingTable:
    """Return the table in an image. Raise :class:`CorruptRoutingFile` if the image is incomplete."""
    where = f"{COLLECTION} (version {image.version})"
    try:
        opened = open_image(memoryview(b"".join(image.parts)))
        return routing_of(opened.description, PackedPlacements(opened.table), 0.0).table
    except (ImageDamaged, ValueError, KeyError) as error:
        raise CorruptRoutingFile(where, str(error)) from error


def _parts(database: Database[Document], identity: str, version: int, pieces: int) -> Iterator[bytes]:
    """Yield the pieces in order. It stops at a missing piece, and the length then shows that the image is incomplete."""
    found = database.get_collection(COLLECTION, read_concern=ReadConcern("majority"))
    for number in range(pieces):
        piece = found.find_one({"_id": {"identity": identity, "version": version, "piece": number}})
        if piece is None:
            return
        yield piece["data"]


def _pieces(parts: Iterable[bytes | memoryview]) -> Iterator[bytes]:
    whole = b"".join(parts)
    return (whole[at : at + PIECE_BYTES] for at in range(0, len(whole), PIECE_BYTES))
