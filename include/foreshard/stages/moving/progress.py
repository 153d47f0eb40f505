"""What a move is doing, for people: its activity, how far it is, and what they should know. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from foreshard.model.move_state import CLEANABLE, ENDED, RUNNING, MoveState
from foreshard.ports.move_journal import MoveRecord
from foreshard.settings import MigrateSettings

ACTIVITY = {
    MoveState.PLANNED: "planned",
    MoveState.COPYING: "copying",
    MoveState.CATCHING_UP: "catching up",
    MoveState.FENCED: "cutting over",
    MoveState.SWITCHED: "forwarding late changes while the source's copy is kept",
    MoveState.CLEANING: "removing the source's copy",
    MoveState.REVERTING: "reverting",
}


@dataclass(frozen=True, slots=True)
class MoveProgress:
    """A move's activity, and its copy so far: of ``total`` documents, with rates while it copies. ``notes`` are sentences."""

    activity: str
    is_stuck: bool
    documents: int
    total: int | None
    bytes: int
    documents_per_second: float | None = None
    bytes_per_second: float | None = None
    seconds_left: float | None = None
    notes: tuple[str, ...] = ()

    @property
    def total_bytes(self) -> int | None:
        """All bytes, from the mean size of the documents so far."""
        return round(self.bytes * self.total / self.documents) if self.total and self.documents else None

    @property
    def sentence(self) -> str:
        """The activity and how far the copy is, on one line."""
        parts = [self.activity]
        if self.total is not None:
            size = f", {_size(self.bytes)} of {_size(self.total_bytes)}" if self.total_bytes else ""
            parts.append(f"{self.documents:,} of {self.total:,} documents{size}")
        if self.bytes_per_second:
            parts.append(f"{self.documents_per_second:,.0f} documents and {_size(self.bytes_per_second)} per second")
        if self.seconds_left is not None:
            parts.append(f"{timedelta(seconds=round(self.seconds_left))} left")
        return "; ".join(parts)


def progress_of(record: MoveRecord, now: datetime, limits: MigrateSettings) -> MoveProgress:
    """Return a move's progress at ``now``."""
    documents, size = int(record.counters.get("documents", 0)), int(record.counters.get("bytes", 0))
    total = record.counters.get("total")
    whole = None if total is None else int(total)
    problem = _problem(record, now, limits)
    activity = f"stuck: {problem}" if problem else _activity(record)
    plain = MoveProgress(activity, problem is not None, documents, whole, size, notes=notes_of(record))
    begun = record.entered(MoveState.COPYING)
    seconds = (now - begun).total_seconds() if begun else 0.0
    if record.state is not MoveState.COPYING or seconds <= 0 or not documents or whole is None:
        return plain
    left = max(0, whole - documents) * seconds / documents
    return MoveProgress(
        activity, plain.is_stuck, documents, whole, size, documents / seconds, size / seconds, left, plain.notes
    )


def is_stuck(record: MoveRecord, now: datetime, limits: MigrateSettings) -> bool:
    """Return whether a move needs a person: it has no mover, or it has been in one state for too long."""
    return _problem(record, now, limits) is not None


def _activity(record: MoveRecord) -> str:
    if record.state in ENDED:
        return str(record.state)
    if record.stop_requested and record.lease_until is None:
        return f"paused in {record.state}; `foreshard moves resume {record.move_id}` goes on"
    waiting = record.notes.get("waiting")
    return str(waiting) if waiting else ACTIVITY[record.state]


def _problem(record: MoveRecord, now: datetime, limits: MigrateSettings) -> str | None:
    """Return what keeps a move from going on, and what to do."""
    if record.state in ENDED or record.stop_requested:
        return None
    alive = record.lease_until is not None and record.lease_until > now
    if record.state in RUNNING and not alive:
        why = f" ({record.error})" if record.error else ""
        return f"no mover{why}: `foreshard moves resume {record.move_id}`"
    if alive and (record.state is MoveState.COPYING or (record.notes.get("waiting") and record.state is not MoveState.FENCED)):
        return None
    since = record.history[-1].at if record.history else now
    patience = limits.stuck_after + (limits.source_kept if record.state in CLEANABLE else timedelta())
    if now - since <= patience:
        return None
    age = timedelta(seconds=round((now - since).total_seconds()))
    return f"{record.state} for {age}; see the mover's log, or `foreshard moves resume {record.move_id}`"


def notes_of(record: MoveRecord) -> tuple[str, ...]:
    """Return what people should know about a move, as sentences."""
    notes, counters = record.notes, record.counters
    found = [_late_changes(notes), _strays(counters, notes), _retreats(counters, notes)]
    if left_out := len(notes.get("exceptions", ())):
        found.append(f"{left_out:,} listed keys of its slots stay where they are")
    if dropped := notes.get("dropped"):
        found.append(f"{len(dropped):,} units were not on {record.move.source} any more and were left out")
    return tuple(filter(None, found))


def _late_changes(notes: Mapping[str, Any]) -> str | None:
    unknown = notes.get("late_changes_unknown")
    return f"late changes on the source may be missing: {unknown}" if unknown else None


def _strays(counters: Mapping[str, float], notes: Mapping[str, Any]) -> str | None:
    strays, merged = int(counters.get("strays", 0)), int(counters.get("strays_merged", 0))
    said = [f"{strays:,} documents had been written on the target, {merged:,} of them were merged"] if strays else []
    said += [str(notes[name]) for name in ("strays_refused", "strays_unknown") if notes.get(name)]
    return "; ".join(said) or None


def _retreats(counters: Mapping[str, float], notes: Mapping[str, Any]) -> str | None:
    why = notes.get("retreat")
    times = int(counters.get("retreats", 0))
    return f"the fence was lifted {times} time{'s' if times != 1 else ''} before the switch: {why}" if why else None


def _size(number: float | None) -> str:
    size = float(number or 0)
    for unit in ("B", "KB", "MB"):
        if size < 1_000:
            return f"{size:.0f} {unit}"
        size /= 1_000
    return f"{size:.1f} GB"
