"""The progress of a verification of all slots: ``verifications {_id: "all", next_slot, figures}``."""

from __future__ import annotations

from pymongo.database import Database

from foreshard.ports.verification import VerificationProgress
from foreshard.stores.mongo_connections import Document

ALL = "all"


class MongoVerificationProgress:
    """Implements :class:`foreshard.ports.verification.VerificationProgressStore`."""

    def __init__(self, database: Database[Document]) -> None:
        self._verifications = database["verifications"]

    def load(self) -> VerificationProgress | None:
        found = self._verifications.find_one({"_id": ALL})
        return None if found is None else VerificationProgress(found["next_slot"], found["figures"])

    def save(self, progress: VerificationProgress | None) -> None:
        if progress is None:
            self._verifications.delete_one({"_id": ALL})
            return
        fields = {"next_slot": progress.next_slot, "figures": dict(progress.figures)}
        self._verifications.replace_one({"_id": ALL}, fields, upsert=True)
