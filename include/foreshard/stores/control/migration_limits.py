"""The limits of moves that were changed: ``migration_limits {_id: "limits", bytes_per_second, documents_per_second, hold}``."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

from pymongo.database import Database
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern

from foreshard.ports.pacing import MigrationLimits
from foreshard.stores.mongo_connections import Document

LIMITS = "limits"
NAMES = tuple(field.name for field in fields(MigrationLimits))


class MongoMigrationLimits:
    """Implements :class:`foreshard.ports.pacing.MigrationLimitStore`. ``defaults`` are the settings'."""

    def __init__(self, database: Database[Document], defaults: MigrationLimits) -> None:
        self._limits = database.get_collection(
            "migration_limits", write_concern=WriteConcern("majority"), read_concern=ReadConcern("majority")
        )
        self._defaults = defaults

    def read(self) -> MigrationLimits:
        changed = self._limits.find_one({"_id": LIMITS}) or {}
        return replace(self._defaults, **{name: changed[name] for name in NAMES if name in changed})

    def change(
        self, *, bytes_per_second: float | None = None, documents_per_second: float | None = None, hold: bool | None = None
    ) -> MigrationLimits:
        asked: dict[str, Any] = dict(zip(NAMES, (bytes_per_second, documents_per_second, hold), strict=True))
        given = {name: value for name, value in asked.items() if value is not None}
        if given:
            self._limits.update_one({"_id": LIMITS}, {"$set": given}, upsert=True)
        return self.read()
