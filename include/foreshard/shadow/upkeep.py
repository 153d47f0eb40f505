"""Decides what each shadow needs next, from the routing table, the captures and the progress of applying, and does it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from foreshard.consistency.versions import version_of_write
from foreshard.errors import FenceRefused, FenceTimedOut, ReplicaRefused, UnknownPartition
from foreshard.model import Placement, ShardedCollection
from foreshard.model.shadow_state import APPLYING, CAUGHT_UP, WANTED, ShadowState
from foreshard.ports.replicas import ConflictStore, DocumentReader, GuardsMoved, ReplicaStore
from foreshard.ports.replication import ApplyProgress, CaptureState, CaptureStore, Shadow, ShadowStore
from foreshard.shadow.copying import Compared, Copier
from foreshard.shadow.machine import step

MAXIMUM_ATTEMPTS = 5
"""A shadow fails after this many failed comparisons in a row."""


@dataclass(frozen=True)
class UpkeepContext:
    """The state that shadows are judged by: placements per key, captures and progress per partition."""

    placements: Mapping[str, Placement]
    captures: Mapping[str, CaptureState]
    progress: Mapping[str, ApplyProgress]


def captured_keys(shadows: Sequence[Shadow]) -> dict[str, dict[str, int]]:
    """Return source → key → epoch of the keys that must be captured."""
    wanted: dict[str, dict[str, int]] = {}
    for shadow in shadows:
        keys = wanted.setdefault(shadow.source, {})
        keys[shadow.key] = max(shadow.epoch, keys.get(shadow.key, 0))
    return wanted


def judge(shadow: Shadow, context: UpkeepContext) -> tuple[str, dict[str, Any]] | None:
    """Return the next event of a shadow and its fields; None if nothing has to change.

    A higher epoch on the same primary is not decided here: the key may have moved away and back, or not.
    """
    placement = context.placements.get(shadow.key)
    if placement is not None and placement.primary == shadow.target:
        return "absorb", {"problem": "its partition became the primary"}
    if placement is not None and placement.primary != shadow.source:
        return _again(shadow, "the primary moved", source=placement.primary, epoch=placement.epoch)
    if shadow.state in APPLYING and shadow.capture_id is not None:
        capture = context.captures.get(shadow.source)
        if capture is not None and capture.capture_id != shadow.capture_id:
            return _again(shadow, "changes of its source may have been missed")
    if shadow.state is ShadowState.CATCHING_UP:
        reached = context.progress.get(shadow.source)
        if reached and reached.capture_id == shadow.capture_id and reached.cycle >= (shadow.wait_cycle or 0):
            return "caught_up", {"caught_up_at": reached.seen_until, "problem": None, "attempts": 0}
    if shadow.state is ShadowState.READY and placement is not None and shadow.target in placement.shadows:
        return "publish", {}
    return None


def _again(shadow: Shadow, problem: str, **fields: Any) -> tuple[str, dict[str, Any]]:
    """A new comparison. A shadow that has not started yet takes only the new fields."""
    if shadow.state is ShadowState.REQUESTED:
        return "start", {**fields, "lease": shadow.lease + 1}
    return "recopy", {**fields, "lease": shadow.lease + 1, "floor": None, "capture_id": None, "problem": problem}


@dataclass(frozen=True)
class PartitionStores:
    """The stores of the partitions, as sources and as targets."""

    documents: Callable[[str], DocumentReader]
    replicas: Callable[[str], ReplicaStore]


class Upkeep:
    """Takes every shadow through its states. Several processes may do so at once, because each step is a compare-and-set."""

    def __init__(
        self,
        shadows: ShadowStore,
        captures: CaptureStore,
        conflicts: ConflictStore,
        places: PartitionStores,
        collections: Sequence[ShardedCollection],
        worker: str,
        lease_seconds: float,
        batch: int,
    ) -> None:
        self._shadows, self._captures, self._conflicts = shadows, captures, conflicts
        self._places, self._collections = places, collections
        self._worker, self._lease_seconds, self._batch = worker, lease_seconds, batch

    def look(self, now: datetime, *, note_freshness: bool = True) -> tuple[Shadow, ...]:
        """Let every shadow react to its context and save its freshness. Return the shadows that are kept."""
        shadows = self._shadows.shadows(WANTED)
        context = UpkeepContext(
            self._shadows.placements([s.key for s in shadows]),
            self._captures.states(),
            self._captures.progress(),
        )
        kept = tuple(after for shadow in shadows if (after := self._react(shadow, context)) is not None)
        fresh = {
            s.shadow_id: reached
            for s in kept
            if s.state in CAUGHT_UP and (reached := context.progress.get(s.source)) and reached.capture_id == s.capture_id
        }
        if note_freshness:
            self._shadows.save_freshness(fresh, now)
        return kept

    def _react(self, shadow: Shadow, context: UpkeepContext) -> Shadow | None:
        verdict = judge(shadow, context)
        placement = context.placements.get(shadow.key)
        if verdict is None and placement is not None and placement.epoch > shadow.epoch:
            if self._shadows.left(shadow.key, shadow.source, max(shadow.epoch, 1), placement.epoch):
                verdict = _again(shadow, "the primary moved away and back", epoch=placement.epoch)
            else:
                return self._shadows.change(shadow, shadow.state, {"epoch": placement.epoch}) or shadow
        if verdict is None:
            return shadow
        event, fields = verdict
        after = step(self._shadows, shadow, event, fields)
        if event == "absorb" and after is not None:
            self._places.replicas(shadow.target).revoke(shadow.key, shadow.lease)
            return None
        return after or shadow

    def recopy_all(self, problem: str) -> None:
        """Compare every shadow with its source again, because changes may be missing."""
        for shadow in self._shadows.shadows(APPLYING):
            step(self._shadows, shadow, *_again(shadow, problem))

    def work(self, shadow: Shadow, proceed: Callable[[], bool]) -> Compared | None:
        """Do the copying of ``shadow``. Return None if there is none, another worker has it, or it was interrupted."""
        if shadow.state not in (ShadowState.REQUESTED, ShadowState.COPYING):
            return None
        if not self._shadows.claim_work(shadow.shadow_id, self._worker, self._lease_seconds):
            return None
        try:
            return self._copy(self._shadows.get(shadow.shadow_id), proceed)
        finally:
            self._shadows.release_work(shadow.shadow_id, self._worker)

    def _copy(self, shadow: Shadow, proceed: Callable[[], bool]) -> Compared | None:
        """Fence and guard the target, then compare and copy, once the key is captured and no move is using it there.

        Every attempt has a lease of its own.
        """
        if shadow.state not in (ShadowState.REQUESTED, ShadowState.COPYING):
            return None
        capture = self._captures.states().get(shadow.source)
        if capture is None or shadow.key not in capture.keys or self._shadows.is_busy(shadow.key, shadow.target):
            return None
        fields = {"lease": shadow.lease + 1, "floor": None, "capture_id": None}
        if shadow.state is ShadowState.REQUESTED:
            started = step(self._shadows, shadow, "start", fields)
        else:
            started = self._shadows.change(shadow, shadow.state, fields)
        if started is None:
            return None
        try:
            return self._copy_once(started, capture.capture_id, proceed)
        except GuardsMoved:
            return None
        except (ReplicaRefused, UnknownPartition, FenceRefused, FenceTimedOut) as error:
            self._give_way(started, str(error))
            return None

    def _copy_once(self, shadow: Shadow, capture_id: str, proceed: Callable[[], bool]) -> Compared | None:
        replica = self._places.replicas(shadow.target)
        if not replica.prepare(shadow.key, shadow.lease):
            current = self._shadows.get(shadow.shadow_id)
            if (current.state, current.lease) == (shadow.state, shadow.lease):
                step(self._shadows, shadow, "fail", {"problem": f"its guards on {shadow.target} are closed: request it again"})
            return None
        source, target = self._places.documents(shadow.source), self._places.documents(shadow.target)
        target.cluster_time()
        floor = version_of_write(shadow.source, shadow.epoch, *source.tick())
        floored = self._shadows.change(shadow, shadow.state, {"floor": floor, "capture_id": capture_id})
        if floored is None:
            return None
        copier = Copier(floored, source, target, replica, self._collections, self._conflicts, self._batch)
        compared = copier.copy(floor, lambda: proceed() and self._renew(shadow))
        if compared is None:
            return None
        cycle = self._captures.states()[shadow.source].cycle
        step(self._shadows, floored, "copied", {"wait_cycle": cycle + 2})
        return compared

    def _renew(self, shadow: Shadow) -> bool:
        return self._shadows.claim_work(shadow.shadow_id, self._worker, self._lease_seconds)

    def _give_way(self, shadow: Shadow, problem: str) -> None:
        """Record a failed comparison. The shadow is retried later and fails after ``MAXIMUM_ATTEMPTS``."""
        current = self._shadows.get(shadow.shadow_id)
        if current.state is not ShadowState.COPYING:
            return
        if current.attempts + 1 >= MAXIMUM_ATTEMPTS:
            step(self._shadows, current, "fail", {"problem": problem, "attempts": 0})
        else:
            self._shadows.change(current, current.state, {"problem": problem, "attempts": current.attempts + 1})
