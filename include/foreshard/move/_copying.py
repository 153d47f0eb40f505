"""From ``planned`` to the fence: note where changes start, clear the target, copy, follow, compare."""

from __future__ import annotations

import time

from foreshard.errors import MoveRefused, MoveTimedOut
from foreshard.move._key_sync import merge, size
from foreshard.move.session import MoveSession
from foreshard.move.states import MoveEvent

MAXIMUM_ROUNDS = 20
"""Rounds of comparing before the fence; what they leave is compared behind it."""


def skip_if_out_of_date(hold: MoveSession) -> bool:
    """End a planned move whose key is not on its source any more; say why."""
    move = hold.record.move
    owner = hold.ends.owner(move.key).primary
    if owner == move.source != move.target:
        return False
    where = f"is on {owner} already" if owner == move.target else f"is on {owner}, not on {move.source}"
    hold.advance(MoveEvent.SKIP, error=f"skipped: the key {where}")
    return True


def begin(hold: MoveSession) -> None:
    """Note where the source's changes start, before anything is copied."""
    hold.advance(MoveEvent.BEGIN, position=hold.ends.source.now(), notes__target_was_fenced=hold.ends.target.is_fenced())


def copy(hold: MoveSession) -> None:
    """Close the target to apps, clear leftovers of the key (a shadow's documents are absorbed), copy what is absent."""
    source, target = hold.ends.source, hold.ends.target
    shape = source.shape()
    target.shape()
    source.prepare({})
    target.prepare(shape)
    target.fence()
    swept_before = "swept" in hold.record.notes
    if not swept_before:
        _sweep(hold)
    empty = not swept_before and target.partition_id not in hold.ends.owner(hold.record.move.key).shadows
    documents = copied = 0

    def noted(some: int, read: int) -> None:
        nonlocal documents, copied
        documents, copied = documents + some, copied + read
        hold.beat(counters__documents=documents, counters__bytes=copied)

    hold.replication.copy_absent(noted, target_is_empty=empty)
    hold.advance(MoveEvent.COPIED, counters__documents=documents, counters__bytes=copied)


def _sweep(hold: MoveSession) -> None:
    move, target = hold.record.move, hold.ends.target
    if hold.ends.owner(move.key).primary == target.partition_id:
        raise MoveRefused(hold.record.move_id, f"{target.partition_id} owns the key already", "plan the move again")
    hold.note(notes__absorbing=True)
    hold.ends.shadows.absorb(move.key, target.partition_id)
    if target.partition_id not in hold.ends.owner(move.key).shadows:
        hold.replication.remove_all(target, lambda _documents: hold.beat())
    hold.note(notes__swept=True, counters__total=sum(hold.ends.source.count().values()))


def catch_up(hold: MoveSession) -> None:
    """Follow the source until little is left to compare behind the fence; compare the whole once before it."""
    limits = hold.ends.limits
    deadline = time.monotonic() + limits.catch_up_timeout.total_seconds()
    rounds = 0
    while True:
        changes = hold.follow()
        hold.beat(position=hold.feed.position, counters__lag_ms=round(changes.lag.total_seconds() * 1000))
        if time.monotonic() > deadline:
            raise MoveTimedOut(hold.record.move_id, "catching up", limits.catch_up_timeout)
        if not changes.at_end and changes.lag > limits.catch_up_lag:
            continue
        rounds += 1
        if hold.suspects is None:
            hold.compare_all()
        elif size(hold.suspects) > limits.batch_documents and rounds < MAXIMUM_ROUNDS:
            hold.suspects = hold.replication.compare(hold.suspects)
            merge(hold.suspects, hold.replication.sync(hold.suspects))
        else:
            break
    hold.owner = hold.read_owner()
    hold.advance(MoveEvent.FENCE, position=hold.feed.position, counters__rounds=rounds)
