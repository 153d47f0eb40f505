"""Make the plan's shadows: request them, and run each until it is ready.

If no applier runs, a replicator in this process does the work meanwhile.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from foreshard.errors import ShadowRefused
from foreshard.model.decided import shadow_id
from foreshard.model.shadow_state import CAUGHT_UP, WANTED, ShadowState
from foreshard.ports.replication import Shadow
from foreshard.shadow.machine import step
from foreshard.stages._ports import WithPlans, WithRouting, WithShadows
from foreshard.stages.rules import RuleCheckPorts, allowed_shadows, require_allowed
from foreshard.stages.shadow_apply import POLL, ShadowFeedPorts, replicating
from foreshard.stages.shadow_listing import remove_shadow


class RequestShadowPorts(RuleCheckPorts, WithShadows, WithRouting, Protocol):
    """Reads placement rules and the routing table. Writes shadows."""


class StartShadowsPorts(RequestShadowPorts, WithPlans, Protocol):
    """Reads the plan, placement rules and the routing table. Writes shadows."""


@dataclass(frozen=True, slots=True)
class ShadowSummary:
    """A shadow that is ready or live."""

    shadow_id: str
    key: str
    source: str
    target: str
    state: str
    lag_ms: int | None
    seconds: float


def start_shadows(ports: StartShadowsPorts, hour: datetime) -> tuple[str, ...]:
    """Request the plan's shadows and begin its removals. Return the ids of the shadows to run; none for a dry run."""
    plan = ports.plans.load(hour)
    if plan.dry_run:
        return ()
    for removal in plan.removals:
        remove_shadow(ports, removal.key, removal.target)
    started = []
    for planned in allowed_shadows(ports, plan.shadows):
        placement = ports.shadows.placements([planned.key]).get(planned.key)
        if placement is None or placement.primary != planned.target:
            requested = request_shadow(ports, planned.key, planned.target, planned.source, planned.reason.sentence, hour)
            started.append(requested.shadow_id)
    return tuple(started)


def request_shadow(
    ports: RequestShadowPorts, key: str, target: str, source: str | None, reason: str, hour: datetime | None = None
) -> Shadow:
    """Request a shadow of ``key`` on ``target``. An existing one is returned unchanged.

    ``source`` is the primary's partition if the table does not list the key; None: the default rule's partition. Raise
    :class:`ShadowRefused` if ``target`` has the primary copy or the old shadow is still being removed, and
    :class:`foreshard.errors.PlacementRuleBroken` if a rule forbids it.
    """
    require_allowed(ports, [key], target, shadow=True)
    placement = ports.shadows.placements([key]).get(key)
    primary = placement.primary if placement else source or ports.routing.placement(key).primary
    name = shadow_id(key, target)
    if primary == target:
        raise ShadowRefused(name, f"{target} holds the primary copy", "choose another partition")
    epoch, lease = placement.epoch if placement else 0, time.time_ns() // 1_000_000
    wanted = Shadow(name, key, primary, target, ShadowState.REQUESTED, epoch, lease, reason, hour)
    while not ports.shadows.create(wanted):
        existing = ports.shadows.get(name)
        if existing.state in WANTED:
            return existing
        if existing.state is ShadowState.RETIRING:
            raise ShadowRefused(name, "its removal is not finished", "retire it first (foreshard shadows remove)")
        fields = {
            "source": primary, "epoch": epoch, "reason": reason, "hour": hour, "lease": max(lease, existing.lease + 1),
            "floor": None, "capture_id": None, "wait_cycle": None, "lag_ms": None, "caught_up_at": None, "problem": None,
            "attempts": 0,
        }  # fmt: skip
        requested = step(ports.shadows, existing, "request", fields)
        if requested is not None:
            return requested
    return wanted


def run_shadow(ports: ShadowFeedPorts, shadow_id: str) -> ShadowSummary:
    """Wait until the shadow is ready. Raise :class:`ShadowRefused` if it fails or exceeds the apply timeout."""
    begun = time.monotonic()
    deadline = begun + ports.shadow_settings.apply_timeout.total_seconds()
    with replicating(ports) as status:
        while (shadow := ports.shadows.get(shadow_id)).state not in CAUGHT_UP:
            if shadow.state not in WANTED:
                raise ShadowRefused(shadow_id, shadow.problem or f"it is {shadow.state}", "request it again")
            if time.monotonic() > deadline:
                trouble = "; ".join(status.problems.values()) or shadow.problem or "no problem recorded"
                raise ShadowRefused(shadow_id, f"still {shadow.state} ({trouble})", "run it again; it resumes")
            time.sleep(POLL)
    seconds = round(time.monotonic() - begun, 3)
    return ShadowSummary(shadow.shadow_id, shadow.key, shadow.source, shadow.target, shadow.state.value, shadow.lag_ms, seconds)
