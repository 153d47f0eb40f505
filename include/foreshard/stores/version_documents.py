"""Versions and copies as BSON, in the same form in Kafka, on replicas and in the control database.

A version is ``{epoch, physical, counter, origin, vector: [[origin, counter], …]}``; the vector is a list of pairs because an
origin may contain any character. A copy is ``{version, body}``. The body is its BSON, compressed if it is large, and null for a
tombstone.
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
"""Larger bodies are compressed, so that MongoDB's largest document fits inside another document."""


def version_document(version: Version) -> dict[str, Any]:
    """Return a version as BSON."""
    time = version.time
    vector = [[origin, counter] for origin, counter in version.vector.entries]
    return {
        "epoch": version.epoch, "physical": time.physical, "counter": time.counter, "origin": time.origin, "vector": vector,
    }  # fmt: skip


def read_version(document: Mapping[str, Any]) -> Version:
    """Read a version."""
    time = HybridTime(int(document["physical"]), int(document["counter"]), document["origin"])
    return Version(int(document["epoch"]), time, read_vector(document))


def read_vector(document: Mapping[str, Any]) -> VersionVector:
    """Read a version vector."""
    return VersionVector(tuple((origin, int(counter)) for origin, counter in document["vector"]))


def copy_document(copy: VersionedDocument) -> dict[str, Any]:
    """Return a copy as BSON."""
    body = copy.body
    if body is not None and len(body) > LARGE:
        return {"version": version_document(copy.version), "body": zlib.compress(body, 1), "compressed": True}
    return {"version": version_document(copy.version), "body": body}


def read_copy(document: Mapping[str, Any]) -> VersionedDocument:
    """Read a copy."""
    body = document["body"]
    if body is not None:
        body = zlib.decompress(body) if document.get("compressed") else bytes(body)
    return VersionedDocument(read_version(document["version"]), body)
