"""Versions and copies as BSON, the same in Kafka, on replicas and in the control database.

A version is ``{epoch, physical, counter, origin, vector: [[origin, counter], …]}`` (pairs, since an origin may contain any
character). A copy is ``{version, body}``: its BSON, compressed where that is large, null for a tombstone.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Any

from foreshard.consistency.clock import HybridTime
from foreshard.consistency.reconcile import VersionedDocument
from foreshard.consistency.vectors import VersionVector
from foreshard.consistency.versions import Version

LARGE = 1_000_000
"""Bodies of more bytes are compressed, so that the largest document MongoDB takes can be kept inside another."""


def version_document(version: Version) -> dict[str, Any]:
    """BSON form of a version."""
    time = version.time
    vector = [[origin, counter] for origin, counter in version.vector.entries]
    return {
        "epoch": version.epoch, "physical": time.physical, "counter": time.counter, "origin": time.origin, "vector": vector,
    }  # fmt: skip


def read_version(document: Mapping[str, Any]) -> Version:
    """The version of a BSON form."""
    time = HybridTime(int(document["physical"]), int(document["counter"]), document["origin"])
    return Version(int(document["epoch"]), time, read_vector(document))


def read_vector(document: Mapping[str, Any]) -> VersionVector:
    """The vector of a version's BSON form."""
    return VersionVector(tuple((origin, int(counter)) for origin, counter in document["vector"]))


def copy_document(copy: VersionedDocument) -> dict[str, Any]:
    """BSON form of a copy."""
    body = copy.body
    if body is not None and len(body) > LARGE:
        return {"version": version_document(copy.version), "body": zlib.compress(body, 1), "compressed": True}
    return {"version": version_document(copy.version), "body": body}


def read_copy(document: Mapping[str, Any]) -> VersionedDocument:
    """The copy of a BSON form."""
    body = document["body"]
    if body is not None:
        body = zlib.decompress(body) if document.get("compressed") else bytes(body)
    return VersionedDocument(read_version(document["version"]), body)
