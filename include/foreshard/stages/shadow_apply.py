"""Replicate changes from primary copies to shadows, in this process or beside another one.

At most one process replicates, the holder of the lease. A replicator here stands by while another process has it.
"""

from __future__ import annotations

import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from foreshard.model.shadow_state import CAUGHT_UP, WANTED
from foreshard.ports.replication import Shadow
from foreshard.shadow.replicator import Replicator, ReplicatorPorts
from foreshard.shadow.status import Status
from foreshard.shadow.upkeep import PartitionStores
from foreshard.stages._ports import (
    WithCaptures,
    WithChangeFeeds,
    WithConflicts,
    WithDocuments,
    WithReplicas,
    WithReplicationLog,
    WithReplicationReader,
    WithShadows,
    WithShadowSettings,
    WithShardedCollections,
)

POLL = 0.1
"""Seconds between two looks at the shadows' progress."""

CatchUpMarks = dict[tuple[str, str], int]
"""(source, capture id) → the capture's cycle that a shadow must reach to count as caught up."""


class CaughtUpPorts(WithShadows, WithCaptures, Protocol):
    """Reads the progress of captures and appliers."""


class ShadowFeedPorts(
    WithShadows,
    WithCaptures,
    WithConflicts,
    WithDocuments,
    WithReplicas,
    WithChangeFeeds,
    WithReplicationLog,
    WithReplicationReader,
    WithShadowSettings,
    WithShardedCollections,
    Protocol,
):
    """Reads primary copies. Writes the replication log, shadows' documents and their progress."""


@dataclass(frozen=True, slots=True)
class ApplySummary:
    """The work of :func:`apply_bounded`. ``active``: this process held the lease. ``fresh`` shadows have caught up."""

    active: bool
    captured: int
    applied: int
    discarded: int
    conflicts: int
    copied: int
    fresh: int
    stale: int
    problems: tuple[str, ...]


def connections(ports: ShadowFeedPorts) -> ReplicatorPorts:
    """Return the ports of a replicator."""
    partitions = PartitionStores(ports.documents, ports.replica)
    return ReplicatorPorts(
        ports.shadows, ports.captures, ports.conflicts, partitions, ports.change_feed, ports.replication_log,
        ports.replication_reader, ports.sharded_collections,
    )  # fmt: skip


def make_replicator(ports: ShadowFeedPorts, stop: threading.Event) -> Replicator:
    """Return a replicator with a worker id of its own. It runs until ``stop`` is set."""
    worker = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
    return Replicator(connections(ports), ports.shadow_settings, worker, stop)


@contextmanager
def replicating(ports: ShadowFeedPorts) -> Iterator[Status]:
    """Replicate in a background thread while the context is open. Yield the replicator's status."""
    stop = threading.Event()
    replicator = make_replicator(ports, stop)
    thread = threading.Thread(target=replicator.run, name="foreshard-replicator")
    thread.start()
    try:
        yield replicator.status
    finally:
        stop.set()
        thread.join()


def apply_bounded(ports: ShadowFeedPorts, seconds: float) -> ApplySummary:
    """Replicate for at most ``seconds``. Return early once every shadow has all changes made before the call."""
    deadline, was_active = time.monotonic() + seconds, False
    marks: CatchUpMarks = {}
    with replicating(ports) as status:
        while True:
            was_active = was_active or status.active
            serving = ports.shadows.shadows(WANTED)
            fresh = caught_up(ports, serving, marks)
            if len(fresh) == len(serving) or time.monotonic() > deadline:
                break
            time.sleep(POLL)
    counts = status.counts
    return ApplySummary(
        was_active, status.captured, counts.applied, counts.discarded, counts.conflicts, status.copied,
        len(fresh), len(serving) - len(fresh), tuple(status.problems.values()),
    )  # fmt: skip


def caught_up(ports: CaughtUpPorts, shadows: Sequence[Shadow], marks: CatchUpMarks) -> list[Shadow]:
    """Return the shadows that have every write their primary copies had acknowledged when ``marks`` were set.

    The first call sets the marks, two cycles of each source's capture ahead: the next cycle may have begun before the call. No
    clock is compared.
    """
    captures, progress = ports.captures.states(), ports.captures.progress()
    placements = ports.shadows.placements([shadow.key for shadow in shadows])
    fresh = []
    for shadow in shadows:
        placement = placements.get(shadow.key)
        if placement is not None and placement.primary != shadow.source:
            continue
        capture, reached = captures.get(shadow.source), progress.get(shadow.source)
        if capture is None:
            continue
        mark = marks.setdefault((shadow.source, capture.capture_id), capture.cycle + 2)
        applied = reached is not None and reached.capture_id == capture.capture_id and reached.cycle >= mark
        if applied and shadow.state in CAUGHT_UP and shadow.capture_id == capture.capture_id:
            fresh.append(shadow)
    return fresh
