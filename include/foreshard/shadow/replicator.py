"""The replicator: captures every source, applies to every replica and maintains the shadows, in threads of one process.

One process at a time replicates, under a lease in the control database; the others wait. A crash loses nothing: capture
continues from its checkpoint, applying from the last committed position, copying by a new comparison.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from foreshard.consistency.clock import HybridClock
from foreshard.errors import ClockDrift, ReplicatorSuperseded
from foreshard.model import ShardedCollection
from foreshard.model.shadow_state import ShadowState
from foreshard.ports.replicas import ConflictStore, ReplicaStore
from foreshard.ports.replication import (
    CaptureFeed,
    CaptureStore,
    Delivery,
    Heartbeat,
    ReplicationLog,
    ReplicationReader,
    Shadow,
    ShadowStore,
)
from foreshard.settings import ShadowSettings
from foreshard.shadow._apply import Applier
from foreshard.shadow._capture import Capture
from foreshard.shadow.status import Status
from foreshard.shadow.upkeep import PartitionStores, Upkeep, captured_keys

PACE = 0.05
"""Seconds between two reads of an exhausted stream. Longer pauses give larger batches."""
LOOK_EVERY = 0.5
NOTE_EVERY = 1.0
COPIES_AT_ONCE = 2
COPYING_NEXT = (ShadowState.REQUESTED, ShadowState.COPYING)
_Item = TypeVar("_Item")


@dataclass(frozen=True)
class ReplicatorPorts:
    """The ports of a replicator. Only the process that holds the lease opens the feeds, the log and the reader."""

    shadows: ShadowStore
    captures: CaptureStore
    conflicts: ConflictStore
    places: PartitionStores
    feed: Callable[[str], CaptureFeed]
    log: Callable[[], ReplicationLog]
    reader: Callable[[], ReplicationReader]
    collections: Sequence[ShardedCollection]


class Replicator:
    """Runs until ``stop`` is set. After an error from MongoDB or Kafka it continues from the saved state, after a pause."""

    def __init__(self, connections: ReplicatorPorts, settings: ShadowSettings, worker: str, stop: threading.Event) -> None:
        self._with, self._settings, self._worker, self._stop = connections, settings, worker, stop
        self._lease_seconds = settings.lease_duration.total_seconds()
        self._wanted: dict[str, dict[str, int]] = {}
        self._captures: dict[str, threading.Thread] = {}
        self._copies: dict[str, Future[object]] = {}
        self._noted_at = 0.0
        self._taken_over: set[str] = set()
        self._drift = HybridClock(worker, lambda: time.time_ns() // 1_000_000)
        self.status = Status()

    def run(self) -> None:
        """Wait until the lease is free, then replicate. After losing the lease, wait again."""
        try:
            while not self._stop.is_set():
                lease = self._try("control database", lambda: self._with.captures.acquire(self._worker, self._lease_seconds))
                if lease is None:
                    self._stop.wait(LOOK_EVERY)
                    continue
                over = threading.Event()
                self.status.active = True
                try:
                    self._replicate(lease, over)
                finally:
                    over.set()
                    self.status.active = False
                    for thread in [*self._captures.values()]:
                        thread.join()
                    self._captures, self._wanted = {}, {}
        finally:
            self._try("control database", lambda: self._with.captures.release(self._worker))

    def _replicate(self, lease: int, over: threading.Event) -> None:
        """Run upkeep and applying in threads until the lease is lost or a stop is requested."""
        self._taken_over = set()
        with ThreadPoolExecutor(COPIES_AT_ONCE, "foreshard-copy") as copiers:
            threads = [
                threading.Thread(
                    target=self._loop, args=("upkeep", over, lambda: self._look(lease, over, copiers), LOOK_EVERY)
                ),
                threading.Thread(target=self._apply_loop, args=(over,), name="foreshard-apply"),
            ]
            for thread in threads:
                thread.start()
            until = time.monotonic() + self._lease_seconds
            while not (self._stop.is_set() or over.is_set()):
                renewed = self._try("lease", lambda: self._with.captures.acquire(self._worker, self._lease_seconds))
                if renewed is not None:
                    until = time.monotonic() + self._lease_seconds
                if (renewed is not None and renewed != lease) or time.monotonic() > until:
                    break
                self._stop.wait(self._lease_seconds / 5)
            over.set()
            for thread in threads:
                thread.join()

    # ── upkeep ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def _look(self, lease: int, over: threading.Event, copiers: ThreadPoolExecutor) -> None:
        upkeep = self._upkeep()
        shadows = upkeep.look(self._with.captures.clock(), note_freshness=self._is_due())
        self.status.shadows = shadows
        self._wanted = captured_keys(shadows)
        for origin in self._wanted:
            if origin not in self._captures or not self._captures[origin].is_alive():
                thread = threading.Thread(
                    target=self._capture_loop, args=(origin, lease, over), name=f"foreshard-capture-{origin}"
                )
                self._captures[origin] = thread
                thread.start()
        for shadow in shadows:
            running = self._copies.get(shadow.shadow_id)
            if shadow.state in COPYING_NEXT and (running is None or running.done()):
                self._copies[shadow.shadow_id] = copiers.submit(self._copy, upkeep, shadow, over)

    def _replica(self, target: str) -> ReplicaStore:
        """Return the target's store. The first use under a lease ends the transactions that a killed writer left open."""
        replica = self._with.places.replicas(target)
        if target not in self._taken_over:
            replica.take_over()
            self._taken_over.add(target)
        return replica

    def _is_due(self) -> bool:
        """Return whether freshness should be saved now. Sidecars follow it, so it is not saved too often."""
        due = time.monotonic() - self._noted_at >= NOTE_EVERY
        if due:
            self._noted_at = time.monotonic()
        return due

    def _upkeep(self) -> Upkeep:
        w = self._with
        places = PartitionStores(w.places.documents, self._replica)
        batch = self._settings.batch_documents
        return Upkeep(w.shadows, w.captures, w.conflicts, places, w.collections, self._worker, self._lease_seconds, batch)

    def _copy(self, upkeep: Upkeep, shadow: Shadow, over: threading.Event) -> None:
        compared = self._try(
            f"copy {shadow.shadow_id}", lambda: upkeep.work(shadow, lambda: not (over.is_set() or self._stop.is_set()))
        )
        if compared is not None:
            self.status.copied += compared.copied

    # ── capture ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def _capture_loop(self, origin: str, lease: int, over: threading.Event) -> None:
        log: ReplicationLog | None = None
        capture: Capture | None = None

        def cycle() -> None:
            nonlocal log, capture
            epochs = self._wanted.get(origin, {})
            if not epochs:
                self._stop.wait(LOOK_EVERY)
                return
            try:
                if log is None or capture is None:
                    log = self._with.log()
                    capture = Capture(
                        origin, lease, self._with.feed(origin), log, self._with.captures, self._with.captures.clock,
                        self._settings.batch_documents,
                    )  # fmt: skip
                published, more = capture.cycle(epochs)
            except ReplicatorSuperseded:
                over.set()
                return
            except Exception:
                if capture is not None:
                    capture.reset()
                raise
            self.status.captured += published
            if not more:
                self._stop.wait(PACE)

        self._loop(f"capture of {origin}", over, cycle, 0)
        if capture is not None:
            capture.reset()

    # ── applying ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def _apply_loop(self, over: threading.Event) -> None:
        reader: ReplicationReader | None = None
        applier = Applier(
            self._with.shadows, self._replica, {c.namespace: c.policy for c in self._with.collections},
            self._with.conflicts,
        )  # fmt: skip

        def cycle() -> None:
            nonlocal reader
            try:
                if reader is None:
                    reader = self._with.reader()
                    self._heed_gap(reader)
                self._apply_some(reader, applier)
            except Exception:
                if reader is not None:
                    reader.close()
                    reader = None
                raise

        self._loop("applying", over, cycle, 0)
        if reader is not None:
            reader.close()

    def _heed_gap(self, reader: ReplicationReader) -> None:
        """If the topic may have lost records, compare every shadow again."""
        problem = reader.gap(positions_expected=bool(self._with.captures.states()))
        if problem is not None:
            self._upkeep().recopy_all(problem)

    def _apply_some(self, reader: ReplicationReader, applier: Applier) -> None:
        delivery = reader.read(self._settings.batch_documents, 0.25)
        if delivery.records:
            self.status.counts.add(applier.apply(delivery.records))
            self._watch_drift(delivery)
        if delivery.heartbeats:
            for (origin, capture_id), notes in _notes(delivery).items():
                self._with.captures.save_applied(origin, capture_id, notes, reader.topic_partitions)
        reader.commit()
        self.status.unreadable += delivery.unreadable

    def _watch_drift(self, delivery: Delivery) -> None:
        try:
            self._drift.receive(max(record.version.time for record in delivery.records))
            self.status.drift = None
        except ClockDrift as drift:
            self.status.drift = str(drift)

    # ── patience ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def _loop(self, name: str, over: threading.Event, cycle: Callable[[], None], pause: float) -> None:
        """Call ``cycle`` until the lease is lost. After each error, wait longer (0.2 to 5 s)."""
        patience = 0.2
        while not (over.is_set() or self._stop.is_set()):
            self._try(name, cycle)
            if name in self.status.problems:
                self._stop.wait(patience)
                patience = min(5.0, patience * 2)
            else:
                patience = 0.2
                if pause:
                    self._stop.wait(pause)

    def _try(self, name: str, act: Callable[[], _Item]) -> _Item | None:
        """Call ``act``. Record an error under ``name`` and return None; the saved state says where to continue."""
        try:
            result = act()
        except Exception as trouble:
            self.status.problems[name] = (
                f"{name}: {str(trouble).splitlines()[0][:200] if str(trouble) else type(trouble).__name__}"
            )
            return None
        self.status.problems.pop(name, None)
        return result


def _notes(delivery: Delivery) -> Mapping[tuple[str, str], dict[int, Heartbeat]]:
    """Return (origin, capture id) → topic partition → the last heartbeat there."""
    notes: dict[tuple[str, str], dict[int, Heartbeat]] = {}
    for beat in delivery.heartbeats:
        notes.setdefault((beat.origin, beat.capture_id), {})[beat.topic_partition] = beat
    return notes
