"""Conflicts in the control database.

``conflicts {_id, namespace, document_id, key, policy, kept: {version, body}, shown: version, state: open | resolved,
detected_at, resolved_at, resolution}``: one document per concurrent version that is not shown. ``_id`` is derived from the
document and the version, so every replica gives a conflict the same id.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import bson
from pymongo.database import Database
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern

from foreshard.consistency.reconcile import VersionedDocument
from foreshard.consistency.versions import Version
from foreshard.errors import UnknownConflict
from foreshard.model import ConflictPolicy
from foreshard.ports.replicas import Conflict
from foreshard.stores.bson_codec import identity_of
from foreshard.stores.mongo_connections import Document
from foreshard.stores.version_documents import copy_document, read_copy, read_version, version_document


class MongoConflictStore:
    """Implements :class:`foreshard.ports.replicas.ConflictStore`."""

    def __init__(self, database: Database[Document]) -> None:
        self._conflicts = database.get_collection(
            "conflicts", write_concern=WriteConcern("majority"), read_concern=ReadConcern("majority")
        )

    def keep(
        self, namespace: str, document_id: Any, key: str, policy: ConflictPolicy, copy: VersionedDocument, shown: Version
    ) -> None:
        conflict = {
            "namespace": namespace,
            "document_id": document_id,
            "key": key,
            "policy": policy.value,
            "kept": copy_document(copy),
            "shown": version_document(shown),
            "state": "open",
            "detected_at": datetime.now(UTC),
            "resolved_at": None,
            "resolution": None,
        }
        name = conflict_id(namespace, document_id, copy.version)
        self._conflicts.update_one({"_id": name}, {"$setOnInsert": conflict}, upsert=True)

    def open(self, limit: int = 100) -> tuple[Conflict, ...]:
        """Return the unresolved conflicts, oldest first."""
        return tuple(_conflict(found) for found in self._conflicts.find({"state": "open"}).sort("detected_at", 1).limit(limit))

    def count_open(self) -> int:
        """Return the number of unresolved conflicts."""
        return self._conflicts.count_documents({"state": "open"})

    def get(self, conflict_id: str) -> Conflict:
        found = self._conflicts.find_one({"_id": conflict_id})
        if found is None:
            raise UnknownConflict(conflict_id)
        return _conflict(found)

    def of_document(self, namespace: str, document_id: Any) -> tuple[Conflict, ...]:
        """Return the unresolved conflicts of one document."""
        found = self._conflicts.find({"namespace": namespace, "document_id": document_id, "state": "open"})
        return tuple(_conflict(conflict) for conflict in found)

    def resolve(self, conflict_ids: Sequence[str], resolution: str) -> None:
        """Mark conflicts as resolved. The kept versions stay."""
        noted = {"state": "resolved", "resolved_at": datetime.now(UTC), "resolution": resolution}
        self._conflicts.update_many({"_id": {"$in": list(conflict_ids)}, "state": "open"}, {"$set": noted})


def conflict_id(namespace: str, document_id: Any, version: Version) -> str:
    """Return the id of the conflict that keeps ``version`` of a document."""
    written = identity_of(namespace, document_id) + bson.encode(version_document(version))
    return hashlib.sha256(written).hexdigest()[:24]


def _conflict(found: Mapping[str, Any]) -> Conflict:
    return Conflict(
        found["_id"],
        found["namespace"],
        found["document_id"],
        identity_of(found["namespace"], found["document_id"]),
        found["key"],
        ConflictPolicy(found["policy"]),
        read_copy(found["kept"]),
        read_version(found["shown"]),
        found["state"],
        found["detected_at"],
        found["resolution"],
    )
