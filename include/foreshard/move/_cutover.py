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
from foreshard.model import Placement, PlacementChange
from foreshard.model.move_state import MoveState
from foreshard.move._key_sync import size
from foreshard.move.session import MoveSession
from foreshard.move.states import MoveEvent, next_state
from foreshard.ports.migration import Changes, MoveRecord
from foreshard.ports.publishing import TableEdit, publish_edit

MAXIMUM_RETREATS = 3
"""The fence may be lifted this often before the switch. After that the move is reverted."""
COUNTED_BEHIND_FENCE = 20_000
"""Keys with at most this many documents are counted again behind the fence (about a million documents a second)."""


def fence_and_drain(session: MoveSession) -> None:
    """Fence the key on the source and apply its changes up to the fence. Retreat if that takes too long."""
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
    keys are not counted again while apps wait.

    A different document is synchronised once and compared again, because a TTL index may run earlier on one side. Late deletes
    pass the fence, so differences are tolerated while the feed still has changes, up to ``fence_timeout``.
    """
    if not session.context.source.is_fenced():
        session.advance(MoveEvent.REFENCE)
        return
    if session.suspects is None:
        session.compare_all()
    deadline = time.monotonic() + session.context.limits.fence_timeout.total_seconds()
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
        if session.record.counters.get("total", 0) <= COUNTED_BEHIND_FENCE:
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
    """Publish the key's new primary copy and enter ``switched``, in one transaction."""
    if session.fenced_at is None and not session.context.source.is_fenced():
        session.advance(MoveEvent.REFENCE)
        return
    if _fence_was_lost(session, session.follow()):
        return
    opened_from = session.context.target.now()
    switched: list[MoveRecord] = []

    def edit() -> TableEdit:
        (version, owner), session.owner = session.owner or session.read_owner(), None
        if owner.primary != session.record.move.source:
            raise MoveRefused(session.record.move_id, f"the key is on {owner.primary} now", "plan the move again")
        fields = {"position": session.feed.position, "opened_from": opened_from}
        return _switch_edit(session, version, owner, fields, switched)

    try:
        publish_edit(session.context.routing, edit)
    except StaleEpoch:
        raise MoveRefused(session.record.move_id, "the key's epoch kept changing", "plan the move again") from None
    session.record = switched[-1]
    session.context.notify(session.record)


def _switch_edit(
    session: MoveSession, read_at: int, owner: Placement, changes: Mapping[str, Any], switched: list[MoveRecord]
) -> TableEdit:
    """Return the switch. Its transaction raises :class:`StaleEpoch` if the key's row has changed since version ``read_at``.

    The epoch alone does not show that, because adding or removing a shadow does not raise it.
    """
    move, before = session.record.move, session.record
    shadows = tuple(shadow for shadow in owner.shadows if shadow != move.target)
    change = PlacementChange(move.units[0], move.target, shadows, owner.epoch, owner.epoch + 1)
    to = next_state(before.state, MoveEvent.SWITCH)

    def enter(transaction: Any, version: int) -> None:
        between = session.context.routing.since(read_at) if version - 1 > read_at else ()
        if len(between) < version - 1 - read_at or any(c.key == move.units[0] for p in between for c in p.changes):
            raise StaleEpoch(move.units[0], owner.epoch, owner.epoch)
        fields = {**changes, "version": version, "counters.epoch": change.new_epoch}
        switched.append(session.context.journal.advance(before, to, MoveEvent.SWITCH, fields, transaction))

    return TableEdit([change], f"move {move.move_id}", enter)


def open_target(session: MoveSession) -> None:
    """Open the target for writes of the key, after applying the deletes that the source has acknowledged so far.

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
