"""From the fence to a serving target: fence, drain, verify, switch, open. Apps wait for all of it, so milliseconds count.

All that needs no app to wait is armed before. A cutover that fails *retreats*: the source takes writes again, and the move
catches up. A mover that finds a move behind the fence retreats as well, because only the mover that armed the cutover knows
how far it got.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from foreshard.errors import FenceTimedOut, HistoryLost, MoveRefused, MoveSuperseded, StaleEpoch, VerificationFailed
from foreshard.model.key_space import unit_label
from foreshard.model.move_state import MoveState
from foreshard.move._owners import Owners
from foreshard.move._strays import forward_strays
from foreshard.move._unit_sync import size
from foreshard.move.session import MoveSession
from foreshard.move.states import MoveEvent, next_state
from foreshard.ports.migration import Changes
from foreshard.ports.move_journal import MoveRecord
from foreshard.ports.publishing import TableEdit, publish_edit

MAXIMUM_RETREATS = 3
"""A cutover may fail this often. After that the move is reverted."""
COUNTED_BEHIND_FENCE = 2_000
"""At most this many documents are counted again behind the fence, which takes a few milliseconds."""


class CutoverFailed(Exception):
    """The cutover can't go on. The source takes writes again."""


def arm(session: MoveSession) -> None:
    """Prepare the source's fence and the target's opening, and enter ``fenced``. No app waits yet.

    The partitions are locked in the order of their ids, so that two moves in opposite directions do not wait for each other.
    """
    source, target = session.context.source, session.context.target
    session.patiently(source.probe, f"waiting for open transactions on {source.partition_id}")
    session.patiently(target.probe, f"waiting for open transactions on {target.partition_id}")
    session.patiently(lambda: _arm_both(session), "waiting for another move's fence")
    session.owners = session.read_owners()
    session.armed = True
    session.opened_from = target.now()
    session.follow()
    session.recheck()
    session.follow()
    session.advance(MoveEvent.FENCE, position=session.feed.position)


def _arm_both(session: MoveSession) -> None:
    source, target = session.context.source, session.context.target
    steps = {source.partition_id: source.arm_fence, target.partition_id: target.arm_opening}
    try:
        for _, step in sorted(steps.items()):
            step()
    except FenceTimedOut:
        source.settle()
        target.settle()
        raise


def cut_over(session: MoveSession) -> None:
    """Fence the source, apply its changes up to the fence, verify, switch, and open the target; or retreat."""
    if not session.armed:
        retreat(session, "its mover ended behind the fence", counted=False)
        return
    session.fenced_at = time.monotonic()
    try:
        _fence_and_drain(session, session.fenced_at + session.context.limits.fence_timeout.total_seconds())
        _verify(session)
        _switch(session)
    except (FenceTimedOut, CutoverFailed) as error:
        retreat(session, str(error))
        return
    open_target(session)


def retreat(session: MoveSession, why: str, *, counted: bool = True) -> None:
    """Let apps write on the source again, and catch up. Revert the move after ``MAXIMUM_RETREATS`` counted retreats."""
    session.armed, session.fenced_at = False, None
    session.claim(session.context.source)
    session.context.source.unfence()
    session.context.target.settle()
    retreats = int(session.record.counters.get("retreats", 0)) + counted
    if retreats > MAXIMUM_RETREATS:
        session.advance(MoveEvent.REVERT, error=f"fenced {retreats} times without success: {why}")
    else:
        session.advance(MoveEvent.RETREAT, counters__retreats=retreats, notes__retreat=why)


def _fence_and_drain(session: MoveSession, deadline: float) -> None:
    marks = session.context.source.fence()
    while not _reached(marks, session.feed.fences_seen):
        _follow(session, marks)
        if time.monotonic() > deadline:
            raise CutoverFailed("draining the source's changes took too long")


def _follow(session: MoveSession, until_fences: Mapping[str, int] | None = None) -> Changes:
    changes = session.follow(until_fences)
    if changes.unfenced and not session.context.source.is_fenced():
        raise CutoverFailed("another validator lifted the source's fence")
    return changes


