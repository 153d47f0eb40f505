"""Shadow: the plan's shadows are made, kept fresh, repaired and taken away. What runs for long is the applier's process.

Every function works whether or not an applier runs: where none does, a replicator runs here for as long as it takes, and stands
by where another has the lease.
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
from datetime import datetime

from foreshard.consistency.versions import version_of_write
from foreshard.errors import ShadowRefused, VerificationFailed
from foreshard.model.decided import shadow_id
from foreshard.model.shadow_state import CAUGHT_UP, WANTED, ShadowState
from foreshard.ports.replication import Shadow
from foreshard.routing.table import locate
from foreshard.shadow.copying import Copier, Differences, DocumentsById
from foreshard.shadow.machine import step
from foreshard.shadow.replicator import Replicator, ReplicatorPorts
from foreshard.shadow.status import Status
from foreshard.shadow.upkeep import PartitionStores
from foreshard.stages.rules import allowed_shadows, require_allowed
from foreshard.stages.shadow_listing import RetireSummary, publish_shadow, remove_shadow, retire_shadows
from foreshard.wiring import Wiring

__all__ = [
    "ApplySummary",
    "RepairSummary",
    "RetireSummary",
    "ShadowSummary",
    "apply_bounded",
    "connections",
    "make_replicator",
    "publish_shadow",
    "remove_shadow",
    "repair_shadow",
    "replicating",
    "request_shadow",
    "retire_shadows",
    "run_shadow",
    "shadow_differences",
    "start_shadows",
]

POLL = 0.1
LOOKS = 5
"""How often a document that keeps changing is looked at before it counts as being on its way."""


Marks = dict[tuple[str, str], int]
"""(source, incarnation of its capture) → the cycle that is waited for."""


@dataclass(frozen=True, slots=True)
class ShadowSummary:
    """A shadow that is ready (or live already)."""

    shadow_id: str
    key: str
    source: str
    target: str
    state: str
    lag_ms: int | None
    seconds: float


@dataclass(frozen=True, slots=True)
class ApplySummary:
    """What bounded replication did: ``active`` says whether it was this process that replicated."""

    active: bool
    captured: int
    applied: int
    discarded: int
    conflicts: int
    copied: int
    fresh: int
    stale: int
    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RepairSummary:
    """A shadow compared with its source: how many documents differed for good, and were copied anew."""

    shadow_id: str
    different: int
    repaired: int


# ── making ───────────────────────────────────────────────────────────────────────────────────────────────────────────────


def start_shadows(wiring: Wiring, hour: datetime) -> tuple[str, ...]:
    """Request the plan's shadows and begin to take its removals away; the ids of the shadows to be run."""
    plan = wiring.plans.load(hour)
    if plan.dry_run:
        return ()
    for removal in plan.removals:
        remove_shadow(wiring, removal.key, removal.target)
    started = []
    for copy in allowed_shadows(wiring, plan.shadows):
        placement = wiring.shadows.placements([copy.key]).get(copy.key)
        if placement is None or placement.primary != copy.target:
            requested = request_shadow(wiring, copy.key, copy.target, copy.source, copy.reason.sentence, hour)
            started.append(requested.shadow_id)
    return tuple(started)


def request_shadow(
    wiring: Wiring, key: str, target: str, source: str | None, reason: str, hour: datetime | None = None
) -> Shadow:
    """Ask for a shadow of ``key`` on ``target``; one that is there already stays as it is.

    ``source`` is used where the table does not list the key (None: where the default rule puts it).
    """
    require_allowed(wiring, key, target, shadow=True)
    placement = wiring.shadows.placements([key]).get(key)
    primary = placement.primary if placement else source or locate(wiring.routing.current(), key).primary
    name = shadow_id(key, target)
    if primary == target:
        raise ShadowRefused(name, f"{target} holds the primary copy", "choose another partition")
    epoch, lease = placement.epoch if placement else 0, time.time_ns() // 1_000_000
    wanted = Shadow(name, key, primary, target, ShadowState.REQUESTED, epoch, lease, reason, hour)
    while not wiring.shadows.create(wanted):
        standing = wiring.shadows.get(name)
        if standing.state in WANTED:
            return standing
        if standing.state is ShadowState.RETIRING:
            raise ShadowRefused(name, "it is being taken away", "retire it first (foreshard shadows remove)")
        fields = {
            "source": primary, "epoch": epoch, "reason": reason, "hour": hour, "lease": max(lease, standing.lease + 1),
            "floor": None, "capture_id": None, "wait_cycle": None, "lag_ms": None, "caught_up_at": None, "problem": None,
            "attempts": 0,
        }  # fmt: skip
        requested = step(wiring.shadows, standing, "request", fields)
        if requested is not None:
            return requested
    return wanted


def run_shadow(wiring: Wiring, shadow_id: str) -> ShadowSummary:
    """Wait until the shadow is ready, doing the work here where nobody else does; raise :class:`ShadowRefused`."""
    begun = time.monotonic()
    deadline = begun + wiring.settings.shadow.apply_timeout.total_seconds()
    with replicating(wiring) as status:
        while (shadow := wiring.shadows.get(shadow_id)).state not in CAUGHT_UP:
            if shadow.state not in WANTED:
                raise ShadowRefused(shadow_id, shadow.problem or f"it is {shadow.state}", "request it again")
            if time.monotonic() > deadline:
                trouble = "; ".join(status.problems.values()) or shadow.problem or "no trouble noted"
                raise ShadowRefused(shadow_id, f"still {shadow.state} ({trouble})", "run it again: it goes on where it stands")
            time.sleep(POLL)
    seconds = round(time.monotonic() - begun, 3)
    return ShadowSummary(shadow.shadow_id, shadow.key, shadow.source, shadow.target, shadow.state.value, shadow.lag_ms, seconds)


