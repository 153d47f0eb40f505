"""From ``planned`` to the fence: note the position in the feed, clear the target, copy, catch up, compare."""

from __future__ import annotations

import time
from datetime import timedelta

from foreshard.errors import MoveRefused, MoveTimedOut
from foreshard.move._key_sync import merge, size
from foreshard.move.session import MoveSession
from foreshard.move.states import MoveEvent

CATCH_UP_LAG = timedelta(milliseconds=500)
"""The source is fenced once the target is at most this far behind it."""
MAXIMUM_ROUNDS = 20
"""Rounds of comparison before the fence. Remaining suspects are compared behind it."""


def skip_if_out_of_date(session: MoveSession) -> bool:
    """Skip a planned move if its source no longer owns the key. Return whether it was skipped."""
    move = session.record.move
    owner = session.context.owner(move.units[0]).primary
    if owner == move.source != move.target:
        return False
    where = f"is on {owner} already" if owner == move.target else f"is on {owner}, not on {move.source}"
    session.advance(MoveEvent.SKIP, error=f"skipped: the key {where}")
    return True


def begin(session: MoveSession) -> None:
    """Note the position in the source's change stream before anything is copied."""
    session.advance(
        MoveEvent.BEGIN, position=session.context.source.now(), notes__target_was_fenced=session.context.target.is_fenced()
    )


def copy(session: MoveSession) -> None:
    """Fence the target, remove leftovers of the key there (a shadow's documents are kept), and copy the absent documents."""
    source, target = session.context.source, session.context.target
    shape = source.shape()
    target.shape()
    source.prepare({})
    target.prepare(shape)
    target.fence()
    swept_before = "swept" in session.record.notes
    if not swept_before:
        _sweep(session)
    empty = not swept_before and target.partition_id not in session.context.owner(session.record.move.units[0]).shadows
    documents = copied = 0

    def noted(some: int, read: int) -> None:
        nonlocal documents, copied
        documents, copied = documents + some, copied + read
        session.beat(counters__documents=documents, counters__bytes=copied)

    session.sync.copy_absent(noted, target_is_empty=empty)
    session.advance(MoveEvent.COPIED, counters__documents=documents, counters__bytes=copied)


def _sweep(session: MoveSession) -> None:
    move, target = session.record.move, session.context.target
    if session.context.owner(move.units[0]).primary == target.partition_id:
        raise MoveRefused(session.record.move_id, f"{target.partition_id} owns the key already", "plan the move again")
    session.note(notes__absorbing=True)
    session.context.shadows.absorb(move.units[0], target.partition_id)
    if target.partition_id not in session.context.owner(move.units[0]).shadows:
        session.sync.remove_all(target, lambda _documents: session.beat())
    session.note(notes__swept=True, counters__total=sum(session.context.source.count().values()))


def catch_up(session: MoveSession) -> None:
    """Apply the source's changes until few documents remain to be compared behind the fence. Compare all of them once."""
    limits = session.context.limits
    deadline = time.monotonic() + limits.catch_up_timeout.total_seconds()
    rounds = 0
    while True:
        changes = session.follow()
        session.beat(position=session.feed.position, counters__lag_ms=round(changes.lag.total_seconds() * 1000))
        if time.monotonic() > deadline:
            raise MoveTimedOut(session.record.move_id, "catching up", limits.catch_up_timeout)
        if not changes.at_end and changes.lag > CATCH_UP_LAG:
            continue
        rounds += 1
        if session.suspects is None:
            session.compare_all()
        elif size(session.suspects) > limits.batch_documents and rounds < MAXIMUM_ROUNDS:
            session.suspects = session.sync.compare(session.suspects)
            merge(session.suspects, session.sync.sync(session.suspects))
        else:
            break
    session.owner = session.read_owner()
    session.advance(MoveEvent.FENCE, position=session.feed.position, counters__rounds=rounds)