def _verify(session: MoveSession) -> None:
    """Compare every document that may have changed since the last comparison, byte by byte, and the document counts.

    All documents were compared before the fence, from both sides. Counting takes time in proportion to their number, so large
    moves are not counted again while apps wait.

    A different document is synchronised once and compared again, because a TTL index may run earlier on one side. Late deletes
    pass the fence, so differences are tolerated while the feed still has changes, up to ``fence_timeout``.
    """
    if session.suspects is None:
        session.compare_all()
    deadline = time.monotonic() + session.context.limits.fence_timeout.total_seconds()
    repaired = 0
    while True:
        counted = session.record.counters.get("total", 0) <= COUNTED_BEHIND_FENCE
        different, wrong = session.sync.compare_and_count(session.suspects or {}, counted=counted)
        if size(different):
            repaired += size(different)
            session.sync.sync(different)
            different, wrong = session.sync.compare_and_count(different, counted=counted)
        wrong = [f"{namespace} _id {identity!r}" for namespace, ids in different.items() for identity in sorted(ids)] + wrong
        if not wrong:
            break
        strays, changes = forward_strays(session), _follow(session)
        if not (strays or any(changes.touched.values())) or time.monotonic() > deadline:
            raise VerificationFailed(f"move {session.record.move_id}", wrong)
    session.repaired += repaired


def _switch(session: MoveSession) -> None:
    """Publish the units' new primary copy and enter ``switched``, in one transaction."""
    position = session.feed.position
    switched: list[MoveRecord] = []

    def edit() -> TableEdit:
        owners, session.owners = session.owners or session.read_owners(), None
        _require_source(session, owners)
        fields = {"position": position, "opened_from": session.opened_from, "counters.repaired": session.repaired}
        return _switch_edit(session, owners, fields, switched)

    session.switching = True
    try:
        publish_edit(session.context.routing, edit)
    except StaleEpoch:
        raise MoveRefused(session.record.move_id, "the units' rows kept changing", "plan the move again") from None
    session.record, session.switching = switched[-1], False


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
    """Open the target for writes of the units. It is tried until it is done, because no partition takes them meanwhile.

    The deletes that the source has acknowledged so far are applied first, so that no app reads the documents at the owner.
    """
    session.claim(session.context.target)
    _apply_acknowledged_deletes(session)
    while True:
        try:
            session.context.target.unfence()
            break
        except FenceTimedOut as error:
            session.wait_for(f"the target can't be opened yet: {error}")
    now = datetime.now(UTC)
    if session.fenced_at is not None:
        pause = (time.monotonic() - session.fenced_at) * 1000
    else:
        fenced = session.record.entered(MoveState.FENCED)
        pause = (now - fenced).total_seconds() * 1000 if fenced else 0.0
    session.context.target.settle()
    session.context.source.settle()
    session.note(notes__opened_at=now, notes__waiting=None, counters__pause_ms=round(pause, 2))
    session.context.notify(session.record)


def _apply_acknowledged_deletes(session: MoveSession) -> None:
    """Follow the source up to now. Apps may write on a target that is open already, so its documents are left alone.

    If the source does not answer, the target is opened all the same, and the journal says so.
    """
    source, target = session.context.source, session.context.target
    if not session.armed and not target.is_fenced():
        return
    try:
        session.claim(source)
        if not session.armed and not source.is_fenced():
            source.fence()
        session.follow_to(source.mark())
    except (MoveSuperseded, FenceTimedOut):
        raise
    except Exception as error:
        known = error if isinstance(error, HistoryLost) else source.explain(error)
        if known is None:
            raise
        session.close_feed()
        session.note(notes__late_changes_unknown=str(known))


def _reached(marks: Mapping[str, int], seen: Mapping[str, int]) -> bool:
    return all(seen.get(namespace, -1) >= revision for namespace, revision in marks.items())
