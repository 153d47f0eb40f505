"""One mover's work on one move: the journal entry, both copies, and its place in the source's change feed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self

from foreshard.errors import FenceTimedOut, MoveRefused, MoveTimedOut
from foreshard.model.move_state import BEFORE_SWITCH, STOPPABLE, MoveState
from foreshard.move._owners import Owners, read_owners
from foreshard.move._unit_sync import Suspects, UnitSync, merge
from foreshard.move.context import MoveContext
from foreshard.move.states import MoveEvent, next_state
from foreshard.ports.migration import Changes, MoveFeed, Position, UnitCopy
from foreshard.ports.move_journal import MoveRecord

NOTED_PAUSE = 1.0
"""Seconds. A longer pause is noted in the journal."""
POLL_LIMIT = 5_000
"""Changes read from a feed at once."""
RETRY_SECONDS = 0.25
"""Pause between two attempts to get a lock that an open transaction keeps."""


class Paused(Exception):
    """The move was asked to stop. It stays in its state."""


class MoveSession:
    """The state that the steps of a move share. Not thread-safe. A thread renews the lease, but not behind the fence.

    ``suspects`` are the documents not known to be equal on both sides (None: nothing is compared yet). ``armed``: this mover
    has prepared the cutover. ``owners`` are the owners as read before the fence. ``fenced_at`` is the monotonic time at which
    it fenced the source. ``repaired``: documents made equal behind the fence. ``switching``: the switch has been sent, and its
    answer has not come. ``opened_from``: a position on the target before apps could write there.
    """

    def __init__(self, context: MoveContext, record: MoveRecord) -> None:
        self.context, self.record = context, record
        self.sync = UnitSync(context.source, context.target, context.limits.batch_documents, context.together)
        self.suspects: Suspects | None = None
        self.armed = False
        self.repaired = 0
        self.switching = False
        self.opened_from: Position | None = None
        self.fenced_at: float | None = None
        self.owners: Owners | None = None
        self._claimed: set[str] = set()
        self._feed: MoveFeed | None = None
        self._strays: MoveFeed | None = None
        self._beaten = time.monotonic()
        self._ended = threading.Event()

    def __enter__(self) -> Self:
        if self.context.renew_every is not None:
            threading.Thread(target=self._renew, args=(self.context.renew_every.total_seconds(),), daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._ended.set()
        self.close_feed()

    def _renew(self, every: float) -> None:
        """Renew the lease during long steps. Behind the fence it may run out, so that somebody else lifts the fence."""
        while not self._ended.wait(every):
            if self.record.state is not MoveState.FENCED:
                try:
                    self.context.journal.renew(self.record)
                except Exception as error:
                    self.context.trouble(self.record, error)

    def claim(self, *sides: UnitCopy) -> None:
        """Write the lease on these partitions. From then on they abort every transaction of the previous mover."""
        for side in sides:
            if side.partition_id not in self._claimed:
                side.claim(self.record.lease)
                self._claimed.add(side.partition_id)

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

    def pace(self, documents: int, size: int) -> None:
        """Pause after a copied batch of ``documents`` and ``size`` bytes, as the limits and the strain on others ask for.

        Renew the lease meanwhile. Raise :class:`Paused` if asked to stop.
        """
        pacer = self.context.pacer
        self._sleep(pacer.pause_after(documents, size))
        while pacer.is_held():
            self._sleep(NOTED_PAUSE)
        self.go_on()
        self.beat()

    def await_place(self) -> None:
        """Wait until fewer than ``parallel_moves`` others copy from the source, and to the target."""
        most, move = self.context.limits.parallel_moves, self.record.move
        while (placed := self.context.journal.claim_place(self.record, most)) is None:
            self.wait_for(f"waiting because {most} other moves from {move.source} or to {move.target} are running")
        self.record = placed
        self.go_on()

    def _sleep(self, seconds: float) -> None:
        """Pause, keep the lease, and say why in the journal if it takes long."""
        ends = time.monotonic() + seconds
        if seconds >= NOTED_PAUSE:
            self._say(f"waiting because {self.context.pacer.reason}")
        while (left := ends - time.monotonic()) > 0:
            time.sleep(min(left, RETRY_SECONDS))
            self.beat()

    def patiently(self, change: Callable[[], object], what: str) -> None:
        """Make a change that open transactions may keep from its lock, while no app waits for it.

        Raise :class:`MoveTimedOut` if it takes longer than ``catch_up_timeout``.
        """
        limit = self.context.limits.catch_up_timeout
        deadline = time.monotonic() + limit.total_seconds()
        while True:
            try:
                change()
                break
            except FenceTimedOut as error:
                if time.monotonic() > deadline:
                    raise MoveTimedOut(self.record.move_id, what, limit) from error
                self.wait_for(f"{what}: {error}")
        self.go_on()

    def wait_for(self, what: str) -> None:
        """Say in the journal for what the move waits, and wait a moment."""
        self._say(what)
        self.beat()
        time.sleep(RETRY_SECONDS)

    def _say(self, what: str) -> None:
        if self.record.notes.get("waiting") != what:
            self.note(notes__waiting=what)

    def go_on(self) -> None:
        """The move waits for nothing any more."""
        if self.record.notes.get("waiting"):
            self.note(notes__waiting=None)

    def pause(self) -> None:
        """Release the lease because a stop was asked for. The move stays in its state until somebody takes it."""
        self._ended.set()
        self.record = self.context.journal.pause(self.record)

    def release(self, waiting: str | None = None) -> None:
        """Release the lease. Anybody may resume the move. What it waits for stays in the journal."""
        self._ended.set()
        self.record = self.context.journal.release(self.record, waiting or self.record.notes.get("waiting"))

    @property
    def feed(self) -> MoveFeed:
        """The source's changes since the journalled position."""
        if self._feed is None:
            if self.record.position is None:
                raise MoveRefused(self.record.move_id, "its journal entry has no position", "revert it and plan it again")
            self._feed = self.context.source.feed(self.record.position)
        return self._feed

    def close_feed(self) -> None:
        """Close the feeds. The next use opens them again at the journalled positions."""
        if self._feed is not None:
            self._feed.close()
        self._feed = None
        self.forget_strays()

    @property
    def strays(self) -> MoveFeed | None:
        """What apps did to the copies on the target since the journalled position; None before the copy begins."""
        if self._strays is None and "strays_from" in self.record.notes:
            self._strays = self.context.target.feed(self.record.notes["strays_from"], strays=True)
        return self._strays

    def forget_strays(self) -> None:
        """Close the feed of strays."""
        if self._strays is not None:
            self._strays.close()
        self._strays = None

    def read_owners(self) -> Owners:
        """Read who owns the units now."""
        return read_owners(self.context.routing, self.context.units)

    def follow_to(self, mark: int) -> None:
        """Follow the source up to a mark."""
        while self.feed.mark_seen < mark:
            self.follow(until_mark=mark)

    def follow(self, until_fences: Mapping[str, int] | None = None, until_mark: int | None = None) -> Changes:
        """Read the source's changes and make the target equal for every document in them.

        Call it only while no app can write on the target. Raise :class:`MoveRefused` if a collection was dropped or renamed.
        """
        changes = self.feed.poll(POLL_LIMIT, until_fences=until_fences, until_mark=until_mark)
        if changes.broken and self.record.state in BEFORE_SWITCH:
            raise MoveRefused(self.record.move_id, f"{changes.broken} on {self.record.move.source}", "plan the move again")
        present = self.sync.sync(changes.touched)
        if self.suspects is not None:
            merge(self.suspects, present)
        return changes

    def recheck(self) -> None:
        """Compare the suspects again. Equal documents are not suspects any more."""
        self.suspects = self.sync.compare(self.suspects or {})
        merge(self.suspects, self.sync.sync(self.suspects))

    def compare_all(self) -> None:
        """Compare every document. Later changes are still in the feed, after the position that was read last."""
        self.suspects = self.sync.compare_all(self.beat)
        merge(self.suspects, self.sync.sync(self.suspects))


def _dotted(changes: Mapping[str, Any]) -> dict[str, Any]:
    return {name.replace("__", "."): value for name, value in changes.items()}
