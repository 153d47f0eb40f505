"""From the fence to a serving target: fence, drain, verify, switch, open. Apps wait for all of it, so milliseconds count.

An app's own ``collMod`` can lift the source's fence. A resuming mover checks for that, and the feed shows it until the switch;
the move then goes back to ``fenced``.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from foreshard.errors import FenceTimedOut, MoveRefused, StaleEpoch, VerificationFailed
from foreshard.model.key_space import unit_label
from foreshard.model.move_state import MoveState
from foreshard.move._owners import Owners
from foreshard.move._unit_sync import size
from foreshard.move.session import MoveSession
from foreshard.move.states import MoveEvent, next_state
from foreshard.ports.migration import Changes, MoveRecord
from foreshard.ports.publishing import TableEdit, publish_edit

MAXIMUM_RETREATS = 3
"""The fence may be lifted this often before the switch. After that the move is reverted."""
COUNTED_BEHIND_FENCE = 20_000
"""At most this many documents are counted again behind the fence (about a million documents a second)."""
SLOTS_COUNTED_BEHIND_FENCE = 2_000
"""The same for a move of slots, whose documents are counted one by one (about a hundred thousand a second)."""


def fence_and_drain(session: MoveSession) -> None:
    """Fence the units on the source and apply its changes up to the fence. Retreat if that takes too long."""
    session.fenced_at = time.monotonic()
    deadline = session.fenced_at + session.context.limits.fence_timeout.total_seconds()
    try:
        marks = session.context.source.fence()
    except FenceTimedOut as error:
        retreat(session, str(error))
        return
    while not _reached(marks, session.feed.fences_seen):
        changes = session.follow(until_fences=marks)
        if changes.unfenced and not session.context.source.is_fenced():
            marks = session.context.source.fence()
        if time.monotonic() > deadline:
            retreat(session, "draining the source's changes took too long")
            return
    session.advance(MoveEvent.DRAIN, position=session.feed.position)


def retreat(session: MoveSession, why: str) -> None:
    """Lift the fence and catch up again. Revert the move after ``MAXIMUM_RETREATS`` retreats."""
    session.context.source.unfence()
    session.fenced_at = None
    retreats = int(session.record.counters.get("retreats", 0)) + 1
    if retreats > MAXIMUM_RETREATS:
        session.advance(MoveEvent.REVERT, error=f"fenced {retreats} times without success: {why}")
    else:
        session.advance(MoveEvent.RETREAT, counters__retreats=retreats, notes__retreat=why)


def verify(session: MoveSession) -> None:
    """Compare every document that may have changed since the last comparison, byte by byte, and the document counts.

    All documents were compared before the fence, from both sides. Counting takes time in proportion to their number, so large
    moves are not counted again while apps wait.

    A different document is synchronised once and compared again, because a TTL index may run earlier on one side. Late deletes
    pass the fence, so differences are tolerated while the feed still has changes, up to ``fence_timeout``.
    """
    if not session.context.source.is_fenced():
        session.advance(MoveEvent.REFENCE)
        return
    if session.suspects is None:
        session.compare_all()
    deadline = time.monotonic() + session.context.limits.fence_timeout.total_seconds()
    limit = SLOTS_COUNTED_BEHIND_FENCE if session.context.units.slots else COUNTED_BEHIND_FENCE
    repaired = 0
    while True:
        different = session.sync.compare(session.suspects or {})
        repaired += size(different)
        session.sync.sync(different)
        wrong = [
            f"{namespace} _id {identity!r}"
            for namespace, ids in session.sync.compare(different).items()
            for identity in sorted(ids)
        ]
        if session.record.counters.get("total", 0) <= limit:
            wrong += session.sync.count_differences()
        if not wrong:
            break
        changes = session.follow()
        if _fence_was_lost(session, changes):
            return
        if not any(changes.touched.values()) or time.monotonic() > deadline:
            raise VerificationFailed(f"move {session.record.move_id}", wrong)
    session.advance(MoveEvent.VERIFY, position=session.feed.position, counters__repaired=repaired)


def switch(session: MoveSession) -> None:
    """Publish the units' new primary copy and enter ``switched``, in one transaction."""
    if session.fenced_at is None and not session.context.source.is_fenced():
        session.advance(MoveEvent.REFENCE)
        return
    if _fence_was_lost(session, session.follow()):
        return
    opened_from = session.context.target.now()
    switched: list[MoveRecord] = []

    def edit() -> TableEdit:
        owners, session.owners = session.owners or session.read_owners(), None
        _require_source(session, owners)
        fields = {"position": session.feed.position, "opened_from": opened_from}
        return _switch_edit(session, owners, fields, switched)

    try:
        publish_edit(session.context.routing, edit)
    except StaleEpoch:
        raise MoveRefused(session.record.move_id, "the units' rows kept changing", "plan the move again") from None
    session.record = switched[-1]
    session.context.notify(session.record)


def _require_source(session: MoveSession, owners: Owners) -> None:
    """Raise :class:`MoveRefused` unless the source owns every unit, and the move has copied what its slots consist of."""
    move_id, away = session.record.move_id, owners.off(session.record.move.source)
    if away:
        where = owners.placements[away[0]].primary
        raise MoveRefused(move_id, f"{unit_label(away[0])} is on {where} now", "plan the move again")
    if owners.have_other_exceptions():
        raise MoveRefused(move_id, "keys of its slots were listed or delisted meanwhile", "plan the move again")


def _switch_edit(session: MoveSession, owners: Owners, fields: Mapping[str, Any], switched: list[MoveRecord]) -> TableEdit:
    """Return the switch. Its transaction raises :class:`StaleEpoch` if a row has changed since the owners were read.

    The epochs alone do not show that, because adding or removing a shadow does not raise them.
    """
    move, before = session.record.move, session.record
    changes = owners.switch_to(move.target, move.reason.code)
    to, epoch = next_state(before.state, MoveEvent.SWITCH), max(change.new_epoch for change in changes)

    def enter(transaction: Any, version: int) -> None:
        read_at = owners.version
        between = session.context.routing.since(read_at) if version - 1 > read_at else ()
        if len(between) < version - 1 - read_at or owners.are_touched_by(between):
            raise StaleEpoch(move.label, epoch, epoch)
        entered = {**fields, "version": version, "counters.epoch": epoch}
        switched.append(session.context.journal.advance(before, to, MoveEvent.SWITCH, entered, transaction))

    return TableEdit(changes, f"move {move.move_id}", enter, move.move_id)


def open_target(session: MoveSession) -> None:
    """Open the target for writes of the units, after applying the deletes that the source has acknowledged so far.

    A resuming mover cannot know whether apps already write on the target. It leaves late changes to the cleaning.
    """
    if session.fenced_at is not None:
        session.follow()
    session.context.target.unfence()
    now = datetime.now(UTC)
    if session.fenced_at is not None:
        pause = (time.monotonic() - session.fenced_at) * 1000
    else:
        fenced = session.record.entered(MoveState.FENCED)
        pause = (now - fenced).total_seconds() * 1000 if fenced else 0.0
    session.note(notes__opened_at=now, counters__pause_ms=round(pause, 2))
    session.context.notify(session.record)


def _fence_was_lost(session: MoveSession, changes: Changes) -> bool:
    if not changes.unfenced or session.context.source.is_fenced():
        return False
    session.advance(MoveEvent.REFENCE)
    return True


def _reached(marks: Mapping[str, int], seen: Mapping[str, int]) -> bool:
    return all(seen.get(namespace, -1) >= revision for namespace, revision in marks.items())