# ── feeding ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def connections(wiring: Wiring) -> ReplicatorPorts:
    """What a replicator works with."""
    places = PartitionStores(wiring.documents, wiring.replica)
    return ReplicatorPorts(
        wiring.shadows, wiring.captures, wiring.conflicts, places, wiring.change_feed, wiring.replication_log,
        wiring.replication_reader, wiring.settings.sharded_collections,
    )  # fmt: skip


def make_replicator(wiring: Wiring, stop: threading.Event) -> Replicator:
    """A replicator of this process."""
    worker = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
    return Replicator(connections(wiring), wiring.settings.shadow, worker, stop)


@contextmanager
def replicating(wiring: Wiring) -> Iterator[Status]:
    """Replicate in the background, or stand by where another process does; what it has done is in the status."""
    stop = threading.Event()
    replicator = make_replicator(wiring, stop)
    thread = threading.Thread(target=replicator.run, name="foreshard-replicator")
    thread.start()
    try:
        yield replicator.status
    finally:
        stop.set()
        thread.join()


def apply_bounded(wiring: Wiring, seconds: float) -> ApplySummary:
    """Bring every shadow up to the moment of the call, for ``seconds`` at most; returns early once all are."""
    deadline, was_active = time.monotonic() + seconds, False
    marks: Marks = {}
    with replicating(wiring) as status:
        while True:
            was_active = was_active or status.active
            serving = wiring.shadows.shadows(WANTED)
            fresh = _caught_up(wiring, serving, marks)
            if len(fresh) == len(serving) or time.monotonic() > deadline:
                break
            time.sleep(POLL)
    counts = status.counts
    return ApplySummary(
        was_active, status.captured, counts.applied, counts.discarded, counts.conflicts, status.copied,
        len(fresh), len(serving) - len(fresh), tuple(status.problems.values()),
    )  # fmt: skip


def _caught_up(wiring: Wiring, shadows: Sequence[Shadow], marks: Marks) -> list[Shadow]:
    """Those that hold all that their primaries had acknowledged when their mark was set, which the first call does.

    A mark is two cycles of the source's capture ahead: the next one may have begun before. No clock is involved.
    """
    captures, progress = wiring.captures.states(), wiring.captures.progress()
    placements = wiring.shadows.placements([shadow.key for shadow in shadows])
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


# ── comparing ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def repair_shadow(wiring: Wiring, shadow_id: str, write: bool = True) -> RepairSummary:
    """Anti-entropy: compare all documents with the source, wait for what is on its way, copy anew what still differs."""
    with replicating(wiring):
        shadow, copier, remaining = _lasting_differences(wiring, shadow_id)
        repaired = 0
        if write and len(remaining):
            floor = version_of_write(shadow.source, shadow.epoch, *wiring.documents(shadow.source).tick())
            repaired = copier.repair(floor, remaining)
    return RepairSummary(shadow_id, len(remaining), repaired)


def shadow_differences(wiring: Wiring, shadow_id: str) -> tuple[str, ...]:
    """What differs between a shadow and its primary and isn't on its way: ``namespace: id``."""
    with replicating(wiring):
        _, _, remaining = _lasting_differences(wiring, shadow_id)
    return tuple(f"{namespace}: {i!r}" for namespace, found in remaining.by_namespace.items() for i, _ in found.values())


def _lasting_differences(wiring: Wiring, shadow_id: str) -> tuple[Shadow, Copier, Differences]:
    shadow = _wait_fresh(wiring, shadow_id)
    copier = Copier(
        shadow, wiring.documents(shadow.source), wiring.documents(shadow.target), wiring.replica(shadow.target),
        wiring.settings.sharded_collections, wiring.conflicts, wiring.settings.shadow.batch_documents,
    )  # fmt: skip
    lasting: dict[str, DocumentsById] = {}
    moving = copier.differences()
    for _ in range(LOOKS):
        if not len(moving):
            break
        _wait_fresh(wiring, shadow_id)
        stayed, moving = copier.sort_out(moving)
        for namespace, documents in stayed.by_namespace.items():
            lasting[namespace] = {**lasting.get(namespace, {}), **documents}
    return shadow, copier, Differences(lasting)


def _wait_fresh(wiring: Wiring, shadow_id: str) -> Shadow:
    """Wait until the shadow holds all that its primary has acknowledged by now."""
    deadline = time.monotonic() + wiring.settings.shadow.apply_timeout.total_seconds()
    marks: Marks = {}
    while True:
        shadow = wiring.shadows.get(shadow_id)
        if _caught_up(wiring, [shadow], marks):
            return shadow
        if shadow.state not in WANTED or time.monotonic() > deadline:
            raise VerificationFailed(f"shadow {shadow_id}", [shadow.problem or f"it is {shadow.state} and does not catch up"])
        time.sleep(POLL)
