"""Deletes old hours: files under ``data_dir``, and hourly documents and ended records of the control database."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pymongo.database import Database

from foreshard.model.shadow_state import ShadowState
from foreshard.stores.mongo_connections import Document

_DATED = re.compile(r"date=(\d{4}-\d\d-\d\d)")
_OF_IMPORT = re.compile(r"(import|refused)-.+\.parquet")
_WORK = ("import-*", "engine-*")
_FOLDER = re.compile(rf"{_DATED.pattern}|(?:import|engine)-.+")
_SERIES = re.compile(r"(\d{4}-\d\d-\d\dT\d\d)\.parquet")


class StoredRetention:
    """Implements :class:`foreshard.ports.stages.Retention`. It may run twice."""

    def __init__(self, database: Database[Document], data_dir: Path) -> None:
        self._database = database
        self._data_dir = data_dir

    def forget(
        self, files: datetime, tallies: datetime, forecasts: datetime, records: datetime, *, dry_run: bool = False
    ) -> dict[str, int]:
        forgotten = {
            "raw": _unlink(_raw(self._data_dir / "raw", files), dry_run),
            "quarantine": _unlink(_quarantined(self._data_dir / "quarantine", files), dry_run),
            "replaced": _unlink(_daily(self._data_dir / "replaced", files), dry_run),
            "tally": _unlink(_daily(self._data_dir / "tally", tallies), dry_run),
            "co-access": _unlink(_daily(self._data_dir / "co-access", tallies), dry_run),
            "co-access-days": _unlink(_daily(self._data_dir / "co-access-days", tallies), dry_run),
            "series": sum(_unlink(_series(self._data_dir / n, files), dry_run) for n in ("series", "series-totals")),
        }
        selections: tuple[tuple[str, Document], ...] = (
            ("tallied_hours", {"_id": {"$lt": tallies}}),
            ("key_load", {"hour": {"$lt": tallies}}),
            ("co_access", {"hour": {"$lt": tallies}}),
            ("forecasts", {"hour": {"$lt": forecasts}}),
            ("forecasts", {"chunks": {"$exists": True}, "_id": {"$lt": f"{forecasts.astimezone(UTC):%Y-%m-%dT%H}"}}),
            ("scores", {"hour": {"$lt": forecasts}}),
            *self._ended(records),
        )
        for name, selection in selections:
            forgotten[name] = forgotten.get(name, 0) + self._delete(name, selection, dry_run)
        return forgotten

    def _ended(self, before: datetime) -> Iterator[tuple[str, Document]]:
        """Yield what selects plans, gate results, ended moves, retired shadows and past versions of the table."""
        yield "plans", {"_id": {"$lt": before}}
        yield "gates", {"hour": {"$lt": before}}
        ended = {"$not": {"$elemMatch": {"at": {"$gte": before}}}}
        yield "moves", {"active": {"$ne": True}, "planned_at": {"$lt": before}, "history": ended}
        yield "shadows", {"state": ShadowState.RETIRED.value, "updated_at": {"$lt": before}}
        head = self._database["routing_state"].find_one({"_id": "table"}, {"version": 1}) or {}
        past = {"_id": {"$lt": head.get("version", 0)}, "published_at": {"$lt": before}}
        old = [version["_id"] for version in self._database["routing_versions"].find(past, {"_id": 1})]
        yield "routing_changes", {"_id.version": {"$in": old}}
        yield "routing_versions", {"_id": {"$in": old}}

    def _delete(self, name: str, selection: dict[str, Any], dry_run: bool) -> int:
        collection = self._database[name]
        return collection.count_documents(selection) if dry_run else collection.delete_many(selection).deleted_count


def _daily(root: Path, before: datetime) -> Iterator[Path]:
    """Yield the files of whole days before ``before``, also those in folders, and what killed tasks have left there."""
    for folder in sorted(root.glob("date=*")) if root.is_dir() else ():
        found = _DATED.fullmatch(folder.name)
        if found and found[1] < f"{before.astimezone(UTC):%Y-%m-%d}":
            yield from sorted(path for path in folder.rglob("*") if path.is_file())


def _raw(root: Path, before: datetime) -> Iterator[Path]:
    """Yield the raw hours of whole days before ``before``, and what killed tasks left before it: spools, and engines' files."""
    yield from _daily(root, before)
    for pattern in _WORK:
        for file in sorted(root.glob(f"{pattern}/**/*")):
            if file.is_file() and file.stat().st_mtime < before.timestamp():
                yield file


def _quarantined(root: Path, before: datetime) -> Iterator[Path]:
    """Yield the quarantine of whole days before ``before``, and that of imports which were written before it.

    An import's file has records of many hours, or of none: its age is that of the file.
    """
    yield from _daily(root, before)
    for file in sorted(root.glob("*.parquet")) if root.is_dir() else ():
        if _OF_IMPORT.fullmatch(file.name) and file.stat().st_mtime < before.timestamp():
            yield file


def _series(root: Path, before: datetime) -> Iterator[Path]:
    for file in sorted(root.glob("*.parquet")) if root.is_dir() else ():
        found = _SERIES.fullmatch(file.name)
        if found and found[1] < f"{before.astimezone(UTC):%Y-%m-%dT%H}":
            yield file


def _unlink(files: Iterator[Path], dry_run: bool) -> int:
    count = 0
    for file in list(files):
        count += 1
        if not dry_run:
            file.unlink(missing_ok=True)
            _remove_empty(file)
    return count


def _remove_empty(file: Path) -> None:
    """Remove the folders of a deleted file that are empty now, up to that of its day or of its task."""
    parents = list(file.parents)[:3]
    top = next((number for number, folder in enumerate(parents) if _FOLDER.fullmatch(folder.name)), -1)
    for folder in parents[: top + 1]:
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
