"""What the results of writes say, and the one error of an update of many. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pymongo.errors import BulkWriteError, DuplicateKeyError, WriteError
from pymongo.results import DeleteResult, UpdateResult

from foreshard.client._types import Document

DUPLICATE_KEY = 11000


def deleted_none(result: DeleteResult) -> bool:
    """Whether a delete has found nothing."""
    return result.acknowledged and result.deleted_count == 0


def matched_none(result: UpdateResult) -> bool:
    """Whether an update has found nothing."""
    return result.matched_count == 0 and result.upserted_id is None


def found_none(options: Mapping[str, Any]) -> Callable[[Document | None], bool]:
    """Whether nothing matched. An applied upsert may return None too, so with ``upsert`` the answer is always False."""
    return lambda result: result is None and not options.get("upsert")


def as_write_error(error: BulkWriteError) -> Exception:
    """The single error that pymongo reports for an update of many."""
    failures = error.details.get("writeErrors", [])
    if not failures:
        return error
    kind = DuplicateKeyError if failures[0].get("code") == DUPLICATE_KEY else WriteError
    return kind(failures[0].get("errmsg", "write error"), failures[0].get("code"), failures[0])
