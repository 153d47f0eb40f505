"""Strays: what apps wrote on the target while the source owned the units, such as plain clients that do not route.

A document of the units that is on the target before the first copy is a stray. If the owner has none with its id, it is
merged: the owner gets it. If the owner has another one, that one stays, because the target's oplog need not reach back to the
stray's last write. Either way the stray is set aside in the partition's ``strays``, and counted.

Later the fence refuses writes, but not deletes, and not updates that take a document out of the units. They are forwarded to
the owner, where they give way to any write since the copy began.
"""

from __future__ import annotations

from foreshard.errors import HistoryLost, MoveRefused
from foreshard.move._cleaning import without_expiries
from foreshard.move.session import POLL_LIMIT, MoveSession
from foreshard.ports.migration import ChangeKind, DocumentId, LateChange, Position, Touch, UniqueConflict


def set_strays_aside(session: MoveSession) -> None:
    """Merge the documents on the target that differ from the owner's, and set them aside. Call it before the first copy.

    A stray gives way to any write at the owner since the first attempt, so a mover that resumes does not undo a delete.
    """
    source, target = session.context.source, session.context.target
    if "strays_since" not in session.record.notes:
        session.note(notes__strays_since=source.now(), notes__strays_at=source.clock())
    since, at = session.record.notes["strays_since"], session.record.notes["strays_at"]
    for namespace in target.namespaces:
        for batch in target.scan(namespace):
            owned = source.fetch(namespace, [document.id for document in batch])
            strays = [document for document in batch if owned.get(document.id) != document.raw]
            if strays:
                absent = {stray.id: LateChange(at, stray.raw) for stray in strays if stray.id not in owned}
                merged = _forward(session, namespace, absent, since)
                target.set_aside(namespace, strays)
                _count(session, strays=len(strays), strays_merged=merged)


def forward_strays(session: MoveSession) -> int:
    """Forward to the owner what apps did to the copies on the target. Return the number of documents."""
    try:
        feed = session.strays
        changes = feed.poll(POLL_LIMIT) if feed is not None else None
    except HistoryLost as lost:
        session.forget_strays()
        session.note(notes__strays_unknown=str(lost), notes__strays_from=session.context.target.now())
        return 0
    if changes is None:
        return 0
    return sum(_forward_some(session, namespace, dict(touched)) for namespace, touched in changes.touched.items())


def _forward_some(session: MoveSession, namespace: str, touched: dict[DocumentId, Touch]) -> int:
    source, target = session.context.source, session.context.target
    owned, there = source.fetch(namespace, touched), target.fetch(namespace, touched)
    strayed = target.strayed(namespace, [i for i in touched if i not in there])
    late: dict[DocumentId, LateChange] = {}
    for identity, touch in touched.items():
        removed = touch.kind is ChangeKind.REMOVE or identity in strayed
        raw = None if removed else there.get(identity)
        if owned.get(identity) != raw and (removed or raw is not None):
            late[identity] = LateChange(touch.at, raw)
    late = without_expiries(target, namespace, late, owned)
    if late:
        forwarded = _forward(session, namespace, late, session.record.notes["source_from"])
        _count(session, strays=len(late), strays_merged=forwarded)
    return len(late)


def _forward(session: MoveSession, namespace: str, late: dict[DocumentId, LateChange], since: Position) -> int:
    """Apply changes at the owner. Return how many were applied; none if a unique index there refuses one of them."""
    if not late:
        return 0
    try:
        return len(late) - len(session.context.source.forward(namespace, late, since))
    except (UniqueConflict, MoveRefused) as refused:
        session.note(notes__strays_refused=str(refused))
        return 0


def _count(session: MoveSession, **more: int) -> None:
    counters = session.record.counters
    session.note(**{f"counters__{name}": counters.get(name, 0) + number for name, number in more.items()})
