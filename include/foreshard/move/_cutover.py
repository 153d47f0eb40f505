"""From the fence to a target that serves: fence, drain, verify, switch, open. Apps wait meanwhile: milliseconds count.

The source's fence is looked at again wherever a mover resumes, and in the feed until the switch: where an app's own ``collMod``
has lifted it, the move goes back to ``fenced``.
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

MAXIMUM_RETREATS = 3
"""How often the fence may be lifted before the switch; then the move turns back."""
MAXIMUM_STALE = 5
COUNTED_BEHIND_FENCE = 20_000
"""Up to how many documents of the key are counted on both sides once more behind the fence (about a million a second)."""


def fence_and_drain(hold: MoveSession) -> None:
    """Fence the key at the source and follow its changes up to the fence; lift it again where that takes too long."""
    hold.fenced_at = time.monotonic()
    deadline = hold.fenced_at + hold.ends.limits.fence_timeout.total_seconds()
    try:
        marks = hold.ends.source.fence()
    except FenceTimedOut as error:
        retreat(hold, str(error))
        return
    while not _reached(marks, hold.feed.fences_seen):
        changes = hold.follow(until_fences=marks)
        if changes.unfenced and not hold.ends.source.is_fenced():
            marks = hold.ends.source.fence()
        if time.monotonic() > deadline:
            retreat(hold, "draining the source's changes took too long")
            return
    hold.advance(MoveEvent.DRAIN, position=hold.feed.position)


def retreat(hold: MoveSession, why: str) -> None:
    """Give writes back to the apps and catch up anew; after some times, turn back for good."""
    hold.ends.source.unfence()
    hold.fenced_at = None
    retreats = int(hold.record.counters.get("retreats", 0)) + 1
    if retreats > MAXIMUM_RETREATS:
        hold.advance(MoveEvent.REVERT, error=f"fenced {retreats} times in vain: {why}")
    else:
        hold.advance(MoveEvent.RETREAT, counters__retreats=retreats, notes__retreat=why)


def verify(hold: MoveSession) -> None:
    """Compare byte by byte what may have changed since it was last compared, and the numbers of documents.

    The whole was compared before the fence, from both sides, so that both copies have the same documents; counting them again
    takes longer the more they are, and is left out where apps would wait for it.

    What differs is brought up to date once and compared again (a TTL index may be quicker on one side). Late deletes pass the
    fence: a difference is excused for as long as the feed still brings something, up to the fence's time limit.
    """
    if not hold.ends.source.is_fenced():
        hold.advance(MoveEvent.REFENCE)
        return
    if hold.suspects is None:
        hold.compare_all()
    deadline = time.monotonic() + hold.ends.limits.fence_timeout.total_seconds()
    repaired = 0
    while True:
        different = hold.replication.compare(hold.suspects or {})
        repaired += size(different)
        hold.replication.sync(different)
        wrong = [
            f"{namespace} _id {identity!r}"
            for namespace, ids in hold.replication.compare(different).items()
            for identity in sorted(ids)
        ]
        if hold.record.counters.get("total", 0) <= COUNTED_BEHIND_FENCE:
            wrong += hold.replication.count_differences()
        if not wrong:
            break
        changes = hold.follow()
        if _fence_was_lost(hold, changes):
            return
        if not any(changes.touched.values()) or time.monotonic() > deadline:
            raise VerificationFailed(f"move {hold.record.move_id}", wrong)
    hold.advance(MoveEvent.VERIFY, position=hold.feed.position, counters__repaired=repaired)


def switch(hold: MoveSession) -> None:
    """Publish the key's new primary, with the journal's entry in the same transaction."""
    if hold.fenced_at is None and not hold.ends.source.is_fenced():
        hold.advance(MoveEvent.REFENCE)
        return
    if _fence_was_lost(hold, hold.follow()):
        return
    opened_from = hold.ends.target.now()
    for _ in range(MAXIMUM_STALE):
        (version, owner), hold.owner = hold.owner or hold.read_owner(), None
        if owner.primary != hold.record.move.source:
            raise MoveRefused(hold.record.move_id, f"the key is on {owner.primary} now", "plan the move again")
        try:
            hold.record = _publish(hold, version, owner, {"position": hold.feed.position, "opened_from": opened_from})
        except StaleEpoch:
            continue
        hold.ends.notify(hold.record)
        return
    raise MoveRefused(hold.record.move_id, "the key's epoch changed again and again", "plan the move again")


def _publish(hold: MoveSession, read_at: int, owner: Placement, changes: Mapping[str, Any]) -> MoveRecord:
    """Publish what follows from ``owner``; raise :class:`StaleEpoch` where the key's row has changed since ``read_at``.

    Its epoch alone does not say so: shadows come and go without raising it.
    """
    move, before = hold.record.move, hold.record
    shadows = tuple(shadow for shadow in owner.shadows if shadow != move.target)
    change = PlacementChange(move.key, move.target, shadows, owner.epoch, owner.epoch + 1)
    to = next_state(before.state, MoveEvent.SWITCH)
    switched: list[MoveRecord] = []

    def enter(session: Any, version: int) -> None:
        between = hold.ends.routing.since(read_at) if version - 1 > read_at else ()
        if len(between) < version - 1 - read_at or any(c.key == move.key for p in between for c in p.changes):
            raise StaleEpoch(move.key, owner.epoch, owner.epoch)
        fields = {**changes, "version": version, "counters.epoch": change.new_epoch}
        switched.append(hold.ends.journal.advance(before, to, MoveEvent.SWITCH, fields, session))

    hold.ends.routing.publish([change], f"move {move.move_id}", within=enter)
    return switched[-1]


def open_target(hold: MoveSession) -> None:
    """Take writes for the key on the target. Deletes that the source acknowledged until now are there before.

    A mover that resumes here cannot know whether apps write on the target already; the cleaner then forwards late changes.
    """
    if hold.fenced_at is not None:
        hold.follow()
    hold.ends.target.unfence()
    now = datetime.now(UTC)
    if hold.fenced_at is not None:
        pause = (time.monotonic() - hold.fenced_at) * 1000
    else:
        fenced = hold.record.entered(MoveState.FENCED)
        pause = (now - fenced).total_seconds() * 1000 if fenced else 0.0
    hold.note(notes__opened_at=now, counters__pause_ms=round(pause, 2))
    hold.ends.notify(hold.record)


def _fence_was_lost(hold: MoveSession, changes: Changes) -> bool:
    if not changes.unfenced or hold.ends.source.is_fenced():
        return False
    hold.advance(MoveEvent.REFENCE)
    return True


def _reached(marks: Mapping[str, int], seen: Mapping[str, int]) -> bool:
    return all(seen.get(namespace, -1) >= revision for namespace, revision in marks.items())
