"""From ``planned`` to the fence: note the position in the feed, clear the target, copy, catch up, compare."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from foreshard.errors import MoveRefused, MoveTimedOut
from foreshard.model.key_space import unit_label, units_label
from foreshard.move._cutover import arm
from foreshard.move._strays import forward_strays, set_strays_aside
from foreshard.move._unit_sync import size
from foreshard.move.session import MoveSession
from foreshard.move.states import MoveEvent

CATCH_UP_LAG = timedelta(milliseconds=500)
"""The source is fenced once the target is at most this far behind it."""
READ_AGAIN = 1_000
"""A resumed copy reads this many documents again, because deletes on the source move later documents forward."""
MAXIMUM_ROUNDS = 20
"""Rounds of comparison before the fence. Remaining suspects are compared behind it."""


def skip_if_out_of_date(session: MoveSession) -> bool:
    """Skip a planned move if its source does not own every unit. Return whether it was skipped."""
    move, owners = session.record.move, session.read_owners()
    away = owners.off(move.source) or (move.units if move.source == move.target else ())
    if not away:
        return False
    owner = owners.placements[away[0]].primary
    where = f"on {owner} already" if owner == move.target else f"on {owner}, not on {move.source}"
    session.advance(MoveEvent.SKIP, error=f"skipped: {unit_label(away[0])} is {where}")
    return True


def begin(session: MoveSession) -> None:
    """Note the position in the source's change stream before anything is copied, and the keys that the move leaves out.

    Raise :class:`MoveRefused` if a collection cannot be moved, for example a view. Nothing is changed then.
    """
    session.context.source.shape()
    session.context.target.shape()
    session.claim(session.context.source, session.context.target)
    left_out = sorted(session.context.units.exceptions)
    session.advance(MoveEvent.BEGIN, position=session.context.source.now(), notes__exceptions=left_out)


def copy(session: MoveSession) -> None:
    """Fence the target, set strays of the units there aside (shadows' documents are kept), and copy the absent documents."""
    source, target = session.context.source, session.context.target
    session.claim(source, target)
    shape = source.shape()
    target.shape()
    session.patiently(lambda: source.prepare({}), f"preparing the collections on {source.partition_id}")
    session.patiently(lambda: target.prepare(shape), f"preparing the collections on {target.partition_id}")
    session.patiently(target.fence, f"fencing {target.partition_id}")
    if "swept" not in session.record.notes:
        _sweep(session)
    progress = _Progress(session)
    empty = not session.read_owners().shadowed_on(target.partition_id)
    session.sync.copy_absent(progress.noted, skip=progress.to_skip(), target_is_empty=empty)
    session.advance(MoveEvent.COPIED, **progress.fields)


class _Progress:
    """How many documents and bytes are copied, of each collection in its order. A mover that was killed has noted it."""

    def __init__(self, session: MoveSession) -> None:
        self._session, self._namespaces = session, session.context.source.namespaces
        self._copied = dict(zip(self._namespaces, session.record.notes.get("copied", ()), strict=False))
        self._bytes = int(session.record.counters.get("bytes", 0)) if self._copied else 0

    def to_skip(self) -> Mapping[str, int]:
        """Return how many documents of each collection need not be read again, and count only these as copied.

        This only saves time: the comparison finds documents that were skipped and are absent.
        """
        skip = {name: max(0, copied - READ_AGAIN) for name, copied in self._copied.items()}
        self._copied = dict(skip)
        return skip

    def noted(self, namespace: str, documents: int, size: int) -> None:
        """Count a batch, note all of it in the journal now and then, and keep to the move's pace."""
        self._copied[namespace] = self._copied.get(namespace, 0) + documents
        self._bytes += size
        self._session.beat(**self.fields)
        self._session.pace(documents, size)

    @property
    def fields(self) -> dict[str, Any]:
        """The fields of the journal entry."""
        copied = [self._copied.get(name, 0) for name in self._namespaces]
        return {"counters__documents": sum(copied), "counters__bytes": self._bytes, "notes__copied": copied}


def _sweep(session: MoveSession) -> None:
    """Clear the target, unless a shadow's documents are there: the comparison removes leftovers beside them."""
    units, target = session.context.units, session.context.target
    owned = session.read_owners().on(target.partition_id)
    if owned:
        problem = f"{target.partition_id} owns {units_label(owned)} already"
        raise MoveRefused(session.record.move_id, problem, "plan the move again")
    session.note(notes__absorbing=True)
    session.context.shadows.absorb(units, target.partition_id)
    if not session.read_owners().shadowed_on(target.partition_id):
        set_strays_aside(session)
        session.sync.remove_all(target, lambda _documents: session.beat())
    source_from = session.context.source.now()  # first, so that a stray is later than any write at the owner before it
    begun = {"notes__strays_from": target.now(), "notes__source_from": source_from}
    session.note(notes__swept=True, counters__total=sum(session.context.source.count().values()), **begun)


def catch_up(session: MoveSession) -> None:
    """Apply the source's changes until few documents remain to be compared behind the fence. Compare all of them once."""
    limits, target = session.context.limits, session.context.target
    session.claim(session.context.source, target)
    if not target.is_fenced():
        session.patiently(target.fence, f"fencing {target.partition_id}")
    deadline = time.monotonic() + limits.catch_up_timeout.total_seconds()
    rounds = 0
    while True:
        forward_strays(session)
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
            session.recheck()
        else:
            break
    session.note(counters__rounds=rounds)
    arm(session)
