"""After the switch: forward what stale clients still change on the source, then remove its copy. The fence stays.

Deletes (and updates that take a document out of the key) pass a validator. A late change is applied on the target unless the
document was written there later, by the servers' wall clocks. Before each batch is removed, the feed is read up to a mark, so
that a document is removed only after everything that happened to it before has been forwarded.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import UTC, datetime

from foreshard.errors import HistoryLost, MoveTimedOut
from foreshard.model.move_state import MoveState
from foreshard.move.context import MoveContext
from foreshard.move.session import POLL_LIMIT, MoveSession
from foreshard.move.states import MoveEvent
from foreshard.ports.migration import ChangeKind, DocumentId, LateChange, MoveRecord, Touch

MAXIMUM_ROUNDS = 20


class Cleaner:
    """Cleans up after one switched move; takes it over when built."""

    def __init__(self, ends: MoveContext, move_id: str) -> None:
        self._ends = ends
        self._hold = MoveSession(ends, ends.journal.take(move_id))
        self._hold.claim()

    @property
    def record(self) -> MoveRecord:
        """The move's journal entry."""
        return self._hold.record

    def ready(self) -> bool:
        """Whether every sidecar heard of lately answers from the switch's version, or the grace period has passed."""
        switched, grace = self.record.entered(MoveState.SWITCHED), self._ends.limits.grace_period
        if self.record.state is not MoveState.SWITCHED or switched is None:
            return True
        now = datetime.now(UTC)
        if now - switched >= grace:
            return True
        at, heard = self._ends.routing.acknowledged(self.record.version or 0, heard_since=now - grace)
        return heard > 0 and at >= heard

    def watch(self) -> None:
        """Forward what is there; raise :class:`foreshard.move.session.Paused` where a stop was asked for."""
        self._forward()
        self._hold.beat(position=self._hold.feed.position)

    def clean(self) -> MoveRecord:
        """Remove the source's copy and end the move; its statistics stay in the journal. Raise ``Paused`` like ``watch``."""
        if self.record.state is MoveState.SWITCHED:
            self._hold.advance(MoveEvent.CLEAN)
        if not self._ends.source.is_fenced():
            self._ends.source.fence()
        removed = self._remove_all()
        self._hold.advance(MoveEvent.FINISH, position=self._hold.feed.position, counters__removed=removed)
        return self.record

    def pause(self) -> None:
        """Give the lease up; the move stays as it is."""
        self._hold.record = self._ends.journal.pause(self.record)

    def close(self) -> None:
        """Close the feed."""
        self._hold.close_feed()

    def _remove_all(self) -> int:
        removed = 0
        for _ in range(MAXIMUM_ROUNDS):
            for namespace in self._ends.source.namespaces:
                for batch in self._ends.source.scan(namespace):
                    self._forward_to_mark()
                    removed += self._ends.source.remove_unchanged(namespace, batch)
                    self._hold.beat(position=self._hold.feed.position, counters__removed=removed)
            self._forward_to_mark()
            if not any(self._ends.source.count().values()):
                return removed
        raise MoveTimedOut(
            self.record.move_id, "removing documents that are written again and again", self._ends.limits.grace_period
        )

    def _forward_to_mark(self) -> None:
        mark = self._ends.source.mark()
        deadline = time.monotonic() + self._ends.limits.catch_up_timeout.total_seconds()
        while self._hold.feed.mark_seen < mark:
            if not self._forward(until_mark=mark):
                mark = self._ends.source.mark()
            if time.monotonic() > deadline:
                raise MoveTimedOut(self.record.move_id, "forwarding late changes", self._ends.limits.catch_up_timeout)

    def _forward(self, until_mark: int | None = None) -> bool:
        """Apply late changes on the target; False where the source's oplog had run over them (noted, not hidden)."""
        try:
            changes = self._hold.feed.poll(POLL_LIMIT, until_mark=until_mark)
        except HistoryLost as lost:
            self._hold.close_feed()
            self._hold.note(position=self._ends.source.now(), notes__late_changes_unknown=str(lost))
            return False
        if changes.unfenced and not self._ends.source.is_fenced():
            self._ends.source.fence()
        for namespace, touched in changes.touched.items():
            self._forward_some(namespace, touched)
        return True

    def _forward_some(self, namespace: str, touched: Mapping[DocumentId, Touch]) -> None:
        source, target = self._ends.source, self._ends.target
        here, there = source.fetch(namespace, touched), target.fetch(namespace, touched)
        strayed = source.strayed(namespace, [i for i in touched if i not in here and i in there])
        late: dict[DocumentId, LateChange] = {}
        for identity, touch in touched.items():
            raw = here.get(identity)
            removed = touch.kind is ChangeKind.REMOVE or identity in strayed
            if raw != there.get(identity) and (raw is not None or removed):
                late[identity] = LateChange(touch.at, raw)
        if not late or self.record.opened_from is None:
            return
        kept = target.forward(namespace, late, self.record.opened_from)
        counters = self.record.counters
        self._hold.note(
            counters__late_applied=counters.get("late_applied", 0) + len(late) - len(kept),
            counters__late_kept=counters.get("late_kept", 0) + len(kept),
        )
