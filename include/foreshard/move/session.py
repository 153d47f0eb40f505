"""One mover's work on one move: the journal entry, both copies, and its place in the source's change feed."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from foreshard.errors import MoveRefused
from foreshard.model.move_state import BEFORE_SWITCH, STOPPABLE
from foreshard.move._owners import Owners, read_owners
from foreshard.move._unit_sync import Suspects, UnitSync, merge
from foreshard.move.context import MoveContext
from foreshard.move.states import MoveEvent, next_state
from foreshard.ports.migration import Changes, MoveFeed, MoveRecord

POLL_LIMIT = 5_000
"""Changes read from a feed at once."""


class Paused(Exception):
    """The move was asked to stop. It stays in its state."""


class MoveSession:
    """The state that the steps of a move share. Not thread-safe.

    ``suspects`` are the documents not known to be equal on both sides (None: nothing is compared yet). ``fenced_at`` is the
    monotonic time at which this mover fenced the source, if it did. ``owners`` are the owners as read before the
    fence.
    """

    def __init__(self, context: MoveContext, record: MoveRecord) -> None:
        self.context, self.record = context, record
        self.sync = UnitSync(context.source, context.target, context.limits.batch_documents)
        self.suspects: Suspects | None = None
        self.fenced_at: float | None = None
        self.owners: Owners | None = None
        self._feed: MoveFeed | None = None
        self._beaten = time.monotonic()

    def claim(self) -> None:
        """Write the lease on both partitions. From then on they abort every transaction of the previous mover."""
        self.context.source.claim(self.record.lease)
        self.context.target.claim(self.record.lease)

    def advance(self, event: MoveEvent, **changes: Any) -> None:
        """Enter the state that ``event`` leads to and save ``changes`` (``counters__x`` stands for ``counters.x``)."""
        to = next_state(self.record.state, event)
        self.record = self.context.journal.advance(self.record, to, event, _dotted(changes))
        self.context.notify(self.record)

    def note(self, **changes: Any) -> None:
        """Save ``changes`` in the journal now and renew the lease."""
        self.record = self.context.journal.beat(self.record, _dotted(changes))
        self._beaten = time.monotonic()

    def beat(self, **changes: Any) -> None:
        """Save progress every ``beat_every``. Raise :class:`Paused` if a stop was asked for and the state allows it."""
        if time.monotonic() - self._beaten < self.context.beat_every.total_seconds():
            return
        self.note(**changes)
        self.context.notify(self.record)
        if self.record.stop_requested and self.record.state in STOPPABLE:
            raise Paused

    def pace(self, _documents: int, _size: int) -> None:
        """Called after each copied batch (documents, bytes): renew the lease, and stop if asked to."""
        self.beat()

    def pause(self) -> None:
        """Release the lease. The move stays in its state until somebody takes it."""
        self.record = self.context.journal.pause(self.record)

    @property
    def feed(self) -> MoveFeed:
        """The source's changes since the journalled position."""
        if self._feed is None:
            if self.record.position is None:
                raise MoveRefused(self.record.move_id, "its journal entry has no position", "revert it and plan it again")
            self._feed = self.context.source.feed(self.record.position)
        return self._feed

    def close_feed(self) -> None:
        """Close the feed. The next use opens it again at the journalled position."""
        if self._feed is not None:
            self._feed.close()
        self._feed = None

    def read_owners(self) -> Owners:
        """Read who owns the units now."""
        return read_owners(self.context.routing, self.context.units)

    def follow(self, until_fences: Mapping[str, int] | None = None) -> Changes:
        """Read the source's changes and make the target equal for every document in them.

        Call it only while no app can write on the target. Raise :class:`MoveRefused` if a collection was dropped or renamed.
        """
        changes = self.feed.poll(POLL_LIMIT, until_fences=until_fences)
        if changes.broken and self.record.state in BEFORE_SWITCH:
            raise MoveRefused(self.record.move_id, f"{changes.broken} on {self.record.move.source}", "plan the move again")
        present = self.sync.sync(changes.touched)
        if self.suspects is not None:
            merge(self.suspects, present)
        return changes

    def compare_all(self) -> None:
        """Compare every document. Later changes are still in the feed, after the position that was read last."""
        self.suspects = self.sync.compare_all(self.beat)
        merge(self.suspects, self.sync.sync(self.suspects))


def _dotted(changes: Mapping[str, Any]) -> dict[str, Any]:
    return {name.replace("__", "."): value for name, value in changes.items()}
