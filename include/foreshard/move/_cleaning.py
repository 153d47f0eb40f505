"""After the switch: forward what stale clients still change on the source, then remove its documents. The fence stays.

Deletes pass a validator, and so do updates that take a document out of the units. A late change is applied on the target unless
the document was written there later, by the servers' wall clocks. Before each batch is removed, the feed is read up to a mark,
so that everything that happened to a document is forwarded before the document is removed.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from foreshard.errors import HistoryLost, MoveRefused, MoveTimedOut
from foreshard.model.key_space import units_label
from foreshard.model.move_state import MoveState
from foreshard.move.session import POLL_LIMIT, MoveSession
from foreshard.move.states import MoveEvent
from foreshard.ports.migration import ChangeKind, DocumentId, LateChange, Touch, UnitCopy

MAXIMUM_ROUNDS = 20
SIDECARS_AWAITED = timedelta(seconds=30)
"""Sidecars ask for a new table every second; one that has not after this long is stopped or cut off."""
READS_AWAITED = timedelta(hours=1)
"""Longest wait for reads that were opened on the source before the switch."""


def is_ready(session: MoveSession) -> bool:
    """Return whether the source's copy was kept for long enough and no sidecar answers from an older table.

    A sidecar that has not followed since the switch delays the cleaning by ``SIDECARS_AWAITED``.
    """
    record, kept = session.record, session.context.limits.source_kept
    switched = record.entered(MoveState.SWITCHED)
    if switched is None:
        return True
    now = datetime.now(UTC)
    if now - switched < kept:
        return False
    if _waits_for_reads(session, switched, now - switched - kept):
        return False
    at_version, heard = session.context.routing.acknowledged(record.version or 0, heard_since=now - SIDECARS_AWAITED)
    return at_version >= heard or now - switched >= kept + SIDECARS_AWAITED


def _waits_for_reads(session: MoveSession, switched: datetime, waited: timedelta) -> bool:
    """Return whether reads on the source that began before the switch are still open. Note that for people."""
    source = session.context.source
    reads = source.cursors_opened_before(switched) if waited < READS_AWAITED else 0
    plural = "s" if reads > 1 else ""
    waiting = f"waiting for {reads} read{plural} opened on {source.partition_id} before the switch" if reads else None
    if waiting != session.record.notes.get("waiting"):
        session.note(notes__waiting=waiting)
    return reads > 0


def forward_late_changes(session: MoveSession) -> None:
    """Forward the late changes that are in the feed now. Raise :class:`foreshard.move.session.Paused` if asked to stop."""
    _forward(session)
    session.beat(position=session.feed.position)


def forward_all_late_changes(session: MoveSession) -> None:
    """Forward every late change that the source has acknowledged until now."""
    _forward_to_mark(session)
    session.note(position=session.feed.position)


def remove_source(session: MoveSession) -> None:
    """Remove the source's documents (never from an owner) and end the move. Its statistics stay in the journal."""
    forward_late_changes(session)
    move = session.record.move
    owners = session.read_owners()
    if owned := owners.on(move.source):
        problem = f"{move.source} owns {units_label(owned)}, so nothing is removed there"
        raise MoveRefused(move.move_id, problem, "check the owner with `foreshard route`")
    if not session.context.source.is_fenced():
        session.context.source.fence()
    session.context.source.announce_removal(owners.epochs())
    removed = _remove_all(session)
    session.advance(MoveEvent.FINISH, position=session.feed.position, counters__removed=removed)


def _remove_all(session: MoveSession) -> int:
    source, removed = session.context.source, 0
    for _ in range(MAXIMUM_ROUNDS):
        for namespace in source.namespaces:
            for batch in source.scan(namespace):
                _forward_to_mark(session)
                removed += source.remove_unchanged(namespace, batch)
                session.beat(position=session.feed.position, counters__removed=removed)
        _forward_to_mark(session)
        if not any(source.count().values()):
            return removed
    raise MoveTimedOut(
        session.record.move_id, "removing documents that are written again and again", session.context.limits.catch_up_timeout
    )


def _forward_to_mark(session: MoveSession) -> None:
    source, timeout = session.context.source, session.context.limits.catch_up_timeout
    mark = source.mark()
    deadline = time.monotonic() + timeout.total_seconds()
    while session.feed.mark_seen < mark:
        if not _forward(session, until_mark=mark):
            mark = source.mark()
        if time.monotonic() > deadline:
            raise MoveTimedOut(session.record.move_id, "forwarding late changes", timeout)


def _forward(session: MoveSession, until_mark: int | None = None) -> bool:
    """Apply late changes on the target. Return False if the source's oplog had dropped some, and note that."""
    try:
        changes = session.feed.poll(POLL_LIMIT, until_mark=until_mark)
    except HistoryLost as lost:
        session.close_feed()
        session.note(position=session.context.source.now(), notes__late_changes_unknown=str(lost))
        return False
    if changes.unfenced and not session.context.source.is_fenced():
        session.context.source.fence()
    for namespace, touched in changes.touched.items():
        _forward_some(session, namespace, touched)
    return True


def without_expiries(
    copy: UnitCopy, namespace: str, late: Mapping[DocumentId, LateChange], owned: Mapping[DocumentId, bytes]
) -> dict[DocumentId, LateChange]:
    """Leave out the removals that a TTL index on ``copy`` has made: the owner's own index expires the ``owned`` documents."""
    removed = {identity: owned[identity] for identity, change in late.items() if change.raw is None and identity in owned}
    expired = copy.expired(namespace, removed, copy.clock()) if removed else frozenset()
    return {identity: change for identity, change in late.items() if identity not in expired}


def _forward_some(session: MoveSession, namespace: str, touched: Mapping[DocumentId, Touch]) -> None:
    source, target = session.context.source, session.context.target
    on_source, on_target = source.fetch(namespace, touched), target.fetch(namespace, touched)
    strayed = source.strayed(namespace, [i for i in touched if i not in on_source and i in on_target])
    late: dict[DocumentId, LateChange] = {}
    for identity, touch in touched.items():
        raw = on_source.get(identity)
        removed = touch.kind is ChangeKind.REMOVE or identity in strayed
        if raw != on_target.get(identity) and (raw is not None or removed):
            late[identity] = LateChange(touch.at, raw)
    late = without_expiries(source, namespace, late, on_target)
    if not late or session.record.opened_from is None:
        return
    kept = target.forward(namespace, late, session.record.opened_from)
    counters = session.record.counters
    session.note(
        counters__late_applied=counters.get("late_applied", 0) + len(late) - len(kept),
        counters__late_kept=counters.get("late_kept", 0) + len(kept),
    )
