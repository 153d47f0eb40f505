"""A mover's hold on one move: its journal entry, its view of both copies, and the source's feed as far as it was followed."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from foreshard.errors import MoveRefused
from foreshard.model import Placement
from foreshard.model.move_state import BEFORE_SWITCH, STOPPABLE
from foreshard.move._key_sync import KeySync, Suspects, merge
from foreshard.move.context import MoveContext
from foreshard.move.states import MoveEvent, next_state
from foreshard.ports.migration import Changes, MoveFeed, MoveRecord

POLL_LIMIT = 5_000


class Paused(Exception):
    """The move was asked to stop; it stays as it is."""


class MoveSession:
    """What the steps of a move share; one thread only.

    ``suspects`` are the documents not known to be equal on both sides (None: none was compared yet); ``fenced_at`` is set
    (monotonic seconds) where this very mover has fenced the source; ``owner`` is the table's version and the key's
    placement, read before that.
    """

    def __init__(self, ends: MoveContext, record: MoveRecord) -> None:
        self.ends, self.record = ends, record
        self.replication = KeySync(ends.source, ends.target, ends.limits.batch_documents)
        self.suspects: Suspects | None = None
        self.fenced_at: float | None = None
        self.owner: tuple[int, Placement] | None = None
        self._feed: MoveFeed | None = None
        self._beaten = time.monotonic()

    def claim(self) -> None:
        """Write the lease down on both partitions: nothing of the mover before is committed there any more."""
        self.ends.source.claim(self.record.lease)
        self.ends.target.claim(self.record.lease)

    def advance(self, event: MoveEvent, **changes: Any) -> None:
        """Enter the state that ``event`` leads to, with what is known now (dotted names as ``counters__x``)."""
        to = next_state(self.record.state, event)
        self.record = self.ends.journal.advance(self.record, to, event, _dotted(changes))
        self.ends.notify(self.record)

    def note(self, **changes: Any) -> None:
        """Write something down in the journal now, and prolong the lease."""
        self.record = self.ends.journal.beat(self.record, _dotted(changes))
        self._beaten = time.monotonic()

    def beat(self, **changes: Any) -> None:
        """Note progress now and then; raise :class:`Paused` where a stop was asked for and may be given."""
        if time.monotonic() - self._beaten < self.ends.limits.beat_every.total_seconds():
            return
        self.note(**changes)
        self.ends.notify(self.record)
        if self.record.stop_requested and self.record.state in STOPPABLE:
            raise Paused

    @property
    def feed(self) -> MoveFeed:
        """The source's changes since the journalled position."""
        if self._feed is None:
            if self.record.position is None:
                raise MoveRefused(self.record.move_id, "its journal entry names no position", "revert it and plan it again")
            self._feed = self.ends.source.feed(self.record.position)
        return self._feed

    def close_feed(self) -> None:
        """Close it; it is opened again from the journalled position."""
        if self._feed is not None:
            self._feed.close()
        self._feed = None

    def read_owner(self) -> tuple[int, Placement]:
        """The key's placement, and a version of the table that it is at least as new as."""
        return self.ends.routing.version(), self.ends.owner(self.record.move.key)

    def follow(self, until_fences: Mapping[str, int] | None = None) -> Changes:
        """Read the source's changes and make the target equal for every document that they name.

        Only while no app may write on the target. Raise :class:`MoveRefused` where a collection was dropped or renamed.
        """
        changes = self.feed.poll(POLL_LIMIT, until_fences=until_fences)
        if changes.broken and self.record.state in BEFORE_SWITCH:
            raise MoveRefused(self.record.move_id, f"{changes.broken} on {self.record.move.source}", "plan the move again")
        present = self.replication.sync(changes.touched)
        if self.suspects is not None:
            merge(self.suspects, present)
        return changes

    def compare_all(self) -> None:
        """Compare every document; what changes from here on stands in the feed, behind what was read of it."""
        self.suspects = self.replication.compare_all(self.beat)
        merge(self.suspects, self.replication.sync(self.suspects))


def _dotted(changes: Mapping[str, Any]) -> dict[str, Any]:
    return {name.replace("__", "."): value for name, value in changes.items()}
