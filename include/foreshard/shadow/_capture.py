"""Captures one partition's changes of shadowed keys into the replication topic, in order and at least once."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from foreshard.consistency.versions import version_of_write
from foreshard.errors import CaptureLost
from foreshard.ports.replication import (
    CapturedChange,
    CaptureFeed,
    CaptureState,
    CaptureStore,
    Heartbeat,
    ReplicationLog,
    ReplicationRecord,
)

WAIT_MS = 250
"""How long a read of an idle stream waits."""


def to_records(changes: Sequence[CapturedChange], origin: str, epochs: Mapping[str, int]) -> list[ReplicationRecord]:
    """Return records of ``origin``'s changes. ``epochs`` are those of the captured keys. Equal changes get equal versions."""
    return [
        ReplicationRecord(
            change.namespace,
            change.document_id,
            change.identity,
            change.key,
            origin,
            version_of_write(
                origin, epochs[change.key] if change.key is not None else 0, change.seconds, change.increment, change.seen
            ),
            change.document,
            change.rekeyed,
        )
        for change in changes
        if change.key is None or change.key in epochs
    ]


class Capture:
    """Captures one partition under one lease of the replicator. Call :meth:`cycle` repeatedly.

    The checkpoint is saved after the topic has acknowledged, so a crash repeats changes and never skips one. A key counts as
    captured from the checkpoint that contains it. After an error, call :meth:`reset`; the next cycle continues from the
    checkpoint.
    """

    def __init__(
        self,
        origin: str,
        lease: int,
        feed: CaptureFeed,
        log: ReplicationLog,
        captures: CaptureStore,
        clock: Callable[[], datetime],
        limit: int = 500,
    ) -> None:
        self._origin, self._term = origin, lease
        self._feed, self._log, self._captures = feed, log, captures
        self._clock, self._limit = clock, limit
        self._state: CaptureState | None = None
        self.lost: str | None = None

    def cycle(self, epochs: Mapping[str, int]) -> tuple[int, bool]:
        """Publish the changes. Return the number of records and whether more changes are waiting."""
        try:
            return self._cycle(epochs)
        except CaptureLost as lost:
            self.lost = str(lost)
            keys = frozenset(epochs)
            self._state = self._captures.begin(self._origin, self._term, self._feed.open(keys, None), keys)
            return 0, False

    def reset(self) -> None:
        """Forget the state in memory."""
        self._state = None
        with contextlib.suppress(Exception):
            self._feed.close()

    def _cycle(self, epochs: Mapping[str, int]) -> tuple[int, bool]:
        state = self._opened(frozenset(epochs))
        asked_at, committed = self._clock(), self._feed.committed()
        batch = self._feed.read(self._limit, WAIT_MS)
        records = to_records(batch.changes, self._origin, epochs)
        if records:
            self._log.publish(records)
        cycle = state.cycle
        if batch.complete:
            cycle += 1
            self._log.heartbeat(Heartbeat(self._origin, state.capture_id, cycle, asked_at, committed=committed))
        self._state = replace(state, token=batch.token, cycle=cycle)
        self._captures.checkpoint(self._state, self._term)
        return len(records), not batch.complete

    def _opened(self, keys: frozenset[str]) -> CaptureState:
        state = self._state
        if state is not None and state.keys == keys:
            return state
        if state is None:
            state = self._captures.claim(self._origin, self._term)
        if state is None or state.token is None:
            self._state = self._captures.begin(self._origin, self._term, self._feed.open(keys, None), keys)
            return self._state
        self._feed.open(keys, state.token)
        self._state = replace(state, keys=keys)
        self._captures.checkpoint(self._state, self._term)
        return self._state
